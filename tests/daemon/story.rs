//! The whole story, as its people see it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::{Daemon, Device, Home, openssl, wait};

#[test]
fn two_devices_pair_talk_renew_and_one_is_revoked() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let (first, second) = (Device::pair(&home, &daemon, "first"), Device::pair(&home, &daemon, "second"));
    assert_eq!(home.json(&["devices", "list"])["devices"].as_array().unwrap().len(), 2);

    // Each sees the ledger, its own secrets, and nothing else.
    let own = format!("principal:{}/api", first.id);
    assert!(home.with_input(&["secrets", "set", &own, "--stdin"], b"CANARY-own").status.success());
    assert!(home.with_input(&["secrets", "set", "global/api", "--stdin"], b"CANARY-global").status.success());
    assert_eq!(first.curl(daemon.devices, "/v1/health", &[]).1, 200);
    assert_eq!(first.curl(daemon.devices, "/v1/secrets/api", &[]), (0, 200, b"CANARY-own".to_vec()));
    assert_eq!(second.curl(daemon.devices, "/v1/secrets/api", &[]).1, 404);
    assert_eq!(second.curl(daemon.devices, "/v1/scopes/global/secrets/api", &[]).1, 403);
    assert!(home.tells("not_granted"));
    let head = first.curl(daemon.devices, "/v1/head", &[]);
    let seq = serde_json::from_slice::<serde_json::Value>(&head.2).unwrap()["seq"].as_u64().unwrap();
    assert!(seq > 10);

    // A renewal is a new key and a new certificate.
    let before = std::fs::read(first.file("identity.pem")).unwrap();
    let dir = first.dir.to_str().unwrap();
    let renewed = home.json(&["certs", "renew", "--identity", dir]);
    assert_eq!(renewed["renewed"], true);
    assert_ne!(std::fs::read(first.file("identity.pem")).unwrap(), before);
    assert_eq!(home.json(&["certs", "renew", "--identity", dir, "--if-due"])["renewed"], false);
    assert_eq!(first.curl(daemon.devices, "/v1/secrets/api", &[]).1, 200);

    // Revoked: refused from then on, with an event that says why.
    home.ok(&["devices", "revoke", &first.id, "--yes"]);
    assert_eq!(first.curl(daemon.devices, "/v1/health", &[]).1, 0);
    assert_eq!(second.curl(daemon.devices, "/v1/health", &[]).1, 200);
    let refused = home.run(&["certs", "renew", "--identity", dir]);
    assert_eq!(refused.status.code(), Some(20), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(home.tells("device_revoked"));
    let messages = daemon.stop();
    assert!(messages.contains("device_revoked") && !messages.contains("CANARY"));
    assert!(home.run(&["log", "verify", "--state"]).status.success());
}

#[test]
fn openssl_and_curl_agree_with_what_is_served() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &["--name", "ledger.example"]);
    let device = Device::pair(&home, &daemon, "device");
    let (_, status, roots) = device.curl(daemon.devices, "/v1/ca", &[]);
    assert_eq!(status, 200);
    assert_eq!(roots, std::fs::read(device.file("ca.pem")).unwrap());
    let check = |what: &str, crl: &[u8], good: bool| {
        std::fs::write(device.file("list.der"), crl).unwrap();
        let made = openssl(&["crl", "-inform", "DER", "-in", "list.der", "-out", "list.pem"], &device.dir);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let words = ["verify", "-x509_strict", "-purpose", "sslclient", "-crl_check", "-CRLfile", "list.pem"];
        let found = openssl(&[&words[..], &["-CAfile", "ca.pem", "identity.pem"]].concat(), &device.dir);
        assert_eq!(found.status.success(), good, "{what}: {}", String::from_utf8_lossy(&found.stderr));
    };
    check("paired", &device.curl(daemon.devices, "/v1/crl", &[]).2, true);
    let other = Device::pair(&home, &daemon, "other");
    home.ok(&["devices", "revoke", &device.id, "--yes"]);
    check("revoked", &other.curl(daemon.devices, "/v1/crl", &[]).2, false);
    let exported = home.ok(&["ca", "export", "--crl"]);
    assert!(exported.starts_with("-----BEGIN X509 CRL-----"));
    // The name that was asked for is in the certificate, and another one is not.
    let speak = |name: &str| {
        let mut client = other.s_client(daemon.devices, &["-verify_hostname", name]);
        client.stdin.take().unwrap().write_all(b"Q\n").unwrap();
        client.wait_with_output().unwrap().status.success()
    };
    assert!(speak("ledger.example"));
    assert!(!speak("other.example"));
}

