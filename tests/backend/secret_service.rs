//! A real gnome-keyring on a D-Bus session of the test's own, with `secret-tool` as a second reader.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PASSWORD: &str = "keyring password";
const CANARY: &str = "canary-value-in-the-clear";
/// Programs that the tests need; in Debian the packages dbus, gnome-keyring and libsecret-tools.
const PROGRAMS: [&str; 4] = ["dbus-daemon", "dbus-send", "gnome-keyring-daemon", "secret-tool"];

/// A bus, perhaps a keyring on it, and folders for both.
struct Desktop {
    dir: tempfile::TempDir,
    address: String,
    bus: Child,
    keyring: Option<Child>,
}

impl Drop for Desktop {
    fn drop(&mut self) {
        self.stop_keyring();
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

#[allow(clippy::print_stderr)]
fn is_there() -> bool {
    let found = |program: &&str| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
    };
    let missing: Vec<_> = PROGRAMS.iter().filter(|program| !found(program)).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var_os("PALYRA_NEED_KEYRING").is_none(),
        "PALYRA_NEED_KEYRING is set and {missing:?} is not installed"
    );
    eprintln!("SKIPPED: {missing:?} is not installed: no real Secret Service is tried");
    false
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Desktop {
    /// A bus that starts no service by itself.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["run", "data", "config", "cache"] {
            std::fs::DirBuilder::new().mode(0o700).create(dir.path().join(folder)).unwrap();
        }
        let config = dir.path().join("session.conf");
        let text = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            dir.path().join("bus").display()
        );
        std::fs::write(&config, text).unwrap();
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .arg("--nofork")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = dir.path().join("bus");
        let desktop = Self { address: format!("unix:path={}", socket.display()), dir, bus, keyring: None };
        until("the bus", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        desktop
    }

    fn unlocked() -> Self {
        let mut desktop = Self::start();
        desktop.start_keyring();
        desktop
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap();
        command.env_clear().env("PATH", path).env("HOME", self.dir.path());
        for (name, folder) in
            [("RUNTIME_DIR", "run"), ("DATA_HOME", "data"), ("CONFIG_HOME", "config"), ("CACHE_HOME", "cache")]
        {
            command.env(format!("XDG_{name}"), self.dir.path().join(folder));
        }
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.address);
        command
    }

    fn start_keyring(&mut self) {
        let mut keyring = self
            .command("gnome-keyring-daemon")
            .args(["--unlock", "--components=secrets", "--foreground"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        keyring.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        self.keyring = Some(keyring);
        until("the keyring", || {
            let alias = self.service(&["ReadAlias", "string:default"]);
            String::from_utf8_lossy(&alias.stdout).contains("/collection/")
        });
    }

    fn stop_keyring(&mut self) {
        if let Some(mut keyring) = self.keyring.take() {
            let _ = keyring.kill();
            let _ = keyring.wait();
        }
    }

    fn service(&self, words: &[&str]) -> Output {
        let method = format!("org.freedesktop.Secret.Service.{}", words[0]);
        self.command("dbus-send")
            .args(["--session", "--dest=org.freedesktop.secrets", "--print-reply", "/org/freedesktop/secrets"])
            .arg(method)
            .args(&words[1..])
            .output()
            .unwrap()
    }

    fn lock(&self) {
        let done = self.service(&["Lock", "array:objpath:/org/freedesktop/secrets/collection/login"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn program(&self, words: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.env("PALYRA_LEDGER_HOME", self.home()).args(words);
        command
    }

    fn output(&self, words: &[&str], input: &str) -> Output {
        let mut child =
            self.program(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn run(&self, words: &[&str], code: i32) -> String {
        let output = self.output(words, "");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        said
    }

    fn set(&self, reference: &str, value: &str, code: i32) -> String {
        let output = self.output(&["secrets", "set", reference, "--stdin"], value);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    }

    fn get(&self, reference: &str) -> String {
        self.run(&["secrets", "get", reference, "--reveal"], 0)
    }

    /// What another program finds under our name.
    fn lookup(&self, group: &str, name: &str) -> Vec<u8> {
        let words = ["lookup", "service", "palyra-ledger", "group", group, "name", name];
        self.command("secret-tool").args(words).output().unwrap().stdout
    }

    /// Makes a ledger; its id.
    fn init(&self, words: &[&str]) -> String {
        let said = self.run(&[&["init"], words].concat(), 0);
        said.split_whitespace().nth(2).unwrap().to_owned()
    }
}

fn below(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, found);
        } else if path.is_file() {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn a_real_secret_service_keeps_envelopes_and_says_why_it_does_not() {
    if !is_there() {
        return;
    }
    let mut desktop = Desktop::start();
    let id = desktop.init(&[]);
    let said = desktop.run(&["secrets", "migrate-backend", "linux_secret_service"], 18);
    assert!(said.contains("offers the Secret Service"), "{said}");
    desktop.start_keyring();
    desktop.set("global/a", CANARY, 0);
    desktop.run(&["secrets", "migrate-backend", "linux_secret_service"], 0);
    assert_eq!(std::fs::read_to_string(desktop.home().join("backend.kind")).unwrap(), "linux_secret_service\n");
    assert_eq!(desktop.get("global/a"), CANARY);
    let large = "x".repeat(65_536);
    desktop.set("global/large", &large, 0);
    assert_eq!(desktop.get("global/large"), large);
    desktop.run(&["log", "verify", "--state", "--backend"], 0);
    // The second reader sees the sealed envelope and no value: nonce, commitment, ciphertext, tag.
    let group = format!("{id}/envelopes");
    let kept = desktop.lookup(&group, "0");
    assert_eq!(kept.len(), 24 + 32 + CANARY.len() + 16);
    let mut files = Vec::new();
    below(desktop.dir.path(), &mut files);
    for (path, bytes) in &files {
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "{}", path.display());
    }
    // Somebody else's hand: the item is gone.
    let clear = ["clear", "service", "palyra-ledger", "group", &group, "name", "0"];
    assert!(desktop.command("secret-tool").args(clear).status().unwrap().success());
    let said = desktop.run(&["log", "verify", "--backend"], 15);
    assert!(said.contains("envelope_lost") && said.contains("global/a"), "{said}");
    let said = desktop.run(&["secrets", "get", "global/a", "--reveal"], 15);
    assert!(said.contains("linux_secret_service") && said.contains("global/a"), "{said}");
    desktop.set("global/a", "anew", 0);
    assert_eq!(desktop.get("global/a"), "anew");

    desktop.lock();
    for words in [
        &["secrets", "get", "global/a", "--reveal"][..],
        &["log", "verify", "--backend"],
        &["secrets", "migrate-backend", "ledger"],
    ] {
        let said = desktop.run(words, 4);
        assert!(said.contains("the keystore is locked") && said.contains("unlock it"), "{said}");
    }
    desktop.set("global/b", "not taken", 4);
    desktop.stop_keyring();
    desktop.run(&["secrets", "get", "global/a", "--reveal"], 18);
    desktop.start_keyring();
    // The move that was asked for while it was locked goes on; what is lost stands in its way by name.
    let said = desktop.run(&["secrets", "migrate-backend", "ledger"], 0).to_lowercase();
    assert!(said.contains("holds 3"), "{said}");
    assert_eq!(desktop.get("global/a"), "anew");
    assert_eq!(desktop.lookup(&group, "1"), b"");
    desktop.run(&["log", "verify", "--state", "--backend"], 0);
}

/// The suite itself runs in a process that has this desktop.
#[test]
fn a_real_secret_service_conforms() {
    if !is_there() {
        return;
    }
    let desktop = Desktop::unlocked();
    let this = std::env::current_exe().unwrap();
    let mut suite = desktop.command(this.to_str().unwrap());
    let output = suite.args(["--ignored", "--exact", "native::native_keystore_conforms"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let left = desktop.command("secret-tool").args(["search", "--all", "service", "palyra-ledger"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "nothing stays behind");
}

#[test]
fn without_a_session_bus_it_says_so() {
    if !is_there() {
        return;
    }
    let desktop = Desktop::start();
    let mut command = desktop.program(&["init", "--backend", "linux_secret_service"]);
    command.env_remove("DBUS_SESSION_BUS_ADDRESS");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(18), "{said}");
    assert!(said.contains("no D-Bus session") && said.contains("DBUS_SESSION_BUS_ADDRESS"), "{said}");
    assert!(!desktop.home().exists(), "nothing was made");
}

#[test]
fn a_move_that_is_killed_anywhere_goes_on() {
    if !is_there() {
        return;
    }
    let mut desktop = Desktop::unlocked();
    desktop.init(&[]);
    for number in 0..30 {
        desktop.set(&format!("global/key-{number}"), &format!("value {number}"), 0);
    }
    let all = |desktop: &Desktop| {
        for number in [0, 7, 29] {
            assert_eq!(desktop.get(&format!("global/key-{number}")), format!("value {number}"));
        }
    };
    for (round, to) in (0..8_u64).zip(["linux_secret_service", "encrypted_file"].into_iter().cycle()) {
        let mut child = desktop.program(&["secrets", "migrate-backend", to]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 25 * round));
        let _ = child.kill();
        child.wait().unwrap();
        all(&desktop);
        desktop.run(&["secrets", "migrate-backend", to], 0);
        all(&desktop);
        desktop.run(&["log", "verify", "--state", "--backend"], 0);
    }
    // Now the keyring is killed.
    let mut child = desktop
        .program(&["secrets", "migrate-backend", "linux_secret_service"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(60));
    desktop.stop_keyring();
    child.wait().unwrap();
    desktop.start_keyring();
    all(&desktop);
    desktop.run(&["secrets", "migrate-backend", "linux_secret_service"], 0);
    all(&desktop);
    desktop.run(&["log", "verify", "--state", "--backend"], 0);
}

#[test]
fn a_ledger_opens_by_a_real_keystore_as_long_as_that_is_unlocked() {
    if !is_there() {
        return;
    }
    let mut desktop = Desktop::unlocked();
    let ledger = desktop.init(&["--os-keystore", "--backend", "linux_secret_service"]);
    desktop.set("global/a", "one", 0);
    assert_eq!(desktop.get("global/a"), "one");
    let slots = desktop.run(&["keys", "slots"], 0);
    assert!(slots.contains("os-keystore"), "{slots}");
    let keys = std::fs::read_dir(desktop.home().join("keys")).unwrap();
    assert!(keys.map(|entry| entry.unwrap().file_name()).all(|name| !name.to_string_lossy().ends_with(".key")));
    desktop.run(&["keys", "rotate", "--root"], 0);
    assert_eq!(desktop.get("global/a"), "one");
    let said = desktop.run(&["doctor"], 0);
    assert!(said.contains("every sealed value is in `linux_secret_service`"), "{said}");
    desktop.lock();
    let said = desktop.run(&["secrets", "list"], 4);
    assert!(said.contains("locked"), "{said}");
    let said = desktop.run(&["doctor"], 0);
    assert!(said.contains("does not open now") && !said.contains("restore the `keys` folder"), "{said}");
    desktop.stop_keyring();
    desktop.run(&["secrets", "list"], 18);
    desktop.start_keyring();
    assert_eq!(desktop.get("global/a"), "one");
    desktop.run(&["keys", "add-slot", "file"], 0);
    let listed = desktop.run(&["keys", "slots", "--format", "json"], 0);
    let id = |kind: &str| {
        let slots: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let slots = slots["slots"].as_array().unwrap().clone();
        slots.iter().find(|slot| slot["kind"] == kind).unwrap()["id"].as_str().unwrap().to_owned()
    };
    desktop.run(&["keys", "remove-slot", &id("os-keystore"), "--pin", &id("file")], 0);
    let group = format!("{ledger}/{}", id("os-keystore"));
    assert_eq!(desktop.lookup(&group, "2"), b"", "the item went with its slot");
    assert_eq!(desktop.get("global/a"), "one");
}

#[test]
fn a_command_uses_the_session_of_the_daemon_that_serves_its_ledger() {
    if !is_there() {
        return;
    }
    let desktop = Desktop::unlocked();
    desktop.init(&["--os-keystore", "--backend", "linux_secret_service"]);
    desktop.set("global/a", "one", 0);
    let mut daemon = desktop
        .program(&["serve", "--listen", "off", "--pairing-listen", "off"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let socket = desktop.home().join("serve.sock");
    until("the daemon", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let without = |words: &[&str]| {
        let output = desktop.program(words).env_remove("DBUS_SESSION_BUS_ADDRESS").output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(without(&["secrets", "get", "global/a", "--reveal"]), "one");
    without(&["log", "verify", "--backend"]);
    without(&["secrets", "migrate-backend", "encrypted_file"]);
    assert_eq!(without(&["secrets", "get", "global/a", "--reveal"]), "one");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(desktop.get("global/a"), "one");
}

#[test]
fn a_real_keystore_knows_of_a_home_that_was_put_back() {
    if !is_there() {
        return;
    }
    let mut desktop = Desktop::unlocked();
    let ledger = desktop.init(&[]);
    std::fs::write(desktop.home().join("config.toml"), "[anchors]\nkeystore = true\n").unwrap();
    let copy = desktop.dir.path().join("copy");
    let copied = Command::new("cp").arg("-a").arg(desktop.home()).arg(&copy).status().unwrap();
    assert!(copied.success());
    desktop.set("global/a", CANARY, 0);
    let note = desktop.run(&["log", "checkpoint"], 0);
    let kept = desktop.lookup(&format!("{ledger}/anchors"), "checkpoint");
    assert!(!kept.is_empty() && note.starts_with(String::from_utf8_lossy(&kept).trim_end()), "{note}");
    desktop.run(&["log", "verify", "--anchored"], 0);

    std::fs::remove_dir_all(desktop.home()).unwrap();
    std::fs::rename(&copy, desktop.home()).unwrap();
    let said = desktop.run(&["secrets", "list"], 16);
    assert!(said.contains("keystore"), "{said}");
    desktop.lock();
    desktop.run(&["log", "verify", "--anchored"], 17);
    desktop.stop_keyring();
    let said = desktop.run(&["log", "anchors"], 17);
    assert!(said.contains("keystore"), "{said}");
    desktop.start_keyring();
    desktop.run(&["log", "accept-rollback", "--yes", "--reason", "put back on purpose"], 0);
    desktop.run(&["log", "verify", "--anchored"], 0);
    assert_ne!(desktop.lookup(&format!("{ledger}/anchors"), "checkpoint"), kept);
}
