//! The commands as a script sees them; and that no value is left where it should not be.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

use super::old::Old;
use super::{expected, fixture};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.run(&["init"], 0);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn output(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("PALYRA_LEDGER_HOME", self.path("home")).env("TMPDIR", self.0.path());
        command.args(words).output().unwrap()
    }

    fn run(&self, words: &[&str], code: i32) -> (String, String) {
        let output = self.output(words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{words:?}\n{out}\n{error}");
        (out, error)
    }

    fn json(&self, words: &[&str], code: i32) -> Value {
        let (out, error) = self.run(&[&["--format", "json"], words].concat(), code);
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}"))
    }
}

#[test]
fn a_store_is_imported_once_and_says_so() {
    let (home, store) = (Home::new(), fixture());
    let store = store.to_str().unwrap();
    let dry = home.json(&["import", "palyra", store, "--dry-run"], 0);
    assert_eq!((dry["seq"].clone(), dry["dry_run"].clone()), (Value::Null, true.into()));
    let done = home.json(&["import", "palyra", store], 0);
    assert_eq!(dry["lines"], done["lines"]);
    assert!(done["seq"].is_u64() && done["counts"]["imported"].as_u64().unwrap() > 10, "{done}");
    let again = home.json(&["import", "palyra", store], 0);
    assert!(again["imported_before_by"].is_u64() && again["seq"].is_null(), "{again}");
    let (out, _) = home.run(&["import", "palyra", store], 0);
    assert!(out.contains("nothing to do"), "{out}");
    for (path, value) in expected() {
        let output = home.output(&["secrets", "get", &path, "--reveal"]);
        assert_eq!(output.stdout, value, "{path}");
    }
    let (log, _) = home.run(&["log", "show"], 0);
    for text in [
        "imported 7 secret versions, 3 devices, 3 profiles, 1 order",
        "trusts the root of another store",
        "brought 3 devices along",
    ] {
        assert!(log.contains(text), "{text} in {log}");
    }
    home.run(&["log", "verify", "--state"], 0);
    home.run(&["doctor"], 0);
}

#[test]
fn refusals_have_their_exit_codes_and_change_nothing() {
    let home = Home::new();
    home.run(&["import", "palyra", "/nowhere/at/all"], 10);
    let dir = tempfile::tempdir().unwrap();
    Old::new().secret("global", "a", b"one").write(dir.path());
    std::fs::write(dir.path().join("vault/objects/objects.store.json"), "{}").unwrap();
    let store = dir.path().to_str().unwrap();
    let (out, error) = home.run(&["import", "palyra", store], 2);
    assert!(
        out.contains("damaged") && out.contains("secret global/a") && error.contains("--skip-damaged"),
        "{out}{error}"
    );
    std::fs::write(home.path("a.env"), "A=new\n").unwrap();
    std::fs::write(home.path("b.env"), "A=other\n").unwrap();
    let file = |name: &str| home.path(name).to_str().unwrap().to_owned();
    home.run(&["import", "env", &file("a.env"), "--scope", "global"], 0);
    home.run(&["import", "env", &file("b.env"), "--scope", "global"], 12);
    home.run(&["import", "env", &file("b.env"), "--scope", "global", "--replace"], 0);
    let get = home.output(&["secrets", "get", "global/A", "--reveal"]);
    assert_eq!(get.stdout, b"other");
}

fn everything_below(dir: &Path, visit: &mut dyn FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            everything_below(&path, visit);
        } else if path.is_file() {
            let mut bytes = Vec::new();
            std::fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
            visit(&path, &bytes);
        }
    }
}

#[test]
fn no_value_is_left_anywhere_but_where_it_was_asked_for() {
    const CANARY: &str = "canary-8f1c2b7a94";
    let home = Home::new();
    let store = tempfile::tempdir().unwrap();
    let old = Old::new().secret("global", "a", CANARY.as_bytes());
    old.write(store.path());
    let key = old.ca_key.serialize_pem();
    let key = key.lines().nth(1).unwrap();
    let mut said = String::new();
    let mut say = |(out, error): (String, String)| said.push_str(&(out + &error));
    let path = store.path().to_str().unwrap();
    say(home.run(&["import", "palyra", path], 0));
    say(home.run(&["import", "palyra", path, "--replace"], 0));
    std::fs::write(store.path().join("c.env"), format!("global bad {CANARY}\n")).unwrap();
    say(home.run(&["import", "env", store.path().join("c.env").to_str().unwrap(), "--scope", "global"], 2));
    let out = store.path().join("out.json");
    let out = out.to_str().unwrap();
    say(home.run(&["export", "--reveal-everything", "--out", out], 0));
    say(home.run(&["log", "show"], 0));
    assert!(!said.contains(CANARY) && !said.contains(key));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(out).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read_to_string(out).unwrap().contains("\"format\":\"palyra-ledger export 1\""));
    everything_below(home.0.path(), &mut |path, bytes| {
        for canary in [CANARY, key] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{} holds {canary}", path.display());
        }
    });
}

