//! The local socket: the same command line, on the daemon's ledger.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use super::{Daemon, Home};

fn shape(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_command_says_the_same_with_and_without_the_daemon() {
    let home = Home::new();
    assert!(home.with_input(&["secrets", "set", "global/api", "--stdin"], b"v\x00\xff").status.success());
    std::fs::write(home.path("value"), "from a file").unwrap();
    let commands: &[&[&str]] = &[
        &["secrets", "get", "global/api"],
        &["secrets", "list"],
        &["--format", "json", "secrets", "list"],
        &["secrets", "get", "global/none"],
        &["--format", "json", "secrets", "get", "global/none"],
        &["secrets", "set", "global/api", "--file", "value", "--if-version", "9"],
        &["secrets", "set", "global/api", "--stdin"],
        &["secrets", "set", "global/api", "--file", "nothing-here"],
        &["secrets", "shred", "global/api"],
        &["keys", "slots"],
        &["devices", "list"],
        &["pairing", "approve", "0123456789abcdef"],
        &["ca", "show"],
        &["log", "show", "0"],
        &["nonsense"],
        &["secrets", "get", "no reference"],
    ];
    // The time of the last read is shown: there is one from the start, and a writer that recorded it.
    assert!(home.run(&["secrets", "get", "global/api", "--reveal"]).status.success());
    home.ok(&["ca", "show"]);
    let alone: Vec<_> = commands.iter().map(|words| shape(&home.run(words))).collect();
    let daemon = Daemon::start(&home, &[]);
    for (words, before) in commands.iter().zip(alone) {
        assert_eq!(shape(&home.run(words)), before, "{words:?}");
    }
    assert_eq!(home.run(&["secrets", "get", "global/api", "--reveal"]).stdout, b"v\x00\xff");
    let written = home.with_input(&["secrets", "set", "global/api", "--stdin"], b"CANARY");
    assert_eq!(written.status.code(), Some(0));
    assert_eq!(home.run(&["secrets", "get", "global/api", "--reveal"]).stdout, b"CANARY");
    let told = home.ok(&["--format", "json", "log", "show"]);
    assert!(told.contains("socket"), "the log says where the command came from: {told}");
    // What the daemon must not do for a client is in use.
    assert_eq!(home.run(&["--lock-wait", "0", "doctor", "--repair", "--yes"]).status.code(), Some(19));
    assert_eq!(home.run(&["--lock-wait", "0", "serve"]).status.code(), Some(19));
    daemon.stop();
}

/// Whoever sheds a connection closes it, and what the command had asked lies there unread: nothing was begun.
#[test]
fn a_command_that_was_closed_unread_is_tried_again_as_long_as_it_may_wait() {
    use std::os::unix::net::UnixListener;
    let home = Home::new();
    home.ok(&["secrets", "list"]);
    let path = home.path("home/serve.sock");
    let shed = |times: usize| {
        let (listener, path) = (UnixListener::bind(&path).unwrap(), path.clone());
        std::thread::spawn(move || {
            for _ in 0..times {
                let (socket, _) = listener.accept().unwrap();
                let mut first = [0; 4];
                let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::WAITALL;
                rustix::net::recv(&socket, &mut first, flags).unwrap();
            }
            std::fs::remove_file(path).unwrap();
        })
    };
    let shedding = shed(2);
    // Then nobody serves the ledger any more, and the command does it itself.
    home.ok(&["secrets", "list"]);
    shedding.join().unwrap();
    let shedding = shed(1);
    let output = home.run(&["--lock-wait", "0", "secrets", "list"]);
    assert_eq!(output.status.code(), Some(18));
    assert!(String::from_utf8_lossy(&output.stderr).contains("went away"), "{output:?}");
    shedding.join().unwrap();
}

#[test]
fn the_socket_is_the_owners_alone_and_takes_no_nonsense() {
    use std::io::{Read, Write};
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let path = home.path("home/serve.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for garbage in [
        &b"PLT1\xff\xff\xff\xff"[..],
        b"PLT1\x02\x00\x00\x00{}",
        b"PLT1",
        b"P",
        b"GET / HTTP/9.9\r\n\r\n",
        &[0xFF; 4096],
    ] {
        let mut socket = std::os::unix::net::UnixStream::connect(&path).unwrap();
        socket.write_all(garbage).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    let metrics = std::process::Command::new("curl")
        .args(["-s", "--unix-socket"])
        .arg(&path)
        .arg("http://ledger/metrics")
        .output()
        .unwrap();
    let metrics = String::from_utf8(metrics.stdout).unwrap();
    assert!(metrics.contains("palyra_ledger_log_head"), "{metrics}");
    home.ok(&["secrets", "list"]);
    daemon.stop();
    assert!(!path.exists());
}

#[test]
fn a_daemon_that_was_killed_leaves_nothing_in_the_way() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home, &[]);
    let code = home.mint(&[]);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert!(home.path("home/serve.sock").exists(), "its socket is still there");
    home.ok(&["secrets", "list"]);
    let again = Daemon::start(&home, &[]);
    // A code outlives the daemon that it was made with: it is in the log.
    let dir = home.path("device");
    let joined = home.run(&[
        "pairing",
        "join",
        "--wait",
        "1s",
        "--identity",
        dir.to_str().unwrap(),
        "--addr",
        &again.pairing.to_string(),
        "--code",
        &code,
    ]);
    assert_eq!(joined.status.code(), Some(3), "it waits for a person");
    assert_eq!(home.json(&["pairing", "requests"])["requests"].as_array().unwrap().len(), 1);
    assert!(!dir.join("identity.pem").exists(), "nobody approved it");
    again.stop();
}
