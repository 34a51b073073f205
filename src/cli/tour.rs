//! `tour`: everything at work on a temporary ledger, and every claim checked.

mod credentials;
mod locks;
mod network;
mod provider;
mod secrets;
mod trail;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::base::{Actor, Caller, Reason, Scope, SecretBytes, SecretName};
use crate::engine::{Config, Error, Ledger};
use crate::keys::{Credential, NewSlot};

use super::exit::{ExitCode, Failure};
use super::invocation::Invocation;
use super::output::{Output, Style};

/// Arguments of `tour`.
#[derive(Debug, Args)]
pub struct TourArgs {
    /// Keep the temporary ledger, to look around in it
    #[arg(long)]
    keep: bool,
}

/// The values that the tour keeps: no file and no line of output may hold one.
const FIRST_VALUE: &str = "sk-tour-first-2f9c41d07be8";
const SECOND_VALUE: &str = "sk-tour-second-83b6aa1e95c4";
const TOKEN_VALUE: &str = "ghp-tour-token-51c7d2f0e6ab";
const SPARE_KEY: &str = "sk-tour-spare-c6a07e19f3d2";
const PASSPHRASE: &str = "correct horse battery staple";

/// What a tour needs along its way.
struct Tour<'a> {
    out: &'a Output,
    home: PathBuf,
    caller: Caller,
    /// What no file and no line may hold.
    canaries: Vec<String>,
    steps: Vec<Value>,
    failed: usize,
}

/// Runs `tour`.
pub fn run(invocation: &Invocation, args: &TourArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            ExitCode::Io,
            format!("cannot make a temporary folder: {error}"),
            "set TMPDIR to a folder with room",
        )
    };
    let dir = tempfile::Builder::new().prefix("palyra-tour-").tempdir().map_err(failed)?;
    let begun = Instant::now();
    let caller = invocation.caller()?;
    let home = dir.path().join("home");
    let canaries = [FIRST_VALUE, SECOND_VALUE, TOKEN_VALUE, SPARE_KEY, PASSPHRASE].map(str::to_owned).to_vec();
    let mut tour = Tour { out: &invocation.out, home, caller, canaries, steps: Vec::new(), failed: 0 };
    let walked = tour.walk();
    if let Err(failure) = &walked
        && !failure.is_quiet()
    {
        tour.check(&format!("this went wrong: {}", failure.what), false)?;
    }
    let kept = if args.keep { Some(dir.keep().join("home")) } else { None };
    tour.end(kept.as_deref(), begun)?;
    match walked {
        Err(failure) if failure.is_quiet() => Err(failure),
        Ok(()) if tour.failed == 0 => Ok(()),
        _ => Err(Failure::quiet(ExitCode::Internal)),
    }
}

