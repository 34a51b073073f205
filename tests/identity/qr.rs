//! The QR code as a person gets it: drawn in the terminal, with where to go, whom to expect, and nothing that lasts.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

struct Scene {
    dir: tempfile::TempDir,
    daemon: Option<(Child, Value)>,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap(), daemon: None };
        assert!(scene.run(&["init"]).status.success());
        scene
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.env_clear().env("PALYRA_LEDGER_HOME", self.dir.path().join("home")).current_dir(self.dir.path());
        command.args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[&["--format", "json"], words].concat())).unwrap()
    }

    /// Starts a daemon; gives where it offers pairing.
    fn serve(&mut self, pairing: &str) -> String {
        let words = ["--format", "json", "serve", "--listen", "127.0.0.1:0", "--pairing-listen", pairing];
        let mut child = self.command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let at = said["listening"]["pairing"].as_str().unwrap().to_owned();
        self.daemon = Some((child, said));
        at
    }

    fn stop(&mut self) {
        if let Some((mut child, _)) = self.daemon.take() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            assert!(child.wait().unwrap().success());
        }
    }

    fn joining(&self, name: &str, uri: &str) -> Command {
        let mut command = self.command(&["pairing", "join", "--wait", "20s", "--identity"]);
        command.arg(self.device(name)).args(["--code", uri]);
        command
    }

    fn device(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.daemon {
            let _ = (child.kill(), child.wait());
        }
    }
}

#[test]
fn the_code_that_is_drawn_says_where_to_go_and_whom_to_expect_and_nothing_else() {
    let mut scene = Scene::new();
    let configured = scene.json(&["pairing", "mint", "--method", "qr"])["uri"].as_str().unwrap().to_owned();
    assert!(configured.contains("addr=127.0.0.1:7344&"), "no daemon runs: {configured}");
    let at = scene.serve("127.0.0.1:0");
    let drawn = scene.ok(&["pairing", "mint", "--method", "qr"]);
    let field = |name: &str| {
        drawn.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{drawn}")).trim().to_owned()
    };
    let (code, ca) = (field("code "), field("ca "));
    let roots = scene.json(&["ca", "show"]);
    assert_eq!(roots["authorities"][0]["sha256"], ca.as_str());
    assert!(code.len() > 26, "a token of 128 bits: {code}");
    // The drawing is that of these three and of nothing more.
    let uri = format!("palyra-pair:1?code={code}&addr={at}&ca={ca}");
    let wanted = qrcode::QrCode::new(&uri).unwrap().render::<qrcode::render::unicode::Dense1x2>().build();
    assert!(drawn.starts_with(&wanted), "{drawn}");

    // It is enough to join, once.
    let mut joining = scene.joining("device", &uri).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(joining.stderr.take().unwrap());
    while !said.contains("digits") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    let requests = scene.json(&["pairing", "requests"]);
    let request = &requests["requests"][0];
    assert!(said.contains(request["sas"].as_str().unwrap()), "{said}");
    assert_eq!(request["replaces"], Value::Null);
    scene.ok(&["pairing", "approve", request["request"].as_str().unwrap()]);
    assert!(joining.wait().unwrap().success());
    assert!(!scene.joining("other", &uri).output().unwrap().status.success(), "the token is used up");
    scene.stop();
}

#[test]
fn another_ca_than_the_one_that_was_scanned_is_refused() {
    let mut scene = Scene::new();
    scene.serve("127.0.0.1:0");
    let minted = scene.json(&["pairing", "mint", "--method", "qr"]);
    let (uri, ca) = (minted["uri"].as_str().unwrap(), minted["ca_sha256"].as_str().unwrap());
    let refused = scene.joining("device", &uri.replace(ca, &"5".repeat(64))).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(told.contains("CA"), "{told}");
    assert!(!scene.device("device").join("identity.pem").exists(), "nothing is kept of it");
    assert_eq!(scene.json(&["pairing", "requests", "--all"])["requests"], serde_json::json!([]));
    scene.stop();
}

#[test]
fn a_request_under_a_paired_devices_id_is_shown_as_what_it_is() {
    let mut scene = Scene::new();
    scene.serve("127.0.0.1:0");
    let ask = |scene: &Scene, folder: &str| {
        let uri = scene.json(&["pairing", "mint", "--method", "qr"])["uri"].as_str().unwrap().to_owned();
        let mut joining = scene.joining(folder, &uri).stderr(Stdio::null()).spawn().unwrap();
        for _ in 0..200 {
            let requests = scene.json(&["pairing", "requests"]);
            if let Some(request) = requests["requests"].get(0) {
                return (joining, request.clone());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let _ = (joining.kill(), joining.wait());
        panic!("no request came");
    };
    let (mut joining, request) = ask(&scene, "device");
    scene.ok(&["pairing", "approve", request["request"].as_str().unwrap()]);
    assert!(joining.wait().unwrap().success());
    let device = request["device"].as_str().unwrap();
    scene.ok(&["devices", "rename", device, "laptop"]);
    // A thief's folder that says it is that device.
    std::fs::create_dir(scene.device("thief")).unwrap();
    std::fs::copy(scene.device("device").join("device.toml"), scene.device("thief").join("device.toml")).unwrap();
    let (mut joining, request) = ask(&scene, "thief");
    assert_eq!((request["device"].as_str(), request["replaces"].as_str()), (Some(device), Some("laptop")));
    let table = scene.ok(&["pairing", "requests"]);
    assert!(table.contains("REPLACES") && table.contains(device) && table.contains("laptop"), "{table}");
    let id = request["request"].as_str().unwrap();
    let refused = scene.run(&["pairing", "approve", id]);
    assert_eq!(refused.status.code(), Some(12), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--replace"));
    scene.ok(&["pairing", "approve", id, "--replace"]);
    assert!(joining.wait().unwrap().success());
    assert!(scene.ok(&["log", "show"]).contains("in place of the one before"));
    scene.stop();
}
