//! One run of the program: its flags, its output, and how it opens the ledger.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::{Actor, Caller, Origin, Reason, SecretBytes, limits};
use crate::engine::{Config, Error, Ledger, Settings};
use crate::keys::{self, Credential, KeySlot, KeysError, NewSlot, SlotKind};
use crate::projection::{IndexError, RebuildReason};
use crate::store::RealMedium;

use super::args::Global;
use super::exit::{ExitCode, Failure};
use super::output::{Output, safe};
use super::progress;
use super::seat::Seat;

/// What a command opens the ledger for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading: several processes may do so at once.
    Read,
    /// Reading what this program knows: where a newer one wrote events, what stands before the first of them.
    Known,
    /// Writing: alone.
    Write,
}

/// One run of the program.
#[derive(Debug)]
pub struct Invocation {
    /// The flags that every command takes.
    pub global: Global,
    /// Where to print.
    pub out: Output,
    /// Where input comes from.
    pub seat: Seat,
    credential: RefCell<Option<Credential>>,
}

const PASSPHRASE_FILE_ENV: &str = "PALYRA_LEDGER_PASSPHRASE_FILE";

impl Invocation {
    /// A run with these flags.
    #[must_use]
    pub const fn new(global: Global, out: Output) -> Self {
        Self { global, out, seat: Seat::Own, credential: RefCell::new(None) }
    }

    /// The same for somebody at another seat.
    #[must_use]
    pub fn seated(mut self, seat: Seat) -> Self {
        self.seat = seat;
        self
    }

    /// The ledger's home.
    ///
    /// # Errors
    /// [`Failure`] where none is named and the environment names none.
    pub fn home(&self) -> Result<PathBuf, Failure> {
        if let Some(home) = &self.global.home {
            return Ok(home.clone());
        }
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
        state.map(|state| state.join("palyra-ledger")).ok_or_else(|| {
            Failure::usage(
                "there is no home folder to keep the ledger in",
                "name one with --home or PALYRA_LEDGER_HOME",
            )
        })
    }

    /// Who acts.
    ///
    /// # Errors
    /// [`Failure`] where the name or the reason is not acceptable.
    pub fn caller(&self) -> Result<Caller, Failure> {
        let uid = match &self.seat {
            Seat::Own => rustix::process::geteuid().as_raw(),
            Seat::Client(client) => client.uid,
        };
        let refused = |flag: &str, error: crate::base::ActorError| {
            Failure::usage(format!("{flag} is not acceptable: {error}"), format!("give another text with {flag}"))
        };
        let actor = match &self.global.actor {
            Some(name) => Actor::new(name).map_err(|error| refused("--actor", error))?,
            None => user_name(uid)
                .and_then(|name| Actor::new(&name).ok())
                .map_or_else(|| Actor::new(&format!("uid:{uid}")), Ok)
                .map_err(|error| refused("--actor", error))?,
        };
        let mut caller = Caller::cli(actor, uid);
        if let Seat::Client(client) = &self.seat {
            caller.origin = Origin::Socket { uid, pid: client.pid };
        }
        match &self.global.reason {
            Some(text) => Ok(caller.with_reason(Reason::new(text).map_err(|error| refused("--reason", error))?)),
            None => Ok(caller),
        }
    }

    /// How the ledger is opened, but for the credential.
    ///
    /// # Errors
    /// As [`Invocation::home`] and [`Invocation::caller`].
    pub fn config(&self) -> Result<Config, Failure> {
        let config =
            Config::new(self.home()?).caller(self.caller()?).lock_wait(Duration::from_secs(self.global.lock_wait));
        Ok(match self.global.slot {
            Some(slot) => config.slot(slot),
            None => config,
        })
    }

    /// Opens the ledger. Reading opens it for writing where its index must be rebuilt first, or brought up to this
    /// program's version.
    ///
    /// # Errors
    /// [`Failure`] with what failed.
    pub fn open(&self, access: Access) -> Result<Ledger, Failure> {
        if let Seat::Client(client) = &self.seat {
            return Ok(client.ledger.on_behalf_of(self.caller()?));
        }
        let config = self.config()?;
        if access == Access::Write {
            return self.unlock(&config).map_err(|error| self.explain_open(error));
        }
        match self.unlock(&config.clone().read_only()) {
            Err(Opening::Ledger(Error::Index(IndexError::Rebuild { reason }))) => {
                self.out.note(match reason {
                    RebuildReason::Schema => "the index was made by an older version: making it anew from the log",
                    _ => "the index is not usable: rebuilding it from the log",
                });
                match progress::spinning(self, "folding the log", || self.unlock(&config)) {
                    Err(Opening::Ledger(error)) if access == Access::Known && error.is_from_the_future() => {
                        self.known_part(&config, &error)
                    }
                    done => done.map_err(|error| self.explain_open(error)),
                }
            }
            Err(Opening::Ledger(error)) if access == Access::Known && error.is_from_the_future() => {
                self.known_part(&config, &error)
            }
            Err(error) => Err(self.explain_open(error)),
            Ok(ledger) => Ok(ledger),
        }
    }

