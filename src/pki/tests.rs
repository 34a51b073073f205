use proptest::prelude::*;

use super::*;
use crate::base::{DeviceId, LedgerId, Timestamp, limits};
use crate::testing::SeededRandom;

const HOUR: u64 = 3_600_000;
const NOW: u64 = 1_767_225_600_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn validity() -> Validity {
    Validity::new(at(NOW), at(NOW + 24 * HOUR)).unwrap()
}

fn key(seed: u64) -> PrivateKey {
    PrivateKey::from_pkcs8(&generate_key(&SeededRandom::new(seed)).unwrap()).unwrap()
}

fn p256() -> PrivateKey {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    PrivateKey::from_pkcs8(pair.serialized_der()).unwrap()
}

fn authority() -> Authority {
    let key = generate_key(&SeededRandom::new(1)).unwrap();
    let validity = Validity::of_ca(at(NOW)).unwrap();
    let der = root(&key, LedgerId::from_bytes([0xab; 16]), 3, Serial::new(1, [9; 8]), validity).unwrap();
    Authority::new(&der, &key).unwrap()
}

fn device() -> DeviceId {
    DeviceId::from_bytes([0x5a; 16])
}

fn server_names() -> Vec<ServerName> {
    ["ledger.local", "10.0.0.7", "::1"].map(|name| ServerName::try_from(name.to_owned()).unwrap()).to_vec()
}

#[test]
fn a_serial_has_one_text_and_one_form() {
    let serial = Serial::new(u64::MAX, [0xff; 8]);
    assert_eq!(serial.counter(), u64::MAX);
    assert_eq!(serial.to_string().parse(), Ok(serial));
    let json = serde_json::to_string(&serial).unwrap();
    assert_eq!(serde_json::from_str::<Serial>(&json).unwrap(), serial);
    assert_eq!(Serial::from_bytes(&[0; 17]), Err(SerialError::Shape));
    assert_eq!(Serial::from_bytes(&[1; 16]), Err(SerialError::Shape));
    assert!(serde_json::from_str::<Serial>(&json.replace("01f", "02f")).is_err());
    assert!(serial.to_string().to_uppercase().parse::<Serial>().is_err());
    let config = bincode::config::standard();
    let stored = bincode::serde::encode_to_vec(serial, config).unwrap();
    assert_eq!(stored, serial.as_bytes());
    assert_eq!(bincode::serde::decode_from_slice::<Serial, _>(&stored, config).unwrap().0, serial);
    assert!(bincode::serde::decode_from_slice::<Serial, _>(&[2; 17], config).is_err());
}

#[test]
fn the_root_says_what_it_should() {
    let authority = authority();
    let ca = authority.certificate();
    assert_eq!(ca.name(), "Palyra Ledger CA abababab g3");
    assert_eq!(ca.serial(), Serial::new(1, [9; 8]));
    assert_eq!((ca.not_before(), ca.not_after()), (at(NOW), at(NOW + limits::CA_VALIDITY_MS)));
    assert_eq!(ca.fingerprint(), ca_fingerprint(ca.der()));
    assert_eq!(read_leaf(ca.der()), Err(CertificateError::IsCa));
}

#[test]
fn leaves_say_what_they_should() {
    let authority = authority();
    for key in [key(2), p256()] {
        let serial = Serial::new(2, [7; 8]);
        let der = device_leaf(&authority, device(), key.public(), serial, validity()).unwrap();
        let facts = read_leaf(&der).unwrap();
        let expected = LeafFacts {
            serial,
            device: Some(device()),
            purpose: Purpose::Client,
            spki_fingerprint: key.public().fingerprint(),
            certificate_fingerprint: Fingerprint::of(&der),
            issuer_key_id: authority.certificate().key_id(),
            not_before: at(NOW),
            not_after: at(NOW + 24 * HOUR),
            names: Vec::new(),
        };
        assert_eq!(facts, expected);
        let der = server_leaf(&authority, &server_names(), key.public(), serial, validity()).unwrap();
        let certificate_fingerprint = Fingerprint::of(&der);
        let names = server_names();
        let purpose = Purpose::Server;
        let facts = read_leaf(&der).unwrap();
        assert_eq!(facts, LeafFacts { device: None, purpose, names, certificate_fingerprint, ..expected });
        assert!(matches!(CaCertificate::from_der(&der), Err(CertificateError::NotACa { .. })));
    }
}

