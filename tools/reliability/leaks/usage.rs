//! Everything that a user does with secrets, with canaries as the secrets.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use palyra_ledger::SystemClock;
use palyra_ledger::device::{Client, DeviceFiles};
use serde_json::Value;

use super::canary::Canary;
use super::sockets::Listener;
use crate::Fault;
use crate::provider::Provider;
use crate::served::{Seat, Served, text};
use crate::workload::Dice;

/// How long a device waits for its person, and the daemon for what is due.
const PATIENCE: Duration = Duration::from_secs(30);

/// A home, what was put into it, and what was said about it.
pub struct Story<'a> {
    seat: &'a Seat,
    dice: Dice,
    format: &'static str,
    /// Every secret so far.
    pub canaries: Vec<Canary>,
    /// Every command and what it said; what was asked to show a value is not among it.
    pub said: Vec<(String, Vec<u8>)>,
    /// How many commands were to fail, and did.
    pub refused: usize,
}

impl<'a> Story<'a> {
    /// Nothing yet.
    pub fn new(seat: &'a Seat, dice: Dice) -> Result<Self, Fault> {
        std::fs::create_dir_all(seat.path("given"))?;
        Ok(Self { seat, dice, format: "table", canaries: Vec::new(), said: Vec::new(), refused: 0 })
    }

    /// A fresh secret.
    fn fresh(&mut self, what: &str) -> Vec<u8> {
        let canary = Canary::fresh(&mut self.dice, what);
        self.canaries.push(canary.clone());
        canary.bytes
    }

    /// A fresh secret in a file of the user's own.
    fn given(&mut self, what: &str, name: &str) -> Result<String, Fault> {
        let bytes = self.fresh(what);
        self.file(name, &bytes)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<String, Fault> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.seat.path("given").join(name);
        std::fs::write(&path, bytes)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn in_given(&self, name: &str) -> String {
        self.seat.path("given").join(name).to_string_lossy().into_owned()
    }

    fn heard(&mut self, words: &[&str], output: &Output) {
        self.said.push((words.join(" "), [&output.stdout[..], b"\n", &output.stderr].concat()));
    }

    /// Runs the program to its end. It may refuse before it reads its input: what counts is how it ends.
    fn run(&self, words: &[&str], input: Option<&[u8]>) -> Result<Output, Fault> {
        let all: Vec<&str> = ["--format", self.format].iter().chain(words).copied().collect();
        self.seat.run(&all, input)
    }

    /// A command that must succeed and show nothing.
    fn good(&mut self, words: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
        let output = self.run(words, input)?;
        self.heard(words, &output);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{} ended with {}: {said}", words.join(" "), output.status).into());
        }
        Ok(output.stdout)
    }

    /// A command that must fail, and show nothing.
    fn bad(&mut self, words: &[&str], input: Option<&[u8]>) -> Result<(), Fault> {
        let output = self.run(words, input)?;
        self.heard(words, &output);
        if output.status.success() {
            return Err(format!("{} did not fail", words.join(" ")).into());
        }
        self.refused += 1;
        Ok(())
    }

    /// A command that is asked for a value: what it gives is right, and its errors show nothing.
    fn shows(&mut self, words: &[&str], value: &[u8]) -> Result<(), Fault> {
        let output = self.run(words, None)?;
        self.said.push((words.join(" "), output.stderr.clone()));
        if output.status.success() && output.stdout == value {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("{} did not give the value: {said}", words.join(" ")).into())
    }

