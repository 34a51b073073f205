//! The proof of a pairing code: OPAQUE (RFC 9807) with Ristretto255, SHA-512 and 3DH.
//!
//! The code is the password. An eavesdropper learns nothing, and whoever stands in between or guesses
//! gets one guess per attempt. No slow hash stands before it: a code lives for minutes and three attempts,
//! and offline nobody can try codes without the ledger key, from which the server's setup is derived.
//!
//! The transcript that both sides must agree on names the protocol version, ledger, pairing, CA
//! fingerprint, device, its kind and its public key. Both prove the session key before anything else is
//! said; then each direction has a sealing key of its own, so that nothing can be sent back to its sender.

use opaque_ke::ksf::Identity;
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialFinalization, CredentialRequest, CredentialResponse, Ristretto255, ServerLogin, ServerLoginParameters,
    ServerRegistration, ServerSetup, TripleDh,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::base::{DeviceId, LedgerId, PairingId, Random, RandomError};
use crate::crypto::{Key, Opener, labels, open_sealed, seal_sealed};
use crate::event::identity::{ClientKind, Verifier};

use super::code::Code;

/// Version of the pairing protocol.
pub const PROTOCOL_VERSION: u16 = 1;
/// Name of the sealed certificate request.
pub const SEALED_REQUEST: &[u8] = b"certificate request";
/// Name of the sealed answer that carries the request's id and the key to ask after it.
pub const SEALED_RECEIPT: &[u8] = b"receipt";
/// Name of the sealed answer to a question after a request.
pub const SEALED_STATUS: &[u8] = b"status";

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2::Sha512>;
    type Ksf = Identity;
}

/// Why a proof failed.
#[derive(Debug, thiserror::Error)]
pub enum PakeError {
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A message is malformed.
    #[error("the pairing message is malformed")]
    Malformed,
    /// The code is wrong, or somebody stood in between and changed something.
    #[error("the code is wrong, or the connection was tampered with")]
    WrongCode,
    /// What was sealed does not open.
    #[error("the sealed pairing message does not open")]
    Sealed,
}

/// What both sides must agree on.
#[derive(Debug, Clone, Copy)]
pub struct Transcript<'a> {
    /// Version of the protocol.
    pub version: u16,
    /// The ledger.
    pub ledger: LedgerId,
    /// The pairing's locator.
    pub locator: &'a str,
    /// SHA-256 of the CA's root certificate.
    pub ca_fingerprint: &'a [u8; 32],
    /// The CA's root certificate in DER: it holds the CA's public key.
    pub ca_certificate: &'a [u8],
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub kind: ClientKind,
    /// What it wants to be called.
    pub name: &'a str,
    /// The device's public key (`SubjectPublicKeyInfo`).
    pub public_key: &'a [u8],
}

