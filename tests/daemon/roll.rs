//! The CA rolled by the command line while devices live, and what is seen of them.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin};
use std::time::Duration;

use super::{Daemon, Device, Home, openssl, wait};

/// A connection that stands, in openssl's hands.
struct Standing {
    client: Child,
    input: ChildStdin,
    host: String,
}

impl Standing {
    fn new(device: &Device, daemon: &Daemon) -> Self {
        let mut client = device.s_client(daemon.devices, &["-quiet"]);
        let input = client.stdin.take().unwrap();
        let mut standing = Self { client, input, host: device.name.clone() };
        standing.ask();
        standing
    }

    fn ask(&mut self) {
        write!(self.input, "GET /v1/health HTTP/1.1\r\nhost: {}\r\n\r\n", self.host).unwrap();
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"}") {
            self.client.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }

    fn ends(&mut self) -> bool {
        wait(Duration::from_secs(10), || self.client.try_wait().unwrap().is_some())
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let _ = (self.client.kill(), self.client.wait());
    }
}

fn renew(home: &Home, device: &Device) {
    home.ok(&["certs", "renew", "--identity", device.dir.to_str().unwrap()]);
}

fn serial(home: &Home, device: &Device) -> String {
    home.json(&["devices", "show", &device.id])["certificate"].as_str().unwrap().to_owned()
}

/// openssl's word on a device's certificate, by a list as it was served.
fn verifies(device: &Device, list: &[u8]) -> bool {
    std::fs::write(device.file("list.der"), list).unwrap();
    let made = openssl(&["crl", "-inform", "DER", "-in", "list.der", "-out", "list.pem"], &device.dir);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let words = ["verify", "-x509_strict", "-purpose", "sslclient", "-crl_check", "-CRLfile", "list.pem"];
    openssl(&[&words[..], &["-CAfile", "ca.pem", "identity.pem"]].concat(), &device.dir).status.success()
}

#[test]
fn the_ca_is_rolled_while_devices_live() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let (first, second) = (Device::pair(&home, &daemon, "first"), Device::pair(&home, &daemon, "second"));
    home.ok(&["ca", "roll", "prepare"]);
    // Whoever does not know the next root would be locked out.
    assert_ne!(home.run(&["ca", "roll", "activate"]).status.code(), Some(0));
    renew(&home, &first);
    renew(&home, &second);
    let roots = std::fs::read_to_string(first.file("ca.pem")).unwrap();
    assert_eq!(roots.matches("BEGIN CERTIFICATE").count(), 2);
    let mut standing = Standing::new(&first, &daemon);
    let issued = || home.json(&["certs", "list"])["certificates"].as_array().unwrap().len();
    let before = issued();
    home.ok(&["ca", "roll", "activate"]);
    // The daemon takes a certificate of the next generation by itself; who is connected stays so.
    assert!(wait(Duration::from_secs(10), || issued() == before + 1));
    standing.ask();
    renew(&home, &first);

    // In the middle of it: two generations sign, and each has its list.
    let lists = |generation: &str| first.curl(daemon.devices, &format!("/v1/crl{generation}"), &[]);
    assert!(verifies(&first, &lists("/2").2) && verifies(&first, &lists("").2));
    assert!(verifies(&second, &lists("/1").2), "an old certificate, by the old generation's list");
    assert!(!verifies(&second, &lists("").2), "the new generation does not speak for it");
    assert_eq!((lists("/3").1, lists("/x").1), (404, 400));
    let exported = home.ok(&["ca", "export", "--crl", "--generation", "1"]);
    assert_ne!(exported, home.ok(&["ca", "export", "--crl"]));
    assert_eq!(home.ok(&["ca", "export"]).into_bytes(), first.curl(daemon.devices, "/v1/ca", &[]).2);
    let revoked = serial(&home, &second);
    home.ok(&["certs", "revoke", &revoked, "--yes"]);
    assert!(!verifies(&second, &lists("/1").2));
    assert_eq!(second.curl(daemon.devices, "/v1/health", &[]).1, 0);

    home.ok(&["ca", "roll", "taint"]);
    standing.ask();
    home.ok(&["ca", "roll", "revoke", "--force", "--yes"]);
    // The connection was made with a certificate of the generation that is gone.
    assert!(standing.ends(), "it still stands");
    assert_eq!(first.curl(daemon.devices, "/v1/health", &[]).1, 200);
    assert_eq!(lists("/1").1, 404);
    renew(&home, &first);
    let roots = std::fs::read_to_string(first.file("ca.pem")).unwrap();
    assert_eq!(roots.matches("BEGIN CERTIFICATE").count(), 1);
    assert_eq!(first.curl(daemon.devices, "/v1/health", &[]).1, 200);
    daemon.stop();
    assert!(home.run(&["log", "verify", "--state"]).status.success());
}

