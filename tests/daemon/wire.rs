//! Somebody on the wire between a device and the daemon: cuts it, changes what goes over it, plays it again.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Daemon, Home, openssl};

/// A message on its way: its number from 0 (hello, greeting, finish, receipt, question, answer, ...).
struct Passing<'a> {
    number: usize,
    body: &'a mut Value,
}

/// Whether a message goes on, or the connection ends here.
#[derive(PartialEq)]
enum Fate {
    Passes,
    Cut,
}

type Hand = Box<dyn FnMut(Passing<'_>) -> Fate + Send>;

/// A wire with a hand on it.
struct Wire {
    at: SocketAddr,
    hand: Arc<Mutex<(usize, Hand)>>,
}

/// Reads one HTTP message: its head, and its body by the length that it gives.
fn message(from: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn carry(mut device: TcpStream, to: SocketAddr, hand: &Mutex<(usize, Hand)>) -> Option<()> {
    let mut daemon = TcpStream::connect(to).ok()?;
    loop {
        for direction in [true, false] {
            let (from, onto) = if direction { (&mut device, &mut daemon) } else { (&mut daemon, &mut device) };
            let (head, body) = message(from)?;
            let mut body: Value = serde_json::from_slice(&body).unwrap();
            let mut hand = hand.lock().unwrap();
            let number = hand.0;
            hand.0 += 1;
            if (hand.1)(Passing { number, body: &mut body }) == Fate::Cut {
                let _ = (device.shutdown(Shutdown::Both), daemon.shutdown(Shutdown::Both));
                return None;
            }
            let body = body.to_string();
            let line = |line: &str| {
                let length = line.to_ascii_lowercase().starts_with("content-length");
                if length { format!("content-length: {}\r\n", body.len()) } else { format!("{line}\r\n") }
            };
            let head: String = head.lines().take_while(|line| !line.is_empty()).map(line).collect();
            onto.write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
        }
    }
}

impl Wire {
    fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let hand: Hand = Box::new(|_| Fate::Passes);
        let hand = Arc::new(Mutex::new((0, hand)));
        let held = Arc::clone(&hand);
        std::thread::spawn(move || {
            for device in listener.incoming().map_while(Result::ok) {
                let held = Arc::clone(&held);
                std::thread::spawn(move || carry(device, to, &held));
            }
        });
        Self { at, hand }
    }

    fn hand(&self, hand: impl FnMut(Passing<'_>) -> Fate + Send + 'static) {
        *self.hand.lock().unwrap() = (0, Box::new(hand));
    }

    /// Joins over the wire; gives up after a second of waiting for a person.
    fn join(&self, home: &Home, dir: &str, code: &str) -> Output {
        let at = self.at.to_string();
        home.run(&["pairing", "join", "--identity", dir, "--wait", "1s", "--addr", &at, "--code", code])
    }
}

/// What is done to which message: the message itself, and those before it.
type Change = (&'static str, usize, Box<dyn Fn(&mut Value, &[Value]) + Send>);

fn requests(home: &Home) -> Vec<Value> {
    home.json(&["pairing", "requests"])["requests"].as_array().unwrap().clone()
}

fn devices(home: &Home) -> usize {
    home.json(&["devices", "list"])["devices"].as_array().unwrap().len()
}

#[test]
fn a_connection_cut_at_any_message_leaves_no_half_paired_device() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let wire = Wire::new(daemon.pairing);
    for cut in 0..6 {
        let dir = format!("cut-{cut}");
        wire.hand(move |passing| if passing.number >= cut { Fate::Cut } else { Fate::Passes });
        let joined = wire.join(&home, &dir, &home.mint(&[]));
        let said = String::from_utf8_lossy(&joined.stderr).into_owned();
        assert!(!joined.status.success(), "{cut}: {said}");
        assert!(!home.path(&dir).join("identity.pem").exists(), "{cut}");
        assert_eq!(devices(&home), 0, "{cut}");
        let waiting = requests(&home);
        // Before the proof arrived there is no request; after it there is one, which a person may answer.
        assert_eq!(waiting.len(), usize::from(cut >= 3), "{cut}: {waiting:?}");
        wire.hand(|_| Fate::Passes);
        if cut == 3 {
            // The receipt never came: the device shows no digits and has nothing to go on with.
            assert!(!home.path(&dir).join("joining.toml").exists());
            home.ok(&["pairing", "deny", waiting[0]["request"].as_str().unwrap()]);
        } else if cut > 3 {
            // It knows its request: it goes on as soon as the wire is whole, and the digits are the same.
            let sas = waiting[0]["sas"].as_str().unwrap();
            assert!(said.contains(sas), "{said}");
            let request = waiting[0]["request"].as_str().unwrap();
            home.ok(&["pairing", "approve", request, "--sas", sas]);
            // Its certificate is on its way, and is lost: asking again gives the same one.
            wire.hand(|passing| if passing.number == 1 { Fate::Cut } else { Fate::Passes });
            let resumed = home.run(&["pairing", "join", "--identity", &dir]);
            assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
            assert!(String::from_utf8_lossy(&resumed.stderr).contains(sas));
            assert!(home.path(&dir).join("identity.pem").exists());
            let left: Vec<_> = std::fs::read_dir(home.path(&dir)).unwrap().map(|entry| entry.unwrap()).collect();
            assert_eq!(left.len(), 3, "nothing of the waiting is left: {left:?}");
            let device = home.json(&["devices", "list"])["devices"][0]["id"].as_str().unwrap().to_owned();
            home.ok(&["certs", "renew", "--identity", &dir]);
            home.ok(&["devices", "remove", &device, "--yes"]);
        }
    }
    // A request that was denied is forgotten by the device, too.
    let joined = wire.join(&home, "denied", &home.mint(&[]));
    assert_eq!(joined.status.code(), Some(3));
    assert!(home.path("denied/joining.toml").exists());
    home.ok(&["pairing", "deny", requests(&home)[0]["request"].as_str().unwrap(), "--reason", "not ours"]);
    assert_eq!(home.run(&["pairing", "join", "--identity", "denied"]).status.code(), Some(13));
    assert!(!home.path("denied/joining.toml").exists());
    assert!(home.run(&["log", "verify", "--state"]).status.success());
}

/// Everything that somebody in between may change while he knows all but the code.
#[test]
fn whoever_stands_in_between_without_the_code_gets_nothing() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let wire = Wire::new(daemon.pairing);
    let made = openssl(
        &[
            "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "k.pem", "-outform", "DER", "-out", "c.der",
            "-subj", "/CN=x",
        ],
        home.dir.path(),
    );
    assert!(made.status.success());
    let own = openssl(&["base64", "-A", "-in", "c.der"], home.dir.path()).stdout;
    let own = String::from_utf8(own).unwrap();
    let key = openssl(&["pkey", "-in", "k.pem", "-pubout", "-outform", "DER", "-out", "k.der"], home.dir.path());
    assert!(key.status.success());
    let key = String::from_utf8(openssl(&["base64", "-A", "-in", "k.der"], home.dir.path()).stdout).unwrap();
    let changes: Vec<Change> = vec![
        ("his own CA", 1, Box::new(move |body, _| body["ca_certificate"] = json!(own))),
        ("his own key", 0, Box::new(move |body, _| body["public_key"] = json!(key))),
        ("another device id", 0, Box::new(|body, _| body["device"] = json!("00112233445566778899aabbccddeeff"))),
        ("another kind", 0, Box::new(|body, _| body["kind"] = json!("cli"))),
        ("another name", 0, Box::new(|body, _| body["name"] = json!("somebody"))),
        ("another ledger", 1, Box::new(|body, _| body["ledger"] = json!("00112233445566778899aabbccddeeff"))),
        ("another version", 0, Box::new(|body, _| body["version"] = json!(2))),
        ("the device's own proof", 1, Box::new(|body, before| body["proof"] = before[0]["proof"].clone())),
        ("the ledger's own proof", 2, Box::new(|body, before| body["proof"] = before[1]["proof"].clone())),
        ("a swapped request", 2, Box::new(|body, before| body["request"] = before[2]["proof"].clone())),
        ("a swapped receipt", 3, Box::new(|body, before| body["receipt"] = before[2]["request"].clone())),
    ];
    for (what, at, change) in changes {
        let code = home.mint(&[]);
        let mut before = Vec::new();
        wire.hand(move |passing| {
            before.push(passing.body.clone());
            if passing.number == at {
                change(passing.body, &before);
            }
            Fate::Passes
        });
        let events = home.told().lines().count();
        let joined = wire.join(&home, what, &code);
        let said = String::from_utf8_lossy(&joined.stderr).into_owned();
        assert!(!joined.status.success() && !said.contains("panicked"), "{what}: {said}");
        assert!(!home.path(what).join("identity.pem").exists(), "{what}");
        let told = home.told();
        let told: Vec<_> = told.lines().skip(events).collect();
        // What reached the daemon is in the log, by the attempt or by the reason of its refusal.
        let recorded = told.iter().any(|line| line.contains("attempt") || line.contains("refused"));
        assert!(recorded, "{what}: {told:?}");
        for waiting in requests(&home) {
            assert_eq!(at, 3, "{what}: only a changed receipt comes after the request");
            home.ok(&["pairing", "deny", waiting["request"].as_str().unwrap()]);
        }
    }
    assert_eq!(devices(&home), 0);
    let told = home.told();
    for cause in ["malformed", "out_of_order", "version"] {
        assert!(told.contains(cause), "{cause}: {told}");
    }
}

#[test]
fn a_hello_played_again_opens_nothing() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let wire = Wire::new(daemon.pairing);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    wire.hand(move |passing| {
        kept.lock().unwrap().push(passing.body.clone());
        // The proof never arrives, so the code stays open and the hello could be of use.
        if passing.number == 2 { Fate::Cut } else { Fate::Passes }
    });
    assert!(!wire.join(&home, "device", &home.mint(&[])).status.success());
    let seen = seen.lock().unwrap();
    let (status, greeting) = daemon.post("/v1/pairing/hello", &seen[0].to_string());
    assert_eq!(status, 200, "an attempt, and counted");
    assert_ne!(greeting["session"], seen[1]["session"]);
    let mut finish = seen[2].clone();
    finish["session"] = greeting["session"].clone();
    let (status, answer) = daemon.post("/v1/pairing/finish", &finish.to_string());
    assert_eq!((status, &answer["error"]["kind"]), (403, &json!("wrong_code")), "the proof is for another session");
    let (status, answer) = daemon.post("/v1/pairing/finish", &finish.to_string());
    assert_eq!((status, &answer["error"]["kind"]), (410, &json!("out_of_order")));
    assert!(requests(&home).is_empty());
    let told = home.told();
    assert!(
        told.contains("answered attempt 2") && told.contains("wrong_code") && told.contains("out_of_order"),
        "{told}"
    );
}