impl Transcript<'_> {
    /// The context of the key exchange: each part behind its length, so that no two transcripts are one.
    fn encode(&self) -> Vec<u8> {
        let parts: [&[u8]; 10] = [
            b"palyra-ledger pairing",
            &self.version.to_le_bytes(),
            self.ledger.as_bytes(),
            self.locator.as_bytes(),
            self.ca_fingerprint,
            self.ca_certificate,
            self.device.as_bytes(),
            self.kind.name().as_bytes(),
            self.name.as_bytes(),
            self.public_key,
        ];
        let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
        for part in parts {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

/// One message has one encoding: opaque-ke reads past bytes that follow it.
fn canonical(encoded: &[u8], given: &[u8]) -> Result<(), PakeError> {
    if encoded == given { Ok(()) } else { Err(PakeError::Malformed) }
}

fn rng(random: &dyn Random) -> Result<ChaCha20Rng, RandomError> {
    Ok(ChaCha20Rng::from_seed(*Key::generate(random)?.expose()))
}

fn setup(ledger_key: &Key, pairing: PairingId) -> ServerSetup<Suite> {
    let seed = Key::derive(labels::PAIRING_SETUP, &[ledger_key.expose(), pairing.as_bytes()]);
    ServerSetup::new(&mut ChaCha20Rng::from_seed(*seed.expose()))
}

/// The verifier of a code: all that is kept of it.
///
/// # Errors
/// [`PakeError::Random`].
pub fn verifier(random: &dyn Random, ledger_key: &Key, pairing: PairingId, code: &Code) -> Result<Verifier, PakeError> {
    let mut rng = rng(random)?;
    let begun = ClientRegistration::<Suite>::start(&mut rng, code.secret()).map_err(|_| PakeError::Malformed)?;
    let answer = ServerRegistration::<Suite>::start(&setup(ledger_key, pairing), begun.message, pairing.as_bytes())
        .map_err(|_| PakeError::Malformed)?;
    let done = begun
        .state
        .finish(&mut rng, code.secret(), answer.message, ClientRegistrationFinishParameters::default())
        .map_err(|_| PakeError::Malformed)?;
    Ok(Verifier::new(ServerRegistration::<Suite>::finish(done.message).serialize().to_vec()))
}

/// The two directions of a proved session.
pub struct Channel {
    seal: Opener,
    open: Opener,
    sas: String,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channel(..)")
    }
}

impl Channel {
    fn new(session_key: &[u8], device_side: bool) -> Self {
        let key = |label| Opener::wrapping(&Key::derive(label, &[session_key]));
        let (to_ledger, to_device) = (key(labels::PAIRING_TO_LEDGER), key(labels::PAIRING_TO_DEVICE));
        let (seal, open) = if device_side { (to_ledger, to_device) } else { (to_device, to_ledger) };
        let drawn = Key::derive(labels::PAIRING_SAS, &[session_key]);
        let number = drawn.expose().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self { seal, open, sas: format!("{:06}", number % 1_000_000) }
    }

    /// The short authentication string that both sides show: six digits.
    #[must_use]
    pub fn sas(&self) -> &str {
        &self.sas
    }

    /// Seals a message for the other side; `label` says which message it is.
    ///
    /// # Errors
    /// [`PakeError::Random`].
    pub fn seal(&self, random: &dyn Random, label: &[u8], plain: &[u8]) -> Result<Vec<u8>, PakeError> {
        Ok(seal_sealed(&self.seal, &random.array()?, label, plain))
    }

    /// Opens a message of the other side.
    ///
    /// # Errors
    /// [`PakeError::Sealed`].
    pub fn open(&self, label: &[u8], sealed: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>, PakeError> {
        open_sealed(&self.open, label, sealed).map_err(|_| PakeError::Sealed)
    }
}

/// The device's side before the answer.
pub struct DeviceStart {
    state: ClientLogin<Suite>,
    code: Code,
}

impl std::fmt::Debug for DeviceStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceStart(..)")
    }
}

impl DeviceStart {
    /// Begins a proof; gives the first message.
    ///
    /// # Errors
    /// [`PakeError::Random`].
    pub fn new(random: &dyn Random, code: Code) -> Result<(Self, Vec<u8>), PakeError> {
        let begun = ClientLogin::<Suite>::start(&mut rng(random)?, code.secret()).map_err(|_| PakeError::Malformed)?;
        let message = begun.message.serialize().to_vec();
        Ok((Self { state: begun.state, code }, message))
    }

    /// Checks the ledger's proof; gives the session and this side's proof.
    ///
    /// # Errors
    /// [`PakeError::WrongCode`] where the ledger does not know the code or the transcripts differ.
    pub fn finish(
        self,
        random: &dyn Random,
        answer: &[u8],
        transcript: &Transcript<'_>,
    ) -> Result<(Channel, Vec<u8>), PakeError> {
        let parsed = CredentialResponse::<Suite>::deserialize(answer).map_err(|_| PakeError::Malformed)?;
        canonical(&parsed.serialize(), answer)?;
        let context = transcript.encode();
        let parameters = ClientLoginFinishParameters { context: Some(&context), ..Default::default() };
        let done = self
            .state
            .finish(&mut rng(random)?, self.code.secret(), parsed, parameters)
            .map_err(|_| PakeError::WrongCode)?;
        let session = zeroize::Zeroizing::new(done.session_key.to_vec());
        Ok((Channel::new(&session, true), done.message.serialize().to_vec()))
    }
}