    /// Opens what stands before the first event of a newer program.
    fn known_part(&self, config: &Config, newer: &Error) -> Result<Ledger, Failure> {
        let opened = self.unlock(&config.clone().known_part()).map_err(|error| self.explain_open(error))?;
        self.out.warn(&format!("{newer}: only what stands before it is read"));
        Ok(opened)
    }

    /// Opens a damaged ledger, restoring what the second copy holds; where that is not enough, the
    /// journal's end is taken as it is.
    ///
    /// # Errors
    /// [`Failure`] with what failed.
    pub fn repair(&self, config: &Config) -> Result<Ledger, Failure> {
        let repair =
            |config: &Config| self.unlock_by(config, &|config| Ledger::repair(config).map(|(ledger, _)| ledger));
        let repaired = match repair(config) {
            Err(Opening::Ledger(
                Error::Truncated { .. } | Error::HeadDiffers { .. } | Error::Head(_) | Error::NoWitness { .. },
            )) => repair(&config.clone().accept_head()),
            other => other,
        };
        repaired.map_err(|error| self.explain_open(error))
    }

    /// Opens an older copy that was put back on purpose, and begins a new branch of history.
    ///
    /// # Errors
    /// [`Failure`] with what failed.
    pub fn start_branch(&self, config: &Config) -> Result<Ledger, Failure> {
        self.unlock_by(config, &|config| Ledger::start_branch(config)).map_err(|error| self.explain_open(error))
    }

    fn unlock(&self, config: &Config) -> Result<Ledger, Opening> {
        self.unlock_by(config, &|config| Ledger::open(config))
    }

    fn unlock_by(&self, config: &Config, open: &dyn Fn(Config) -> Result<Ledger, Error>) -> Result<Ledger, Opening> {
        let first = self.credential()?;
        match open(config.clone().credential(first.clone())) {
            Err(Error::Keys(KeysError::NeedsPassphrase { slot })) if matches!(first, Credential::None) => {
                let passphrase = match std::env::var_os(PASSPHRASE_FILE_ENV).filter(|path| !path.is_empty()) {
                    Some(path) => first_line(&self.seat, Path::new(&path))?,
                    None if self.seat.is_terminal() => self.prompt(&format!("passphrase of key slot {slot}: "))?,
                    None => return Err(Error::Keys(KeysError::NeedsPassphrase { slot }).into()),
                };
                let credential = Credential::Passphrase(passphrase);
                let ledger = open(config.clone().credential(credential.clone()))?;
                *self.credential.borrow_mut() = Some(credential);
                Ok(ledger)
            }
            Err(Error::Keys(KeysError::NeedsRecovery { .. })) if self.asks_for(&first) => {
                let credential = Credential::Recovery(self.prompt("recovery words: ")?);
                let ledger = open(config.clone().credential(credential.clone()))?;
                *self.credential.borrow_mut() = Some(credential);
                Ok(ledger)
            }
            other => Ok(other?),
        }
    }

    fn asks_for(&self, given: &Credential) -> bool {
        matches!(given, Credential::None) && self.seat.is_terminal()
    }

    /// What opens a backup, where it did not open with what was given: asked for, or as the environment names it.
    ///
    /// # Errors
    /// [`Failure`] where nothing can be asked.
    pub fn ask_for(&self, locked: &Error) -> Result<Option<Credential>, Failure> {
        match locked {
            Error::Keys(KeysError::NeedsPassphrase { slot }) => {
                match std::env::var_os(PASSPHRASE_FILE_ENV).filter(|path| !path.is_empty()) {
                    Some(path) => Ok(Some(Credential::Passphrase(first_line(&self.seat, Path::new(&path))?))),
                    None if self.asks_for(&self.credential()?) => {
                        let phrase = self.prompt(&format!("passphrase of key slot {slot}: "))?;
                        Ok(Some(Credential::Passphrase(phrase)))
                    }
                    None => Ok(None),
                }
            }
            Error::Keys(KeysError::NeedsRecovery { .. }) if self.asks_for(&self.credential()?) => {
                Ok(Some(Credential::Recovery(self.prompt("recovery words: ")?)))
            }
            _ => Ok(None),
        }
    }

