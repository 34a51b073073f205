//! Devices that pair, one message at a time.

use palyra_ledger::device::join::{Applicant, Joining};
use palyra_ledger::device::messages::{Base64, FinishMessage, GreetingMessage};
use palyra_ledger::event::identity::ClientKind;
use palyra_ledger::identity::{DeviceState, IdentityError};
use palyra_ledger::pki::LeafKey;
use palyra_ledger::testing::SeededRandom;
use palyra_ledger::{DeviceName, Error, Hello, MintOptions, PairingSession, RequestId};

use super::episode::{Episode, said};
use crate::workload::{Lane, Op, device_id};

/// One device on its way to be paired.
#[derive(Default)]
pub enum Pairer {
    /// Nobody.
    #[default]
    Nobody,
    /// A code was made and carried over.
    Code { code: String, used: bool },
    /// The device sent its first message; its second is ready.
    Greeted { code: String, device: u64, session: Box<PairingSession>, finish: Box<FinishMessage> },
    /// A request waits for a person.
    Waiting { device: u64, request: RequestId, sas: String },
}

impl Pairer {
    /// The ledger's process is gone: a session is in its memory alone.
    pub fn died(&mut self) {
        if let Self::Greeted { .. } = self {
            *self = Self::Nobody;
        }
    }
}

impl Episode {
    /// One step of one pairing.
    pub fn pair(&mut self) -> Result<String, String> {
        let number = self.dice.below(self.pairers.len() as u64);
        let slot = usize::try_from(number).unwrap_or(0);
        let pairer = self.pairers.get_mut(slot).map(std::mem::take).unwrap_or_default();
        let (next, what) = match pairer {
            Pairer::Nobody => self.mint()?,
            Pairer::Code { code, used } => self.greet(code, used)?,
            Pairer::Greeted { code, device, session, finish } => self.prove(code, device, *session, &finish)?,
            Pairer::Waiting { device, request, sas } => self.answer(device, request, sas)?,
        };
        if let Some(slot) = self.pairers.get_mut(slot) {
            *slot = next;
        }
        Ok(what)
    }

    fn mint(&mut self) -> Result<(Pairer, String), String> {
        let made = self.look(|ledger| ledger.identity().mint(&MintOptions::default()))?;
        Ok(match made {
            Some(Ok(minting)) => {
                (Pairer::Code { code: minting.code.expose().to_string(), used: false }, "code made".to_owned())
            }
            Some(Err(Error::Identity(IdentityError::TooManyPairings { .. }))) => {
                (Pairer::Nobody, "too many codes".to_owned())
            }
            Some(Err(error)) => return Err(format!("making a code: {error}")),
            None => (Pairer::Nobody, "making a code met a fault".to_owned()),
        })
    }

    /// A device that is new, or one that was revoked, which must not get far.
    fn applicant(&mut self) -> u64 {
        let known: Vec<u64> = self
            .world
            .devices()
            .filter(|device| self.world.device(*device).is_some_and(|known| known.state != DeviceState::Paired))
            .collect();
        if self.dice.once_in(3)
            && let Some(device) = self.dice.pick(&known)
        {
            return *device;
        }
        self.dice.number()
    }

