//! Device trust: handshakes, revocation, issuance, pairings, and how long a revocation takes to bite.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use palyra_ledger::device::{Client, DeviceFiles, JoinOptions, join_ledger};
use palyra_ledger::event::identity::{ClientKind, Der};
use palyra_ledger::identity::{CertificateRecord, Trust};
use palyra_ledger::pki::{Authority, LeafKey};
use palyra_ledger::serve::{Daemon, ServeOptions};
use palyra_ledger::testing::pair_device;
use palyra_ledger::tls::{ServerIdentity, ServerTls, client_config, ledger_name};
use palyra_ledger::{
    Config, Delta, DeviceId, DeviceName, Ledger, MintOptions, NewSlot, Serial, Settings, SystemClock, Timestamp,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use crate::race::{Lane, median, race, rate, rate_of_many};
use crate::report::{Section, figure, ratio};
use crate::{Fault, Plan};

const REVOKED: u64 = 100_000;
const JOINING: u32 = 16;

fn ledger(plan: &Plan, prefix: &str) -> Result<(tempfile::TempDir, Ledger), Fault> {
    let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(&plan.dir)?;
    let mut settings = Settings::default();
    settings.serve.pairing_starts_per_minute = 1_000_000;
    let config = Config::new(dir.path().join("home")).settings(settings);
    let ledger = Ledger::init(config, NewSlot::file("bench"))?;
    Ok((dir, ledger))
}

/// A whole handshake in memory, both sides on this thread.
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &ServerName<'static>) -> Result<(), Fault> {
    let mut client = ClientConnection::new(Arc::clone(client), name.clone())?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    let mut wire = Vec::with_capacity(8192);
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest)?;
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest)?;
            client.process_new_packets()?;
        }
    }
    Ok(())
}

/// The live view after many revocations, fed as the writer feeds it.
fn crowded(trust: &Trust, like: &CertificateRecord) -> Result<(), Fault> {
    let record = CertificateRecord { revoked: Some(like.not_before), ..like.clone() };
    let value = palyra_ledger::event::codec::encode(&record)?;
    let entry = |number: u64| {
        let mut key = vec![0x23];
        key.extend_from_slice(Serial::new(u64::MAX / 2 + number, number.to_le_bytes()).as_bytes());
        (key.into_boxed_slice(), Some(value.clone().into_boxed_slice()))
    };
    let delta: Delta = (0..REVOKED).map(entry).collect();
    trust.observe(&delta, like.not_before);
    assert_eq!(trust.totals().1 as u64, REVOKED, "every one of them is held");
    Ok(())
}