#[test]
fn an_export_goes_to_a_file_or_is_encrypted_and_comes_back() {
    let home = Home::new();
    home.run(&["import", "palyra", fixture().to_str().unwrap()], 0);
    let file = |name: &str| home.path(name).to_str().unwrap().to_owned();
    home.run(&["export", "--out", &file("a.json")], 2);
    home.run(&["export", "--reveal-everything", "--out", "-"], 2);
    let done = home.json(&["export", "--reveal-everything", "--out", &file("a.json")], 0);
    assert_eq!((done["secrets"].clone(), done["encrypted"].clone()), (7.into(), false.into()));
    home.run(&["export", "--reveal-everything", "--out", &file("a.json")], 12);
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    home.run(&["export", "--reveal-everything", "--out", &file("a.age"), "--age-recipient", &recipient], 0);
    let sealed = std::fs::read(home.path("a.age")).unwrap();
    assert!(sealed.starts_with(b"age-encryption.org/v1"));
    let decrypted = age::decrypt(&identity, &sealed).unwrap();
    std::fs::write(home.path("b.json"), decrypted).unwrap();
    let other = Home::new();
    let imported = other.json(&["import", "json", &file("b.json")], 0);
    assert_eq!(imported["counts"]["conflict"], 0, "{imported}");
    for (path, value) in expected() {
        assert_eq!(other.output(&["secrets", "get", &path, "--reveal"]).stdout, value, "{path}");
    }
}

#[test]
fn the_age_program_opens_what_was_encrypted() {
    let home = Home::new();
    home.run(&["import", "palyra", fixture().to_str().unwrap()], 0);
    let key = home.path("key.txt");
    let made = std::process::Command::new("age-keygen").arg("-o").arg(&key).output();
    let Ok(made) = made else {
        eprintln!("SKIPPED: the program age is not there");
        return;
    };
    let said = String::from_utf8(made.stderr).unwrap();
    let recipient = said.trim().rsplit(' ').next().unwrap().to_owned();
    let out = home.path("a.age");
    let words = ["export", "--reveal-everything", "--out", out.to_str().unwrap(), "--age-recipient", &recipient];
    home.run(&words, 0);
    let opened = std::process::Command::new("age").arg("-d").arg("-i").arg(&key).arg(&out).output().unwrap();
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    let document: Value = serde_json::from_slice(&opened.stdout).unwrap();
    assert_eq!(document["secrets"].as_array().unwrap().len(), 7);
}

#[test]
fn what_the_old_store_said_is_shown_by_the_commands_that_read() {
    let home = Home::new();
    home.run(&["import", "palyra", fixture().to_str().unwrap()], 0);
    let got = home.json(&["secrets", "get", "global/openai_api_key"], 0);
    assert_eq!(got["origin"]["created_at_ms"], 1_795_475_231_939_u64, "{got}");
    let history = home.json(&["secrets", "history", "global/openai_api_key"], 0);
    assert_eq!(history["versions"][0]["origin"]["updated_at_ms"], 1_795_475_231_939_u64, "{history}");
    // By the id that it had there.
    let gone = home.json(&["devices", "show", "01ARZ3NDEKTSV4RRFFQ69G5FA2"], 0);
    assert_eq!(gone["origin"]["revoked_reason"], "laptop stolen", "{gone}");
    let profile = home.json(&["auth", "profiles", "show", "openai-main"], 0);
    assert!(profile["origin_created_ms"].is_u64(), "{profile}");
    let id = gone["id"].as_str().unwrap();
    for (words, told) in [
        (vec!["secrets", "get", "global/openai_api_key"], "made there"),
        (vec!["secrets", "history", "global/openai_api_key"], "CHANGED THERE"),
        (vec!["devices", "show", id], "laptop stolen"),
        (vec!["auth", "profiles", "list"], "CHANGED THERE"),
        (vec!["log", "why", id], "laptop stolen"),
        (vec!["log", "why", "global/openai_api_key"], "changed there"),
        (vec!["log", "why", "openai-main"], "changed there"),
    ] {
        let (out, error) = home.run(&words, 0);
        assert!(out.contains(told), "{words:?}\n{out}\n{error}");
    }
}