#[test]
fn anothers_request_is_neither_approved_nor_read() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let wire = Wire::new(daemon.pairing);
    assert_eq!(wire.join(&home, "first", &home.mint(&[])).status.code(), Some(3));
    let first = requests(&home)[0].clone();
    assert_eq!(wire.join(&home, "second", &home.mint(&[])).status.code(), Some(3));
    let second = requests(&home).into_iter().find(|request| request["request"] != first["request"]).unwrap();
    let (of_first, of_second) = (first["request"].as_str().unwrap(), second["request"].as_str().unwrap());
    // The digits of one do not approve the other.
    let crossed = home.run(&["pairing", "approve", of_first, "--sas", second["sas"].as_str().unwrap()]);
    assert_eq!(crossed.status.code(), Some(13), "{}", String::from_utf8_lossy(&crossed.stderr));
    assert!(home.told().contains("pairing approve"), "the refusal is in the log");
    assert_eq!(devices(&home), 0);
    // An answer is sealed for the device that asked: another one cannot use it.
    home.ok(&["pairing", "approve", of_second, "--sas", second["sas"].as_str().unwrap()]);
    let other = of_second.to_owned();
    wire.hand(move |passing| {
        if passing.number == 0 {
            passing.body["request"] = json!(other);
        }
        Fate::Passes
    });
    assert!(!home.run(&["pairing", "join", "--identity", "first", "--wait", "1s"]).status.success());
    assert!(!home.path("first/identity.pem").exists());
    wire.hand(|_| Fate::Passes);
    assert!(home.run(&["pairing", "join", "--identity", "second"]).status.success());
    // Approving twice, or denying what was approved.
    home.ok(&["pairing", "approve", of_second]);
    assert!(!home.run(&["pairing", "deny", of_second]).status.success());
    assert_eq!(devices(&home), 1);
}