#[test]
fn one_certificate_is_revoked_and_its_connection_cut_within_a_second() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    let mut standing = Standing::new(&device, &daemon);
    let old = serial(&home, &device);
    renew(&home, &device);
    let fresh = serial(&home, &device);
    assert_ne!(old, fresh);
    home.ok(&["certs", "revoke", &old, "--yes"]);
    // It is idle: nobody asks, it is cut by the revocation itself.
    assert!(standing.ends(), "it still stands");
    assert_eq!(device.curl(daemon.devices, "/v1/health", &[]).1, 200, "the device stays paired");
    let log = || home.ok(&["--format", "json", "log", "show"]);
    assert!(wait(Duration::from_secs(10), || log().contains("\"cause\":\"certificate_revoked\"")));
    let events: Vec<serde_json::Value> = log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let revoked = events.iter().find(|event| event["kind"] == "certificate_revoked").unwrap();
    let revoked = revoked["recorded_at_ms"].as_u64().unwrap();
    let mut refusals = events.iter().filter_map(|event| event["event"]["refusals"].as_array()).flatten();
    let cut = refusals.find(|refusal| refusal["cause"] == "certificate_revoked").unwrap();
    let cut = cut["last"].as_u64().unwrap();
    assert!(cut.abs_diff(revoked) < 1000, "{revoked} {cut}");
    daemon.stop();
}

#[test]
fn a_device_sees_what_it_is_granted_and_nothing_else() {
    let home = Home::new();
    for (reference, value) in [("global/api", "for all"), ("skill:mail/imap", "for mail")] {
        assert!(home.with_input(&["secrets", "set", reference, "--stdin"], value.as_bytes()).status.success());
    }
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    let get = |path: &str| {
        let (_, status, body) = device.curl(daemon.devices, path, &[]);
        (status, String::from_utf8(body).unwrap())
    };
    assert_eq!(get("/v1/scopes/global/secrets/api").0, 403);
    assert_eq!(get("/v1/scopes/global/secrets").0, 403);
    home.ok(&["devices", "grant", &device.id, "global"]);
    assert_eq!(get("/v1/scopes/global/secrets/api"), (200, "for all".to_owned()));
    assert!(get("/v1/scopes/global/secrets").1.contains("\"name\":\"api\""));
    assert_eq!(get("/v1/scopes/global/secrets/none").0, 404);
    assert_eq!(get("/v1/scopes/skill:mail/secrets/imap").0, 403, "one scope is no other");
    assert_eq!(get(&format!("/v1/scopes/principal:{}/secrets", device.id)).0, 200, "its own is always there");
    assert_eq!(home.json(&["devices", "show", &device.id])["grants"], serde_json::json!(["global"]));
    home.ok(&["devices", "ungrant", &device.id, "global"]);
    assert_eq!(get("/v1/scopes/global/secrets/api").0, 403, "from the next request on");
    // What a revoked device was granted is not what comes after it under its id.
    home.ok(&["devices", "grant", &device.id, "skill:mail"]);
    home.ok(&["devices", "revoke", &device.id, "--yes"]);
    assert_eq!(home.run(&["devices", "grant", &device.id, "global"]).status.code(), Some(20));
    home.ok(&["devices", "clear", &device.id]);
    assert_eq!(home.json(&["devices", "show", &device.id])["grants"], serde_json::json!([]));
    assert_eq!(home.run(&["devices", "grant", &"0".repeat(32), "global"]).status.code(), Some(10));
    assert!(home.tells("is not granted") || home.tells("not_granted"));
    daemon.stop();
    home.ok(&["log", "verify", "--state"]);
}