#[test]
fn the_same_input_gives_the_same_certificate() {
    let make = || device_leaf(&authority(), device(), key(2).public(), Serial::new(2, [7; 8]), validity()).unwrap();
    assert_eq!(make(), make());
}

#[test]
fn an_authority_refuses_what_it_should_not_sign() {
    let authority = authority();
    let (key, serial) = (key(2), Serial::new(2, [7; 8]));
    let ca = authority.certificate().not_after();
    let long = Validity::new(at(NOW), ca.plus_millis(1)).unwrap();
    let outlives = Err(PkiError::OutlivesCa { ca });
    assert_eq!(device_leaf(&authority, device(), key.public(), serial, long), outlives);
    assert_eq!(server_leaf(&authority, &[], key.public(), serial, validity()), Err(PkiError::ServerNames));
    let many = vec![server_names().remove(0); limits::SERVER_NAMES_MAX + 1];
    assert_eq!(server_leaf(&authority, &many, key.public(), serial, validity()), Err(PkiError::ServerNames));
    for (from, to) in [(NOW, NOW), (NOW, NOW + 1), (NOW, NOW - HOUR), (NOW, u64::MAX)] {
        assert!(matches!(Validity::new(at(from), at(to)), Err(PkiError::Validity { .. })), "{to}");
    }
    let end = at(limits::CERTIFICATE_TIME_MAX_S * 1_000);
    let root_key = generate_key(&SeededRandom::new(1)).unwrap();
    let ledger = LedgerId::from_bytes([0; 16]);
    let last = root(&root_key, ledger, u32::MAX, serial, Validity::new(at(0), end).unwrap()).unwrap();
    assert_eq!(CaCertificate::from_der(&last).unwrap().not_after(), end);
    let other = generate_key(&SeededRandom::new(2)).unwrap();
    assert!(matches!(Authority::new(&last, &other), Err(PkiError::KeyMismatch)));
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    assert_eq!(root(pair.serialized_der(), ledger, 1, serial, validity()), Err(PkiError::CaKey));
    assert!(matches!(root(&[1, 2, 3], ledger, 1, serial, validity()), Err(PkiError::PrivateKey(_))));
}

#[test]
fn a_ca_of_another_make_is_no_ca_here() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let make = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(Serial::new(1, [1; 8]).as_bytes()));
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        change(&mut params);
        CaCertificate::from_der(params.self_signed(&pair).unwrap().der())
    };
    assert!(make(&|_| ()).is_ok());
    let changes: [&dyn Fn(&mut rcgen::CertificateParams); 7] = [
        &|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
        &|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1)),
        &|params| params.is_ca = rcgen::IsCa::ExplicitNoCa,
        &|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign],
        &|params| params.key_usages = Vec::new(),
        &|params| params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1; 20]),
        &|params| params.distinguished_name.push(rcgen::DnType::OrganizationName, "another"),
    ];
    for (number, change) in changes.iter().enumerate() {
        assert!(make(change).is_err(), "{number}");
    }
    assert!(matches!(make(&|params| params.serial_number = None), Err(CertificateError::Serial(_))));
    let mut forged = authority().certificate().der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(CaCertificate::from_der(&forged), Err(CertificateError::NotACa { what: "it is not signed by itself" }));
}

#[test]
fn a_request_gives_its_key_and_nothing_else() {
    for key in [key(2), p256()] {
        let csr = make_csr(&key).unwrap();
        assert_eq!(public_key_from_csr(&csr).as_ref(), Ok(key.public()));
        let mut params = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let greedy = params.serialize_request(&key).unwrap();
        let taken = public_key_from_csr(greedy.der()).unwrap();
        assert_eq!(&taken, key.public());
        let leaf = device_leaf(&authority(), device(), &taken, Serial::new(2, [0; 8]), validity()).unwrap();
        assert_eq!(read_leaf(&leaf).unwrap().device, Some(device()));
        assert!(!leaf.windows(4).any(|window| window == b"evil"));
    }
}

