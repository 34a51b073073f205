#![allow(clippy::result_large_err)] // Both sides' errors, in tests alone.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::*;
use crate::base::{Caller, DeviceId, Serial, Timestamp, limits};
use crate::engine::{Config, Ledger};
use crate::event::identity::{Der, RefusalCause};
use crate::keys::NewSlot;
use crate::pki::{Authority, LeafKey};
use crate::testing::ManualClock;

struct Scene {
    dir: tempfile::TempDir,
    ledger: Ledger,
    clock: ManualClock,
    tls: ServerTls,
    device: Paired,
}

struct Paired {
    id: DeviceId,
    serial: Serial,
    certificate: Der,
    key: LeafKey,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    // rustls knows no time before 1970 plus a root's begin: any present day will do.
    clock.advance(1_800_000_000_000);
    let config = Config::new(dir.path().join("home")).clock(Arc::new(clock.clone())).without_witness();
    let ledger = Ledger::init(config, NewSlot::file("first")).unwrap();
    let identity = ledger.identity();
    let key = LeafKey::generate().unwrap();
    let names = [ledger_name(ledger.id()).parse().unwrap()];
    let (_, certificate) = identity.issue_server(&names, &key.public().unwrap()).unwrap();
    let server = Arc::new(ServerIdentity::new(&certificate, &[], &key).unwrap());
    let tls = ServerTls::new(identity.trust().unwrap(), identity.clock(), server).unwrap();
    let device = pair(&ledger, 7);
    Scene { dir, ledger, clock, tls, device }
}

/// A paired device, by the same calls that the network makes.
fn pair(ledger: &Ledger, number: u8) -> Paired {
    let key = LeafKey::generate().unwrap();
    let id = DeviceId::from_bytes([number; 16]);
    let (serial, certificate) = crate::testing::pair_device(ledger, id, &key).unwrap();
    Paired { id, serial, certificate, key }
}

fn client(scene: &Scene, device: &Paired) -> Arc<ClientConfig> {
    let roots: Vec<Der> = scene.tls.verifier().trust().roots().iter().map(|root| root.certificate.clone()).collect();
    let clock = scene.ledger.identity().clock();
    Arc::new(client_config(&roots, &device.certificate, &device.key, clock).unwrap())
}

/// Runs a handshake in memory; gives the server's side, or its error and the client's.
fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<ServerConnection, (Option<rustls::Error>, Option<rustls::Error>)> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let (mut at_server, mut at_client) = (None, None);
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        at_server = at_server.or(server.process_new_packets().err());
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        at_client = at_client.or(client.process_new_packets().err());
    }
    if at_server.is_some() || at_client.is_some() || server.is_handshaking() {
        return Err((at_server, at_client));
    }
    Ok(server)
}

fn try_with(scene: &Scene, device: &Paired) -> Result<Shown, Refused> {
    let note = Note::default();
    let name = ledger_name(scene.ledger.id());
    let run = || handshake(client(scene, device), scene.tls.config(), &name);
    match verify::noting_sync(&note, run) {
        Ok(server) => scene.tls.peer(server.peer_certificates().unwrap()),
        Err(errors) => Err(note.lock().unwrap().take().unwrap_or_else(|| panic!("{errors:?}"))),
    }
}