impl Tour<'_> {
    fn walk(&mut self) -> Result<(), Failure> {
        let ledger = Arc::new(self.make()?);
        secrets::write(self, &ledger)?;
        secrets::versions(self, &ledger)?;
        secrets::compare_and_set(self, &ledger)?;
        secrets::delete(self, &ledger)?;
        secrets::shred(self, &ledger)?;
        secrets::scopes(self, &ledger)?;
        let slot = locks::add_slot(self, &ledger)?;
        locks::rotate(self, &ledger, slot)?;
        network::devices(self, &ledger)?;
        credentials::services(self, &ledger)?;
        ledger.close()?;
        drop(ledger);
        locks::restart(self, slot)?;
        locks::rebuild(self)?;
        trail::verify(self)?;
        trail::search_files(self)?;
        trail::tell(self)
    }

    fn make(&mut self) -> Result<Ledger, Failure> {
        self.step("Make a ledger")?;
        let ledger = Ledger::init(self.config(), NewSlot::file("this machine"))?;
        let head = ledger.log().head()?;
        self.say(&format!("ledger {} at {}", ledger.id(), self.home.display()))?;
        self.check("it begins with one event, its own creation", head.events == 1)?;
        Ok(ledger)
    }

    fn config(&self) -> Config {
        Config::new(&self.home).caller(self.caller.clone())
    }

    /// A caller with a name and a reason of its own.
    fn as_actor(&self, actor: &str, reason: &str) -> Caller {
        let mut caller = self.caller.clone();
        if let Ok(actor) = Actor::new(actor) {
            caller.actor = actor;
        }
        match Reason::new(reason) {
            Ok(reason) => caller.with_reason(reason),
            Err(_) => caller,
        }
    }

    fn step(&mut self, title: &str) -> Result<(), Failure> {
        self.steps.push(json!({"title": title, "results": [], "checks": []}));
        if self.out.is_json() {
            return Ok(());
        }
        let number = format!("{:>2}. ", self.steps.len());
        self.out.painted(&[(Style::Dim, &number), (Style::Bold, title)])
    }

    fn note(&mut self, list: &str, value: Value) {
        let list = self.steps.last_mut().and_then(|step| step.get_mut(list)).and_then(Value::as_array_mut);
        if let Some(list) = list {
            list.push(value);
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.note("results", text.into());
        if self.out.is_json() { Ok(()) } else { self.out.painted(&[(Style::Dim, &format!("      {text}"))]) }
    }

    fn check(&mut self, what: &str, holds: bool) -> Result<(), Failure> {
        self.note("checks", json!({"what": what, "ok": holds}));
        if !holds {
            self.failed += 1;
        }
        if self.out.is_json() {
            return Ok(());
        }
        let mark = if holds { (Style::Good, "  ok  ") } else { (Style::Bad, "FAIL  ") };
        self.out.painted(&[mark, (Style::Plain, what)])
    }

    /// Something that must fail, and how it did.
    fn refused<T>(
        &mut self,
        what: &str,
        tried: Result<T, Error>,
        is_right: impl Fn(&Error) -> bool,
    ) -> Result<(), Failure> {
        match tried {
            Ok(_) => self.check(&format!("{what} was NOT refused"), false),
            Err(error) if is_right(&error) => self.check(&format!("{what} is refused: {error}"), true),
            Err(error) => self.check(&format!("{what} failed for another reason: {error}"), false),
        }
    }

    fn end(&self, kept: Option<&Path>, begun: Instant) -> Result<(), Failure> {
        let checks = |step: &Value| step.get("checks").and_then(Value::as_array).map_or(0, Vec::len);
        let total: usize = self.steps.iter().map(checks).sum();
        if self.out.is_json() {
            let kept = kept.map(|path| path.to_string_lossy());
            return self.out.json(&json!({
                "ok": self.failed == 0, "checks": total, "failed": self.failed, "kept": kept, "steps": self.steps,
            }));
        }
        let took = format!(" in {:.1} s", begun.elapsed().as_secs_f64());
        if self.failed == 0 {
            self.out.painted(&[(Style::Good, &format!("\u{2713} all {total} checks hold")), (Style::Plain, &took)])?;
        } else {
            self.out.painted(&[
                (Style::Bad, &format!("{} of {total} checks FAILED", self.failed)),
                (Style::Plain, &took),
            ])?;
        }
        match kept {
            Some(path) => self.out.line(&format!("kept: palyra-ledger --home {} log show", path.display())),
            None => Ok(()),
        }
    }
}

/// Opens with the pinned key file.
fn open(config: Config) -> Result<Ledger, Error> {
    Ledger::open(config.credential(Credential::None))
}

fn name(text: &str) -> Result<SecretName, Failure> {
    text.parse().map_err(|error: crate::base::RefError| Failure::new(ExitCode::Internal, error.to_string(), ""))
}

fn scope(text: &str) -> Result<Scope, Failure> {
    text.parse().map_err(|error: crate::base::RefError| Failure::new(ExitCode::Internal, error.to_string(), ""))
}

fn bytes(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}