#[test]
fn every_refusal_of_a_request_has_its_reason() {
    let key = key(2);
    let csr = make_csr(&key).unwrap();
    let long = vec![0x30; limits::CSR_BYTES_MAX + 1];
    assert_eq!(public_key_from_csr(&long), Err(CsrError::TooLong { len: long.len() }));
    assert_eq!(public_key_from_csr(&[csr.as_slice(), &[0]].concat()), Err(CsrError::Trailing));
    assert!(matches!(public_key_from_csr(&csr[..csr.len() - 1]), Err(CsrError::Malformed { .. })));
    let edit = |from: &[u8], to: &[u8]| {
        let at = csr.windows(from.len()).position(|window| window == from).unwrap();
        public_key_from_csr(&[&csr[..at], to, &csr[at + from.len()..]].concat())
    };
    assert_eq!(edit(&[0x02, 0x01, 0x00], &[0x02, 0x01, 0x01]), Err(CsrError::Version));
    let ed25519 = [0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21];
    let ed448 = [0x06, 0x03, 0x2b, 0x65, 0x71, 0x03, 0x21];
    assert_eq!(edit(&ed25519, &ed448), Err(CsrError::Key(PublicKeyError::Unsupported)));
    let signed = [0x2b, 0x65, 0x70, 0x03, 0x41, 0x00];
    assert_eq!(edit(&signed, &[0x2b, 0x65, 0x71, 0x03, 0x41, 0x00]), Err(CsrError::SignatureAlgorithm));
    assert!(matches!(edit(&signed, &[0x2b, 0x65, 0x70, 0x03, 0x41, 0x01]), Err(CsrError::Malformed { .. })));
    let mut forged = csr.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(public_key_from_csr(&forged), Err(CsrError::Signature));
    // Another's key under one's own signature: no proof of possession.
    let stolen = edit(&key.public().spki()[12..], &self::key(3).public().spki()[12..]);
    assert_eq!(stolen, Err(CsrError::Signature));
    let mut identity = [0; 32];
    identity[0] = 1;
    assert_eq!(edit(&key.public().spki()[12..], &identity), Err(CsrError::Key(PublicKeyError::Weak)));
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&rsa).unwrap();
    assert_eq!(public_key_from_csr(csr.der()), Err(CsrError::Key(PublicKeyError::Unsupported)));
}

#[test]
fn public_keys_off_their_curve_are_refused() {
    let spki = p256().public().spki().to_vec();
    let flipped = |at: usize| {
        let mut spki = spki.clone();
        spki[at] ^= 1;
        PublicKey::from_spki(&spki)
    };
    assert_eq!(flipped(90), Err(PublicKeyError::NotOnCurve));
    assert_eq!(flipped(26), Err(PublicKeyError::Unsupported), "a form of the point that is not the plain one");
    assert_eq!(PublicKey::from_spki(&spki[..90]), Err(PublicKeyError::Unsupported));
    let infinity = [&spki[..26], &[4][..], &[0; 64]].concat();
    assert_eq!(PublicKey::from_spki(&infinity), Err(PublicKeyError::NotOnCurve));
    let mut unreduced = key(2).public().spki().to_vec();
    unreduced[12..].fill(0xff);
    assert_eq!(PublicKey::from_spki(&unreduced), Err(PublicKeyError::NotOnCurve));
    unreduced[12] = 0xec;
    assert_eq!(PublicKey::from_spki(&unreduced), Err(PublicKeyError::Weak), "with either sign");
}

#[test]
fn a_private_key_shows_nothing_of_itself() {
    let pkcs8 = generate_key(&SeededRandom::new(2)).unwrap();
    let shown = format!("{:?}", PrivateKey::from_pkcs8(&pkcs8).unwrap());
    assert!(shown.starts_with("PrivateKey(.., PublicKey(Ed25519, Fingerprint("), "{shown}");
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for bad in [&[][..], &pkcs8[..47], p384.serialized_der()] {
        assert!(PrivateKey::from_pkcs8(bad).is_err());
    }
}

