//! Pairing, devices and certificates over a whole ledger on a disk, message by message.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod over;
mod qr;
mod replace;
mod roll;

use std::fmt::Write;
use std::path::Path;

use palyra_ledger::crypto::{Key, Opener, open_sealed};
use palyra_ledger::event::identity::{ClientKind, CodeMethod};
use palyra_ledger::identity::pake::{
    Channel, DeviceStart, PROTOCOL_VERSION, PakeError, SEALED_RECEIPT, SEALED_REQUEST, SEALED_STATUS, Transcript,
};
use palyra_ledger::identity::{Code, DeviceState, IdentityError};
use palyra_ledger::pki::{CsrError, LeafKey, fingerprint, read_leaf};
use palyra_ledger::{
    Config, DeviceId, DeviceName, Error, Hello, Ledger, MintOptions, NewSlot, OsRandom, PairingReceipt, Random,
    RequestId, VerifyOptions,
};

const RANDOM: &dyn Random = &OsRandom;

fn ledger(home: &Path) -> Ledger {
    Ledger::init(Config::new(home), NewSlot::file("first")).unwrap()
}

/// The joining side, as a device runs it.
struct Device {
    id: DeviceId,
    name: DeviceName,
    key: LeafKey,
}

impl Device {
    fn new(id: u8) -> Self {
        let key = LeafKey::generate().unwrap();
        Self { id: DeviceId::from_bytes([id; 16]), name: DeviceName::new("box").unwrap(), key }
    }

    fn join(&self, ledger: &Ledger, code: &str) -> Result<(PairingReceipt, Channel), Error> {
        self.join_with(ledger, code, &self.key.request().unwrap())
    }

    fn join_with(&self, ledger: &Ledger, code: &str, request: &[u8]) -> Result<(PairingReceipt, Channel), Error> {
        let code: Code = code.parse().unwrap();
        let locator = code.locator().to_owned();
        let public_key = self.key.public().unwrap();
        let (start, proof) = DeviceStart::new(RANDOM, code)?;
        let hello = Hello {
            version: PROTOCOL_VERSION,
            locator: &locator,
            device: self.id,
            kind: ClientKind::Node,
            name: &self.name,
            public_key: public_key.der(),
            proof: &proof,
        };
        let (greeting, session) = ledger.identity().begin_pairing(&hello, "192.0.2.1:5")?;
        let ca_fingerprint = fingerprint(greeting.ca_certificate.as_bytes());
        let transcript = Transcript {
            version: PROTOCOL_VERSION,
            ledger: greeting.ledger,
            locator: &locator,
            ca_fingerprint: ca_fingerprint.as_bytes(),
            ca_certificate: greeting.ca_certificate.as_bytes(),
            device: self.id,
            kind: ClientKind::Node,
            name: self.name.as_str(),
            public_key: public_key.der(),
        };
        // A device with a wrong code finds that out first and goes away; a guesser would go on.
        let Ok((channel, proof)) = start.finish(RANDOM, &greeting.proof, &transcript) else {
            return ledger.identity().finish_pairing(session, &[7; 64], b"").map(|_| panic!("no proof"));
        };
        let sealed = channel.seal(RANDOM, SEALED_REQUEST, request)?;
        Ok((ledger.identity().finish_pairing(session, &proof, &sealed)?, channel))
    }
}

fn mint(ledger: &Ledger) -> String {
    ledger.identity().mint(&MintOptions::default()).unwrap().code.expose().to_string()
}

fn wrong(code: &str) -> String {
    let (locator, pin) = code.split_once('-').unwrap();
    let other = (pin.parse::<u32>().unwrap() + 1) % 1_000_000;
    format!("{locator}-{other:06}")
}

