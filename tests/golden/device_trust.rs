//! Device trust: its 25 kinds of events, and the key ring of a CA that was rolled.

use palyra_ledger::event::identity::{RefusalCause, RefusalNote, SeenNote};
use palyra_ledger::pki::LeafKey;
use palyra_ledger::testing::{ManualClock, SimDisk, ask_to_pair, pair_device};
use palyra_ledger::{DeviceId, DeviceName, Ledger, MintOptions, NewSlot, PutOptions, SecretBytes, Timestamp};

use super::{Release, config, fields, told_with};

pub const RELEASE: Release = Release { folder: "0002-device-trust", make, told };

/// Every field of every event: what decodes must go on decoding.
fn told(ledger: &Ledger) -> String {
    told_with(ledger, |entry| match entry.kind {
        64..=95 => format!(" {}", fields(entry)),
        _ => String::new(),
    })
}

fn make() -> SimDisk {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = Ledger::init(config(&disk, 2, &clock), NewSlot::file("machine")).unwrap();
    let identity = ledger.identity();
    let put = |value: &str| {
        clock.advance(1000);
        let (vault, value) = (ledger.vault("global".parse().unwrap()), SecretBytes::from(value.as_bytes()));
        vault.put(&"api_key".parse().unwrap(), &value, PutOptions::new()).unwrap();
    };
    let id = |number: u8| DeviceId::from_bytes([number; 16]);
    let key = || LeafKey::generate_p256().unwrap();
    identity.daemon_started(vec!["192.0.2.1:7343".to_owned()]).unwrap();
    put("first");
    let cancelled = identity.mint(&MintOptions::default()).unwrap();
    identity.cancel(cancelled.pairing).unwrap();
    clock.advance(1000);
    let (first, _) = pair_device(&ledger, id(1), &key()).unwrap();
    let (second, _) = pair_device(&ledger, id(2), &key()).unwrap();
    let denied = ask_to_pair(&ledger, id(3), &key()).unwrap();
    identity.deny(denied.request, Some(palyra_ledger::Reason::new("not ours").unwrap())).unwrap();
    identity.refuse_pairing(RefusalCause::UnknownCode, None, "192.0.2.9:1").unwrap();
    identity.rename(id(1), DeviceName::new("laptop").unwrap()).unwrap();
    identity.grant(id(1), "skill:mail".parse().unwrap(), true).unwrap();
    identity.grant(id(1), "global".parse().unwrap(), true).unwrap();
    identity.grant(id(1), "skill:mail".parse().unwrap(), false).unwrap();
    identity.issue_server(&["ledger.example".parse().unwrap()], &key().public().unwrap()).unwrap();
    clock.advance(1000);
    identity.prepare_ca().unwrap();
    let (renewed, _) = identity.renew(id(1), first, &key().request().unwrap()).unwrap();
    let (second, _) = identity.renew(id(2), second, &key().request().unwrap()).unwrap();
    identity.activate_ca(false).unwrap();
    put("second");
    identity.renew(id(1), renewed, &key().request().unwrap()).unwrap();
    identity.renew(id(2), second, &key().request().unwrap()).unwrap();
    identity.taint_ca().unwrap();
    identity.revoke_ca(false).unwrap();
    identity.revoke_certificate(first).unwrap();
    clock.advance(1000);
    let (last, at) = (Timestamp::from_millis(1_767_225_601_500), "192.0.2.7:5".to_owned());
    let refusal = RefusalNote { cause: RefusalCause::Untrusted, peer: at.clone(), device: Some(id(9)), count: 3, last };
    identity.connections_refused(vec![refusal]).unwrap();
    identity.devices_seen(vec![SeenNote { device: id(1), peer: at, last }]).unwrap();
    identity.revoke(id(2)).unwrap();
    identity.revocation_list().unwrap();
    identity.clear(id(2)).unwrap();
    identity.remove(id(2)).unwrap();
    ask_to_pair(&ledger, id(4), &key()).unwrap();
    clock.advance(60 * 60 * 1000);
    assert_eq!(identity.sweep().unwrap(), 1);
    // The first device is set up anew under its id.
    let again = ask_to_pair(&ledger, id(1), &key()).unwrap();
    identity.approve_replacing(again.request, Some(&again.sas)).unwrap();
    // A roll that stands half-way: two keys in the ring.
    identity.prepare_ca().unwrap();
    identity.daemon_stopped(1).unwrap();
    ledger.close().unwrap();
    disk
}

/// The roll that the store stands in can be finished by any later version.
#[test]
fn the_roll_that_was_under_way_is_finished() {
    let ledger = RELEASE.open();
    let identity = ledger.identity();
    assert_eq!(identity.activate_ca(true).unwrap().0, 3);
    identity.taint_ca().unwrap();
    identity.revoke_ca(true).unwrap();
    let secret = ledger.vault("global".parse().unwrap()).get(&"api_key".parse().unwrap()).unwrap();
    assert_eq!(secret.value.expose(), b"second");
    assert_eq!(
        identity.device(DeviceId::from_bytes([1; 16])).unwrap().name.as_str(),
        "01010101010101010101010101010101"
    );
    assert_eq!(identity.devices().unwrap().len(), 1);
}
