//! `backup create`.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tempfile::NamedTempFile;

use crate::backup::{BackupFile, Recipients};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::cli::{progress, remote, story};
use crate::crypto::Hash;
use crate::engine::{BackupOptions, Error, FileFacts};

use super::{of_file, unreadable};

/// Arguments of `backup create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The file to write (mode 0600); `-`: the standard output, where it is no terminal
    file: PathBuf,
    /// Only what came after this event
    #[arg(long, value_name = "EVENT", conflicts_with = "after")]
    since: Option<u64>,
    /// Only what came after this earlier backup
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// Let this age recipient open it, too (`age1...`)
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Vec<String>,
    /// Let the age recipients in this file open it, one on a line
    #[arg(long, value_name = "FILE")]
    recipients_file: Vec<PathBuf>,
    /// Put the home's key file into it: the backup then opens itself, for whoever has it
    #[arg(long)]
    with_key_file: bool,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// The hash that the event of --since must have
    #[arg(long, hide = true, requires = "since")]
    since_hash: Option<Hash>,
}

impl CreateArgs {
    /// Whether the backup goes to the standard output.
    pub fn is_standard_output(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    /// Everything that the files on the command line say.
    fn options(&self) -> Result<BackupOptions, Failure> {
        let mut recipients = Recipients::default();
        for text in &self.recipient {
            recipients.add(text).map_err(of_file(Path::new("--recipient")))?;
        }
        for path in &self.recipients_file {
            let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            recipients.add_lines(&text).map_err(of_file(path))?;
        }
        let after = match &self.after {
            None => self.since.map(|seq| (seq, self.since_hash)),
            Some(path) => {
                let facts = facts(path)?;
                Some((facts.to, Some(facts.head)))
            }
        };
        Ok(BackupOptions { after, recipients, with_key_file: self.with_key_file })
    }

    /// The words with which a daemon writes the same backup to its standard output.
    fn words(&self, invocation: &Invocation, options: &BackupOptions) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["backup", "create", "-"].map(OsString::from).into();
        let mut add = |name: &str, value: &str| words.push(format!("--{name}={value}").into());
        if let Some((seq, hash)) = options.after {
            add("since", &seq.to_string());
            if let Some(hash) = hash {
                add("since-hash", &hash.to_string());
            }
        }
        for recipient in options.recipients.texts() {
            add("recipient", &recipient);
        }
        for (name, value) in [("actor", &invocation.global.actor), ("reason", &invocation.global.reason)] {
            if let Some(value) = value {
                add(name, value);
            }
        }
        if self.with_key_file {
            words.push("--with-key-file".into());
        }
        words
    }
}

fn facts(path: &Path) -> Result<FileFacts, Failure> {
    let mut file = BackupFile::open(path).map_err(|error| unreadable(path, &error))?;
    FileFacts::read(&mut file).map_err(of_file(path))
}

/// Runs `backup create`.
pub fn run(invocation: &Invocation, args: &CreateArgs) -> Result<(), Failure> {
    if args.is_standard_output() {
        return to_output(invocation, args);
    }
    let path = &args.file;
    if !args.force && std::fs::symlink_metadata(path).is_ok() {
        let what = format!("{} is there already", path.display());
        return Err(Failure::new(ExitCode::Conflict, what, "name another file, or replace it with --force"));
    }
    let options = args.options()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let failed =
        |error: std::io::Error| Failure::from(Error::Backup { name: path.display().to_string(), source: error.into() });
    // Beside the file, so that taking its place is one step; mode 0600.
    let staged = tempfile::Builder::new().prefix(".palyra-backup-").tempfile_in(folder).map_err(failed)?;
    let size = estimate(&invocation.home()?);
    let served =
        progress::bar(invocation, "backing up", |tell| served(invocation, args, &options, &staged, size, tell));
    match served {
        Some(done) => {
            let code = done.map_err(failed)?;
            if code != ExitCode::Ok {
                // The daemon has said why.
                return Err(Failure::quiet(code));
            }
            settle(staged, path, folder, args.force).map_err(failed)?;
        }
        None => own(invocation, args, &options, staged, folder)?,
    }
    print(invocation, &facts(path)?)
}