#[test]
fn a_paired_device_gets_in_and_is_known_by_its_certificate() {
    let scene = scene();
    let shown = try_with(&scene, &scene.device).unwrap();
    assert_eq!((shown.device, shown.facts.serial, shown.in_grace), (scene.device.id, scene.device.serial, false));
    let name = ledger_name(scene.ledger.id());
    let server = handshake(client(&scene, &scene.device), scene.tls.config(), &name).unwrap();
    assert_eq!(server.alpn_protocol(), Some(ALPN));
    assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[test]
fn a_revocation_is_in_force_when_the_call_returns() {
    let scene = scene();
    scene.ledger.identity().revoke_certificate(scene.device.serial).unwrap();
    let refused = try_with(&scene, &scene.device).unwrap_err();
    assert_eq!((refused.cause, refused.device), (RefusalCause::CertificateRevoked, Some(scene.device.id)));
    assert_eq!(refused.error, rustls::Error::InvalidCertificate(CertificateError::Revoked));
    let other = pair(&scene.ledger, 8);
    try_with(&scene, &other).unwrap();
    scene.ledger.identity().revoke(other.id).unwrap();
    assert_eq!(try_with(&scene, &other).unwrap_err().cause, RefusalCause::DeviceRevoked);
}

#[test]
fn a_connection_that_stands_is_refused_after_a_revocation_and_after_its_end() {
    let scene = scene();
    let shown = try_with(&scene, &scene.device).unwrap();
    let verifier = scene.tls.verifier();
    let mut watch = verifier.trust().watch();
    verifier.still_good(&shown, scene.ledger.identity().clock().now()).unwrap();
    let end = shown.facts.not_after.plus_millis(1);
    assert_eq!(verifier.still_good(&shown, end), Err(RefusalCause::Expired));
    assert!(!watch.has_changed().unwrap());
    scene.ledger.identity().revoke(scene.device.id).unwrap();
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    assert_eq!(verifier.still_good(&shown, Timestamp::from_millis(0)), Err(RefusalCause::DeviceRevoked));
    // Pairing again does not bring the old certificate back.
    scene.ledger.identity().clear(scene.device.id).unwrap();
    let again = pair(&scene.ledger, 7);
    try_with(&scene, &again).unwrap();
    assert_eq!(try_with(&scene, &scene.device).unwrap_err().cause, RefusalCause::CertificateRevoked);
}

#[test]
fn an_ended_certificate_is_let_in_for_a_week_and_marked() {
    let scene = scene();
    scene.clock.advance(limits::LEAF_LIFE_MS + 2000);
    // The server's certificate has ended as well: it is renewed first, without a new configuration.
    let key = LeafKey::generate().unwrap();
    let identity = scene.ledger.identity();
    let renew = || {
        let names = [ledger_name(scene.ledger.id()).parse().unwrap()];
        let (_, certificate) = identity.issue_server(&names, &key.public().unwrap()).unwrap();
        scene.tls.identity().replace(&certificate, &[], &key).unwrap();
    };
    renew();
    assert!(try_with(&scene, &scene.device).unwrap().in_grace);
    scene.clock.advance(limits::RENEWAL_GRACE_MS);
    renew();
    assert_eq!(try_with(&scene, &scene.device).unwrap_err().cause, RefusalCause::Expired);
}

#[test]
fn a_certificate_of_another_ca_and_one_that_no_event_knows_are_refused() {
    let scene = scene();
    let stranger = LeafKey::generate().unwrap();
    let now = scene.ledger.identity().clock().now();
    let validity = (now, now.plus_millis(limits::LEAF_LIFE_MS));
    let other_ca = Authority::new(LeafKey::generate().unwrap().expose_pkcs8(), scene.ledger.id(), 1).unwrap();
    let serial = Serial::new(9, [0; 8]);
    let der = other_ca.device_leaf(scene.device.id, &stranger.public().unwrap(), serial, validity).unwrap();
    let forged = Paired { id: scene.device.id, serial, certificate: Der::new(der), key: stranger };
    let refused = try_with(&scene, &forged).unwrap_err();
    assert_eq!(refused.cause, RefusalCause::Untrusted);
    // The server's own certificate is no device's.
    let key = LeafKey::generate().unwrap();
    let names = [ledger_name(scene.ledger.id()).parse().unwrap()];
    let (serial, certificate) = scene.ledger.identity().issue_server(&names, &key.public().unwrap()).unwrap();
    let server = Paired { id: scene.device.id, serial, certificate, key };
    assert_eq!(try_with(&scene, &server).unwrap_err().cause, RefusalCause::Untrusted);
}

/// What a thief of the CA key signs chains to a trusted root, and comes in nowhere: no event issued it.
#[test]
fn a_stolen_ca_key_lets_nobody_in() {
    let scene = scene();
    let identity = scene.ledger.identity();
    let thief = LeafKey::generate().unwrap();
    let now = identity.clock().now();
    let validity = (now, now.plus_millis(limits::LEAF_LIFE_MS));
    let stolen = Authority::new(&identity.stolen_ca_key(), scene.ledger.id(), 1).unwrap();
    // A serial number that was never given, and that of the device's own certificate.
    for serial in [Serial::new(4711, [9; 8]), scene.device.serial] {
        let der = stolen.device_leaf(scene.device.id, &thief.public().unwrap(), serial, validity).unwrap();
        let key = LeafKey::from_pkcs8(thief.expose_pkcs8().to_vec().into()).unwrap();
        let forged = Paired { id: scene.device.id, serial, certificate: Der::new(der), key };
        let refused = try_with(&scene, &forged).unwrap_err();
        assert_eq!((refused.cause, refused.device), (RefusalCause::NotIssued, Some(scene.device.id)));
        let facts = crate::pki::read_leaf(forged.certificate.as_bytes()).unwrap();
        let shown = Shown { device: scene.device.id, facts, in_grace: false };
        assert_eq!(scene.tls.verifier().still_good(&shown, now), Err(RefusalCause::NotIssued), "on every request");
    }
    try_with(&scene, &scene.device).unwrap();
    let names = [ledger_name(scene.ledger.id()).parse().unwrap()];
    let (serial, certificate) = identity.issue_server(&names, &thief.public().unwrap()).unwrap();
    let print = crate::pki::fingerprint(certificate.as_bytes());
    assert!(scene.tls.verifier().trust().is_servers(serial, &print));
    assert!(!scene.tls.verifier().trust().is_servers(serial, &crate::pki::fingerprint(b"forged")));
    identity.revoke_certificate(serial).unwrap();
    assert!(!scene.tls.verifier().trust().is_servers(serial, &print));
}

#[test]
fn no_certificate_no_handshake() {
    let scene = scene();
    let mut store = rustls::RootCertStore::empty();
    for root in scene.tls.verifier().trust().roots().iter() {
        store.add(root.certificate.as_bytes().into()).unwrap();
    }
    let time = Arc::new(LedgerTime(scene.ledger.identity().clock()));
    let config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let (at_server, _) = handshake(Arc::new(config), scene.tls.config(), &ledger_name(scene.ledger.id())).unwrap_err();
    assert_eq!(at_server, Some(rustls::Error::NoCertificatesPresented));
}

#[test]
fn a_device_takes_no_other_name_and_no_other_ledger() {
    let scene = scene();
    let wrong = handshake(client(&scene, &scene.device), scene.tls.config(), "ledger.example");
    let (_, at_client) = wrong.unwrap_err();
    assert!(matches!(
        at_client,
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
    ));
    let other = self::scene();
    let (_, at_client) =
        handshake(client(&scene, &scene.device), other.tls.config(), &ledger_name(other.ledger.id())).unwrap_err();
    assert!(at_client.is_some());
}

#[test]
fn nothing_is_resumed() {
    let scene = scene();
    // A client that would resume if it could: it keeps sessions, and both connections share them.
    let mut config = ClientConfig::clone(&client(&scene, &scene.device));
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let name = ledger_name(scene.ledger.id());
    for _ in 0..2 {
        let server = handshake(Arc::clone(&config), scene.tls.config(), &name).unwrap();
        assert_eq!(server.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    scene.ledger.identity().revoke(scene.device.id).unwrap();
    let (at_server, _) = handshake(config, scene.tls.config(), &name).unwrap_err();
    assert_eq!(at_server, Some(rustls::Error::InvalidCertificate(CertificateError::Revoked)));
}

#[test]
fn a_live_view_that_reads_the_state_anew_knows_the_same() {
    let scene = scene();
    scene.ledger.identity().revoke(scene.device.id).unwrap();
    let other = pair(&scene.ledger, 9);
    let live = scene.tls.verifier().trust();
    assert_eq!(live.totals(), (1, 1));
    let print = |paired: &Paired| crate::pki::fingerprint(paired.certificate.as_bytes());
    assert_eq!(live.check(other.id, other.serial, &print(&other)), Ok(()));
    scene.ledger.close().unwrap();
    let config = Config::new(scene.dir.path().join("home"))
        .clock(Arc::new(scene.clock.clone()))
        .caller(Caller::system())
        .without_witness();
    let again = Ledger::open(config).unwrap();
    let anew = again.identity().trust().unwrap();
    assert_eq!(anew.totals(), live.totals());
    assert_eq!(anew.check(other.id, other.serial, &print(&other)), Ok(()));
    let revoked = anew.check(scene.device.id, scene.device.serial, &print(&scene.device));
    assert_eq!(revoked, Err(RefusalCause::DeviceRevoked));
    let never = Serial::new(77, [0; 8]);
    assert_eq!(anew.check(other.id, never, &print(&other)), Err(RefusalCause::NotIssued));
}
