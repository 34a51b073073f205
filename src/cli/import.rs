//! `import`: everything that another store holds, in one recorded act or not at all.

mod gpg;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::base::{Scope, limits};
use crate::engine::{ImportOptions, Imported};
use crate::import::{Gathered, Part, Verdict, palyra, read_env, read_json, read_pass};

use super::exit::{ExitCode, Failure};
use super::invocation::{Access, Invocation};
use super::{progress, secrets, story};

/// Arguments of `import`.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// A store in Palyra's file layout: secrets, CA, devices, profiles
    Palyra {
        /// The folder that holds `identity` and `vault`
        dir: PathBuf,
        /// `auth_profiles.toml`, where it stands elsewhere
        #[arg(long, value_name = "FILE", env = "PALYRA_AUTH_PROFILES_PATH")]
        auth_profiles: Option<PathBuf>,
        /// The folder that holds both documents of profiles, where they stand elsewhere
        #[arg(long, value_name = "DIR", env = "PALYRA_STATE_ROOT")]
        state_root: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// An env file: every variable becomes a secret
    Env {
        /// The file
        file: PathBuf,
        /// Whose the secrets are
        #[arg(long)]
        scope: Scope,
        #[command(flatten)]
        how: How,
    },
    /// A password store (pass): every file becomes a secret, opened by gpg
    Pass {
        /// The folder
        dir: PathBuf,
        /// Whose the secrets are
        #[arg(long)]
        scope: Scope,
        /// Take the first line of each file alone
        #[arg(long)]
        first_line: bool,
        #[command(flatten)]
        how: How,
    },
    /// What `export` wrote, decrypted; `-` is the standard input
    Json {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
}

/// How to import.
#[derive(Debug, Clone, Copy, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own, in any combination")]
pub struct How {
    /// Say what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Give secrets that have another value here a new version
    #[arg(long)]
    replace: bool,
    /// Go on without what is damaged or cannot be kept here
    #[arg(long)]
    skip_damaged: bool,
    /// Go on without what stands here otherwise: what is here stays as it is
    #[arg(long)]
    skip_conflicts: bool,
}

/// Runs `import`.
pub fn run(invocation: &Invocation, command: ImportCommand) -> Result<(), Failure> {
    let how = match &command {
        ImportCommand::Palyra { how, .. }
        | ImportCommand::Env { how, .. }
        | ImportCommand::Pass { how, .. }
        | ImportCommand::Json { how, .. } => *how,
    };
    // Before anything of the source is opened: a ledger that cannot be written is no place for secrets.
    let ledger = invocation.open(if how.dry_run { Access::Read } else { Access::Write })?;
    let gathered = progress::bar(invocation, "reading", |tell| gather(&command, &ledger, tell));
    let How { dry_run, replace, skip_damaged, skip_conflicts } = how;
    let options = ImportOptions { replace, skip_damaged, skip_conflicts, dry_run };
    let done = gathered.and_then(|gathered| {
        let done = progress::bar(invocation, "sealing", |tell| ledger.imports().run(&gathered, options, tell));
        Ok((done.map_err(Failure::from)?, gathered))
    });
    invocation.close(&ledger);
    let (done, gathered) = done?;
    tell(invocation, how, &gathered, &done)
}

fn gather(
    command: &ImportCommand,
    ledger: &crate::engine::Ledger,
    tell: &dyn Fn(u64, u64),
) -> Result<Gathered, Failure> {
    Ok(match command {
        ImportCommand::Palyra { dir, auth_profiles, state_root, .. } => {
            must_be_folder(dir)?;
            let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
            let places = palyra::Places { profiles: given(auth_profiles), state_root: given(state_root) };
            palyra::read(dir, &places, &*ledger.keystore(), tell)
        }
        ImportCommand::Env { file, scope, .. } => {
            read_env(&whole(file, limits::ENV_FILE_MAX)?, scope, &file.display().to_string())
        }
        ImportCommand::Pass { dir, scope, first_line, .. } => {
            must_be_folder(dir)?;
            let part = if *first_line { Part::FirstLine } else { Part::Whole };
            read_pass(dir, scope, part, &mut gpg::decrypt, tell)
        }
        ImportCommand::Json { file, .. } => {
            let max = usize::try_from(limits::IMPORT_FILE_MAX).unwrap_or(usize::MAX);
            read_json(&whole(file, max)?, &file.display().to_string())
        }
    })
}

fn must_be_folder(dir: &Path) -> Result<(), Failure> {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => std::fs::read_dir(dir).map(drop).map_err(|error| unreadable(dir, &error)),
        Ok(_) => Err(Failure::usage(format!("{} is no folder", dir.display()), "name the store's folder")),
        Err(error) => Err(unreadable(dir, &error)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => ExitCode::NotFound,
        std::io::ErrorKind::PermissionDenied => ExitCode::Denied,
        _ => ExitCode::Io,
    };
    Failure::new(code, format!("cannot read {}: {error}", path.display()), "look at the path and its owner")
}

/// A whole file, or the standard input, wiped after use.
fn whole(file: &Path, max: usize) -> Result<zeroize::Zeroizing<Vec<u8>>, Failure> {
    use std::io::Read as _;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let read = if file == Path::new("-") {
        std::io::stdin().take(max as u64 + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|opened| {
            // Sized once, so that no reallocation leaves a copy behind.
            let len = opened.metadata().map_or(0, |found| found.len()).min(max as u64);
            bytes.reserve_exact(usize::try_from(len).unwrap_or(0) + 1);
            opened.take(max as u64 + 1).read_to_end(&mut bytes)
        })
    };
    read.map_err(|error| unreadable(file, &error))?;
    if bytes.len() > max {
        let what = format!("{} has more than {max} bytes", file.display());
        return Err(Failure::usage(what, "import it in parts"));
    }
    Ok(bytes)
}

fn tell(invocation: &Invocation, how: How, gathered: &Gathered, done: &Imported) -> Result<(), Failure> {
    let out = &invocation.out;
    let count = |verdict: Verdict| done.lines.iter().filter(|line| line.verdict == verdict).count() as u64;
    if out.is_json() {
        let counts: serde_json::Map<String, serde_json::Value> =
            Verdict::ALL.iter().map(|verdict| (verdict.name().to_owned(), count(*verdict).into())).collect();
        out.json(&json!({
            "form": gathered.form.name(),
            "digest": gathered.digest,
            "dry_run": how.dry_run,
            "stopped": done.stopped,
            "seq": done.seq,
            "imported_before_by": done.before,
            "counts": counts,
            "lines": done.lines,
        }))?;
    } else {
        let quiet = done.lines.len() > 100;
        let plain = |verdict| matches!(verdict, Verdict::Imported | Verdict::Same);
        for line in done.lines.iter().filter(|line| !quiet || !plain(line.verdict)) {
            let what = if line.what.is_empty() { String::new() } else { format!(": {}", line.what) };
            out.line(&format!("{:<9} {}{what}", line.verdict.name(), line.item))?;
        }
        out.line(&summary(how, done, &count))?;
    }
    if !done.stopped {
        return Ok(());
    }
    out.flush()?;
    if done.unreadable {
        return Err(Failure::usage(
            "nothing was imported: the source cannot be read",
            "look at the line; no option goes on without all of it",
        ));
    }
    if count(Verdict::Conflict) > 0 && !how.skip_conflicts {
        let conflicts = || done.lines.iter().filter(|line| line.verdict == Verdict::Conflict);
        let number = count(Verdict::Conflict);
        let verb = if number == 1 { "stands" } else { "stand" };
        let what = format!("nothing was imported: {} {verb} here otherwise", story::count(number, "item"));
        let secrets = conflicts().filter(|line| line.item.starts_with("secret ")).count() as u64;
        let hint = match secrets {
            0 => "look at the lines; --skip-conflicts goes on and leaves what is here as it is",
            _ if secrets == number => {
                "look at the lines; --replace writes new versions, --skip-conflicts leaves what is here as it is"
            }
            _ => {
                "look at the lines; --skip-conflicts leaves what is here as it is, --replace writes new versions of \
                 secrets alone"
            }
        };
        return Err(Failure::new(ExitCode::Conflict, what, hint));
    }
    let refused = count(Verdict::Damaged) + count(Verdict::Unfit);
    let what = format!("nothing was imported: {} cannot be", story::count(refused, "item"));
    Err(Failure::usage(what, "look at the lines; --skip-damaged goes on without them"))
}

fn summary(how: How, done: &Imported, count: &dyn Fn(Verdict) -> u64) -> String {
    if let Some(seq) = done.before {
        return format!("this very source was imported by event {seq}: nothing to do");
    }
    let (new, replaced) = (count(Verdict::Imported), count(Verdict::Replaced));
    let left = count(Verdict::Damaged) + count(Verdict::Unfit) + count(Verdict::Conflict);
    let items = story::count(new + replaced, "item");
    match done.seq {
        Some(seq) if left > 0 => {
            format!("imported {items} in one act, event {seq}; {} left behind", are(left))
        }
        Some(seq) => format!("imported {items} in one act, event {seq}"),
        None if done.stopped => "nothing was changed".to_owned(),
        None if items_met(done) == 0 => "the source holds nothing to import; nothing was changed".to_owned(),
        None if how.dry_run => format!("would import {items}; nothing was changed"),
        None if left > 0 => format!("{} left behind; all else is here already: nothing was changed", are(left)),
        None => "everything is here already: nothing was changed".to_owned(),
    }
}

/// Lines about something that is here, comes, or would have come.
fn items_met(done: &Imported) -> usize {
    done.lines.iter().filter(|line| !matches!(line.verdict, Verdict::Foreign | Verdict::Skipped)).count()
}

fn are(number: u64) -> String {
    format!("{} {}", story::count(number, "item"), if number == 1 { "is" } else { "are" })
}

/// A bounded read for gpg's output.
fn bounded(source: impl std::io::Read, max: usize) -> std::io::Result<crate::base::SecretBytes> {
    secrets::bounded(source, max)
}
