//! Certificates that the old system issued, shown at real TLS handshakes.

use std::io::Read;
use std::sync::Arc;

use palyra_ledger::event::identity::{Der, RefusalCause};
use palyra_ledger::pki::LeafKey;
use palyra_ledger::tls::{ServerIdentity, ServerTls, client_config, ledger_name};
use palyra_ledger::{ImportOptions, Ledger};
use rustls::{ClientConnection, ServerConnection};

use super::old::{Leaf, Old, ULIDS, device};
use super::{gather, import, ledger};

fn server(ledger: &Ledger) -> (ServerTls, Vec<Der>) {
    let identity = ledger.identity();
    let key = LeafKey::generate().unwrap();
    let names = [ledger_name(ledger.id()).parse().unwrap()];
    let (_, certificate) = identity.issue_server(&names, &key.public().unwrap()).unwrap();
    let roots = identity.authorities().unwrap().trusted().into_iter().map(|one| one.certificate.clone()).collect();
    let own = Arc::new(ServerIdentity::new(&certificate, &identity.cross_certificates().unwrap(), &key).unwrap());
    (ServerTls::new(identity.trust().unwrap(), identity.clock(), own).unwrap(), roots)
}

/// Shakes hands with a certificate; gives what the server made of it.
pub fn shake(ledger: &Ledger, leaf: &Leaf) -> Result<palyra_ledger::tls::Shown, RefusalCause> {
    let (tls, roots) = server(ledger);
    shake_by(ledger, &tls, leaf, &roots)
}

/// The same, as a device that trusts these roots.
fn shake_by(
    ledger: &Ledger,
    tls: &ServerTls,
    leaf: &Leaf,
    roots: &[Der],
) -> Result<palyra_ledger::tls::Shown, RefusalCause> {
    let (refused, at_device) = talk(ledger, tls, leaf, roots);
    assert_eq!(at_device, None, "the device follows the server's certificate");
    let chain = [leaf.der.clone().into()];
    let judged = tls.peer(&chain).map_err(|refused| refused.cause);
    assert_eq!(refused, judged.is_err(), "the handshake and the verifier agree: {judged:?}");
    judged
}

/// One handshake: whether the server refused it, and why the device did.
fn talk(ledger: &Ledger, tls: &ServerTls, leaf: &Leaf, roots: &[Der]) -> (bool, Option<String>) {
    let key = LeafKey::from_pkcs8(leaf.key.serialize_der().into()).unwrap();
    let config = client_config(roots, &Der::new(leaf.der.clone()), &key, ledger.identity().clock()).unwrap();
    let name = ledger_name(ledger.id()).try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = ServerConnection::new(tls.config()).unwrap();
    let (mut refused, mut at_device) = (false, None);
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            refused |= server.process_new_packets().is_err();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            match client.process_new_packets() {
                // What the server tells of its own refusal is no refusal of the device's.
                Err(rustls::Error::AlertReceived(_)) | Ok(_) => {}
                Err(error) => at_device = Some(at_device.unwrap_or_else(|| format!("{error:?}"))),
            }
        }
    }
    let _ = client.reader().read(&mut [0; 16]);
    (refused, at_device)
}

struct Scene {
    ledger: Ledger,
    old: Old,
    first: Leaf,
    second: Leaf,
    lost: Leaf,
    node: Leaf,
}

/// As the fixture: one device rotated, one revoked, one as it was paired.
fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::new();
    let (first, second) = (old.leaf(ULIDS[0]), old.leaf(ULIDS[0]));
    let (lost, node) = (old.leaf(ULIDS[1]), old.leaf(ULIDS[2]));
    old.pair(ULIDS[0], "Cli", &[&first, &second]);
    old.pair(ULIDS[2], "Node", &[&node]);
    old.revoke(ULIDS[1], "laptop stolen");
    old.fingerprints = vec![first.fingerprint(), lost.fingerprint()];
    old.write(dir.path());
    let ledger = ledger();
    let done = import(&ledger, &gather(dir.path()), ImportOptions::default());
    assert!(!done.stopped, "{:#?}", done.lines);
    Scene { ledger, old, first, second, lost, node }
}

