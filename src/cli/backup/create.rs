//! `backup create`.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use crate::backup::{BackupError, BackupFile, BackupReader, Recipients};
use crate::base::LedgerId;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::interrupt::Watch;
use crate::cli::invocation::{Access, Invocation};
use crate::cli::seat::Seat;
use crate::cli::{progress, remote, story};
use crate::crypto::Hash;
use crate::engine::{BackupOptions, Error, FileFacts, Ledger, is_inside};
use crate::keys;
use crate::store::RealMedium;

use super::staged::Staged;
use super::{of_file, unreadable, unusable};

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
    /// Have whoever asked give the standard output its name before the backup is recorded
    #[arg(long, hide = true)]
    named: bool,
}

impl CreateArgs {
    /// Whether the backup goes to the standard output.
    pub fn is_standard_output(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    /// Everything that the files on the command line say.
    fn options(&self, invocation: &Invocation) -> Result<BackupOptions, Failure> {
        let mut recipients = Recipients::default();
        for text in &self.recipient {
            recipients.add(text).map_err(unusable("--recipient"))?;
        }
        for path in &self.recipients_file {
            let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            recipients.add_lines(&text).map_err(unusable(&path.display().to_string()))?;
        }
        let after = match &self.after {
            None => self.since.map(|seq| (seq, self.since_hash)),
            Some(path) => {
                let facts = earlier(invocation, path)?;
                Some((facts.to, Some(facts.head)))
            }
        };
        Ok(BackupOptions { after, recipients, with_key_file: self.with_key_file })
    }

    /// The words with which a daemon writes the same backup to its standard output.
    fn words(&self, invocation: &Invocation, options: &BackupOptions) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["backup", "create", "-", "--named"].map(OsString::from).into();
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

/// What an earlier backup says that an increment is to go on from; it is whole, and of this ledger.
fn earlier(invocation: &Invocation, path: &Path) -> Result<FileFacts, Failure> {
    let mut file = BackupFile::open(path).map_err(|error| unreadable(path, &error))?;
    let facts = FileFacts::read(&mut file).map_err(of_file(path))?;
    if let Some(expected) = own_ledger(invocation).filter(|own| *own != facts.ledger_id) {
        return Err(of_file(path)(BackupError::OtherLedger { found: facts.ledger_id, expected }));
    }
    let read = Cell::new(0);
    let checked = progress::bar(invocation, "checking", |tell| {
        let tell = |bytes| {
            read.set(read.get() + bytes);
            tell(read.get(), facts.bytes);
        };
        BackupReader::new(&mut file)?.check_digest(&tell)
    });
    checked.map_err(of_file(path))?;
    Ok(facts)
}

/// Whether both name one file, under whatever names.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| std::fs::metadata(path).map(|facts| (facts.dev(), facts.ino())).ok();
    one == other || place(one).is_some_and(|place_of_one| place(other) == Some(place_of_one))
}

/// The ledger at the home, as its key ring names it in the clear.
fn own_ledger(invocation: &Invocation) -> Option<LedgerId> {
    let home = invocation.home().ok()?;
    let (current, next) = keys::read(&RealMedium, &home.join("keys")).ok()?;
    current.or(next).map(|ring| ring.ledger_id())
}

/// Runs `backup create`.
pub fn run(invocation: &Invocation, args: &CreateArgs) -> Result<(), Failure> {
    if args.is_standard_output() {
        return to_output(invocation, args);
    }
    let path = &args.file;
    if args.after.as_deref().is_some_and(|earlier| is_same_file(path, earlier)) {
        let what = format!("{} is the very backup that --after names", path.display());
        return Err(Failure::usage(what, "name another file: an increment is nothing without the backup before it"));
    }
    if !args.force && std::fs::symlink_metadata(path).is_ok() {
        let what = format!("{} is there already", path.display());
        return Err(Failure::new(ExitCode::Conflict, what, "name another file, or replace it with --force"));
    }
    let home = invocation.home()?;
    if is_inside(path, &home) {
        let what = format!("{} is inside the home that it is to stand in for", path.display());
        return Err(Failure::usage(what, "name a file on another disk or machine"));
    }
    let options = args.options(invocation)?;
    let watch = super::watch()?;
    if remote::is_served(invocation) {
        let done = progress::bar(invocation, "backing up", |tell| {
            watch.during(|| served(invocation, args, &options, estimate(&home), (&watch, tell)))
        });
        if done? {
            return print(invocation, &facts(path)?);
        }
    }
    let ledger = invocation.open(Access::Write)?;
    let made =
        progress::bar(invocation, "backing up", |tell| watch.during(|| own(&ledger, args, &options, (&watch, tell))));
    invocation.close(&ledger);
    made.map_err(|error| named(error, &path.display().to_string()))?;
    print(invocation, &facts(path)?)
}

/// The folder that a file is in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn failed(error: std::io::Error) -> Error {
    Error::Backup { name: "backup".to_owned(), source: error.into() }
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

/// Lets a daemon write the backup into our file, where one serves the ledger; says whether one did.
fn served(
    invocation: &Invocation,
    args: &CreateArgs,
    options: &BackupOptions,
    size: u64,
    (watch, tell): (&Watch, &dyn Fn(u64, u64)),
) -> Result<bool, Failure> {
    let path = &args.file;
    let failed = |error| Failure::from(named(failed(error), &path.display().to_string()));
    let staged = Staged::new(folder(path), args.force).map_err(failed)?;
    let file = staged.file().try_clone().map_err(failed)?;
    let job = remote::Job::new(&invocation.home()?, invocation, args.words(invocation, options)).map_err(failed)?;
    let staged = Mutex::new(Some(staged));
    let take = || staged.lock().unwrap_or_else(PoisonError::into_inner).take();
    // The daemon records the backup once it has its name.
    let settle = || match take() {
        Some(staged) => staged.settle(path, folder(path), args.force),
        None => Err(rustix::io::Errno::CANCELED.into()),
    };
    let ended = std::sync::atomic::AtomicBool::new(false);
    let mut given_up = false;
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let answer = job.run_into(&file, &settle);
            ended.store(true, std::sync::atomic::Ordering::Release);
            answer
        });
        while !ended.load(std::sync::atomic::Ordering::Acquire) {
            // What has its name already is whole.
            if watch.came() && !given_up && take().is_some() {
                given_up = true;
                job.give_up();
            }
            let done = file.metadata().map_or(0, |facts| facts.len());
            tell(done, size.max(done));
            std::thread::sleep(Duration::from_millis(20));
        }
        asked.join().unwrap_or_else(|_| Some(Err(std::io::ErrorKind::Other.into())))
    });
    match answer {
        _ if given_up => Err(Error::BackupStopped.into()),
        None => Ok(false),
        Some(Err(error)) => Err(failed(error)),
        Some(Ok(ExitCode::Ok)) => Ok(true),
        // The daemon has said why.
        Some(Ok(code)) => Err(Failure::quiet(code)),
    }
}

/// Writes the backup from an open ledger.
fn own(
    ledger: &Ledger,
    args: &CreateArgs,
    options: &BackupOptions,
    (watch, tell): (&Watch, &dyn Fn(u64, u64)),
) -> Result<(), Error> {
    let path = &args.file;
    let staged = Staged::new(folder(path), args.force).map_err(failed)?;
    let mut out = staged.file().try_clone().map_err(failed)?;
    let mut staged = Some(staged);
    let go_on = |done, of| {
        tell(done, of);
        watch.go_on()
    };
    let mut settle = || match staged.take() {
        Some(staged) => staged.settle(path, folder(path), args.force),
        None => Ok(()),
    };
    ledger.backup(&mut out, options, &mut settle, &go_on).map(|_| ())
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
    let options = args.options(invocation)?;
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
        })?;
        match &invocation.seat {
            Seat::Client(client) if args.named => remote::have_named(&client.socket),
            _ => Ok(()),
        }
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
    if made.is_err() && invocation.seat.is_gone() {
        return Err(Failure::quiet(ExitCode::Aborted));
    }
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
