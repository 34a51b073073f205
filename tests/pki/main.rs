//! Certificates and revocation lists against a peer that nobody here wrote: openssl.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use palyra_ledger::pki::{
    Authority, CsrError, LeafKey, PublicKey, ReadError, ServerName, fingerprint, public_key_from_csr, read_leaf, root,
};
use palyra_ledger::{DeviceId, LedgerId, Serial, Timestamp};
use proptest::prelude::*;
use tempfile::TempDir;
use zeroize::Zeroizing;

const DAY: u64 = 24 * 60 * 60 * 1000;

fn ledger() -> LedgerId {
    LedgerId::from_bytes([0x1D; 16])
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000)
}

/// A CA key, its root and what they sign, as files that openssl reads.
struct Pki {
    dir: TempDir,
    authority: Authority,
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = LeafKey::generate().unwrap();
        let certificate = root(key.expose_pkcs8(), ledger(), 1, now()).unwrap();
        std::fs::write(dir.path().join("root.pem"), pem("CERTIFICATE", &certificate)).unwrap();
        let authority = Authority::new(key.expose_pkcs8(), ledger(), 1).unwrap();
        Self { dir, authority }
    }

    fn put(&self, name: &str, label: &str, der: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, pem(label, der)).unwrap();
        path
    }

    fn device(&self, counter: u64, key: &PublicKey) -> Vec<u8> {
        let device = DeviceId::from_bytes([7; 16]);
        let validity = (now(), now().plus_millis(DAY));
        self.authority.device_leaf(device, key, Serial::new(counter, [0xAB; 8]), validity).unwrap()
    }

    fn server(&self, names: &[ServerName]) -> Vec<u8> {
        let key = LeafKey::generate().unwrap().public().unwrap();
        let validity = (now(), now().plus_millis(DAY));
        self.authority.server_leaf(names, &key, Serial::new(9, [1; 8]), validity).unwrap()
    }

    /// `openssl verify` at a time, in milliseconds from now.
    fn verify(&self, leaf: &Path, at: u64, more: &[&str]) -> (bool, String) {
        let time = ((now().as_millis() + at) / 1000).to_string();
        let root = self.dir.path().join("root.pem");
        let root = root.to_str().unwrap();
        let mut arguments = vec!["verify", "-x509_strict", "-attime", &time, "-CAfile", root];
        arguments.extend(more);
        arguments.push(leaf.to_str().unwrap());
        openssl(&arguments)
    }
}

fn openssl(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Whether openssl is there; says so where it is not.
fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: openssl is not there");
    }
    found
}

