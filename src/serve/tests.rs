//! The daemon within this process, with what only a thief of the CA key can show.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::base::{DeviceId, Serial, limits};
use crate::engine::{Config, Ledger};
use crate::event::identity::Der;
use crate::keys::NewSlot;
use crate::pki::{Authority, LeafKey};
use crate::tls::{client_config, ledger_name};

/// Sends a request as a device; gives what came back, if anything did.
async fn ask(ledger: &Ledger, at: SocketAddr, certificate: &Der, key: &LeafKey) -> Vec<u8> {
    let roots = ledger.identity().trust().unwrap().roots();
    let roots: Vec<Der> = roots.iter().map(|root| root.certificate.clone()).collect();
    let config = client_config(&roots, certificate, key, ledger.identity().clock()).unwrap();
    let name = ServerName::try_from(ledger_name(ledger.id())).unwrap();
    let stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let mut answer = Vec::new();
    if let Ok(mut tls) = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        let request = b"GET /v1/health HTTP/1.1\r\nhost: ledger\r\nconnection: close\r\n\r\n";
        let _ = tls.write_all(request).await;
        let _ = tls.read_to_end(&mut answer).await;
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_certificate_of_a_paired_device_is_refused_and_the_log_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path().join("home")).without_witness();
    let ledger = Arc::new(Ledger::init(config, NewSlot::file("first")).unwrap());
    let devices = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let options = ServeOptions { devices, ..ServeOptions::default() };
    let daemon = Daemon::start(Arc::clone(&ledger), options).await.unwrap();
    let at = daemon.listening().devices.unwrap();
    let (key, id) = (LeafKey::generate().unwrap(), DeviceId::from_bytes([7; 16]));
    let (_, certificate) = crate::testing::pair_device(&ledger, id, &key).unwrap();
    assert!(ask(&ledger, at, &certificate, &key).await.starts_with(b"HTTP/1.1 200"));

    let identity = ledger.identity();
    let (thief, now) = (LeafKey::generate().unwrap(), identity.clock().now());
    let stolen = Authority::new(&identity.stolen_ca_key(), ledger.id(), 1).unwrap();
    let validity = (now, now.plus_millis(limits::LEAF_LIFE_MS));
    let forged = stolen.device_leaf(id, &thief.public().unwrap(), Serial::new(4711, [9; 8]), validity).unwrap();
    assert!(ask(&ledger, at, &Der::new(forged), &thief).await.is_empty());
    let told = |wanted: &str| {
        let mut found = false;
        let head = ledger.log().head().unwrap().seq;
        ledger
            .log()
            .read(0, head, &mut |entry| {
                found |= entry.kind_name() == "connections_refused" && entry.fields().to_string().contains(wanted);
                ControlFlow::Continue(())
            })
            .unwrap();
        found
    };
    for _ in 0..200 {
        if told("not_issued") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(told("not_issued") && told(&id.to_string()));
    assert!(ask(&ledger, at, &certificate, &key).await.starts_with(b"HTTP/1.1 200"), "the device itself stays");
    daemon.stop().await;
}