#[test]
fn pem_reads_back_and_damage_is_seen() {
    let (one, two) = (vec![7; 100], vec![8; 48]);
    let text = format!(
        "noise\n{}{}{}",
        *pem_encode(PemLabel::Certificate, &one),
        *pem_encode(PemLabel::PrivateKey, &[1]),
        *pem_encode(PemLabel::Certificate, &two)
    );
    let read: Vec<_> = pem_decode(PemLabel::Certificate, &text).unwrap().iter().map(|der| der.to_vec()).collect();
    assert_eq!(read, [one, two]);
    assert!(text.lines().all(|line| line.len() <= 64));
    assert_eq!(pem_decode(PemLabel::Crl, &text), Err(PemError::Missing { label: "X509 CRL" }));
    let label = "CERTIFICATE";
    let cut = text.trim_end().rsplit_once('\n').unwrap().0;
    assert_eq!(pem_decode(PemLabel::Certificate, cut), Err(PemError::Damaged { label }));
    assert_eq!(pem_decode(PemLabel::Certificate, &text.replace("BwcH", "B*cH")), Err(PemError::Damaged { label }));
    let long = " ".repeat(limits::PEM_BYTES_MAX + 1);
    assert_eq!(pem_decode(PemLabel::Certificate, &long), Err(PemError::TooLong { len: long.len() }));
}

#[test]
fn a_leaf_with_other_names_is_none_of_ours() {
    let authority = authority();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let uri = |text: &str| rcgen::SanType::URI(text.try_into().unwrap());
    let own = format!("{DEVICE_URI_PREFIX}{}", device());
    let make = |names: Vec<rcgen::SanType>| {
        let mut own = rcgen::CertificateParams::default();
        own.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let issuer = rcgen::Issuer::from_params(&own, &pair);
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(Serial::new(1, [1; 8]).as_bytes()));
        params.subject_alt_names = names;
        params.use_authority_key_identifier_extension = true;
        read_leaf(params.signed_by(authority.certificate().key(), &issuer).unwrap().der())
    };
    let facts = make(vec![uri(&own)]).unwrap();
    assert_eq!((facts.device, facts.purpose), (Some(device()), Purpose::Other));
    assert_eq!(make(Vec::new()).unwrap().device, None);
    let host = rcgen::SanType::DnsName("host".try_into().unwrap());
    let mail = rcgen::SanType::Rfc822Name("a@b".try_into().unwrap());
    for names in [
        vec![uri(&own), uri(&own)],
        vec![uri("urn:palyra:device:5A")],
        vec![uri(&own.to_uppercase())],
        vec![uri("https://example.com")],
        vec![uri(&own), host],
        vec![mail],
    ] {
        assert_eq!(make(names.clone()), Err(CertificateError::Names), "{names:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = public_key_from_csr(&bytes);
        let _ = read_leaf(&bytes);
        let _ = CaCertificate::from_der(&bytes);
        let _ = PublicKey::from_spki(&bytes);
        let _ = PrivateKey::from_pkcs8(&bytes);
        let _ = pem_decode(PemLabel::Certificate, &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_changed_request_or_certificate_never_panics_and_a_changed_request_is_refused(
        which in 0..4_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let authority = authority();
        let mut bytes = match which {
            0 => make_csr(&key(2)).unwrap(),
            1 => device_leaf(&authority, device(), key(2).public(), Serial::new(2, [7; 8]), validity()).unwrap(),
            2 => server_leaf(&authority, &server_names(), key(2).public(), Serial::new(2, [7; 8]), validity()).unwrap(),
            _ => authority.certificate().der().to_vec(),
        };
        let before = bytes.clone();
        for (at, flip) in edits {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = read_leaf(&bytes);
        if bytes != before {
            prop_assert!(public_key_from_csr(&bytes).is_err());
            prop_assert!(CaCertificate::from_der(&bytes).is_err());
        }
    }
}