#[test]
fn a_connection_that_stands_is_cut_within_a_second_of_its_revocation() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    let mut client = device.s_client(daemon.devices, &["-quiet"]);
    let mut input = client.stdin.take().unwrap();
    input.write_all(format!("GET /v1/health HTTP/1.1\r\nhost: {}\r\n\r\n", device.name).as_bytes()).unwrap();
    let mut answer = [0; 12];
    client.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    home.ok(&["devices", "revoke", &device.id, "--yes"]);
    let revoked = Instant::now();
    assert!(wait(Duration::from_secs(10), || client.try_wait().unwrap().is_some()), "the connection still stands");
    // Not a measurement: ten times what it takes.
    assert!(revoked.elapsed() < Duration::from_secs(5));
    drop(input);
}

#[test]
fn nothing_is_resumed_after_a_revocation() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    let kept = device.file("session.pem");
    let session = kept.to_str().unwrap();
    let run = |words: &[&str]| {
        let mut client = device.s_client(daemon.devices, words);
        client.stdin.take().unwrap().write_all(b"Q\n").unwrap();
        let output = client.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let first = run(&["-sess_out", session]);
    assert!(first.contains("New, TLSv1.3") && !first.contains("New Session Ticket"), "{first}");
    // openssl keeps a session where the server gave a ticket: there is none.
    assert!(!kept.exists(), "a ticket was given");
    home.ok(&["devices", "revoke", &device.id, "--yes"]);
    let again = run(&[]);
    assert!(!again.contains("Reused"), "{again}");
    assert!(home.tells("device_revoked"));
    assert_eq!(device.curl(daemon.devices, "/v1/health", &[]).1, 0);
}

#[test]
fn whoever_is_not_paired_stays_outside() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    // No certificate at all.
    let bare = std::process::Command::new("curl")
        .args(["-s", "-m", "20", "--cacert"])
        .arg(device.file("ca.pem"))
        .args(["--resolve", &format!("{}:{}:127.0.0.1", device.name, daemon.devices.port())])
        .arg(format!("https://{}:{}/v1/health", device.name, daemon.devices.port()))
        .output()
        .unwrap();
    assert!(!bare.status.success() && bare.stdout.is_empty());
    // A certificate that names the device, by another CA.
    let subject = format!("/CN={}", device.id);
    let uri = format!("subjectAltName=URI:urn:palyra:device:{}", device.id);
    let words = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "k.pem", "-out", "c.pem", "-subj"];
    let made = openssl(
        &[&words[..], &[&subject, "-addext", &uri, "-set_serial", "0x010000000000000001aaaaaaaaaaaaaaaa"]].concat(),
        &device.dir,
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut both = std::fs::read(device.file("c.pem")).unwrap();
    both.extend(std::fs::read(device.file("k.pem")).unwrap());
    let good = std::fs::read(device.file("identity.pem")).unwrap();
    std::fs::write(device.file("identity.pem"), both).unwrap();
    assert_eq!(device.curl(daemon.devices, "/v1/health", &[]).1, 0);
    std::fs::write(device.file("identity.pem"), good).unwrap();
    assert_eq!(device.curl(daemon.devices, "/v1/health", &[]).1, 200);
    assert!(home.tells("untrusted"));
    // The name in a certificate that this CA did not sign is nobody's: it is not recorded.
    for line in home.ok(&["--format", "json", "log", "show"]).lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        for refusal in event["event"]["refusals"].as_array().into_iter().flatten() {
            assert!(refusal["cause"] != "untrusted" || refusal["device"].is_null(), "{event}");
        }
    }
    // TLS 1.2 is not spoken.
    assert_ne!(device.curl(daemon.devices, "/v1/health", &["--tls-max", "1.2"]).0, 0);
    // Neither listener offers what the other does.
    assert_eq!(daemon.post("/v1/health", "{}").0, 404);
    assert_eq!(daemon.post("/v1/renew", "{}").0, 404);
    assert_eq!(device.curl(daemon.devices, "/v1/pairing/hello", &["-d", "{}"]).1, 404);
}

#[test]
fn the_daemon_renews_its_certificate_without_dropping_a_connection() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "device");
    let mut client = device.s_client(daemon.devices, &["-quiet"]);
    let mut input = client.stdin.take().unwrap();
    let request = format!("GET /v1/health HTTP/1.1\r\nhost: {}\r\n\r\n", device.name);
    let mut ask = |client: &mut std::process::Child| {
        input.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"}") {
            client.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    };
    ask(&mut client);
    let issued = || home.json(&["certs", "list"])["certificates"].as_array().unwrap().len();
    let before = issued();
    home.ok(&["certs", "rotate"]);
    assert!(wait(Duration::from_secs(10), || issued() == before + 1));
    daemon.signal(rustix::process::Signal::HUP);
    assert!(wait(Duration::from_secs(10), || issued() == before + 2));
    ask(&mut client);
    assert_eq!(device.curl(daemon.devices, "/v1/health", &[]).1, 200);
    let _ = client.kill();
}
