//! The daemon as a service: what it tells its manager and its operator.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::{Daemon, Device, Home};

#[test]
fn the_service_manager_is_told() {
    let home = Home::new();
    let at = home.path("notify");
    let manager = UnixDatagram::bind(&at).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let daemon = Daemon::start_with(&home, &[], &[], |command| {
        command.env("NOTIFY_SOCKET", &at).env("WATCHDOG_USEC", "400000");
    });
    let hear = |wanted: &str| {
        // Pings come in between.
        for _ in 0..200 {
            let mut said = [0; 4096];
            let length = manager.recv(&mut said).unwrap();
            let said = String::from_utf8_lossy(&said[..length]).into_owned();
            if said.lines().any(|line| line == wanted) {
                return said;
            }
        }
        panic!("{wanted} never came");
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    let issued = || home.json(&["certs", "list"])["certificates"].as_array().unwrap().len();
    let before = issued();
    daemon.signal(Signal::HUP);
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    assert_eq!(issued(), before + 1, "ready means that the new certificate is in place");
    daemon.signal(Signal::TERM);
    hear("STOPPING=1");
    daemon.stop();
}

#[test]
#[allow(clippy::print_stderr)]
fn the_unit_is_sound() {
    let unit = include_str!("../../tools/systemd/palyra-ledger.service");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no systemd-analyze on this machine");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("palyra-ledger.service");
    let program = env!("CARGO_BIN_EXE_palyra-ledger");
    std::fs::write(&path, unit.replace("/usr/local/bin/palyra-ledger", program)).unwrap();
    let checked = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && !said.contains("palyra-ledger.service:"), "{said}");
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home, &[]);
    let mut slow = TcpStream::connect(daemon.pairing).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let body = r#"{"request":"0123456789abcdef"}"#;
    let head = "POST /v1/pairing/poll HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    slow.write_all(format!("{head}content-length: {}\r\n\r\n{}", body.len(), &body[..9]).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    daemon.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(300));
    assert!(TcpStream::connect(daemon.pairing).is_err(), "nothing new is accepted");
    assert!(daemon.child.try_wait().unwrap().is_none());
    slow.write_all(&body.as_bytes()[9..]).unwrap();
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
    assert!(daemon.child.wait().unwrap().success());
    assert!(home.told().contains("stopped"));
}

#[test]
fn messages_hold_no_secret_even_when_everything_is_said() {
    let home = Home::new();
    let daemon = Daemon::start_with(&home, &[], &["--log", "json"], |command| {
        command.env("PALYRA_LEDGER_LOG", "trace");
    });
    let code = home.mint(&["--name", "box"]);
    let at = daemon.pairing.to_string();
    let words = ["pairing", "join", "--identity", "box", "--wait", "1s", "--addr", &at, "--code", &code];
    assert_eq!(home.run(&words).status.code(), Some(3), "it waits for a person");
    let requests = home.json(&["pairing", "requests"]);
    home.ok(&["pairing", "approve", requests["requests"][0]["request"].as_str().unwrap()]);
    home.ok(&["pairing", "join", "--identity", "box"]);
    let device = Device::pair(&home, &daemon, "device");
    let own = format!("principal:{}/api", device.id);
    assert!(home.with_input(&["secrets", "set", &own, "--stdin"], b"CANARY-value").status.success());
    assert_eq!(device.curl(daemon.devices, "/v1/secrets/api", &[]).2, b"CANARY-value");
    std::fs::write(home.path("value"), "CANARY-file").unwrap();
    home.ok(&["secrets", "set", "global/api", "--file", "value"]);
    home.ok(&["certs", "renew", "--identity", "device"]);
    let mut keys = Vec::new();
    for name in ["device", "box"] {
        let pem = std::fs::read_to_string(home.path(name).join("identity.pem")).unwrap();
        let key = pem.split("PRIVATE KEY-----").nth(1).unwrap();
        keys.push(key.lines().nth(1).unwrap().to_owned());
    }
    let messages = daemon.stop();
    assert!(messages.contains("a device renewed"), "{messages}");
    let secret = code.split_once('-').unwrap().1;
    for hidden in [secret, "CANARY"].into_iter().chain(keys.iter().map(String::as_str)) {
        let line = messages.lines().find(|line| line.contains(hidden));
        assert!(line.is_none(), "{hidden}: {line:?}");
    }
}

#[test]
fn nothing_of_its_memory_gets_out() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use std::os::unix::process::ExitStatusExt;
    let home = Home::new();
    // As a shell starts it that allows core files.
    let before = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: before.maximum, maximum: before.maximum }).unwrap();
    let mut daemon = Daemon::start(&home, &[]);
    setrlimit(Resource::Core, before).unwrap();
    let pid = daemon.child.id();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert!(core.split_whitespace().take(2).eq(["0", "0"]), "{core}");
    if !rustix::process::geteuid().is_root() {
        for file in ["environ", "mem"] {
            let opened = std::fs::File::open(format!("/proc/{pid}/{file}"));
            assert_eq!(opened.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied, "{file}");
        }
    }
    daemon.signal(Signal::ABORT);
    let ended = daemon.child.wait().unwrap();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}

#[test]
fn every_route_in_the_document_answers() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &["--metrics-listen", "127.0.0.1:0"]);
    let device = Device::pair(&home, &daemon, "device");
    let socket = home.path("home/serve.sock");
    let told = Command::new("curl").args(["-s", "--unix-socket"]).arg(&socket).arg("http://x/openapi.json").output();
    let document: serde_json::Value = serde_json::from_slice(&told.unwrap().stdout).unwrap();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{name}", "a/b").replace("{scope}", "global").replace("{generation}", "1");
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            for tag in operation["tags"].as_array().unwrap() {
                let mut more = vec!["-s", "-m", "20", "-X", &method];
                if method == "POST" {
                    more.extend(["-d", "{}"]);
                }
                let url = |at: std::net::SocketAddr| format!("http://{at}{path}");
                let answer = match tag.as_str().unwrap() {
                    "devices" => device.curl(daemon.devices, &path, &more).2,
                    "pairing" => Command::new("curl").args(&more).arg(url(daemon.pairing)).output().unwrap().stdout,
                    "metrics" => {
                        Command::new("curl").args(&more).arg(url(daemon.metrics_at.unwrap())).output().unwrap().stdout
                    }
                    _ => {
                        more.extend(["--unix-socket", socket.to_str().unwrap()]);
                        Command::new("curl").args(&more).arg(format!("http://x{path}")).output().unwrap().stdout
                    }
                };
                let answer = String::from_utf8_lossy(&answer).into_owned();
                assert!(!answer.is_empty() && !answer.contains("there is nothing here"), "{tag} {method} {path}");
                asked += 1;
            }
        }
    }
    assert!(asked > 15, "{asked}");
    // The document is one: its own references resolve.
    let text = document.to_string();
    for part in text.split("\"#/").skip(1) {
        let pointer = format!("/{}", part.split('"').next().unwrap());
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
}