/// The ledger's side between its answer and the device's proof.
pub struct LedgerStart {
    state: ServerLogin<Suite>,
    context: Vec<u8>,
}

impl std::fmt::Debug for LedgerStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LedgerStart(..)")
    }
}

impl LedgerStart {
    /// Answers a device's first message.
    ///
    /// # Errors
    /// [`PakeError::Malformed`] where the message or the verifier does not read.
    pub fn new(
        random: &dyn Random,
        ledger_key: &Key,
        pairing: PairingId,
        verifier: &Verifier,
        hello: &[u8],
        transcript: &Transcript<'_>,
    ) -> Result<(Self, Vec<u8>), PakeError> {
        let parsed = CredentialRequest::<Suite>::deserialize(hello).map_err(|_| PakeError::Malformed)?;
        canonical(&parsed.serialize(), hello)?;
        let record = ServerRegistration::<Suite>::deserialize(verifier.as_bytes()).map_err(|_| PakeError::Malformed)?;
        let context = transcript.encode();
        let parameters = ServerLoginParameters { context: Some(&context), ..Default::default() };
        let setup = setup(ledger_key, pairing);
        let begun = ServerLogin::start(&mut rng(random)?, &setup, Some(record), parsed, pairing.as_bytes(), parameters)
            .map_err(|_| PakeError::Malformed)?;
        let message = begun.message.serialize().to_vec();
        Ok((Self { state: begun.state, context }, message))
    }

