//! What one peer may take: of the local socket, of connections, of certificates, of pairing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use palyra_ledger::device::join::{Applicant, Joining};
use palyra_ledger::event::identity::ClientKind;
use palyra_ledger::pki::LeafKey;
use palyra_ledger::{DeviceId, DeviceName, OsRandom};
use serde_json::{Value, json};

use super::{Daemon, Device, Home, openssl, wait};

#[test]
fn clients_of_the_socket_cannot_stop_the_daemon() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let path = home.path("home/serve.sock");
    let mut waiting = Vec::new();
    // More than tokio's pool has threads.
    for _ in 0..600 {
        let mut client = UnixStream::connect(&path).unwrap();
        let _ = client.write_all(b"PLT1\x10\x00\x00\x00");
        waiting.push(client);
    }
    assert_eq!(daemon.post("/v1/pairing/poll", r#"{"request":"0123456789abcdef"}"#).0, 404);
    let refused = home.run(&["--lock-wait", "0", "secrets", "list"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(19), "{said}");
    assert!(said.contains("64 commands") && said.contains("--lock-wait"), "{said}");
    // Whoever came too late was told so; the others still wait.
    let mut told = Vec::new();
    let _ = waiting.pop().unwrap().read_to_end(&mut told);
    assert_eq!(told, [0xFF]);
    drop(waiting);
    home.ok(&["secrets", "list"]);
    daemon.stop();
}

#[test]
fn one_device_leaves_connections_and_certificates_for_the_others() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let (greedy, other) = (Device::pair(&home, &daemon, "greedy"), Device::pair(&home, &daemon, "other"));
    let mut held: Vec<_> = (0..16).map(|_| greedy.s_client(daemon.devices, &["-quiet"])).collect();
    let open = || home.metrics().contains("palyra_ledger_connections_open 16\n");
    assert!(wait(Duration::from_secs(10), open), "{}", home.metrics());
    assert_eq!(greedy.curl(daemon.devices, "/v1/health", &[]).1, 0, "a seventeenth");
    assert_eq!(other.curl(daemon.devices, "/v1/health", &[]).1, 200);
    assert!(home.tells("too_many"));
    for client in &mut held {
        let _ = (client.kill(), client.wait());
    }
    assert!(wait(Duration::from_secs(10), || home.metrics().contains("palyra_ledger_connections_open 0\n")));
    // The same key gets the same certificate: it costs nothing.
    let words = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"];
    let words = [&words[..], &["n.pem", "-outform", "DER", "-out", "n.der", "-subj", "/CN=x"]].concat();
    assert!(openssl(&words, home.dir.path()).status.success());
    let request = openssl(&["base64", "-A", "-in", "n.der"], home.dir.path()).stdout;
    let body = json!({"request": String::from_utf8(request).unwrap()}).to_string();
    let renew = |device: &Device| {
        let more = ["-H", "content-type: application/json", "-d", &body];
        let (_, status, answer) = device.curl(daemon.devices, "/v1/renew", &more);
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        (status, answer["certificate"].clone())
    };
    let issued = || home.json(&["certs", "list"])["certificates"].as_array().unwrap().len();
    let before = issued();
    let first = renew(&greedy);
    assert_eq!(first.0, 200);
    assert_eq!((renew(&greedy), renew(&greedy)), (first.clone(), first));
    assert_eq!(issued(), before + 1);
    // Fresh keys are counted, by device.
    let renewal = |device: &Device| home.run(&["certs", "renew", "--identity", device.dir.to_str().unwrap()]);
    let codes: Vec<_> = (0..16).map(|_| renewal(&greedy).status.code().unwrap()).collect();
    assert_eq!((codes[..15].iter().sum::<i32>(), codes[15]), (0, 13));
    assert_eq!(renewal(&other).status.code(), Some(0));
    assert_eq!(greedy.curl(daemon.devices, "/v1/health", &[]).1, 200, "what it has is good");
}

#[test]
fn silence_after_an_answer_is_no_fault() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let mut kept = TcpStream::connect(daemon.pairing).unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    let body = r#"{"request":"0123456789abcdef"}"#;
    let head = "POST /v1/pairing/poll HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    kept.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Until the daemon has waited long enough for another request.
    kept.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!home.told().contains("malformed"), "{}", home.told());
    assert!(home.tells("out_of_order"), "asking for a request that is none is on record");
    assert!(!home.metrics().contains("malformed"));
    daemon.stop();
}