#[test]
fn an_export_that_cannot_be_written_is_not_recorded() {
    let home = Home::new();
    home.run(&["import", "palyra", fixture().to_str().unwrap()], 0);
    std::os::unix::fs::symlink(home.path("x"), home.path("link")).unwrap();
    std::fs::write(home.path("there"), "").unwrap();
    std::fs::create_dir(home.path("folder")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(home.path("fifo")).status().unwrap().success());
    for (name, force, code) in
        [("link", true, 13), ("fifo", true, 13), ("folder", true, 13), ("none/out", false, 10), ("there", false, 12)]
    {
        let out = home.path(name);
        let mut words = vec!["export", "--reveal-everything", "--out", out.to_str().unwrap()];
        words.extend(force.then_some("--force"));
        home.run(&words, code);
    }
    let (log, _) = home.run(&["log", "show"], 0);
    assert!(!log.contains("gave out"), "{log}");
}

#[test]
fn a_source_that_holds_nothing_and_one_that_cannot_be_read_say_so() {
    let home = Home::new();
    std::fs::write(home.path("empty.env"), "# nothing\n").unwrap();
    let file = home.path("empty.env").to_str().unwrap().to_owned();
    let (out, _) = home.run(&["import", "env", &file, "--scope", "global"], 0);
    assert!(out.contains("holds nothing"), "{out}");
    std::fs::write(home.path("bad.json"), "{").unwrap();
    let file = home.path("bad.json").to_str().unwrap().to_owned();
    let (_, error) = home.run(&["import", "json", &file, "--skip-damaged"], 2);
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn without_gpg_nothing_of_a_password_store_is_imported() {
    let home = Home::new();
    std::fs::create_dir(home.path("store")).unwrap();
    std::fs::write(home.path("store/a.gpg"), "x").unwrap();
    std::fs::create_dir(home.path("nothing")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
    command.env_clear().env("PATH", home.path("nothing")).env("PALYRA_LEDGER_HOME", home.path("home"));
    let output = command
        .args(["import", "pass", "--scope", "global", "--skip-damaged"])
        .arg(home.path("store"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("there is no program gpg") && said.contains("the source cannot be read"), "{said}");
}

#[test]
fn a_folder_that_may_not_be_read_is_no_empty_store() {
    use std::os::unix::fs::PermissionsExt as _;
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: permissions do not bind root");
        return;
    }
    let home = Home::new();
    for (mode, code) in [(0o000, 13), (0o400, 2)] {
        let store = home.path(&format!("store{mode}"));
        std::fs::create_dir(&store).unwrap();
        std::fs::set_permissions(&store, std::fs::Permissions::from_mode(mode)).unwrap();
        let (out, error) = home.run(&["import", "palyra", store.to_str().unwrap()], code);
        assert!((out + &error).contains("ermission denied"), "{mode:o}");
        std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn beside_a_daemon_the_hint_is_to_stop_it() {
    use std::io::BufRead as _;
    let home = Home::new();
    let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_palyra-ledger"))
        .env_clear()
        .env("PALYRA_LEDGER_HOME", home.path("home"))
        .args(["--format", "json", "serve", "--listen", "127.0.0.1:0", "--pairing-listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    std::fs::write(home.path("a.env"), "A=1\n").unwrap();
    let (file, out) = (home.path("a.env"), home.path("out.json"));
    let import = ["--lock-wait", "0", "import", "env", file.to_str().unwrap(), "--scope", "global"];
    let export = ["--lock-wait", "0", "export", "--reveal-everything", "--out", out.to_str().unwrap()];
    let said = [home.run(&import, 19).1, home.run(&export, 19).1];
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    for said in said {
        assert!(said.contains("stop the daemon for that time"), "{said}");
    }
}
