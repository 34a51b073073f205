//! Certificates and codes against the clock: what has ended stays ended, whatever the clock says later.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use palyra_ledger::device::{Client, DeviceFiles, JoinOptions, join_ledger};
use palyra_ledger::event::identity::ClientKind;
use palyra_ledger::serve::{Daemon, ServeOptions};
use palyra_ledger::testing::ManualClock;
use palyra_ledger::{Clock, Config, DeviceName, Ledger, MintOptions, NewSlot, SystemClock, Timestamp};

use super::Device;

const HOUR: u64 = 3_600_000;

struct Scene {
    dir: tempfile::TempDir,
    clock: ManualClock,
    ledger: Arc<Ledger>,
    daemon: Daemon,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    /// A daemon that began days ago.
    fn new(days: u64) -> (Self, Timestamp) {
        let now = SystemClock.now();
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        (Self::with(days, any), now)
    }

    fn with(days: u64, devices: Option<SocketAddr>) -> Self {
        let now = SystemClock.now().as_millis();
        let clock = ManualClock::new(Timestamp::from_millis(now - days * 24 * HOUR));
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path().join("home")).clock(Arc::new(clock.clone()));
        let ledger = Arc::new(Ledger::init(config, NewSlot::file("first")).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let options = ServeOptions { devices, pairing: any, ..ServeOptions::default() };
        let daemon = runtime.block_on(Daemon::start(Arc::clone(&ledger), options)).unwrap();
        Self { dir, clock, ledger, daemon, runtime }
    }

    fn code(&self) -> String {
        self.ledger.identity().mint(&MintOptions::default()).unwrap().code.expose().to_string()
    }

    fn try_join(&self, dir: &Path, code: &str) -> Option<palyra_ledger::device::DeviceNote> {
        let options = JoinOptions {
            address: self.daemon.listening().pairing.unwrap().to_string(),
            code: code.parse().unwrap(),
            kind: ClientKind::Node,
            name: DeviceName::new("box").unwrap(),
            ca: None,
            wait_ms: 10_000,
        };
        let ledger = Arc::clone(&self.ledger);
        let mut approve = move |_, waiting: &palyra_ledger::device::join::Waiting| {
            ledger.identity().approve(waiting.request, Some(&waiting.sas)).unwrap();
        };
        self.runtime.block_on(join_ledger(&DeviceFiles::new(dir), options, &mut approve)).ok()
    }

    fn pair(&self, name: &str) -> Device {
        let dir = self.dir.path().join(name);
        let note = self.try_join(&dir, &self.code()).unwrap();
        Device { id: note.device.to_string(), name: format!("ledger-{}.palyra.internal", note.ledger), dir }
    }

    /// curl's status for a device; the server's certificate may have any age.
    fn status(&self, device: &Device) -> u16 {
        device.curl(self.daemon.listening().devices.unwrap(), "/v1/health", &["-k"]).1
    }

    fn tells(&self, wanted: &str) -> bool {
        let mut found = false;
        super::wait(std::time::Duration::from_secs(20), || {
            let head = self.ledger.log().head().unwrap().seq;
            let told = self.ledger.log().read(0, head, &mut |entry| {
                found |= format!("{} {}", entry.kind_name(), entry.fields()).contains(wanted);
                std::ops::ControlFlow::Continue(())
            });
            told.unwrap();
            found
        })
    }

    fn stop(self) {
        self.runtime.block_on(self.daemon.stop());
    }
}

#[test]
fn an_expired_certificate_is_refused_and_a_recent_one_may_only_be_renewed() {
    let (scene, now) = Scene::new(10);
    let old = scene.pair("old");
    assert_eq!(scene.status(&old), 200);
    scene.clock.advance(8 * 24 * HOUR);
    let recent = scene.pair("recent");
    assert_eq!(scene.status(&old), 0, "it ended a week ago and more");
    assert!(scene.tells("expired"));
    scene.clock.set(now);
    scene.runtime.block_on(scene.daemon.renew()).unwrap();
    let fresh = scene.pair("fresh");
    assert_eq!(scene.status(&fresh), 200);
    // Ended a day ago: good for its renewal, and for nothing else.
    assert_eq!(scene.status(&recent), 403);
    let clock: Arc<dyn Clock> = Arc::new(scene.clock.clone());
    let renewed = scene.runtime.block_on(async {
        let mut client = Client::new(DeviceFiles::new(&recent.dir), None, clock).await?;
        client.renew().await
    });
    assert!(renewed.unwrap().not_after > now);
    assert_eq!(scene.status(&recent), 200);
    scene.stop();
}