    fn greet(&mut self, code: String, used: bool) -> Result<(Pairer, String), String> {
        let device = self.applicant();
        let key = LeafKey::generate().map_err(said)?;
        let id = device_id(device);
        let name = DeviceName::new(&id.to_string()).map_err(said)?;
        let applicant = Applicant { device: id, kind: ClientKind::Node, name: &name, key: &key };
        let random = SeededRandom::new(self.dice.number());
        let (joining, hello) = Joining::new(&random, code.parse().map_err(said)?, applicant).map_err(said)?;
        let begun = self.look(|ledger| {
            let hello = Hello {
                version: hello.version,
                locator: &hello.locator,
                device: id,
                kind: hello.kind,
                name: &name,
                public_key: hello.public_key.as_bytes(),
                proof: &hello.proof.0,
            };
            ledger.identity().begin_pairing(&hello, "192.0.2.1:1")
        })?;
        let (greeting, session) = match begun {
            Some(Ok(_)) if used => return Err("a code was used twice".to_owned()),
            Some(Ok(begun)) => begun,
            // Codes end by the clock.
            Some(Err(Error::Identity(_))) => return Ok((Pairer::Nobody, "code refused".to_owned())),
            Some(Err(error)) => return Err(format!("greeting: {error}")),
            None => return Ok((Pairer::Nobody, "greeting met a fault".to_owned())),
        };
        let message = GreetingMessage {
            session: String::new(),
            ledger: greeting.ledger,
            ca_certificate: greeting.ca_certificate,
            proof: Base64(greeting.proof),
            device_port: None,
        };
        let (_, mut finish) = joining.greeted(&random, &message, None).map_err(said)?;
        // Somebody who does not know the code.
        if self.dice.once_in(8) {
            finish.proof.0.iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        let (session, finish) = (Box::new(session), Box::new(finish));
        Ok((Pairer::Greeted { code, device, session, finish }, "greeted".to_owned()))
    }

    fn prove(
        &mut self,
        code: String,
        device: u64,
        session: PairingSession,
        finish: &FinishMessage,
    ) -> Result<(Pairer, String), String> {
        let revoked = self.world.device(device).is_some_and(|known| known.state == DeviceState::Revoked);
        let done = self.look(|ledger| ledger.identity().finish_pairing(session, &finish.proof.0, &finish.request.0))?;
        match done {
            Some(Ok(_)) if revoked => Err(format!("device {device} is revoked, and may ask to be paired")),
            Some(Ok(receipt)) => {
                self.count("requests to be paired");
                // The code is used: it is tried again.
                if self.dice.once_in(4) {
                    return Ok((Pairer::Code { code, used: true }, "asked to be paired".to_owned()));
                }
                Ok((
                    Pairer::Waiting { device, request: receipt.request, sas: receipt.sas },
                    "asked to be paired".to_owned(),
                ))
            }
            Some(Err(Error::Identity(_) | Error::Pake(_))) => {
                self.count("requests to be paired refused");
                Ok((Pairer::Nobody, "proof refused".to_owned()))
            }
            Some(Err(error)) => Err(format!("finishing: {error}")),
            None => Ok((Pairer::Nobody, "finishing met a fault".to_owned())),
        }
    }

    fn answer(&mut self, device: u64, request: RequestId, sas: String) -> Result<(Pairer, String), String> {
        if self.dice.once_in(6) {
            let denied = self.look(|ledger| ledger.identity().deny(request, None))?;
            return match denied {
                Some(Ok(_)) => {
                    let approved = self.look(|ledger| ledger.identity().approve(request, Some(&sas)))?;
                    match approved {
                        Some(Ok(_)) => Err("a request that was denied was approved".to_owned()),
                        _ => Ok((Pairer::Nobody, "denied".to_owned())),
                    }
                }
                Some(Err(Error::Identity(_))) => Ok((Pairer::Nobody, "denial refused".to_owned())),
                Some(Err(error)) => Err(format!("denying: {error}")),
                None => Ok((Pairer::Nobody, "denying met a fault".to_owned())),
            };
        }
        let state = self.world.device(device).map(|known| known.state);
        let mut refused = None;
        let op = Op::Pair { device };
        let approved = self.mutate(Lane::Devices, &op, |ledger| match ledger.identity().approve(request, Some(&sas)) {
            Err(Error::Identity(error)) => {
                refused = Some(error);
                Err("refused".into())
            }
            other => Ok(other?),
        });
        if let Some(error) = refused {
            let late = matches!(error, IdentityError::RequestExpired(_));
            let expected = late
                || matches!(state, Some(DeviceState::Revoked))
                || matches!((state, &error), (Some(DeviceState::Paired), IdentityError::Replaces { .. }));
            return if expected {
                Ok((Pairer::Nobody, "approval refused".to_owned()))
            } else {
                Err(format!("approving device {device}, which is {state:?}: {error}"))
            };
        }
        let Some(_) = approved? else { return Ok((Pairer::Nobody, "approving met a fault".to_owned())) };
        if state == Some(DeviceState::Revoked) {
            return Err(format!("device {device} is revoked, and was paired"));
        }
        // Doing it again changes nothing.
        match self.look(|ledger| ledger.identity().approve(request, Some(&sas)))? {
            Some(Ok(again)) if again.issued.is_some() => return Err("an approval done again issued again".to_owned()),
            Some(Err(error)) => return Err(format!("approving again: {error}")),
            _ => {}
        }
        self.count("devices paired");
        if self.wound.is_none() {
            self.learn_certificates()?;
        }
        Ok((Pairer::Nobody, "paired".to_owned()))
    }
}