    /// Checks the device's proof; gives the session.
    ///
    /// # Errors
    /// [`PakeError::WrongCode`].
    pub fn finish(self, proof: &[u8]) -> Result<Channel, PakeError> {
        let parsed = CredentialFinalization::<Suite>::deserialize(proof).map_err(|_| PakeError::Malformed)?;
        canonical(&parsed.serialize(), proof)?;
        let parameters = ServerLoginParameters { context: Some(&self.context), ..Default::default() };
        let done = self.state.finish(parsed, parameters).map_err(|_| PakeError::WrongCode)?;
        let session = zeroize::Zeroizing::new(done.session_key.to_vec());
        Ok(Channel::new(&session, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::OsRandom;

    const RANDOM: &dyn Random = &OsRandom;

    struct Scene {
        ledger_key: Key,
        pairing: PairingId,
        verifier: Verifier,
    }

    fn scene() -> Scene {
        let (ledger_key, pairing) = (Key::generate(RANDOM).unwrap(), PairingId::from_bytes([3; 8]));
        let verifier = verifier(RANDOM, &ledger_key, pairing, &code("123456")).unwrap();
        Scene { ledger_key, pairing, verifier }
    }

    fn code(pin: &str) -> Code {
        format!("bcdf-{pin}").parse().unwrap()
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

    /// Runs a proof in which the two sides may see different things.
    fn run(
        scene: &Scene,
        pin: &str,
        device_sees: &Transcript<'_>,
        ledger_sees: &Transcript<'_>,
    ) -> Result<(Channel, Channel), PakeError> {
        let (device, hello) = DeviceStart::new(RANDOM, code(pin))?;
        let (ledger, answer) =
            LedgerStart::new(RANDOM, &scene.ledger_key, scene.pairing, &scene.verifier, &hello, ledger_sees)?;
        let (device, proof) = device.finish(RANDOM, &answer, device_sees)?;
        Ok((device, ledger.finish(&proof)?))
    }

    #[test]
    fn who_knows_the_code_gets_a_channel_and_the_same_digits() {
        let (device, ledger) = run(&scene(), "123456", &transcript(), &transcript()).unwrap();
        assert_eq!(device.sas(), ledger.sas());
        assert_eq!(device.sas().len(), 6);
        let sealed = device.seal(RANDOM, b"csr", b"hello").unwrap();
        assert_eq!(ledger.open(b"csr", &sealed).unwrap().as_slice(), b"hello");
        assert!(matches!(ledger.open(b"other", &sealed), Err(PakeError::Sealed)), "another message's name");
        assert!(matches!(device.open(b"csr", &sealed), Err(PakeError::Sealed)), "sent back to its sender");
    }

    #[test]
    fn a_wrong_code_proves_nothing() {
        let refused = run(&scene(), "123457", &transcript(), &transcript()).unwrap_err();
        assert!(matches!(refused, PakeError::WrongCode));
    }

    #[test]
    fn somebody_in_between_who_changes_anything_is_found() {
        let scene = scene();
        let honest = transcript();
        let changed = [
            Transcript { version: 2, ..honest },
            Transcript { ledger: LedgerId::from_bytes([9; 16]), ..honest },
            Transcript { locator: "bcdg", ..honest },
            Transcript { ca_fingerprint: &[9; 32], ..honest },
            Transcript { ca_certificate: b"other", ..honest },
            Transcript { device: DeviceId::from_bytes([9; 16]), ..honest },
            Transcript { kind: ClientKind::Cli, ..honest },
            Transcript { name: "bo", public_key: b"xkey", ..honest },
            Transcript { public_key: b"mine", ..honest },
        ];
        for other in &changed {
            assert!(matches!(run(&scene, "123456", &honest, other), Err(PakeError::WrongCode)), "{other:?}");
        }
    }

    #[test]
    fn somebody_in_between_who_lacks_only_the_code_gets_one_guess() {
        // They play the ledger to the device with a verifier of their own for another code.
        let theirs = Scene {
            ledger_key: Key::generate(RANDOM).unwrap(),
            pairing: PairingId::from_bytes([3; 8]),
            verifier: verifier(RANDOM, &Key::generate(RANDOM).unwrap(), PairingId::from_bytes([3; 8]), &code("000000"))
                .unwrap(),
        };
        assert!(matches!(run(&theirs, "123456", &transcript(), &transcript()), Err(PakeError::WrongCode)));
    }

    #[test]
    fn a_proof_of_one_session_is_none_in_another() {
        let scene = scene();
        let start = |hello: &[u8]| {
            LedgerStart::new(RANDOM, &scene.ledger_key, scene.pairing, &scene.verifier, hello, &transcript()).unwrap()
        };
        let (device, hello) = DeviceStart::new(RANDOM, code("123456")).unwrap();
        let (first, answer) = start(&hello);
        let (replayed, _) = start(&hello);
        let (_, proof) = device.finish(RANDOM, &answer, &transcript()).unwrap();
        assert!(matches!(replayed.finish(&proof), Err(PakeError::WrongCode)), "a replayed hello");
        first.finish(&proof).unwrap();
    }

    #[test]
    fn a_verifier_is_of_no_use_without_the_ledger_key() {
        let scene = scene();
        let other = Scene { ledger_key: Key::generate(RANDOM).unwrap(), ..scene };
        assert!(run(&other, "123456", &transcript(), &transcript()).is_err());
    }

    #[test]
    fn malformed_messages_are_refused() {
        let scene = scene();
        for bytes in [&b""[..], &[0; 96], &[0xFF; 96], &[7; 1000]] {
            let refused =
                LedgerStart::new(RANDOM, &scene.ledger_key, scene.pairing, &scene.verifier, bytes, &transcript());
            assert!(matches!(refused, Err(PakeError::Malformed)));
            let (device, hello) = DeviceStart::new(RANDOM, code("123456")).unwrap();
            assert!(device.finish(RANDOM, bytes, &transcript()).is_err());
            let (ledger, _) =
                LedgerStart::new(RANDOM, &scene.ledger_key, scene.pairing, &scene.verifier, &hello, &transcript())
                    .unwrap();
            assert!(ledger.finish(bytes).is_err());
        }
    }
}