/// Makes what was written durable, and gives it its name.
fn settle(staged: NamedTempFile, path: &Path, folder: &Path, force: bool) -> std::io::Result<()> {
    staged.as_file().sync_all()?;
    let persisted = if force { staged.persist(path) } else { staged.persist_noclobber(path) };
    persisted.map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// About how large a full backup is.
fn estimate(home: &Path) -> u64 {
    let sizes = |folder: &str, wanted: &dyn Fn(&str) -> bool| {
        let entries = std::fs::read_dir(home.join(folder)).into_iter().flatten().filter_map(Result::ok);
        let ours = entries.filter(|entry| wanted(&entry.file_name().to_string_lossy()));
        ours.map(|entry| entry.metadata().map_or(0, |facts| facts.len())).sum::<u64>()
    };
    sizes("journal", &|_| true) + sizes("keys", &|name| name.ends_with(".a"))
}

/// Lets a daemon write the backup into our file, where one serves the ledger.
fn served(
    invocation: &Invocation,
    args: &CreateArgs,
    options: &BackupOptions,
    staged: &NamedTempFile,
    size: u64,
    tell: &dyn Fn(u64, u64),
) -> Option<std::io::Result<ExitCode>> {
    if !remote::is_served(invocation) {
        return None;
    }
    let (words, file) = (args.words(invocation, options), staged.as_file());
    let home = invocation.home().ok()?;
    let watched = file.try_clone().ok()?;
    let ended = std::sync::atomic::AtomicBool::new(false);
    let job = match remote::Job::new(&home, invocation, words) {
        Ok(job) => job,
        Err(error) => return Some(Err(error)),
    };
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let answer = job.run_into(file);
            ended.store(true, std::sync::atomic::Ordering::Release);
            answer
        });
        while !ended.load(std::sync::atomic::Ordering::Acquire) {
            let done = watched.metadata().map_or(0, |facts| facts.len());
            tell(done, size.max(done));
            std::thread::sleep(Duration::from_millis(20));
        }
        asked.join().unwrap_or_else(|_| Some(Err(std::io::ErrorKind::Other.into())))
    })
}

/// Opens the ledger and writes the backup.
fn own(
    invocation: &Invocation,
    args: &CreateArgs,
    options: &BackupOptions,
    staged: NamedTempFile,
    folder: &Path,
) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Write)?;
    let path = args.file.display().to_string();
    let failed = |error: std::io::Error| Failure::from(Error::Backup { name: path.clone(), source: error.into() });
    let mut out = staged.as_file().try_clone().map_err(failed)?;
    let mut staged = Some(staged);
    let made = progress::bar(invocation, "backing up", |tell| {
        let go_on = |done, of| {
            tell(done, of);
            ControlFlow::Continue(())
        };
        let mut settle = || match staged.take() {
            Some(staged) => settle(staged, &args.file, folder, args.force),
            None => Ok(()),
        };
        ledger.backup(&mut out, options, &mut settle, &go_on)
    });
    invocation.close(&ledger);
    made.map(|_| ()).map_err(|error| named(error, &path).into())
}

/// The same error, under the name of the file.
fn named(error: Error, path: &str) -> Error {
    match error {
        Error::Backup { source, .. } => Error::Backup { name: path.to_owned(), source },
        other => other,
    }
}

/// Writes the backup to the standard output, which may be a file of a client of the daemon.
fn to_output(invocation: &Invocation, args: &CreateArgs) -> Result<(), Failure> {
    let options = args.options()?;
    let mut out = invocation.out.raw()?;
    if out.is_terminal() {
        return Err(Failure::usage("a backup is no text for a terminal", "name a file, or send it through a pipe"));
    }
    let ledger = invocation.open(Access::Write)?;
    let output = out.try_clone().map_err(|error| Failure::from_output(&error))?;
    // A pipe cannot be synced: whoever reads it has to see to it.
    let mut settle = || {
        output.sync_all().or_else(|error| match error.raw_os_error() {
            Some(code) if code == rustix::io::Errno::INVAL.raw_os_error() => Ok(()),
            _ => Err(error),
        })
    };
    let last = Cell::new(0_u64);
    let go_on = |done: u64, _| {
        // Looking costs a system call: once for some chunks.
        if done.saturating_sub(last.get()) > 16 * 1024 * 1024 {
            last.set(done);
            if invocation.seat.is_gone() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let made = ledger.backup(&mut out, &options, &mut settle, &go_on);
    invocation.close(&ledger);
    made.map_err(|error| named(error, "standard output"))?;
    out.flush().map_err(|error| Failure::from_output(&error))
}

fn print(invocation: &Invocation, facts: &FileFacts) -> Result<(), Failure> {
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&super::verify::facts_json(facts));
    }
    let kind = if facts.from == 0 { "full backup" } else { "increment" };
    let events = story::count(facts.to - facts.from + 1, "event");
    out.line(&format!(
        "{}: {kind} {} of events {} to {} ({events}, {} bytes)",
        facts.name, facts.backup, facts.from, facts.to, facts.bytes
    ))?;
    out.line(&format!("head {} {}", facts.to, facts.head))?;
    out.line(&format!("digest {}", facts.digest))?;
    if facts.key_file {
        out.warn("it holds a key file and opens itself: guard it like the home");
    }
    Ok(())
}
