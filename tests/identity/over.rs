//! Codes and requests that are over: ended by events, so that they never stand in the way of new ones.

use std::path::Path;
use std::sync::Arc;

use palyra_ledger::identity::{IdentityError, PairingState, RequestState};
use palyra_ledger::pki::LeafKey;
use palyra_ledger::testing::{ManualClock, ask_to_pair};
use palyra_ledger::{Config, DeviceId, Error, Ledger, MintOptions, NewSlot, Timestamp, VerifyOptions};

use super::kinds;

const HOUR: u64 = 60 * 60 * 1000;

fn ledger(home: &Path) -> (Ledger, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
    let config = Config::new(home).clock(Arc::new(clock.clone())).without_witness();
    (Ledger::init(config, NewSlot::file("first")).unwrap(), clock)
}

#[test]
fn sixty_four_unused_codes_do_not_stop_pairing_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, clock) = ledger(&dir.path().join("home"));
    let identity = ledger.identity();
    let short = MintOptions { ttl_ms: 1000, ..MintOptions::default() };
    for _ in 0..64 {
        identity.mint(&short).unwrap();
    }
    assert!(matches!(identity.mint(&short), Err(Error::Identity(IdentityError::TooManyPairings { .. }))));
    clock.advance(1000);
    identity.mint(&short).unwrap();
    let ended = kinds(&ledger).iter().filter(|kind| *kind == "pairing_ended").count();
    assert_eq!(ended, 8, "a few beside each new code");
    assert_eq!(identity.sweep().unwrap(), 56, "and the rest by the daemon's clock");
    assert_eq!(identity.sweep().unwrap(), 0);
    let open = identity.pairings().unwrap().into_iter().filter(|(_, record)| record.state == PairingState::Open);
    assert_eq!(open.count(), 1);
    assert!(
        identity
            .pairings()
            .unwrap()
            .iter()
            .all(|(_, record)| { (record.state == PairingState::Open) == record.verifier.is_some() })
    );
    assert!(ledger.verify(VerifyOptions { state: true, witness: false }).unwrap().ok);
}

#[test]
fn a_request_that_nobody_answered_is_ended_and_its_device_told() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let (ledger, clock) = ledger(&home);
    let identity = ledger.identity();
    let asked = ask_to_pair(&ledger, DeviceId::from_bytes([7; 16]), &LeafKey::generate().unwrap()).unwrap();
    clock.advance(HOUR);
    assert_eq!(identity.sweep().unwrap(), 1);
    assert_eq!(kinds(&ledger).last().unwrap(), "request_expired");
    assert_eq!(identity.requests().unwrap()[0].1.state, RequestState::Expired);
    let refused = identity.approve(asked.request, None).unwrap_err();
    assert!(matches!(refused, Error::Identity(IdentityError::RequestExpired(_))), "{refused}");
    // A week later whatever happens next takes it from the state; the log keeps it.
    clock.advance(7 * 24 * HOUR);
    identity.mint(&MintOptions::default()).unwrap();
    assert!(identity.requests().unwrap().is_empty());
    assert_eq!(identity.pairings().unwrap().len(), 1);
    assert!(identity.poll_request(asked.request).is_err());
    ledger.close().unwrap();
    let again = Ledger::open(Config::new(&home).clock(Arc::new(clock.clone())).without_witness()).unwrap();
    assert!(again.verify(VerifyOptions { state: true, witness: false }).unwrap().ok);
}