#[test]
fn openssl_accepts_a_device_for_clients_and_for_nothing_else() {
    if !has_openssl() {
        return;
    }
    let pki = Pki::new();
    for key in [LeafKey::generate().unwrap(), LeafKey::generate_p256().unwrap()] {
        let leaf = pki.put("leaf.pem", "CERTIFICATE", &pki.device(1, &key.public().unwrap()));
        let (ok, said) = pki.verify(&leaf, 1000, &["-purpose", "sslclient"]);
        assert!(ok, "{said}");
        let (ok, said) = pki.verify(&leaf, 1000, &["-purpose", "sslserver"]);
        assert!(!ok && said.contains("purpose"), "{said}");
        let (ok, said) = pki.verify(&leaf, DAY + 1000, &[]);
        assert!(!ok && said.contains("expired"), "{said}");
        let (_, text) = openssl(&["x509", "-noout", "-text", "-in", leaf.to_str().unwrap()]);
        let id = DeviceId::from_bytes([7; 16]);
        for wanted in [
            &format!("URI:urn:palyra:device:{id}"),
            &format!("CN = {id}"),
            "CA:FALSE",
            "TLS Web Client Authentication",
            "Digital Signature",
            "X509v3 Subject Key Identifier",
            "X509v3 Authority Key Identifier",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
    }
}

#[test]
fn openssl_accepts_the_daemon_under_its_names() {
    if !has_openssl() {
        return;
    }
    let pki = Pki::new();
    let names: Vec<ServerName> =
        ["Ledger.Example", "192.0.2.7", "2001:db8::1"].iter().map(|name| name.parse().unwrap()).collect();
    let leaf = pki.put("server.pem", "CERTIFICATE", &pki.server(&names));
    for check in [
        ["-verify_hostname", "ledger.example"],
        ["-verify_ip", "192.0.2.7"],
        ["-verify_ip", "2001:db8::1"],
        ["-purpose", "sslserver"],
    ] {
        let (ok, said) = pki.verify(&leaf, 1000, &check);
        assert!(ok, "{check:?}: {said}");
    }
    for check in [["-verify_hostname", "other.example"], ["-purpose", "sslclient"]] {
        let (ok, said) = pki.verify(&leaf, 1000, &check);
        assert!(!ok, "{check:?}: {said}");
    }
}

#[test]
fn openssl_refuses_another_ca_and_a_ca_below_this_one() {
    if !has_openssl() {
        return;
    }
    let (pki, other) = (Pki::new(), Pki::new());
    let key = LeafKey::generate().unwrap();
    let foreign = other.device(1, &key.public().unwrap());
    let (ok, said) = pki.verify(&pki.put("foreign.pem", "CERTIFICATE", &foreign), 1000, &[]);
    assert!(!ok, "{said}");
    let root = pki.dir.path().join("root.pem");
    let (_, text) = openssl(&["x509", "-noout", "-text", "-in", root.to_str().unwrap()]);
    assert!(text.contains("CA:TRUE, pathlen:0"), "{text}");
    assert!(text.contains("Certificate Sign, CRL Sign"), "{text}");
    let (ok, said) = pki.verify(&root, 1000, &[]);
    assert!(ok, "{said}");
}

#[test]
fn openssl_finds_what_the_revocation_list_names() {
    if !has_openssl() {
        return;
    }
    let pki = Pki::new();
    let key = LeafKey::generate().unwrap().public().unwrap();
    let good = pki.put("good.pem", "CERTIFICATE", &pki.device(1, &key));
    let bad = pki.put("bad.pem", "CERTIFICATE", &pki.device(2, &key));
    let revoked = [(Serial::new(2, [0xAB; 8]), now())];
    let list = pki.authority.revocation_list(5, &revoked, (now(), now().plus_millis(DAY / 2))).unwrap();
    let list = pki.put("list.pem", "X509 CRL", &list);
    let check = ["-crl_check", "-CRLfile", list.to_str().unwrap()];
    let (ok, said) = pki.verify(&good, 1000, &check);
    assert!(ok, "{said}");
    let (ok, said) = pki.verify(&bad, 1000, &check);
    assert!(!ok && said.contains("certificate revoked"), "{said}");
    let (ok, said) = pki.verify(&good, DAY / 2 + 1000, &check);
    assert!(!ok && said.contains("CRL has expired"), "{said}");
    let (_, text) = openssl(&["crl", "-noout", "-text", "-in", list.to_str().unwrap()]);
    for wanted in ["X509v3 CRL Number", "Authority Key Identifier", "Privilege Withdrawn"] {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
}

#[test]
fn a_leaf_reads_back_what_was_signed() {
    let pki = Pki::new();
    let key = LeafKey::generate().unwrap().public().unwrap();
    let der = pki.device(77, &key);
    let facts = read_leaf(&der).unwrap();
    assert_eq!(facts.serial, Serial::new(77, [0xAB; 8]));
    assert_eq!(facts.device, Some(DeviceId::from_bytes([7; 16])));
    assert_eq!(facts.not_after.as_millis(), now().as_millis() + DAY);
    assert_eq!(facts.fingerprint, fingerprint(&der));
    let server = pki.server(&["localhost".parse().unwrap()]);
    assert_eq!(read_leaf(&server).unwrap().device, None);
    assert_eq!(read_leaf(&[&der[..], &[0]].concat()), Err(ReadError::Malformed));
}

#[test]
fn the_same_call_signs_the_same_bytes() {
    let key = LeafKey::generate().unwrap();
    let make = || {
        let authority = Authority::new(key.expose_pkcs8(), ledger(), 1).unwrap();
        let list =
            authority.revocation_list(1, &[(Serial::new(1, [2; 8]), now())], (now(), now().plus_millis(DAY))).unwrap();
        (root(key.expose_pkcs8(), ledger(), 1, now()).unwrap(), list)
    };
    assert_eq!(make(), make());
}

/// A request made by openssl, full of what this CA must not take over.
#[test]
fn nothing_but_the_public_key_is_taken_from_a_request() {
    if !has_openssl() {
        return;
    }
    let pki = Pki::new();
    let path = |name: &str| pki.dir.path().join(name).to_str().unwrap().to_owned();
    let (key, csr) = (path("k.pem"), path("r.der"));
    let (ok, said) = openssl(&[
        "req",
        "-new",
        "-newkey",
        "ed25519",
        "-nodes",
        "-keyout",
        &key,
        "-outform",
        "DER",
        "-out",
        &csr,
        "-subj",
        "/CN=root/O=Somebody Else",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "subjectAltName=URI:urn:palyra:device:00000000000000000000000000000000,DNS:bank.example",
        "-addext",
        "keyUsage=keyCertSign",
    ]);
    assert!(ok, "{said}");
    let public = public_key_from_csr(&std::fs::read(&csr).unwrap()).unwrap();
    let leaf = pki.put("leaf.pem", "CERTIFICATE", &pki.device(3, &public));
    let (ok, said) = pki.verify(&leaf, 1000, &["-purpose", "sslclient"]);
    assert!(ok, "{said}");
    let (_, text) = openssl(&["x509", "-noout", "-text", "-in", leaf.to_str().unwrap()]);
    for unwanted in ["bank.example", "Somebody", "CA:TRUE", "Certificate Sign", &"0".repeat(32)] {
        assert!(!text.contains(unwanted), "{unwanted} was taken over: {text}");
    }
    let (_, from_key) = openssl(&["pkey", "-in", &key, "-pubout", "-outform", "PEM"]);
    assert_eq!(from_key, pem("PUBLIC KEY", public.der()));
}

#[test]
fn a_request_is_refused_for_its_reason() {
    let key = LeafKey::generate().unwrap();
    let request = key.request().unwrap();
    assert_eq!(public_key_from_csr(&request).unwrap(), key.public().unwrap());
    let mut forged = request.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(public_key_from_csr(&forged), Err(CsrError::NotSigned)));
    let long = vec![0x30; palyra_ledger::limits::CSR_MAX + 1];
    assert!(matches!(public_key_from_csr(&long), Err(CsrError::TooLong(_))));
    let followed = [&request[..], b"x"].concat();
    assert!(matches!(public_key_from_csr(&followed), Err(CsrError::Malformed)));
    // Somebody else's public key in a request that was signed by one's own.
    let other = LeafKey::generate().unwrap().public().unwrap();
    let own = key.public().unwrap();
    let at = request.windows(own.der().len()).position(|window| window == own.der()).unwrap();
    let mut swapped = request;
    swapped[at..at + other.der().len()].copy_from_slice(other.der());
    assert!(matches!(public_key_from_csr(&swapped), Err(CsrError::NotSigned)));
    if has_openssl() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for curve in ["secp384r1", "secp256k1"] {
            let name = format!("ec_paramgen_curve:{curve}");
            let (ok, said) = openssl(&[
                "req",
                "-new",
                "-newkey",
                "ec",
                "-pkeyopt",
                &name,
                "-nodes",
                "-keyout",
                &path("k"),
                "-outform",
                "DER",
                "-out",
                &path("r"),
                "-subj",
                "/CN=x",
            ]);
            assert!(ok, "{said}");
            let refused = public_key_from_csr(&std::fs::read(path("r")).unwrap()).unwrap_err();
            assert!(matches!(refused, CsrError::Algorithm | CsrError::Malformed), "{curve}: {refused}");
        }
    }
}

