//! Rolling the CA: both roots are trusted in between, and every secret stays readable.

use std::sync::Arc;

use palyra_ledger::event::identity::{Der, RefusalCause};
use palyra_ledger::identity::{AuthorityState, IdentityError};
use palyra_ledger::pki::{LeafKey, fingerprint, pem};
use palyra_ledger::testing::{ManualClock, SimDisk, pair_device};
use palyra_ledger::{
    Config, DeviceId, Error, Ledger, NewSlot, PutOptions, Scope, SecretBytes, Serial, Timestamp, VerifyOptions,
};

fn verifies(dir: &std::path::Path, roots: &[Der], leaf: &Der, crl: Option<&Der>) -> bool {
    let bundle: String = roots.iter().map(|root| pem("CERTIFICATE", root.as_bytes()).to_string()).collect();
    std::fs::write(dir.join("roots.pem"), bundle).unwrap();
    std::fs::write(dir.join("leaf.pem"), pem("CERTIFICATE", leaf.as_bytes()).as_bytes()).unwrap();
    let mut words = vec!["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "roots.pem"];
    if let Some(crl) = crl {
        std::fs::write(dir.join("list.pem"), pem("X509 CRL", crl.as_bytes()).as_bytes()).unwrap();
        words.extend(["-crl_check", "-CRLfile", "list.pem"]);
    }
    words.push("leaf.pem");
    std::process::Command::new("openssl").args(words).current_dir(dir).output().unwrap().status.success()
}

/// A step out of order is refused before anything is staged.
fn one_roll_at_a_time(ledger: &Ledger, home: &std::path::Path) {
    let before = ledger.log().head().unwrap().seq;
    let refused = ledger.identity().prepare_ca().unwrap_err();
    assert!(matches!(refused, Error::Identity(IdentityError::RollOrder { step: "prepare", .. })), "{refused}");
    assert_eq!(ledger.log().head().unwrap().seq, before);
    let staged = home.join("keys/keyring.next");
    assert!(!staged.exists(), "{}", staged.display());
}

#[test]
fn both_roots_are_trusted_in_between_and_no_secret_is_orphaned() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = Ledger::init(Config::new(&home), NewSlot::file("first")).unwrap();
    let identity = ledger.identity();
    let vault = ledger.vault(Scope::global());
    let put = |name: &str| vault.put(&name.parse().unwrap(), &SecretBytes::from(name.as_bytes()), PutOptions::new());
    put("before").unwrap();
    let id = DeviceId::from_bytes([7; 16]);
    let (old, old_leaf) = pair_device(&ledger, id, &LeafKey::generate().unwrap()).unwrap();
    let trust = identity.trust().unwrap();
    let roots = || trust.roots().iter().map(|root| root.certificate.clone()).collect::<Vec<_>>();

    assert!(identity.activate_ca(true).is_err() && identity.taint_ca().is_err() && identity.revoke_ca(true).is_err());
    assert_eq!(identity.prepare_ca().unwrap(), 2);
    assert!(matches!(identity.prepare_ca(), Err(Error::Identity(IdentityError::RollOrder { .. }))));
    assert_eq!(roots().len(), 2);
    assert_eq!(identity.authorities().unwrap().active().unwrap().generation, 1, "the old one still issues");
    let unaware = identity.activate_ca(false).unwrap_err();
    assert!(matches!(unaware, Error::Identity(IdentityError::StillDepending { devices: 1, generation: 1 })));
    let (generation, rewrapped) = identity.activate_ca(true).unwrap();
    one_roll_at_a_time(&ledger, &home);
    assert_eq!(generation, 2);
    assert!(rewrapped >= 1);
    put("between").unwrap();
    let next = LeafKey::generate_p256().unwrap();
    let other = DeviceId::from_bytes([8; 16]);
    let (_, new_leaf) = pair_device(&ledger, other, &next).unwrap();
    for leaf in [&old_leaf, &new_leaf] {
        assert!(verifies(dir.path(), &roots(), leaf, None));
    }
    // A revocation list speaks for one issuer: each generation that is trusted signs its own.
    identity.revoke(other).unwrap();
    let (_, by_new) = identity.revocation_list().unwrap();
    let (_, by_old) = identity.revocation_list_of(Some(1)).unwrap();
    assert!(verifies(dir.path(), &roots(), &old_leaf, Some(&by_old)));
    assert!(!verifies(dir.path(), &roots(), &new_leaf, Some(&by_new)));

    identity.taint_ca().unwrap();
    one_roll_at_a_time(&ledger, &home);
    let depending = identity.revoke_ca(false).unwrap_err();
    assert!(matches!(depending, Error::Identity(IdentityError::StillDepending { devices: 1, generation: 1 })));
    let request = LeafKey::generate().unwrap().request().unwrap();
    let (serial, renewed) = identity.renew(id, old, &request).unwrap();
    identity.revoke_ca(false).unwrap();
    assert_eq!(roots().len(), 1);
    assert!(!verifies(dir.path(), &roots(), &old_leaf, None));
    assert!(verifies(dir.path(), &roots(), &renewed, None));
    assert!(identity.revocation_list_of(Some(1)).is_err(), "its key is gone");
    put("after").unwrap();
    assert_eq!(trust.check(id, serial, &fingerprint(renewed.as_bytes())), Ok(()));
    let never = Serial::new(99, [0; 8]);
    assert_eq!(trust.check(id, never, &fingerprint(renewed.as_bytes())), Err(RefusalCause::NotIssued));
    assert_eq!(trust.check(id, serial, &fingerprint(b"forged")), Err(RefusalCause::NotIssued));
    assert_eq!(trust.check(other, serial, &fingerprint(renewed.as_bytes())), Err(RefusalCause::NotIssued));
    ledger.keys().rotate_root(&[], &[]).unwrap();
    ledger.close().unwrap();

    let ledger = Ledger::open(Config::new(&home)).unwrap();
    for name in ["before", "between", "after"] {
        let value = ledger.vault(Scope::global()).get(&name.parse().unwrap()).unwrap().value;
        assert_eq!(value.expose(), name.as_bytes());
    }
    let identity = ledger.identity();
    assert_eq!(identity.prepare_ca().unwrap(), 3, "and again, after a rotation of the root key");
    identity.activate_ca(true).unwrap();
    identity.taint_ca().unwrap();
    assert_eq!(identity.revoke_ca(true).unwrap(), 2);
    let states: Vec<_> = identity.authorities().unwrap().0.iter().map(|record| record.state).collect();
    assert_eq!(states, [AuthorityState::Revoked, AuthorityState::Revoked, AuthorityState::Active]);
    let report = ledger.verify(VerifyOptions { state: true, witness: true }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

/// A clock that stands still, as one that was set back does until it has caught up, tells nothing of what came first.
#[test]
fn what_knows_the_next_root_is_told_by_order_and_not_by_time() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
    let config = Config::new("/home").medium(Arc::new(disk)).clock(Arc::new(clock)).without_background();
    let ledger = Ledger::init(config.without_witness(), NewSlot::file("first")).unwrap();
    let identity = ledger.identity();
    let id = DeviceId::from_bytes([7; 16]);
    let (mut shown, _) = pair_device(&ledger, id, &LeafKey::generate().unwrap()).unwrap();
    for issuing in [1, 2] {
        identity.prepare_ca().unwrap();
        let unaware = identity.activate_ca(false).unwrap_err();
        let expected = IdentityError::StillDepending { devices: 1, generation: issuing };
        assert_eq!(unaware.to_string(), Error::Identity(expected).to_string());
        let request = LeafKey::generate().unwrap().request().unwrap();
        (shown, _) = identity.renew(id, shown, &request).unwrap();
        assert_eq!(identity.activate_ca(false).unwrap().0, issuing + 1);
        identity.taint_ca().unwrap();
        identity.revoke_ca(true).unwrap();
    }
}

/// Rolls are rare and the state keeps every root: there is an end, and it is told before anything is staged.
#[test]
fn a_ledger_that_has_all_the_generations_it_keeps_refuses_another() {
    let disk = SimDisk::new();
    let config = Config::new("/home").medium(Arc::new(disk.clone())).without_background().without_witness();
    let ledger = Ledger::init(config, NewSlot::file("first")).unwrap();
    let identity = ledger.identity();
    for generation in 2..=64 {
        assert_eq!(identity.prepare_ca().unwrap(), generation);
        identity.activate_ca(false).unwrap();
        identity.taint_ca().unwrap();
        identity.revoke_ca(false).unwrap();
    }
    let before = ledger.log().head().unwrap().seq;
    let refused = identity.prepare_ca().unwrap_err();
    assert!(matches!(refused, Error::Identity(IdentityError::RollOrder { step: "prepare", .. })), "{refused}");
    assert_eq!(ledger.log().head().unwrap().seq, before);
    assert!(!disk.files().iter().any(|path| path.ends_with("keyring.next")));
    assert!(ledger.verify(VerifyOptions { state: true, witness: false }).unwrap().ok);
}