    /// What the command line gives to open a key slot with.
    ///
    /// # Errors
    /// [`Failure`] where a file does not read.
    pub fn credential(&self) -> Result<Credential, Failure> {
        if let Some(known) = &*self.credential.borrow() {
            return Ok(known.clone());
        }
        let credential = match (&self.global.passphrase_file, &self.global.key_file) {
            (Some(path), _) => Credential::Passphrase(self.first_line(path)?),
            (None, Some(path)) => Credential::KeyFile(path.clone()),
            (None, None) if self.global.recovery_stdin => Credential::Recovery(self.words()?),
            (None, None) => Credential::None,
        };
        *self.credential.borrow_mut() = Some(credential.clone());
        Ok(credential)
    }

    fn words(&self) -> Result<SecretBytes, Failure> {
        let failed = |error| Failure::new(ExitCode::Io, format!("cannot read the recovery words: {error}"), "");
        super::seat::line(&mut *self.seat.stdin().map_err(failed)?).map_err(failed)
    }

    fn explain_open(&self, error: Opening) -> Failure {
        let error = match error {
            Opening::Failure(failure) => return failure,
            Opening::Ledger(error) => error,
        };
        let needs_file = matches!(error, Error::Keys(KeysError::NeedsKeyFile { .. }));
        let lacks_file = matches!(&error, Error::Keys(KeysError::Store(error)) if error.is_not_found());
        let mut failure = Failure::from(error);
        let slots = if needs_file || lacks_file { self.slots_of_people() } else { Vec::new() };
        if needs_file {
            failure.hint = if slots.is_empty() {
                "no slot is opened by a passphrase or by words: leave --passphrase-file and --recovery-stdin away"
                    .to_owned()
            } else {
                format!("leave what was given and --slot away, or open another slot: {}", slots.join(", "))
            };
        } else if !slots.is_empty() {
            failure.hint =
                format!("put the key file back, name it with --key-file, or open another slot: {}", slots.join(", "));
        }
        if failure.code == ExitCode::InUse && super::remote::is_served(self) {
            "a daemon serves this ledger, and this command wants it for itself: stop the daemon for that time"
                .clone_into(&mut failure.hint);
        }
        failure
    }

    /// The slots that a passphrase or words open, and by which flag.
    fn slots_of_people(&self) -> Vec<String> {
        let slots = self.slots_unopened();
        let flag = |slot: &KeySlot| match slot.kind() {
            SlotKind::Passphrase => Some("--passphrase-file FILE"),
            SlotKind::Recovery => Some("--recovery-stdin"),
            SlotKind::File | SlotKind::OsKeystore => None,
        };
        let named = |slot: &KeySlot| flag(slot).map(|flag| format!("{} ({}) with {flag}", slot.id(), slot.label()));
        slots.iter().filter_map(named).collect()
    }

    /// The key slots as the key ring names them in the clear; none where it does not read.
    #[must_use]
    pub fn slots_unopened(&self) -> Vec<KeySlot> {
        let Ok(home) = self.home() else { return Vec::new() };
        let ring = keys::read(&RealMedium, &home.join("keys")).ok().and_then(|(current, next)| current.or(next));
        ring.map(|ring| ring.slots().to_vec()).unwrap_or_default()
    }

    /// The passphrase or the words that opened the ledger in this run, if they did.
    #[must_use]
    pub fn passphrase_used(&self) -> Option<SecretBytes> {
        match &*self.credential.borrow() {
            Some(Credential::Passphrase(known) | Credential::Recovery(known)) => Some(known.clone()),
            _ => None,
        }
    }

    /// Closes the ledger; what could not be finished is a warning, since all that was acknowledged
    /// is durable.
    pub fn close(&self, ledger: &Ledger) {
        if let Err(error) = ledger.close() {
            self.out.warn(&format!("closing the ledger was not complete ({error}); the next command goes on with it"));
        }
    }