#[test]
fn a_flood_is_counted_to_its_end() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    // What is too large is counted once.
    assert_eq!(daemon.post("/v1/pairing/hello", &"x".repeat(100 * 1024)).0, 413);
    assert!(home.metrics().contains("refusals_total{cause=\"malformed\"} 1\n"), "{}", home.metrics());
    for _ in 1..30 {
        assert_eq!(daemon.post("/v1/pairing/hello", "{").0, 400);
    }
    daemon.stop();
    let mut counted = 0;
    for line in home.ok(&["--format", "json", "log", "show"]).lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["kind"] == "pairing_refused" {
            counted += 1 + event["event"]["suppressed"].as_u64().unwrap();
        }
    }
    assert_eq!(counted, 30, "those that were not recorded one by one are in the last event");
}

#[test]
fn a_device_sends_no_more_than_it_may() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    let large = home.path("large");
    std::fs::write(&large, "x".repeat(100 * 1024)).unwrap();
    let body = format!("@{}", large.display());
    // Refused before it came: the answer may be lost with the connection.
    assert!([413, 0].contains(&device.curl(daemon.devices, "/v1/renew", &["-d", &body]).1));
    assert!(home.tells("malformed"));
    let head = format!("x-large: {}", "x".repeat(20 * 1024));
    assert_eq!(device.curl(daemon.devices, "/v1/health", &["-H", &head]).1, 431);
    let many: Vec<_> = (0..80).flat_map(|number| ["-H".to_owned(), format!("x-{number}: x")]).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(device.curl(daemon.devices, "/v1/health", &many).1, 431);
    daemon.stop();
}

/// A device's first message, as the program sends it.
fn hello(code: &str) -> String {
    let key = LeafKey::generate_p256().unwrap();
    let name = DeviceName::new("box").unwrap();
    let device = DeviceId::from_bytes([7; 16]);
    let applicant = Applicant { device, kind: ClientKind::Node, name: &name, key: &key };
    let (_, hello) = Joining::new(&OsRandom, code.parse().unwrap(), applicant).unwrap();
    serde_json::to_string(&hello).unwrap()
}

#[test]
fn pairing_starts_are_counted_over_a_restart() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home, &[]);
    let mut last = String::new();
    for started in 0..30 {
        if started % 3 == 0 {
            last = home.mint(&[]);
        }
        assert_eq!(daemon.post("/v1/pairing/hello", &hello(&last)).0, 200, "{started}");
    }
    let fresh = home.mint(&[]);
    let refused = |daemon: &Daemon| {
        let (status, answer) = daemon.post("/v1/pairing/hello", &hello(&fresh));
        assert_eq!((status, &answer["error"]["kind"]), (429, &json!("too_many")));
    };
    refused(&daemon);
    // It is in the log, whatever becomes of the process.
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let again = Daemon::start(&home, &[]);
    refused(&again);
    again.stop();
}

#[test]
fn sixty_four_pairings_are_under_way_at_once_and_no_more() {
    let home = Home::new();
    std::fs::write(home.path("home/config.toml"), "[serve]\npairing_starts_per_minute = 1000\n").unwrap();
    let daemon = Daemon::start(&home, &[]);
    let mut code = String::new();
    for started in 0..64 {
        if started % 3 == 0 {
            code = home.mint(&[]);
        }
        assert_eq!(daemon.post("/v1/pairing/hello", &hello(&code)).0, 200, "{started}");
    }
    let attempts = || home.told().matches("answered attempt").count();
    let before = attempts();
    let (status, answer) = daemon.post("/v1/pairing/hello", &hello(&code));
    assert_eq!((status, &answer["error"]["kind"]), (429, &json!("too_many")));
    assert_eq!(attempts(), before, "whoever is turned away has spent nothing");
    // A session that ends makes room.
    assert!(home.metrics().contains("palyra_ledger_pairing_sessions 64\n"));
    daemon.stop();
}

#[test]
fn whoever_takes_no_answer_is_left() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &["--metrics-listen", "127.0.0.1:0"]);
    let at = daemon.metrics_at.unwrap();
    let told = Command::new("curl").args(["-s", &format!("http://{at}/metrics")]).output().unwrap();
    assert!(String::from_utf8(told.stdout).unwrap().contains("palyra_ledger_log_head"));
    let other = Command::new("curl").args(["-s", &format!("http://{at}/v1/health")]).output().unwrap();
    assert!(String::from_utf8(other.stdout).unwrap().contains("not_found"), "it offers nothing else");
    // Requests without end, and not one answer taken.
    let mut deaf = TcpStream::connect(at).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(64);
    let begun = std::time::Instant::now();
    let gone = wait(Duration::from_secs(40), || {
        deaf.write(&request)
            .is_err_and(|error| !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
    });
    assert!(gone, "the connection still stands after {:?}", begun.elapsed());
    daemon.stop();
}
