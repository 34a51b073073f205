//! `log why`: one timeline across the three domains.

use palyra_ledger::event::compromise::Concern;
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{DeviceId, Relation};

use super::compromise::{Story, story};

fn told(concern: &Concern) -> Vec<(Relation, String)> {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, .. } = story(&disk, &clock);
    let told = ledger.log().story(concern, None).unwrap();
    assert!(told.is_sorted_by_key(|chapter| chapter.entry.seq));
    told.iter().map(|chapter| (chapter.relation, chapter.entry.kind_name())).collect()
}

fn count(told: &[(Relation, String)], relation: Relation, kind: &str) -> usize {
    told.iter().filter(|(found, name)| *found == relation && name == kind).count()
}

#[test]
fn a_secret_is_told_with_its_profile_and_with_how_its_reader_was_let_in() {
    let told = told(&Concern::Secret("global/auth/corp/refresh".parse().unwrap()));
    assert_eq!(count(&told, Relation::Itself, "secret_put"), 2);
    assert_eq!(count(&told, Relation::Itself, "secrets_read"), 1);
    assert_eq!(count(&told, Relation::Itself, "profile_logged_in"), 1);
    assert_eq!(count(&told, Relation::Profile, "refresh_started"), 1);
    assert_eq!(count(&told, Relation::Profile, "refresh_succeeded"), 1);
    // Device 1 read it, device 2 did not.
    for kind in ["pairing_minted", "pairing_requested", "pairing_approved", "device_paired", "certificate_issued"] {
        assert_eq!(count(&told, Relation::Device, kind), 1, "{kind}");
    }
    assert!(!told.iter().any(|(_, kind)| kind == "profile_set"), "{told:?}");
}

#[test]
fn a_device_is_told_with_its_code_and_what_it_read() {
    let told = told(&Concern::Device(DeviceId::from_bytes([1; 16])));
    assert!(told.iter().all(|(relation, _)| *relation == Relation::Itself));
    for (kind, times) in [("pairing_minted", 1), ("device_paired", 1), ("device_granted", 1), ("secrets_read", 2)] {
        assert_eq!(count(&told, Relation::Itself, kind), times, "{kind}");
    }
}

#[test]
fn a_profile_is_told_with_its_tokens_and_their_readers() {
    let told = told(&Concern::Profile("corp".parse().unwrap()));
    assert_eq!(count(&told, Relation::Itself, "profile_logged_in"), 1);
    assert_eq!(count(&told, Relation::Secret, "secret_put"), 4);
    assert_eq!(count(&told, Relation::Secret, "secrets_read"), 1);
    assert_eq!(count(&told, Relation::Device, "device_paired"), 1);
}

#[test]
fn a_thing_that_the_log_does_not_know_has_no_story() {
    assert!(told(&Concern::Secret("global/none".parse().unwrap())).is_empty());
}
