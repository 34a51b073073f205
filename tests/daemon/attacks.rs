//! What somebody on the network may try. Each is refused, and the log says why.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{Daemon, Device, Home};

fn join(home: &Home, daemon: &Daemon, code: &str) -> i32 {
    let at = daemon.pairing.to_string();
    let words = ["pairing", "join", "--identity", "joining", "--wait", "1s", "--addr", &at, "--code", code];
    home.run(&words).status.code().unwrap()
}

#[test]
fn wrong_pins_burn_the_code() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let code = home.mint(&[]);
    let (locator, pin) = code.split_once('-').unwrap();
    let wrong = format!("{locator}-{:06}", (pin.parse::<u32>().unwrap() + 1) % 1_000_000);
    for _ in 0..3 {
        assert_eq!(join(&home, &daemon, &wrong), 13);
    }
    assert_ne!(join(&home, &daemon, &code), 0);
    assert!(home.json(&["pairing", "requests", "--all"])["requests"].as_array().unwrap().is_empty());
    assert!(home.json(&["devices", "list"])["devices"].as_array().unwrap().is_empty());
    let told = home.told();
    assert!(told.contains("answered attempt 3"), "{told}");
    assert!(told.contains("refused a pairing"), "{told}");
    assert!(!told.contains(pin), "the code stands nowhere");
}

#[test]
fn a_code_after_its_time_and_one_that_never_was_are_refused() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let code = home.mint(&["--ttl", "1s"]);
    std::thread::sleep(Duration::from_millis(1200));
    assert_ne!(join(&home, &daemon, &code), 0);
    assert!(home.tells("code_expired"));
    assert_eq!(join(&home, &daemon, "bcdf-123456"), 10);
    assert!(home.tells("unknown_code"));
}

#[test]
fn replayed_and_malformed_messages_are_refused() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    home.mint(&[]);
    for path in ["hello", "finish", "poll"] {
        for body in ["", "{", "[]", "null", r#"{"version":1}"#, r#"{"request":"zz"}"#, "\u{0}\u{1}"] {
            let (status, answer) = daemon.post(&format!("/v1/pairing/{path}"), body);
            assert_eq!((status, &answer["error"]["kind"]), (400, &json!("malformed")), "{path} {body}");
        }
    }
    // A session is good once, and only where it was begun.
    let proof = json!({"session": "00112233445566778899aabbccddeeff", "proof": "AAAA", "request": "AAAA"});
    for _ in 0..2 {
        let (status, answer) = daemon.post("/v1/pairing/finish", &proof.to_string());
        assert_eq!((status, &answer["error"]["kind"]), (410, &json!("out_of_order")));
    }
    // Somebody else's request: without its key the answer says nothing, and there is none to approve.
    let (status, _) = daemon.post("/v1/pairing/poll", r#"{"request":"0123456789abcdef"}"#);
    assert_eq!(status, 404);
    assert_eq!(home.run(&["pairing", "approve", "0123456789abcdef"]).status.code(), Some(10));
    assert!(home.tells("out_of_order"));
    assert!(home.tells("malformed"));
}

#[test]
fn large_bodies_and_slow_heads_are_cut_off() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    // A hundred megabytes announced: refused before they come.
    let mut large = TcpStream::connect(daemon.pairing).unwrap();
    let head = "POST /v1/pairing/hello HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n";
    large.write_all(head.as_bytes()).unwrap();
    let mut sent = 0;
    while sent < 104_857_600 {
        match large.write(&[b'x'; 8192]) {
            Ok(written) => sent += written,
            Err(_) => break,
        }
        if sent > 16 * 1024 * 1024 {
            break;
        }
    }
    large.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = Vec::new();
    let _ = large.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
    assert!(sent < 104_857_600);
    // One letter of a head every second.
    let mut slow = TcpStream::connect(daemon.pairing).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut closed = false;
    for letter in "GET /v1/pairing/hello HTTP/1.1\r\nhost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".bytes().take(40) {
        if slow.write_all(&[letter]).is_err() {
            closed = true;
            break;
        }
        // Whatever comes, an answer or an end, the daemon has had enough.
        let waited = |error: &std::io::Error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        };
        if !slow.read_exact(&mut [0]).is_err_and(|error| waited(&error)) {
            closed = true;
            break;
        }
    }
    assert!(closed, "a slow head was waited for");
    assert!(home.tells("malformed"));
    assert_eq!(daemon.post("/v1/pairing/poll", r#"{"request":"0123456789abcdef"}"#).0, 404);
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(most.saturating_sub(200).min(10_000)).unwrap();
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    let mut idle = Vec::new();
    for _ in 0..count {
        if let Ok(stream) = TcpStream::connect(daemon.devices) {
            idle.push(stream);
        }
    }
    assert!(idle.len() > count / 2, "{} of {count}", idle.len());
    assert_eq!(device.curl(daemon.devices, "/v1/health", &[]).1, 200);
    assert!(home.tells("too_many"));
    drop(idle);
    daemon.stop();
}
