//! Login, refresh, outage, logout: the command line and the daemon against the provider.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Home;
use super::oidc::{CLIENT, Oidc, SECRET};

/// A login that waits for its person, and what it says.
struct Login {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Login {
    fn begin(home: &Home, provider: &Oidc, id: &str, more: &[&str]) -> Self {
        home.set_secret("global/client_secret", SECRET);
        let words = [
            "--format",
            "json",
            "auth",
            "login",
            "--profile",
            id,
            "--provider",
            "custom:corp",
            "--issuer",
            &provider.issuer,
            "--client-id",
            CLIENT,
            "--client-secret-ref",
            "global/client_secret",
            "--grant-scope",
            "openid",
            "--grant-scope",
            "offline_access",
            "--param",
            "prompt=consent",
        ];
        let mut command = home.command(&words);
        let mut child = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, lines }
    }

    /// The first line of what it says that has this beginning behind `after`.
    fn said(&mut self, after: &str) -> String {
        let mut all = String::new();
        loop {
            let begin = all.len();
            assert!(self.lines.read_line(&mut all).unwrap() > 0, "{all}");
            if let Some((_, rest)) = all[begin..].split_once(after) {
                return format!("{after}{}", rest.trim());
            }
        }
    }

    fn end(self) -> Value {
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A browser with its cookies.
struct Browser {
    jar: tempfile::NamedTempFile,
}

impl Browser {
    fn new() -> Self {
        Self { jar: tempfile::NamedTempFile::new().unwrap() }
    }

    /// Opens an address and follows where it leads; the last page's text.
    fn open(&self, url: &str, form: &[(&str, &str)]) -> String {
        let mut command = Command::new("curl");
        command.args(["-s", "-L", "-m", "20", "--max-redirs", "20", "-b"]).arg(self.jar.path());
        command.arg("-c").arg(self.jar.path());
        for (name, value) in form {
            command.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        String::from_utf8(command.arg(url).output().unwrap().stdout).unwrap()
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{from:?} is not in {text}"));
    rest.split_once(to).unwrap().0
}

pub fn logged_in(provider: &Oidc, home: &Home, id: &str) {
    let mut login = Login::begin(home, provider, id, &[]);
    let page = Browser::new().open(&login.said("http://"), &[]);
    assert!(page.contains("You may close this page"), "{page}");
    let said = login.end();
    assert_eq!((&said["result"], &said["refresh_token"]), (&"logged_in".into(), &true.into()));
}

#[test]
fn a_person_logs_in_on_the_providers_page_and_logs_out() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    logged_in(&provider, &home, "main");
    let shown = home.show("main");
    assert_eq!((&shown["health"], &shown["token"]), (&"healthy".into(), &"valid".into()));
    let first = home.secret("global/auth/main/refresh_token");
    home.ok(&["auth", "refresh", "--profile", "main", "--force"]);
    let second = home.secret("global/auth/main/refresh_token");
    assert!(!first.is_empty() && first != second, "the refresh token is rotated");
    assert!(home.ok(&["auth", "refresh", "--due"]).contains("nothing is due"));
    let chosen = home.json(&["auth", "select", "--provider", "custom:corp"]);
    assert_eq!(chosen["profile"]["id"], "main");

    let out = home.json(&["auth", "logout", "--profile", "main", "--yes"]);
    assert_eq!((&out["result"], &out["revoked"]), (&"logged_out".into(), &true.into()));
    assert_eq!(provider.stats().1, 0, "no token was used twice");
    for name in ["access_token", "refresh_token"] {
        let (_, error) = home.run(&["secrets", "get", &format!("global/auth/main/{name}"), "--reveal"], 10);
        assert!(error.contains("shredded"), "{error}");
    }
    assert_eq!(home.show("main")["health"], "failed");
    home.run(&["auth", "select", "--provider", "custom:corp"], 10);
    // The provider has forgotten it, too: what somebody kept is worth nothing.
    home.set_secret("global/auth/main/refresh_token", &second);
    home.run(&["auth", "refresh", "--profile", "main", "--force"], 20);
    logged_in(&provider, &home, "main");
    assert_eq!(home.show("main")["health"], "healthy");
    home.ok(&["log", "verify", "--state"]);
}

#[test]
fn a_person_logs_in_by_a_code_on_another_machine() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    let mut login = Login::begin(&home, &provider, "main", &["--flow", "device"]);
    let line = login.said("go to ");
    let (place, code) = line.strip_prefix("go to ").unwrap().split_once(" and type ").unwrap();
    let browser = Browser::new();
    let page = browser.open(place, &[]);
    let token = between(&page, "name=\"xsrf\" value=\"", "\"");
    let page = browser.open(place, &[("xsrf", token), ("user_code", code)]);
    let token = between(&page, "name=\"xsrf\" value=\"", "\"");
    browser.open(place, &[("xsrf", token), ("user_code", code), ("confirm", "yes")]);
    let said = login.end();
    assert_eq!(said["result"], "logged_in");
    assert_eq!(home.show("main")["health"], "healthy");
    home.ok(&["log", "verify", "--state"]);
}

#[test]
fn an_outage_is_waited_out_and_spends_nothing() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    provider.profile(&home, "main");
    let kept = home.secret("global/auth/main/refresh_token");
    provider.outage(true);
    // The provider asks for one second.
    let (out, _) = home.run(&["--format", "json", "auth", "refresh", "--profile", "main"], 18);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["refreshed"][0]["result"], "failed");
    let shown = home.show("main");
    assert_eq!(shown["refresh_failures"], 1);
    assert_ne!(shown["health"], "healthy");
    home.run(&["auth", "refresh", "--profile", "main"], 13);
    assert_eq!(home.secret("global/auth/main/refresh_token"), kept);
    provider.outage(false);
    std::thread::sleep(Duration::from_millis(1100));
    home.ok(&["auth", "refresh", "--due"]);
    assert_eq!(home.show("main")["health"], "healthy");
    assert_eq!(provider.stats(), (1, 0, 0));
}

#[test]
fn a_revoked_grant_waits_for_a_person_and_for_nothing_else() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    provider.profile(&home, "main");
    home.ok(&["auth", "refresh", "--profile", "main"]);
    home.set_secret("global/auth/main/refresh_token", "never-given-by-anybody");
    let (_, error) = home.run(&["auth", "refresh", "--profile", "main", "--force"], 20);
    assert!(error.contains("invalid_grant") && error.contains("auth login --profile main"), "{error}");
    let asked = provider.stats();
    home.ok(&["auth", "refresh", "--due"]);
    home.run(&["auth", "refresh", "--profile", "main"], 20);
    assert_eq!(provider.stats(), asked, "nobody asks again by himself");
    let health = home.json(&["auth", "health"]);
    assert_eq!(health["failed"], 1);
    assert_eq!(health["profiles"][0]["reasons"][0], "auth_invalid");
    home.run(&["auth", "health", "--strict"], 21);
    logged_in(&provider, &home, "main");
    home.ok(&["auth", "health", "--strict"]);
}

#[test]
fn the_daemon_refreshes_what_is_due_by_itself() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    provider.profile(&home, "due");
    let mut daemon = home.command(&super::SERVE).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while provider.stats().0 == 0 && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(300));
    // Through the daemon.
    assert_eq!(home.show("due")["health"], "healthy");
    home.run(&["auth", "refresh", "--profile", "due"], 0);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    assert_eq!(provider.stats(), (1, 0, 0));
    home.ok(&["log", "verify", "--state"]);
}