    fn json(&mut self, words: &[&str]) -> Result<Value, Fault> {
        let all: Vec<&str> = ["--format", "json"].iter().chain(words).copied().collect();
        let output = self.seat.run(&all, None)?;
        self.heard(words, &output);
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Puts, shows, and everything that may go wrong with it.
    fn secrets(&mut self, where_: &str) -> Result<(), Fault> {
        for (number, format) in ["table", "json"].into_iter().enumerate() {
            self.format = format;
            let (one, other) = (format!("global/{where_}-stdin-{number}"), format!("global/{where_}-file-{number}"));
            let value = self.fresh(&format!("{where_}: secret by the standard input"));
            self.good(&["secrets", "set", &one, "--stdin"], Some(&value))?;
            let file = self.given(&format!("{where_}: secret by a file"), &format!("{where_}-value-{number}"))?;
            self.good(&["secrets", "set", &other, "--file", &file, "--description", "what it is for"], None)?;
            self.shows(&["secrets", "get", &one, "--reveal"], &value)?;
            self.shows(&["resolve", &one, "--reveal"], &value)?;
            let (second, lost) = (self.fresh("a second version"), self.fresh("a version that nobody wanted"));
            self.good(&["secrets", "set", &one, "--stdin", "--if-version", "1"], Some(&second))?;
            self.bad(&["secrets", "set", &one, "--stdin", "--if-version", "1"], Some(&lost))?;
            let long = [lost.repeat(2_000), b"end".to_vec()].concat();
            self.bad(&["secrets", "set", &one, "--stdin"], Some(&long))?;
            self.bad(&["secrets", "set", "nowhere", "--stdin"], Some(&lost))?;
            for words in [
                &["secrets", "get", &one][..],
                &["secrets", "list"],
                &["secrets", "history", &one],
                &["resolve", &one],
                &["resolve", &one, "--explain"],
                &["secrets", "shred", &other, "--yes"],
            ] {
                self.good(words, None)?;
            }
            self.bad(&["resolve", &format!("{one}?field=token")], None)?;
            self.bad(&["secrets", "get", &other, "--reveal"], None)?;
        }
        Ok(())
    }

    /// Ways in: passphrases and words, right and wrong.
    fn slots(&mut self, where_: &str) -> Result<(), Fault> {
        self.format = "json";
        let pass = self.given(&format!("{where_}: passphrase of a slot"), &format!("{where_}-pass"))?;
        let added = ["keys", "add-slot", "passphrase", "--new-passphrase-file", &pass, "--label", where_];
        self.good(&added, None)?;
        let words = self.in_given(&format!("{where_}-words"));
        self.good(&["keys", "add-slot", "recovery", "--out-file", &words], None)?;
        let words = std::fs::read_to_string(&words)?.trim().to_owned();
        let each: Vec<&str> = words.split_ascii_whitespace().collect();
        for four in each.chunks(4) {
            self.canaries.push(Canary::of(&format!("{where_}: recovery words"), four.join(" ")));
        }
        let read = bip39::Mnemonic::parse_normalized(&words).map_err(|_| "the recovery words do not read")?;
        let (entropy, length) = read.to_entropy_array();
        let entropy = entropy.get(..length).unwrap_or_default();
        self.canaries.push(Canary::of(&format!("{where_}: what the recovery words stand for"), entropy));
        let slots = self.json(&["keys", "slots"])?;
        let of = |kind: &str| {
            let all = slots.get("slots").and_then(Value::as_array)?;
            let slot = all.iter().rev().find(|slot| slot.get("kind").is_some_and(|found| found == kind))?;
            Some(text(slot, "id").ok()?.to_owned())
        };
        let passphrase = of("passphrase").ok_or("there is no slot with a passphrase")?;
        let recovery = of("recovery").ok_or("there is no recovery slot")?;
        let wrong = self.given(&format!("{where_}: a wrong passphrase"), &format!("{where_}-wrong"))?;
        let reversed: Vec<&str> = each.iter().rev().copied().collect();
        if where_ == "alone" {
            self.good(&["--slot", &passphrase, "--passphrase-file", &pass, "secrets", "list"], None)?;
            self.bad(&["--slot", &passphrase, "--passphrase-file", &wrong, "secrets", "list"], None)?;
            let line = |words: &str| format!("{words}\n").into_bytes();
            self.good(&["--slot", &recovery, "--recovery-stdin", "secrets", "list"], Some(&line(&words)))?;
            let back = line(&reversed.join(" "));
            self.bad(&["--slot", &recovery, "--recovery-stdin", "secrets", "list"], Some(&back))?;
        }
        Ok(())
    }

    /// Env files, exports and imports, whole and broken.
    fn imports(&mut self) -> Result<(), Fault> {
        self.format = "json";
        let canary = Canary::plain(&mut self.dice, "a value of an imported env file");
        self.canaries.push(canary.clone());
        let file = self.file("good.env", format!("IMPORTED_KEY={}\n", canary.text()).as_bytes())?;
        self.good(&["import", "env", "--scope", "skill:env", &file, "--dry-run"], None)?;
        self.good(&["import", "env", "--scope", "skill:env", &file], None)?;
        let broken = format!("IMPORTED_KEY={0}\nBROKEN=\"{0}\\q\nNAME WITH {0}=x\n", canary.text());
        let file = self.file("broken.env", broken.as_bytes())?;
        self.bad(&["import", "env", "--scope", "skill:env", &file], None)?;
        let export = self.in_given("export.json");
        self.good(&["export", "--reveal-everything", "--out", &export], None)?;
        let other = Canary::plain(&mut self.dice, "a value of an imported export");
        self.canaries.push(other.clone());
        let whole = std::fs::read_to_string(&export)?;
        let changed = whole.replace(&STANDARD.encode(&canary.bytes), &STANDARD.encode(&other.bytes));
        if changed == whole {
            return Err("the export does not hold what was imported".into());
        }
        let file = self.file("changed.json", changed.as_bytes())?;
        self.good(&["import", "json", "--replace", &file], None)?;
        self.shows(&["secrets", "get", "skill:env/IMPORTED_KEY", "--reveal"], &other.bytes)?;
        let cut = changed.as_bytes().get(..changed.len() * 2 / 3).unwrap_or_default();
        let file = self.file("cut.json", cut)?;
        self.bad(&["import", "json", &file], None)?;
        let file = self.file("wrong.json", changed.replace("\"value", &format!("\"{}", other.text())).as_bytes())?;
        self.bad(&["import", "json", &file], None)
    }

    /// Programs and templates that are given secrets.
    fn programs(&mut self, where_: &str) -> Result<(), Fault> {
        let mut given = Vec::new();
        for way in ["env", "fd", "mount", "stdin"] {
            let reference = format!("global/{where_}-run-{way}");
            let value = self.fresh(&format!("{where_}: value passed by `run --{way}`"));
            self.good(&["secrets", "set", &reference, "--stdin"], Some(&value))?;
            given.push((reference, value));
        }
        let [env, fd, mount, stdin] = given.as_slice() else { return Err("four ways".into()) };
        let (env, fd) = (format!("E={}", env.0), format!("F={}", fd.0));
        let (mount, stdin) = (format!("M={}", mount.0), stdin.0.clone());
        let given = ["run", "--env", &env, "--fd", &fd, "--mount", &mount, "--stdin", &stdin];
        let script = "test -n \"$E\" && test -s \"$F\" && test -n \"$(cat \"$M\")\" && test -n \"$(cat)\"";
        self.good(&[&given[..], &["--", "sh", "-c", script]].concat(), None)?;
        // Whatever it prints is masked, in any of its usual forms.
        let print = "echo \"$E\"; cat \"$F\" \"$M\"; cat >&2; printf %s \"$E\" | base64 -w 0";
        self.good(&[&given[..], &["--mask", "--", "sh", "-c", print]].concat(), None)?;
        self.bad(&[&given[..], &["--", "./there-is-no-such-program"]].concat(), None)?;
        self.bad(&[&given[..], &["--mask", "--", "sh", "-c", "exit 3"]].concat(), None)?;
        self.bad(&["run", "--env", "X=global/none", "--env", &env, "--", "true"], None)?;
        let reference = env.trim_start_matches("E=").to_owned();
        let template = self.file("template", format!("key = {{{{ palyra://{reference} }}}}\n").as_bytes())?;
        let out = self.in_given(&format!("{where_}-rendered"));
        self.good(&["inject", "-i", &template, "-o", &out], None)?;
        let text = format!("{{{{ palyra://{reference} }}}} {{{{ palyra://global/none }}}}");
        let template = self.file("template", text.as_bytes())?;
        self.bad(&["inject", "-i", &template, "-o", &out, "--force"], None)?;
        self.bad(&["inject", "-i", &template, "-o", "/nowhere/at/all"], None)
    }

    /// Files and programs outside of the vault, by reference.
    fn outside(&mut self) -> Result<(), Fault> {
        let given = self.seat.path("given").display().to_string();
        let rules = format!("[resolve]\nfile_dirs = [\"{given}\"]\nexec_allow = [\"/bin/cat\", \"/usr/bin/cat\"]\n");
        std::fs::write(self.seat.path("home").join("config.toml"), rules)?;
        let canary = Canary::plain(&mut self.dice, "a value of a file that is referred to");
        self.canaries.push(canary.clone());
        let good = self.file("good.json", format!("{{\"token\":\"{}\"}}", canary.text()).as_bytes())?;
        let broken = self.file("broken.json", format!("{{\"token\":\"{0}\",{0}", canary.text()).as_bytes())?;
        self.shows(&["resolve", &format!("file://{good}?field=token"), "--reveal"], &canary.bytes)?;
        self.good(&["resolve", &format!("file://{good}?field=token")], None)?;
        self.bad(&["resolve", &format!("file://{broken}?field=token")], None)?;
        self.bad(&["resolve", &format!("file://{good}?field=other")], None)?;
        std::fs::remove_file(self.seat.path("home").join("config.toml"))?;
        Ok(())
    }

    /// Everything that needs no daemon.
    pub fn alone(&mut self) -> Result<(), Fault> {
        self.good(&["init"], None)?;
        self.secrets("alone")?;
        self.slots("alone")?;
        self.imports()?;
        self.programs("alone")?;
        self.outside()?;
        self.tell_all("alone")
    }

    /// Everything that tells something.
    fn tell_all(&mut self, where_: &str) -> Result<(), Fault> {
        let docs = self.seat.path(&format!("docs-{where_}"));
        std::fs::create_dir_all(&docs)?;
        let (docs, backup) = (docs.to_string_lossy().into_owned(), format!("{where_}.plb"));
        for format in ["table", "json"] {
            self.format = format;
            for words in [
                &["log", "show"][..],
                &["log", "query"],
                &["log", "why", "global/alone-stdin-0"],
                &["replay"],
                &["secrets", "list"],
                &["keys", "slots"],
                &["auth", "health"],
                &["auth", "docs"],
                &["devices", "list"],
                &["certs", "list"],
                &["ca", "show"],
                &["pairing", "list"],
                &["log", "verify", "--state"],
            ] {
                self.good(words, None)?;
            }
            // It may find something, which is no leak.
            let output = self.run(&["doctor"], None)?;
            self.heard(&["doctor"], &output);
        }
        self.good(&["auth", "docs", "--write", &docs], None)?;
        self.good(&["backup", "create", &backup], None)?;
        self.good(&["backup", "verify", &backup], None).map(drop)
    }

    /// Credentials: a key, a client's secret, tokens that come and go.
    fn credentials(&mut self, provider: &Provider) -> Result<(), Fault> {
        let set = |name: &str| format!("global/{name}");
        let (key, secret) = (self.fresh("API key"), self.fresh("OAuth client secret"));
        self.good(&["secrets", "set", &set("api-key"), "--stdin"], Some(&key))?;
        self.good(&["secrets", "set", &set("client-secret"), "--stdin"], Some(&secret))?;
        let words = ["auth", "profiles", "set", "key", "--provider", "custom:lab", "--api-key-ref", "global/api-key"];
        self.good(&words, None)?;
        let first = provider.good(0)?;
        self.good(&["secrets", "set", "global/auth/p/refresh_token", "--stdin"], Some(first.as_bytes()))?;
        let spent = self.fresh("a refresh token that the endpoint does not know");
        self.good(&["secrets", "set", "global/auth/q/refresh_token", "--stdin"], Some(&spent))?;
        let own = provider.good(1)?;
        self.good(&["secrets", "set", "global/auth/r/refresh_token", "--stdin"], Some(own.as_bytes()))?;
        let url = provider.url();
        for id in ["p", "q", "r"] {
            let words = ["auth", "profiles", "set", id, "--provider", "custom:lab", "--token-endpoint", &url];
            let more = ["--client-id", "lab", "--client-secret-ref", "global/client-secret"];
            // One is due at once, for the daemon.
            let due: &[&str] = if id == "r" { &["--expires-at", "2020-01-01T00:00:00Z"] } else { &[] };
            self.good(&[&words[..], &more, due].concat(), None)?;
        }
        self.good(&["auth", "refresh", "--profile", "p", "--force"], None)?;
        self.bad(&["auth", "refresh", "--profile", "q", "--force"], None)?;
        // The other one, by the daemon itself.
        let begun = Instant::now();
        while provider.served() < 2 {
            if begun.elapsed() > PATIENCE {
                return Err("the daemon did not refresh what was due".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.good(&["auth", "select"], None)?;
        // From here on nothing is due: what is in use when the memory is read is no leak.
        ["p", "q", "r"].iter().try_for_each(|id| self.good(&["auth", "profiles", "disable", id], None).map(drop))?;
        self.good(&["auth", "health"], None).map(drop)
    }

    /// A device pairs by a code on its standard input, and gets a secret of its own.
    fn device(&mut self, served: &Served, listener: &Listener, method: &str) -> Result<(), Fault> {
        let minted = self.seat.json(&["pairing", "mint", "--method", method])?;
        let code = text(&minted, "code")?.to_owned();
        let what = format!("pairing code ({method})");
        let secret = code.split_once('-').map_or("", |(_, secret)| secret);
        // Six digits alone stand anywhere by accident.
        let looked_for = if method == "pin" { code.as_str() } else { secret };
        self.canaries.push(Canary::of(&what, looked_for));
        let dir = self.seat.path(&format!("device-{method}"));
        let name = dir.to_string_lossy().into_owned();
        let at = listener.at.to_string();
        let words = ["pairing", "join", "--addr", &at, "--identity", &name, "--name", method];
        let wrong = format!("{}-{}", code.split('-').next().unwrap_or_default(), "0".repeat(secret.len()));
        self.bad(&[&words[..], &["--wait", "1s"]].concat(), Some(format!("{wrong}\n").as_bytes()))?;
        let mut joining = self.seat.command(&words);
        joining.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut joining = joining.spawn()?;
        if let Some(mut input) = joining.stdin.take() {
            std::io::Write::write_all(&mut input, format!("{code}\n").as_bytes())?;
        }
        let begun = Instant::now();
        let request = loop {
            let waiting = self.json(&["pairing", "requests"])?;
            let all = waiting.get("requests").and_then(Value::as_array).into_iter().flatten();
            let ours = |request: &&Value| request.get("name").is_some_and(|name| name == method);
            if let Some(request) = all.into_iter().find(ours) {
                break text(request, "request")?.to_owned();
            }
            if begun.elapsed() > PATIENCE {
                return Err("the device never asked".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        self.good(&["pairing", "approve", &request], None)?;
        let output = joining.wait_with_output()?;
        self.heard(&words, &output);
        let files = DeviceFiles::new(PathBuf::from(&dir));
        let note = files.note()?.ok_or("the device was not paired")?;
        let value = self.fresh(&format!("secret that a device is given ({method})"));
        self.good(&["secrets", "set", &format!("principal:{}/api", note.device), "--stdin"], Some(&value))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let got = runtime.block_on(async {
            let client = Client::new(files, Some(served.devices.to_string()), std::sync::Arc::new(SystemClock)).await?;
            client.get("/v1/secrets/api").await
        })?;
        if got != value {
            return Err("the device got another value".into());
        }
        self.good(&["certs", "renew", "--identity", &name], None).map(drop)
    }

    /// Everything that a daemon has a part in.
    pub fn served(&mut self, served: &Served, listener: &Listener, provider: &Provider) -> Result<(), Fault> {
        self.secrets("served")?;
        self.slots("served")?;
        self.programs("served")?;
        self.format = "json";
        self.credentials(provider)?;
        for method in ["pin", "qr"] {
            self.device(served, listener, method)?;
        }
        let metrics = served.metrics()?;
        self.said.push(("GET /metrics".to_owned(), metrics.into_bytes()));
        self.tell_all("served")
    }
}
