//! `backup restore`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::Invocation;
use crate::cli::{progress, story};
use crate::engine::{Error, Ledger, Restoration};
use crate::keys::{KeysError, SlotKind};

use super::IdentityArgs;

/// Arguments of `backup restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A full backup, and its increments in order
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// Runs `backup restore`.
pub fn run(invocation: &Invocation, args: &RestoreArgs) -> Result<(), Failure> {
    let identities = args.identity.read()?;
    let mut config = super::config(invocation)?;
    let watch = super::watch()?;
    let mut tried = false;
    let done = loop {
        let mut files = super::files(&args.files)?;
        let done = progress::bar(invocation, "restoring", |tell| {
            let go_on = |done, of| {
                tell(done, of);
                watch.go_on()
            };
            watch.during(|| Ledger::restore(&config, &mut files, &identities, &go_on))
        });
        match done {
            Err(error) if !tried => match invocation.ask_for(&error)? {
                Some(credential) => {
                    config = config.credential(credential);
                    tried = true;
                }
                None => return Err(explain(error, &args.files)),
            },
            Err(error) => return Err(explain(error, &args.files)),
            Ok(done) => break done,
        }
    };
    print(invocation, &done)
}

/// Where nothing that was given opens a backup, what would.
fn explain(error: Error, files: &[PathBuf]) -> Failure {
    let no_key_file = match &error {
        Error::Keys(KeysError::Store(error)) => error.is_not_found(),
        _ => false,
    };
    let mut failure = Failure::from(error);
    if !no_key_file {
        return failure;
    }
    failure.code = ExitCode::Locked;
    "nothing was given that opens this backup".clone_into(&mut failure.what);
    let facts = files.last().and_then(|path| {
        let mut file = crate::backup::BackupFile::open(path).ok()?;
        crate::engine::FileFacts::read(&mut file).ok()
    });
    let mut ways = Vec::new();
    for slot in facts.iter().flat_map(|facts| &facts.slots) {
        let how = match slot.kind() {
            SlotKind::Passphrase => "--passphrase-file FILE",
            SlotKind::Recovery => "--recovery-stdin",
            SlotKind::File => "--key-file FILE, a copy of the old home's key file",
            SlotKind::OsKeystore => "--slot ID, where the old keystore is",
        };
        ways.push(format!("{how} (slot {}, {})", slot.id(), slot.label()));
    }
    if facts.is_some_and(|facts| facts.recipients) {
        ways.push("--identity FILE, an age identity".to_owned());
    }
    failure.hint = format!("open it with one of these: {}", ways.join("; "));
    failure
}

fn print(invocation: &Invocation, done: &Restoration) -> Result<(), Failure> {
    let home = std::path::absolute(invocation.home()?).unwrap_or_default();
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&json!({
            "home": home.to_string_lossy(),
            "backup": done.backup,
            "files": done.files,
            "to": done.to,
            "head": done.head,
            "state_root": done.state_root,
            "branch": done.branch,
            "slot": done.slot,
            "slot_added": done.slot_added,
            "events": done.events,
        }));
    }
    let events = story::count(done.to + 1, "event");
    out.line(&format!("restored {} at {}: the state is the one that was backed up", events, home.display()))?;
    out.line(&format!("state root {}", done.state_root))?;
    out.line(&format!("branch {} of history begins with event {}", done.branch, done.to + 1))?;
    if done.slot_added {
        out.line(&format!("key slot {} was added: its key file lies in the home", done.slot))?;
    } else {
        out.line(&format!("key slot {} opens it", done.slot))?;
    }
    out.note(
        "if the old machine may be in wrong hands: `palyra-ledger keys rotate --root`, then `palyra-ledger compromise`",
    );
    Ok(())
}
