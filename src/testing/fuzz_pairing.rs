//! Fuzz targets for what comes from the network: pairing messages, certificate requests, certificates, and
//! the JSON around them.

#![allow(clippy::panic)] // A panic is how a target tells of a finding.

use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::{DeviceId, LedgerId, PairingId};
use crate::crypto::Key;
use crate::device::messages;
use crate::event::identity::{ClientKind, Verifier};
use crate::identity::pake::{
    DeviceStart, LedgerStart, PROTOCOL_VERSION, PakeError, SEALED_RECEIPT, SEALED_REQUEST, Transcript, verifier,
};
use crate::pki::{PublicKey, fingerprint, public_key_from_csr, read_leaf};

use super::SeededRandom;

const PAIRING: PairingId = PairingId::from_bytes([3; 8]);

/// One whole pairing with fixed dice: what is genuine in it, and nothing else is.
#[derive(Debug)]
pub struct Scene {
    /// First message of the device.
    pub hello: Vec<u8>,
    /// The ledger's answer.
    pub answer: Vec<u8>,
    /// The device's proof.
    pub proof: Vec<u8>,
    verifier: Verifier,
}

fn ledger_key() -> Key {
    Key::from_bytes(&mut [9; 32])
}

fn transcript() -> Transcript<'static> {
    Transcript {
        version: PROTOCOL_VERSION,
        ledger: LedgerId::from_bytes([1; 16]),
        locator: "bcdf",
        ca_fingerprint: &[2; 32],
        ca_certificate: b"root",
        device: DeviceId::from_bytes([4; 16]),
        kind: ClientKind::Node,
        name: "box",
        public_key: b"key",
    }
}

fn device() -> Result<(DeviceStart, Vec<u8>), PakeError> {
    let code = "bcdf-123456".parse().map_err(|_| PakeError::Malformed)?;
    DeviceStart::new(&SeededRandom::new(11), code)
}

fn ledger(verifier: &Verifier, hello: &[u8]) -> Result<(LedgerStart, Vec<u8>), PakeError> {
    LedgerStart::new(&SeededRandom::new(12), &ledger_key(), PAIRING, verifier, hello, &transcript())
}

fn play() -> Result<Scene, PakeError> {
    let code = "bcdf-123456".parse().map_err(|_| PakeError::Malformed)?;
    let verifier = verifier(&SeededRandom::new(10), &ledger_key(), PAIRING, &code)?;
    let (start, hello) = device()?;
    let (_, answer) = ledger(&verifier, &hello)?;
    let (_, proof) = start.finish(&SeededRandom::new(13), &answer, &transcript())?;
    Ok(Scene { hello, answer, proof, verifier })
}

/// The scene.
///
/// # Panics
/// Where the protocol with itself fails.
pub fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| play().unwrap_or_else(|error| panic!("the protocol with itself: {error}")))
}

/// A device's first message: whatever it is, a proof that does not belong to it gives no channel.
///
/// # Panics
/// Where the property does not hold.
pub fn pairing_hello(bytes: &[u8]) {
    let scene = scene();
    if let Ok((start, _)) = ledger(&scene.verifier, bytes) {
        let proved = start.finish(&scene.proof).is_ok();
        assert_eq!(proved, bytes == scene.hello, "the proof belongs to one first message");
    }
}

/// A device's proof: the genuine one opens a channel, and nothing else does; a channel opens nothing that was
/// not sealed for it.
///
/// # Panics
/// Where the property does not hold.
pub fn pairing_finish(bytes: &[u8]) {
    let scene = scene();
    let Ok((start, _)) = ledger(&scene.verifier, &scene.hello) else { panic!("the genuine first message reads") };
    let channel = start.finish(bytes);
    assert_eq!(channel.is_ok(), bytes == scene.proof, "one proof is genuine");
    let Ok((start, _)) = ledger(&scene.verifier, &scene.hello) else { panic!("the genuine first message reads") };
    let Ok(channel) = start.finish(&scene.proof) else { panic!("the genuine proof holds") };
    assert!(channel.open(SEALED_REQUEST, bytes).is_err() && channel.open(SEALED_RECEIPT, bytes).is_err());
}

/// The ledger's answer, as a device sees it.
///
/// # Panics
/// Where the property does not hold.
pub fn pairing_answer(bytes: &[u8]) {
    let scene = scene();
    let Ok((start, _)) = device() else { panic!("a device begins") };
    let proved = start.finish(&SeededRandom::new(13), bytes, &transcript()).is_ok();
    assert_eq!(proved, bytes == scene.answer, "one answer is genuine");
}

/// Certificate requests: a key that is taken has one encoding and is taken again.
///
/// # Panics
/// Where the property does not hold.
pub fn csr(bytes: &[u8]) {
    if let Ok(key) = public_key_from_csr(bytes) {
        assert_eq!(PublicKey::from_der(key.der()).ok().as_ref(), Some(&key));
    }
}

/// Leaf certificates: reading never panics, and says the same twice.
///
/// # Panics
/// Where the property does not hold.
pub fn leaf(bytes: &[u8]) {
    let read = read_leaf(bytes);
    if let Ok(facts) = &read {
        assert_eq!(facts.fingerprint, fingerprint(bytes));
    }
    assert_eq!(read, read_leaf(bytes));
}

fn body<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(bytes) {
        let text = serde_json::to_vec(&message).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<T>(&text).ok().as_ref(), Some(&message), "what reads is written back");
    }
}

/// Bodies of HTTP requests and answers.
///
/// # Panics
/// Where the property does not hold.
pub fn http_body(bytes: &[u8]) {
    body::<messages::HelloMessage>(bytes);
    body::<messages::GreetingMessage>(bytes);
    body::<messages::FinishMessage>(bytes);
    body::<messages::ReceiptMessage>(bytes);
    body::<messages::PollMessage>(bytes);
    body::<messages::StatusMessage>(bytes);
    body::<messages::RenewMessage>(bytes);
    body::<messages::RenewedMessage>(bytes);
    body::<messages::ErrorMessage>(bytes);
}
