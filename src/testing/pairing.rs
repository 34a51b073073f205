//! A device that is paired by the same steps as over the network, without one.

use crate::base::{DeviceId, DeviceName, OsRandom, Serial};
use crate::device::join::{Applicant, Joining};
use crate::device::messages::{Base64, GreetingMessage};
use crate::engine::{Error, Hello, Ledger, MintOptions, PairingReceipt};
use crate::event::identity::{ClientKind, Der};
use crate::pki::LeafKey;

/// Mints a code and joins with it; gives the request that waits for a person.
///
/// # Errors
/// As the ledger's side of a pairing.
pub fn ask_to_pair(ledger: &Ledger, device: DeviceId, key: &LeafKey) -> Result<PairingReceipt, Error> {
    let identity = ledger.identity();
    let minting = identity.mint(&MintOptions::default())?;
    let name = DeviceName::new(&device.to_string()).unwrap_or_else(|_| unreachable!("an id is a name"));
    let applicant = Applicant { device, kind: ClientKind::Node, name: &name, key };
    let text = minting.code.expose();
    let code = text.parse().unwrap_or_else(|_| unreachable!("a code reads"));
    let failed = |_| crate::identity::IdentityError::NoAuthority;
    let (joining, hello) = Joining::new(&OsRandom, code, applicant).map_err(failed)?;
    let (greeting, session) = identity.begin_pairing(
        &Hello {
            version: hello.version,
            locator: &hello.locator,
            device,
            kind: hello.kind,
            name: &name,
            public_key: hello.public_key.as_bytes(),
            proof: &hello.proof.0,
        },
        "192.0.2.1:1",
    )?;
    let message = GreetingMessage {
        session: String::new(),
        ledger: greeting.ledger,
        ca_certificate: greeting.ca_certificate,
        proof: Base64(greeting.proof),
        device_port: None,
    };
    let (_, finish) = joining.greeted(&OsRandom, &message, None).map_err(failed)?;
    identity.finish_pairing(session, &finish.proof.0, &finish.request.0)
}

/// [`ask_to_pair`], approved; gives the device's certificate.
///
/// # Errors
/// As the ledger's side of a pairing.
pub fn pair_device(ledger: &Ledger, device: DeviceId, key: &LeafKey) -> Result<(Serial, Der), Error> {
    let identity = ledger.identity();
    let receipt = ask_to_pair(ledger, device, key)?;
    let approval = identity.approve(receipt.request, Some(&receipt.sas))?;
    let serial = approval.issued.ok_or(crate::identity::IdentityError::NoDevice(device))?;
    Ok((serial, identity.certificate_der(serial)?))
}