#[test]
fn a_name_of_the_daemon_is_a_name_or_an_address() {
    for good in ["localhost", "a.b-c.example", "10.0.0.1", "::1", "xn--bcher-kva.example"] {
        assert_eq!(good.parse::<ServerName>().unwrap().to_string(), good);
    }
    for bad in ["", ".", "a..b", "-a.example", "a_b", "1.2.3", "a b", "*.example", "bücher.example", &"a".repeat(64)] {
        assert!(bad.parse::<ServerName>().is_err(), "{bad}");
    }
}

#[test]
fn a_private_key_shows_nothing() {
    let key = LeafKey::generate().unwrap();
    assert_eq!(format!("{key:?}"), "LeafKey(..)");
    let error = LeafKey::from_pkcs8(Zeroizing::new(b"CANARY-PRIVATE".to_vec())).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("CANARY"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A changed byte anywhere is refused or leaves the same key; nothing panics.
    #[test]
    fn a_changed_request_never_gives_another_key(at in 0_usize..400, bits in 1_u8..=255) {
        let pkcs8 = LeafKey::generate().unwrap();
        let mut request = pkcs8.request().unwrap();
        let at = at % request.len();
        request[at] ^= bits;
        if let Ok(key) = public_key_from_csr(&request) {
            prop_assert_eq!(key, pkcs8.public().unwrap());
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = (public_key_from_csr(&bytes).is_ok(), read_leaf(&bytes).is_ok(), PublicKey::from_der(&bytes).is_ok());
    }

    #[test]
    fn a_changed_certificate_never_makes_a_reader_panic(at in 0_usize..600, bits in 1_u8..=255) {
        let pki = Pki::new();
        let mut der = pki.device(1, &LeafKey::generate().unwrap().public().unwrap());
        let at = at % der.len();
        der[at] ^= bits;
        let _ = read_leaf(&der).is_ok();
    }
}
