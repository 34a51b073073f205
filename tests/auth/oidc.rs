//! oidc-provider as a process: a certified `OpenID` provider with refresh-token rotation, where a token that is
//! used twice kills its grant.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::Home;

/// The client that the provider knows, and its secret.
pub const CLIENT: &str = "cid";
pub const SECRET: &str = "client secret/CANARY";

pub struct Oidc {
    child: Child,
    pub issuer: String,
}

impl Oidc {
    /// Starts it; none where node or the package is not there, which is said.
    #[allow(clippy::print_stderr)]
    pub fn start() -> Option<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/auth/provider");
        if !dir.join("node_modules/oidc-provider").is_dir() {
            eprintln!("SKIPPED: oidc-provider is not installed; tools/test installs it where npm is there");
            return None;
        }
        let mut child = Command::new("node")
            .arg(dir.join("provider.mjs"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut issuer = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut issuer).unwrap();
        // It goes on talking, and dies where nobody listens.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let issuer = issuer.trim().to_owned();
        assert!(issuer.starts_with("http://127.0.0.1:"), "{issuer:?}");
        Some(Self { child, issuer })
    }

    fn ask(&self, path: &str) -> Value {
        let output = Command::new("curl").args(["-s", "-m", "20"]).arg(format!("{}{path}", self.issuer)).output();
        serde_json::from_slice(&output.unwrap().stdout).unwrap()
    }

    /// A fresh grant's refresh token.
    pub fn mint(&self) -> String {
        self.ask("/mint")["refresh_token"].as_str().unwrap().to_owned()
    }

    /// Refreshes answered, tokens used twice, grants revoked.
    pub fn stats(&self) -> (u64, u64, u64) {
        let stats = self.ask("/stats");
        let count = |name: &str| stats[name].as_u64().unwrap();
        (count("refreshed"), count("reused"), count("revoked"))
    }

    pub fn outage(&self, on: bool) {
        self.ask(if on { "/outage?on=1" } else { "/outage?on=0" });
    }

    /// Milliseconds that an answer to a refresh waits after the provider has rotated the token.
    pub fn delay(&self, ms: u64) {
        self.ask(&format!("/delay?ms={ms}"));
    }

    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.issuer)
    }

    /// A profile with a fresh grant.
    pub fn profile(&self, home: &Home, id: &str) {
        home.set_secret("global/client_secret", SECRET);
        home.set_secret(&format!("global/auth/{id}/refresh_token"), &self.mint());
        home.ok(&[
            "auth",
            "profiles",
            "set",
            id,
            "--provider",
            "custom:corp",
            "--client-id",
            CLIENT,
            "--client-secret-ref",
            "global/client_secret",
            "--token-endpoint",
            &self.token_endpoint(),
            "--revocation-endpoint",
            &format!("{}/token/revocation", self.issuer),
        ]);
    }
}

impl Drop for Oidc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