fn kinds(ledger: &Ledger) -> Vec<String> {
    let mut found = Vec::new();
    let head = ledger.log().head().unwrap();
    ledger
        .log()
        .read(0, head.seq, &mut |entry| {
            found.push(entry.kind_name());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn status(ledger: &Ledger, receipt: &PairingReceipt, channel: &Channel) -> Vec<u8> {
    let opened = channel.open(SEALED_RECEIPT, &receipt.sealed).unwrap();
    let request = RequestId::from_bytes(opened[..8].try_into().unwrap());
    assert_eq!(request, receipt.request);
    let key = Key::from_slice(&opened[8..]).unwrap();
    let sealed = ledger.identity().poll_request(request).unwrap();
    open_sealed(&Opener::wrapping(&key), SEALED_STATUS, &sealed).unwrap().to_vec()
}

#[test]
fn a_device_pairs_and_gets_its_certificate_even_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let first = ledger(&home);
    let device = Device::new(7);
    let code = mint(&first);
    first.close().unwrap();
    let second = Ledger::open(Config::new(&home)).unwrap();
    let (receipt, channel) = device.join(&second, &code).unwrap();
    assert_eq!(receipt.sas, channel.sas());
    assert_eq!(status(&second, &receipt, &channel), [0]);
    assert!(second.identity().devices().unwrap().is_empty(), "nobody is paired before a person said so");
    second.close().unwrap();
    let third = Ledger::open(Config::new(&home)).unwrap();
    let refused = third.identity().approve(receipt.request, Some("000000x")).unwrap_err();
    assert!(matches!(refused, Error::Identity(IdentityError::OtherSas(_))));
    third.identity().approve(receipt.request, Some(&receipt.sas)).unwrap();
    let answer = status(&third, &receipt, &channel);
    assert_eq!(answer[0], 1);
    let facts = read_leaf(&answer[1..]).unwrap();
    assert_eq!(facts.device, Some(device.id));
    assert_eq!(third.identity().device(device.id).unwrap().certificate, Some(facts.serial));
    // Doing it again changes nothing.
    let before = third.log().head().unwrap().seq;
    third.identity().approve(receipt.request, None).unwrap();
    assert_eq!(third.log().head().unwrap().seq, before);
    let (serial, _) = third.identity().renew(device.id, facts.serial, &device.key.request().unwrap()).unwrap();
    assert!(serial > facts.serial);
    assert!(third.verify(VerifyOptions { state: true, witness: false }).unwrap().ok);
    third.close().unwrap();
}

#[test]
fn a_code_is_good_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(&dir.path().join("home"));
    let code = mint(&ledger);
    Device::new(7).join(&ledger, &code).unwrap();
    let refused = Device::new(8).join(&ledger, &code).unwrap_err();
    assert!(matches!(refused, Error::Identity(IdentityError::NoPairing)), "{refused}");
    assert_eq!(kinds(&ledger).last().unwrap(), "pairing_refused");
}

#[test]
fn three_wrong_attempts_burn_the_code_and_each_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(&dir.path().join("home"));
    let code = mint(&ledger);
    for _ in 0..3 {
        let refused = Device::new(7).join(&ledger, &wrong(&code)).unwrap_err();
        assert!(matches!(refused, Error::Pake(PakeError::WrongCode | PakeError::Malformed)), "{refused}");
    }
    assert!(Device::new(7).join(&ledger, &code).is_err(), "the right code comes too late");
    let kinds = kinds(&ledger);
    let count = |name: &str| kinds.iter().filter(|kind| *kind == name).count();
    assert_eq!(
        (count("pairing_attempted"), count("pairing_refused"), count("pairing_ended"), count("pairing_requested")),
        (3, 4, 1, 0),
        "{kinds:?}"
    );
}

#[test]
fn a_swapped_certificate_request_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(&dir.path().join("home"));
    let other = LeafKey::generate().unwrap().request().unwrap();
    let refused = Device::new(7).join_with(&ledger, &mint(&ledger), &other).unwrap_err();
    assert!(matches!(refused, Error::Identity(IdentityError::OtherKey)), "{refused}");
    let refused = Device::new(7).join_with(&ledger, &mint(&ledger), b"no request").unwrap_err();
    assert!(matches!(refused, Error::Csr(CsrError::Malformed)), "{refused}");
    assert_eq!(kinds(&ledger).last().unwrap(), "pairing_refused");
    assert!(ledger.identity().requests().unwrap().is_empty());
}

#[test]
fn a_revoked_device_neither_renews_nor_pairs_until_it_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(&dir.path().join("home"));
    let device = Device::new(7);
    let identity = ledger.identity();
    let (receipt, _) = device.join(&ledger, &mint(&ledger)).unwrap();
    let serial = identity.approve(receipt.request, None).unwrap().issued.unwrap();
    identity.revoke(device.id).unwrap();
    assert!(identity.renew(device.id, serial, &device.key.request().unwrap()).is_err());
    assert!(device.join(&ledger, &mint(&ledger)).is_err());
    let (list, _) = identity.revocation_list().unwrap();
    assert_eq!((list.number, list.entries), (1, 1));
    identity.clear(device.id).unwrap();
    let (receipt, _) = device.join(&ledger, &mint(&ledger)).unwrap();
    identity.approve(receipt.request, None).unwrap();
    assert_eq!(identity.device(device.id).unwrap().state, DeviceState::Paired);
    assert_eq!(identity.revocation_list().unwrap().0.number, 2);
    assert!(ledger.verify(VerifyOptions { state: true, witness: false }).unwrap().ok);
}

/// The code stands nowhere: neither in a file of the ledger nor in what the log says of it.
#[test]
fn the_code_is_in_no_byte_that_the_ledger_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = ledger(&home);
    let options = MintOptions { method: CodeMethod::Qr, ..MintOptions::default() };
    let minting = ledger.identity().mint(&options).unwrap();
    let secret = String::from_utf8(minting.code.secret().to_vec()).unwrap();
    let mut told = String::new();
    ledger
        .log()
        .read(0, ledger.log().head().unwrap().seq, &mut |entry| {
            told.push_str(&entry.fields().to_string());
            write!(told, "{entry:?}").unwrap();
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert!(told.contains(minting.code.locator()));
    assert!(!told.contains(&secret));
    ledger.close().unwrap();
    let mut folders = vec![home];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let bytes = std::fs::read(entry.path()).unwrap();
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
            }
        }
    }
}
