//! Who asks under the id of a paired device: refused, unless a person says that it is to be replaced.

use palyra_ledger::event::identity::RefusalCause;
use palyra_ledger::identity::IdentityError;
use palyra_ledger::pki::{LeafKey, fingerprint, read_leaf};
use palyra_ledger::testing::{ask_to_pair, pair_device};
use palyra_ledger::{DeviceId, Error, VerifyOptions};

use super::{Device, kinds, ledger, mint, status};

#[test]
fn another_with_a_paired_devices_id_is_refused_until_a_person_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(&dir.path().join("home"));
    let identity = ledger.identity();
    let victim = DeviceId::from_bytes([7; 16]);
    let (serial, certificate) = pair_device(&ledger, victim, &LeafKey::generate().unwrap()).unwrap();
    let trust = identity.trust().unwrap();
    let check = || trust.check(victim, serial, &fingerprint(certificate.as_bytes()));
    let asked = ask_to_pair(&ledger, victim, &LeafKey::generate().unwrap()).unwrap();
    let (_, request) = identity.requests().unwrap().pop().unwrap();
    assert_eq!(identity.replaced_by(&request).unwrap().unwrap().certificate, Some(serial));
    let refused = identity.approve(asked.request, Some(&asked.sas)).unwrap_err();
    assert!(matches!(refused, Error::Identity(IdentityError::Replaces { .. })), "{refused}");
    assert_eq!(kinds(&ledger).last().unwrap(), "command_refused", "and the log says so");
    assert_eq!(check(), Ok(()), "the device is what it was");

    let before = ledger.log().head().unwrap().seq;
    let watch = trust.watch();
    let issued = identity.approve_replacing(asked.request, Some(&asked.sas)).unwrap().issued.unwrap();
    assert_eq!(ledger.log().head().unwrap().seq, before + 3, "one batch of three events");
    assert_eq!(check(), Err(RefusalCause::CertificateRevoked));
    assert!(watch.has_changed().unwrap(), "connections that stand are looked at again");
    assert_eq!(identity.revocation_list().unwrap().0.entries, 1);
    assert_eq!(identity.device(victim).unwrap().certificate, Some(issued));
    assert!(ledger.verify(VerifyOptions { state: true, witness: false }).unwrap().ok);
}

#[test]
fn a_request_is_answered_with_the_certificate_that_its_approval_issued() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(&dir.path().join("home"));
    let identity = ledger.identity();
    let device = Device::new(7);
    let (first, channel) = device.join(&ledger, &mint(&ledger)).unwrap();
    let serial = identity.approve(first.request, None).unwrap().issued.unwrap();
    // The device renews, and is then set up anew: the first request still gets its own certificate.
    identity.renew(device.id, serial, &device.key.request().unwrap()).unwrap();
    let second = ask_to_pair(&ledger, device.id, &LeafKey::generate().unwrap()).unwrap();
    identity.approve_replacing(second.request, None).unwrap();
    let answer = status(&ledger, &first, &channel);
    assert_eq!((answer[0], read_leaf(&answer[1..]).unwrap().serial), (1, serial));
}