#[test]
fn a_daemon_whose_own_certificate_is_revoked_takes_another_at_once() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    let own = || {
        let listed = home.json(&["certs", "list"]);
        let all = listed["certificates"].as_array().unwrap();
        let own = all.iter().filter(|one| one["device"].is_null() && one["revoked_ms"].is_null());
        own.map(|one| one["serial"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = own();
    assert_eq!(before.len(), 1);
    home.ok(&["certs", "revoke", &before[0], "--yes"]);
    assert!(wait(Duration::from_secs(10), || own().len() == 1 && own() != before), "{:?}", own());
    assert_eq!(device.curl(daemon.devices, "/v1/health", &[]).1, 200);
    daemon.stop();
}

#[test]
fn devices_and_certificates_are_shown_named_and_cleared() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    assert_eq!(device.curl(daemon.devices, "/v1/health", &[]).1, 200);
    let id = device.id.as_str();
    assert!(home.json(&["devices", "show", id])["last_seen_ms"].is_null(), "sightings gather");
    home.ok(&["devices", "rename", id, "a better name"]);
    let shown = home.json(&["devices", "show", id]);
    assert_eq!((&shown["name"], &shown["state"]), (&"a better name".into(), &"paired".into()));
    assert_eq!(home.run(&["devices", "rename", id, "a\nb"]).status.code(), Some(2));
    let serial = serial(&home, &device);
    let certificate = home.json(&["certs", "show", &serial]);
    assert_eq!((&certificate["serial"], &certificate["device"]), (&serial.as_str().into(), &id.into()));
    assert!(home.ok(&["certs", "show", &serial]).contains("good"));
    let pem = home.ok(&["certs", "export", &serial]);
    assert!(std::fs::read_to_string(device.file("identity.pem")).unwrap().contains(pem.trim()));
    home.ok(&["certs", "export", &serial, "--out", "c.pem"]);
    assert_eq!(std::fs::read_to_string(home.path("c.pem")).unwrap(), pem);
    assert_eq!(home.run(&["certs", "export", &serial, "--out", "c.pem"]).status.code(), Some(12));
    let text = openssl(&["x509", "-in", "c.pem", "-noout", "-serial", "-fingerprint", "-sha256"], home.dir.path());
    let text = String::from_utf8(text.stdout).unwrap().replace(':', "").to_lowercase();
    let print = certificate["sha256"].as_str().unwrap().replace(':', "");
    assert!(text.contains(&print) && text.contains(serial.trim_start_matches('0')), "{text} {certificate}");
    // Codes: listed without the code, and taken back.
    let code = home.mint(&[]);
    let listed = home.ok(&["--format", "json", "pairing", "list"]);
    assert!(!listed.contains(code.split_once('-').unwrap().1), "{listed}");
    let pairing = serde_json::from_str::<serde_json::Value>(&listed).unwrap()["pairings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|pairing| pairing["locator"] == code.split_once('-').unwrap().0)
        .unwrap()["pairing"]
        .as_str()
        .unwrap()
        .to_owned();
    home.ok(&["pairing", "cancel", &pairing]);
    let at = daemon.pairing.to_string();
    let words = ["pairing", "join", "--identity", "late", "--wait", "1s", "--addr", &at, "--code", &code];
    assert_ne!(home.run(&words).status.code(), Some(0));
    assert!(home.told().contains("refused a pairing"), "{}", home.told());
    // Revoked: not removed, not paired again, until it is cleared.
    home.ok(&["devices", "revoke", id, "--yes"]);
    assert!(home.json(&["certs", "show", &serial])["revoked_ms"].is_u64());
    assert_ne!(home.run(&["devices", "remove", id, "--yes"]).status.code(), Some(0));
    let again = |code: &str| {
        let words = ["pairing", "join", "--identity", "device", "--wait", "1s", "--addr", &at, "--code", code];
        home.run(&words).status.code().unwrap()
    };
    assert_eq!(again(&home.mint(&[])), 20);
    home.ok(&["devices", "clear", id]);
    assert_eq!(again(&home.mint(&[])), 3, "it may ask, and waits for a person");
    daemon.stop();
    // What the daemon saw is on record.
    assert!(home.json(&["devices", "show", id])["last_seen_ms"].as_u64().is_some());
    assert!(!home.ok(&["devices", "show", id]).contains("never"));
}