#[test]
fn a_clock_that_is_set_back_revives_neither_a_certificate_nor_a_code() {
    let (scene, now) = Scene::new(20);
    let old = scene.pair("old");
    let code = scene.code();
    scene.clock.set(now);
    // Something is recorded: from here on the log knows what time it was.
    let fresh = scene.pair("fresh");
    assert_eq!(scene.status(&old), 0);
    scene.clock.set(Timestamp::from_millis(now.as_millis() - 20 * 24 * HOUR));
    assert_eq!(scene.status(&old), 0, "the log saw its end");
    assert!(scene.try_join(&scene.dir.path().join("late"), &code).is_none(), "and the code's");
    assert!(scene.tells("code_expired"));
    assert!(scene.tells("clock_stepped"));
    assert_eq!(scene.status(&fresh), 200);
    scene.stop();
}

#[test]
fn certificates_are_renewed_at_a_third_of_their_life() {
    let (scene, _) = Scene::new(3);
    let device = scene.pair("device");
    let clock: Arc<dyn Clock> = Arc::new(scene.clock.clone());
    let due = || {
        scene.runtime.block_on(async {
            let client = Client::new(DeviceFiles::new(&device.dir), None, Arc::clone(&clock)).await.unwrap();
            client.due(clock.now()).unwrap().1
        })
    };
    assert!(!due());
    scene.clock.advance(15 * HOUR);
    assert!(!due(), "more than a third is left");
    scene.clock.advance(HOUR + HOUR / 2);
    assert!(due());
    // What the daemon holds is as old; it looks when something changes, and by the minute.
    let servers = || {
        let all = scene.ledger.identity().expiring(Timestamp::from_millis(0), usize::MAX).unwrap();
        all.iter().filter(|(_, record)| record.cause.name() == "server").count()
    };
    let before = servers();
    let other = scene.pair("other");
    scene.ledger.identity().revoke(other.id.parse().unwrap()).unwrap();
    assert!(super::wait(std::time::Duration::from_secs(10), || servers() == before + 1));
    let renewed = scene.runtime.block_on(async {
        let mut client = Client::new(DeviceFiles::new(&device.dir), None, Arc::clone(&clock)).await?;
        client.renew().await
    });
    assert!(renewed.is_ok() && !due());
    assert_eq!((scene.status(&device), scene.status(&other)), (200, 0));
    scene.stop();
}

#[test]
fn a_daemon_that_serves_no_devices_still_pairs_them() {
    let scene = Scene::with(0, None);
    let dir = scene.dir.path().join("device");
    let note = scene.try_join(&dir, &scene.code()).unwrap();
    assert_eq!(note.address, "127.0.0.1:7343", "where devices are served by default");
    scene.stop();
}

#[test]
fn a_certificate_that_runs_out_ends_its_connection() {
    let (scene, _) = Scene::new(0);
    let device = scene.pair("device");
    // It ends in a second; this clock stands still, the daemon's waiting does not.
    scene.clock.advance(24 * HOUR - 1000);
    let mut client = device.s_client(scene.daemon.listening().devices.unwrap(), &["-quiet"]);
    let input = client.stdin.take().unwrap();
    assert!(super::wait(std::time::Duration::from_secs(10), || client.try_wait().unwrap().is_some()));
    assert!(scene.tells("expired"));
    drop(input);
    scene.stop();
}

#[test]
fn a_request_after_the_end_is_refused_on_a_connection_that_stands() {
    use std::io::{Read, Write};
    let (scene, _) = Scene::new(0);
    let device = scene.pair("device");
    let mut client = device.s_client(scene.daemon.listening().devices.unwrap(), &["-quiet"]);
    let mut input = client.stdin.take().unwrap();
    let mut ask = || {
        write!(input, "GET /v1/health HTTP/1.1\r\nhost: {}\r\n\r\n", device.name).unwrap();
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"}") {
            client.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        String::from_utf8(answer).unwrap()
    };
    assert!(ask().starts_with("HTTP/1.1 200"));
    scene.clock.advance(25 * HOUR);
    let refused = ask();
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("expired"), "{refused}");
    let _ = (client.kill(), client.wait());
    scene.stop();
}