    /// The home's settings, or the defaults where they do not read: opening then says so.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let text = self.home().ok().and_then(|home| {
            let file = File::open(home.join("config.toml")).ok()?;
            let mut text = String::new();
            file.take(limits::CONFIG_BYTES_MAX).read_to_string(&mut text).ok()?;
            Some(text)
        });
        text.and_then(|text| Settings::parse(&text).ok()).unwrap_or_default()
    }

    /// Asks for something hidden. Only where the standard input is a terminal.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be asked, or nothing was typed.
    pub fn prompt(&self, text: &str) -> Result<SecretBytes, Failure> {
        self.out.flush()?;
        match self.seat.hidden(&safe(text)) {
            Ok(typed) if typed.is_empty() => Err(Failure::new(ExitCode::Aborted, "nothing was typed", "")),
            Ok(typed) => Ok(typed),
            Err(error) => Err(Failure::new(ExitCode::Aborted, format!("cannot ask on the terminal: {error}"), "")),
        }
    }

    /// Asks for a yes before something that cannot be undone.
    ///
    /// # Errors
    /// [`Failure`] with [`ExitCode::Aborted`] where the answer is no, or nobody can be asked.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !self.seat.is_terminal() {
            let what = "this needs a confirmation and there is no terminal to ask on";
            return Err(Failure::new(ExitCode::Aborted, what, "add --yes if you mean it"));
        }
        self.out.flush()?;
        let answer = self.seat.ask(&format!("{} [y/N] ", safe(question)));
        match answer.as_ref().map(|answer| answer.expose().trim_ascii()) {
            Ok(b"y" | b"Y" | b"yes" | b"Yes") => Ok(()),
            _ => Err(Failure::new(ExitCode::Aborted, "not confirmed: nothing was changed", "")),
        }
    }

    /// A passphrase from a file, found from where the caller stands.
    ///
    /// # Errors
    /// As [`first_line`].
    pub fn first_line(&self, path: &Path) -> Result<SecretBytes, Failure> {
        first_line(&self.seat, path)
    }

    /// A new slot's passphrase: from a file, or asked for twice.
    ///
    /// # Errors
    /// [`Failure`] where there is none, or the two differ.
    pub fn new_passphrase(&self, file: Option<&Path>) -> Result<SecretBytes, Failure> {
        if let Some(path) = file {
            return self.first_line(path);
        }
        if !self.seat.is_terminal() {
            let what = "a new passphrase is needed and there is no terminal to ask on";
            return Err(Failure::new(
                ExitCode::Locked,
                what,
                "put it into a file and name that with --new-passphrase-file",
            ));
        }
        let first = self.prompt("new passphrase: ")?;
        let again = self.prompt("once more: ")?;
        if first == again {
            Ok(first)
        } else {
            Err(Failure::new(ExitCode::Aborted, "the two passphrases differ", "run the command again"))
        }
    }

    /// A slot with a passphrase, asked for or from a file.
    ///
    /// # Errors
    /// As [`Invocation::new_passphrase`].
    pub fn new_passphrase_slot(&self, label: &str, file: Option<&Path>) -> Result<NewSlot, Failure> {
        Ok(NewSlot::passphrase(label, self.new_passphrase(file)?))
    }
}

/// Why opening failed: in the ledger, or before it.
enum Opening {
    Ledger(Error),
    Failure(Failure),
}

impl From<Error> for Opening {
    fn from(error: Error) -> Self {
        Self::Ledger(error)
    }
}

impl From<Failure> for Opening {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// A passphrase: a file's first line, without its line end.
///
/// # Errors
/// [`Failure`] where the file does not read, or its first line is empty or too long.
pub fn first_line(seat: &Seat, path: &Path) -> Result<SecretBytes, Failure> {
    let failed = |error: std::io::Error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { ExitCode::NotFound } else { ExitCode::Io };
        Failure::new(
            code,
            format!("cannot read {}: {error}", path.display()),
            "name the file that holds the passphrase",
        )
    };
    let bound = limits::PASSPHRASE_MAX + 2;
    // Room for all of it from the start: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bound + 64));
    seat.open(path).map_err(failed)?.take(bound as u64).read_to_end(&mut bytes).map_err(failed)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.len() > limits::PASSPHRASE_MAX {
        let what =
            format!("the first line of {} is empty or longer than {} bytes", path.display(), limits::PASSPHRASE_MAX);
        return Err(Failure::usage(what, "put the passphrase on the first line"));
    }
    Ok(SecretBytes::from(line))
}

/// The user's name: as the system's table has it, or as the environment says.
fn user_name(uid: u32) -> Option<String> {
    let from_table = || {
        let file = File::open("/etc/passwd").ok()?;
        BufReader::new(file.take(1024 * 1024)).lines().map_while(Result::ok).find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
    };
    from_table().or_else(|| std::env::var("USER").ok()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        for (text, expected) in [("one two\nthree\n", "one two"), ("alone", "alone"), ("dos\r\n", "dos")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(first_line(&Seat::Own, &path).unwrap().expose(), expected.as_bytes());
        }
        for bad in [String::new(), "\nx".to_owned(), "x".repeat(limits::PASSPHRASE_MAX + 1)] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(first_line(&Seat::Own, &path).unwrap_err().code, ExitCode::Usage);
        }
        assert_eq!(first_line(&Seat::Own, &dir.path().join("none")).unwrap_err().code, ExitCode::NotFound);
    }
}