/// rustls with its own verifier over the same certificates, without resumption as well.
fn bare(roots: &[Der], certificate: &Der, key: &LeafKey) -> Result<Arc<ServerConfig>, Fault> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.as_bytes().to_vec()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider)).build()?;
    let chain = vec![CertificateDer::from(certificate.as_bytes().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.expose_pkcs8().to_vec()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![palyra_ledger::tls::ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Full mutual handshakes, beside bare rustls, and with many certificates revoked.
pub fn handshakes(plan: &Plan) -> Result<Section, Fault> {
    let (_dir, ledger) = ledger(plan, "handshakes-")?;
    let identity = ledger.identity();
    let server_key = LeafKey::generate()?;
    let called = ledger_name(ledger.id());
    let (_, server) = identity.issue_server(&[called.parse()?], &server_key.public()?)?;
    let device_key = LeafKey::generate_p256()?;
    let (serial, certificate) = pair_device(&ledger, DeviceId::from_bytes([7; 16]), &device_key)?;
    let tls = |trust: Arc<Trust>| -> Result<Arc<ServerConfig>, Fault> {
        let own = Arc::new(ServerIdentity::new(&server, &[], &server_key)?);
        Ok(ServerTls::new(trust, identity.clock(), own)?.config())
    };
    let ours = tls(identity.trust()?)?;
    // The live view is one for the ledger; a crowded one is read apart from it.
    let other = identity.trust_apart()?;
    crowded(&other, &identity.certificate(serial)?)?;
    let crowd = tls(Arc::new(other))?;
    let roots: Vec<Der> = identity.trust()?.roots().iter().map(|root| root.certificate.clone()).collect();
    let bare = bare(&roots, &server, &server_key)?;
    let client = Arc::new(client_config(&roots, &certificate, &device_key, Arc::new(SystemClock))?);
    let name = ServerName::try_from(called)?;
    let rates = race(
        &mut [
            Lane::new("ledger", |slice| rate(slice, || handshake(&client, &ours, &name))),
            Lane::new("ledger, 100,000 certificates revoked", |slice| {
                rate(slice, || handshake(&client, &crowd, &name))
            }),
            Lane::new("bare rustls", |slice| rate(slice, || handshake(&client, &bare, &name))),
        ],
        plan.rounds,
        plan.slice,
    )?;
    let note = "Full mutual TLS 1.3 handshakes in memory, both sides on one thread, the same certificates (server Ed25519, \
                device P-256), no resumption anywhere.";
    let mut section =
        Section::new("Mutual handshakes", note, &["server", "handshakes/s (median)", "by bare rustls", "range"]);
    let [own, crowd, bare] = rates.as_slice() else { return Err("three lanes".into()) };
    for lane in [own, crowd, bare] {
        let (least, most) = lane.ratio_range(bare);
        section.row(&[
            lane.name.clone(),
            figure(lane.median()),
            ratio(lane.ratio(bare)),
            format!("{} to {}", ratio(least), ratio(most)),
        ]);
    }
    section.at_least("mutual handshakes, by bare rustls", 0.95, own.ratio(bare));
    section.at_least("mutual handshakes at 100,000 revoked, by none revoked", 0.98, crowd.ratio(own));
    Ok(section)
}

/// Signing certificates, beside rcgen alone, and issuing them durably.
pub fn issuance(plan: &Plan) -> Result<Section, Fault> {
    use rcgen::{
        CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
        SanType, SerialNumber,
    };
    let (_dir, ledger) = ledger(plan, "issuance-")?;
    let ca = LeafKey::generate()?;
    let authority = Authority::new(ca.expose_pkcs8(), ledger.id(), 1)?;
    let device = DeviceId::from_bytes([7; 16]);
    let key = LeafKey::generate_p256()?;
    let public = key.public()?;
    let now = Timestamp::from_millis(1_800_000_000_000);
    let issuer = Issuer::new(CertificateParams::default(), KeyPair::try_from(ca.expose_pkcs8())?);
    let subject = rcgen::SubjectPublicKeyInfo::from_der(public.der())?;
    let (shown, _) = pair_device(&ledger, device, &key)?;
    let request = key.request()?;
    let mut number = 0;
    let rates = race(
        &mut [
            Lane::new("ledger's signature", |slice| {
                rate(slice, || {
                    number += 1;
                    let serial = Serial::new(number, [1; 8]);
                    authority.device_leaf(device, &public, serial, (now, now.plus_millis(86_400_000)))?;
                    Ok(())
                })
            }),
            Lane::new("rcgen alone", |slice| {
                rate(slice, || {
                    let mut params = CertificateParams::default();
                    params.distinguished_name.push(DnType::CommonName, device.to_string());
                    params.subject_alt_names = vec![SanType::URI(format!("urn:palyra:device:{device}").try_into()?)];
                    params.serial_number = Some(SerialNumber::from_slice(&[1; 17]));
                    params.is_ca = IsCa::ExplicitNoCa;
                    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
                    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                    params.key_identifier_method = KeyIdMethod::Sha256;
                    params.use_authority_key_identifier_extension = true;
                    params.signed_by(&subject, &issuer)?;
                    Ok(())
                })
            }),
            Lane::new("renewal, durable, with its event", |slice| {
                rate(slice, || {
                    ledger.identity().renew(device, shown, &request)?;
                    Ok(())
                })
            }),
        ],
        plan.rounds,
        plan.slice,
    )?;
    let note = "Device certificates signed by an Ed25519 CA on one thread; a renewal is the request's own signature \
                checked, the decision, the signature, and one durable event.";
    let mut section =
        Section::new("Issuing certificates", note, &["", "certificates/s (median)", "by rcgen alone", "range"]);
    let [own, alone, _] = rates.as_slice() else { return Err("three lanes".into()) };
    for lane in &rates {
        let (least, most) = lane.ratio_range(alone);
        section.row(&[
            lane.name.clone(),
            figure(lane.median()),
            ratio(lane.ratio(alone)),
            format!("{} to {}", ratio(least), ratio(most)),
        ]);
    }
    section.at_least("signing a certificate, by rcgen alone", 0.9, own.ratio(alone));
    Ok(section)
}

/// Pairings over loopback, and the time from a revocation to the first refusal.
pub fn network(plan: &Plan) -> Result<Section, Fault> {
    let (dir, ledger) = ledger(plan, "pairings-")?;
    let ledger = Arc::new(ledger);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let (pairings, refused) = runtime.block_on(async {
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let options = ServeOptions { devices: any, pairing: any, ..ServeOptions::default() };
        let daemon = Daemon::start(Arc::clone(&ledger), options).await?;
        let pairing = daemon.listening().pairing.ok_or("no listener")?.to_string();
        let mut pairings = Vec::new();
        for round in 0..plan.rounds.min(5) {
            let (ledger, pairing) = (Arc::clone(&ledger), pairing.clone());
            let (dir, slice) = (dir.path().join(format!("round-{round}")), plan.slice * 4);
            pairings.push(tokio::task::spawn_blocking(move || many(&ledger, &pairing, &dir, slice)).await??);
        }
        let mut refused = Vec::new();
        for number in 0..plan.rounds {
            refused.push(bite(&ledger, &pairing, &dir.path().join(format!("bite-{number}"))).await?);
        }
        daemon.stop().await;
        Ok::<_, Fault>((median(pairings), median(refused)))
    })?;
    let note = "A pairing is a code, four messages over loopback, an approval and the certificate on the device's disk; 16 \
                devices at a time. A revocation is measured from the call to the first refused request of a device that \
                asks without pause on a connection that stands.";
    let mut section = Section::new("Pairing and revoking over loopback", note, &["", "median"]);
    section.row(&["pairings/s".to_owned(), figure(pairings)]);
    section.row(&["revoked to refused, ms".to_owned(), format!("{refused:.2}")]);
    section.at_least("pairings/s over loopback", 400.0, pairings);
    section.at_most("revoked to refused, ms", 100.0, refused);
    Ok(section)
}

fn join(ledger: &Arc<Ledger>, pairing: &str) -> Result<JoinOptions, Fault> {
    let minting = ledger.identity().mint(&MintOptions::default())?;
    Ok(JoinOptions {
        address: pairing.to_owned(),
        code: minting.code,
        kind: ClientKind::Node,
        name: DeviceName::new("bench")?,
        ca: None,
        wait_ms: 60_000,
    })
}

async fn one(ledger: &Arc<Ledger>, pairing: &str, dir: std::path::PathBuf) -> Result<DeviceFiles, Fault> {
    let files = DeviceFiles::new(dir);
    let options = join(ledger, pairing)?;
    let approving = Arc::clone(ledger);
    let mut failed = None;
    // The person answers at once: the device finds the answer at its first question.
    let mut approve = |_, waiting: &palyra_ledger::device::join::Waiting| {
        let (request, sas) = (waiting.request, waiting.sas.clone());
        failed = approving.identity().approve(request, Some(&sas)).err();
    };
    join_ledger(&files, options, &mut approve).await?;
    failed.map_or(Ok(files), |error| Err(error.into()))
}

/// Many devices at once, each on a thread and a runtime of its own.
fn many(ledger: &Arc<Ledger>, pairing: &str, dir: &std::path::Path, slice: Duration) -> Result<f64, Fault> {
    let number = AtomicU64::new(0);
    rate_of_many(slice, JOINING, |_| {
        let device = dir.join(format!("device-{}", number.fetch_add(1, Ordering::Relaxed)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(one(ledger, pairing, device))?;
        Ok(())
    })
}

/// Milliseconds from the call of a revocation to the first refused request.
async fn bite(ledger: &Arc<Ledger>, pairing: &str, dir: &std::path::Path) -> Result<f64, Fault> {
    let files = one(ledger, pairing, dir.to_owned()).await?;
    let client = Client::new(files, None, Arc::new(SystemClock)).await?;
    client.get("/v1/health").await?;
    let device = client.note().device;
    let asking = tokio::spawn(async move {
        while client.get("/v1/health").await.is_ok() {}
        Instant::now()
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let revoking = Arc::clone(ledger);
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || revoking.identity().revoke(device)).await??;
    let refused = asking.await?;
    Ok(refused.saturating_duration_since(begun).as_secs_f64() * 1000.0)
}