#[test]
fn certificates_of_imported_devices_stay_good_and_revocations_hold() {
    let Scene { ledger, old, first, second, lost, node } = scene();
    let shown = shake(&ledger, &second).unwrap();
    assert_eq!((shown.device, shown.in_grace), (device(ULIDS[0]), false));
    assert_eq!(shake(&ledger, &node).unwrap().device, device(ULIDS[2]));
    assert_eq!(shake(&ledger, &first), Err(RefusalCause::CertificateRevoked), "the rotated one");
    assert_eq!(shake(&ledger, &lost), Err(RefusalCause::DeviceRevoked));
    // Signed by the imported CA, and on no list: nobody knows it.
    let stranger = old.leaf(ULIDS[0]);
    assert!(matches!(shake(&ledger, &stranger), Err(RefusalCause::Untrusted | RefusalCause::NotIssued)));
    // On the list by its name, and signed by somebody else.
    let forged = Old::new().leaf(ULIDS[2]);
    assert_eq!(shake(&ledger, &forged), Err(RefusalCause::Untrusted));
}

#[test]
fn a_device_that_knows_the_imported_root_alone_follows_it_to_the_daemon() {
    let Scene { ledger, old, node, .. } = scene();
    let (tls, roots) = server(&ledger);
    let imported = old.root();
    assert!(roots.contains(&imported) && roots.len() == 2);
    assert_eq!(shake_by(&ledger, &tls, &node, &[imported]).unwrap().device, device(ULIDS[2]));
    // A root that vouches for nobody here: the device ends the handshake.
    let (_, refused) = talk(&ledger, &tls, &node, &[Old::new().root()]);
    assert!(refused.as_ref().is_some_and(|why| why.contains("InvalidCertificate")), "{refused:?}");
    // Once it is revoked here it vouches for nothing.
    let identity = ledger.identity();
    assert_eq!(identity.cross_certificates().unwrap().len(), 1);
    assert_eq!((identity.taint_ca().unwrap(), identity.revoke_ca(true).unwrap()), (2, 2));
    assert!(identity.cross_certificates().unwrap().is_empty());
}

#[test]
fn an_imported_device_renews_by_the_ledgers_own_authority() {
    let Scene { ledger, node, .. } = scene();
    let identity = ledger.identity();
    let shown = shake(&ledger, &node).unwrap();
    let key = LeafKey::generate().unwrap();
    let (serial, _) = identity.renew(shown.device, shown.facts.serial, &key.request().unwrap()).unwrap();
    assert_eq!(identity.certificate(serial).unwrap().generation, 1);
    assert_eq!(identity.devices_of(2).unwrap(), 1, "the other device still holds one of the imported CA");
}

#[test]
fn what_is_revoked_here_is_refused_and_stays_so_when_the_device_is_paired_again() {
    let Scene { ledger, second, node, .. } = scene();
    let identity = ledger.identity();
    identity.revoke(device(ULIDS[0])).unwrap();
    assert_eq!(shake(&ledger, &second), Err(RefusalCause::DeviceRevoked));
    let held = identity.certificates_of(device(ULIDS[0])).unwrap();
    assert!(
        held.iter().all(|one| identity.certificate(*one).unwrap().revoked.is_some()),
        "old ones are not passed over"
    );
    let shown = shake(&ledger, &node).unwrap();
    identity.revoke_certificate(shown.facts.serial).unwrap();
    assert_eq!(shake(&ledger, &node), Err(RefusalCause::CertificateRevoked));
    // The list of revoked certificates is of this ledger's own.
    assert_eq!(identity.revocation_list().unwrap().0.entries, 0);
}

#[test]
fn the_imported_authority_is_tainted_and_revoked_like_an_old_one_in_a_roll() {
    let Scene { ledger, node, .. } = scene();
    let identity = ledger.identity();
    assert!(identity.prepare_ca().is_err(), "one authority at a time");
    assert_eq!(identity.taint_ca().unwrap(), 2);
    assert!(shake(&ledger, &node).is_ok(), "tainted is still trusted");
    assert!(identity.revoke_ca(false).is_err(), "devices depend on it");
    assert_eq!(identity.revoke_ca(true).unwrap(), 2);
    assert_eq!(shake(&ledger, &node), Err(RefusalCause::Untrusted));
    assert_eq!(identity.prepare_ca().unwrap(), 3, "and the own one can be rolled");
}

#[test]
fn the_live_view_learns_of_an_import() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::new();
    let node = old.leaf(ULIDS[2]);
    old.pair(ULIDS[2], "Node", &[&node]);
    old.write(dir.path());
    let ledger = ledger();
    // Somebody watches before the import.
    let trust = ledger.identity().trust().unwrap();
    assert_eq!(trust.certificates(), 0);
    import(&ledger, &gather(dir.path()), ImportOptions::default());
    assert!(shake(&ledger, &node).is_ok());
}
