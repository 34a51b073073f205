//! What can be checked without opening the ledger.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::base::{BackendKind, limits};
use crate::crypto::labels;
use crate::engine::{Settings, staging};
use crate::keys::{self, Credential, KeyRing, SlotKind, Unlocked};
use crate::store::RealMedium;

use super::Checks;

/// Checks the home's files.
pub fn check(home: &Path, checks: &mut Checks) {
    permissions(home, checks);
    markers(home, checks);
    config(home, checks);
    key_slots(home, checks);
    quarantine(home, checks);
    spool(home, checks);
    leftovers(home, checks);
}

/// Entries below the home that are looked at: a home has thousands at most.
const ENTRIES_MAX: usize = 100_000;

fn permissions(home: &Path, checks: &mut Checks) {
    let mut loose = Vec::new();
    let mut foreign = Vec::new();
    let mut pending = vec![home.to_owned()];
    let mut seen = 0;
    let user = rustix::process::geteuid().as_raw();
    while let Some(path) = pending.pop() {
        seen += 1;
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.file_type().is_symlink() {
            checks.problem(
                "permissions",
                format!("{} is a symbolic link", path.display()),
                "put the file itself there",
            );
            continue;
        }
        let mode = meta.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            loose.push((path.clone(), mode));
        }
        if meta.uid() != user {
            foreign.push(path.clone());
        }
        if meta.is_dir() && seen < ENTRIES_MAX {
            let entries = std::fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok);
            pending.extend(entries.map(|entry| entry.path()));
        }
    }
    // Inside a closed home nobody else reaches a file, whatever its mode; keys are kept stricter.
    let keys = home.join("keys");
    match loose.iter().find(|(path, _)| path == home || path.starts_with(&keys)) {
        Some((path, mode)) => {
            let what = format!("{} is open to others (mode {mode:o})", path.display());
            checks.problem("permissions", what, format!("run `chmod -R go-rwx '{}'`", home.display()));
        }
        None => checks.ok("permissions", format!("{} is closed to others", home.display())),
    }
    if let Some(path) = foreign.first() {
        let what = format!("{} files belong to another user, first {}", foreign.len(), path.display());
        checks.problem("ownership", what, "run the command as the home's owner, or change the owner back");
    }
}

fn markers(home: &Path, checks: &mut Checks) {
    let read = |name: &str| {
        let text =
            std::fs::read(home.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).chars().take(64).collect());
        text.map(|text: String| text.trim().to_owned())
    };
    match read("format") {
        Ok(text) if text == "palyra-ledger 1" => checks.ok("format", text),
        Ok(text) => {
            checks.problem(
                "format",
                format!("the marker says `{text}`"),
                "use the program version that made this ledger",
            );
        }
        Err(error) => {
            checks.problem(
                "format",
                format!("the marker does not read: {error}"),
                "restore it: `palyra-ledger 1` on one line",
            );
        }
    }
    let remedy = "restore it: the backend's name on one line, `ledger` unless the secrets were moved";
    match read("backend.kind").map(|text| (text.parse::<BackendKind>(), text)) {
        // What is in a backend elsewhere is looked at once the ledger is open.
        Ok((Ok(BackendKind::Ledger), _)) => checks.ok("backend", "secrets are kept in the log itself"),
        Ok((Ok(kind), _)) => checks.ok("backend", format!("the marker says that secrets are kept in `{kind}`")),
        Ok((Err(_), text)) => checks.problem("backend", format!("the marker says `{text}`"), remedy),
        Err(error) => checks.problem("backend", format!("the marker does not read: {error}"), remedy),
    }
}

fn config(home: &Path, checks: &mut Checks) {
    let path = home.join("config.toml");
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            checks.ok("config", "no config.toml: the defaults hold");
        }
        Err(error) => {
            checks.problem("config", format!("config.toml does not read: {error}"), "mend or remove the file");
        }
        Ok(text) => match Settings::parse(&text) {
            Ok(settings) => {
                checks.ok(
                    "config",
                    format!("config.toml reads; audit.reads = {:?}", settings.audit.reads).to_lowercase(),
                );
                anchors(home, &settings, checks);
            }
            Err(error) => checks.problem("config", format!("config.toml: {error}"), "mend or remove the file"),
        },
    }
}

/// An anchor on the home's own file system goes with it.
fn anchors(home: &Path, settings: &Settings, checks: &mut Checks) {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    for file in &settings.anchors.files {
        let there = file.parent().and_then(device);
        if there.is_some() && there == device(home) {
            let what = format!("{} is on the same file system as the home", file.display());
            checks.warn("anchors", what, "name a file on another disk or machine: a snapshot of this one holds both");
        }
    }
}

fn key_slots(home: &Path, checks: &mut Checks) {
    let dir = home.join("keys");
    let ring = match keys::read(&RealMedium, &dir) {
        Ok((current, next)) => {
            if next.is_some() {
                checks.warn(
                    "key ring",
                    "a change of keys was not finished",
                    "any command that writes finishes or drops it",
                );
            }
            current.or(next)
        }
        Err(error) => {
            checks.problem("key ring", error.to_string(), "restore the `keys` folder from a backup");
            return;
        }
    };
    let Some(ring) = ring else {
        checks.problem("key ring", "there is no key ring", "restore the `keys` folder from a backup");
        return;
    };
    let mut unattended = 0;
    let mut passphrases = 0;
    let mut keystores = 0;
    let mut recoveries = 0;
    let mut away = 0;
    for slot in ring.slots() {
        let place = format!("slot {} ({})", slot.id(), slot.label());
        match slot.kind() {
            SlotKind::Passphrase => passphrases += 1,
            SlotKind::Recovery => recoveries += 1,
            SlotKind::OsKeystore => match ring.unlock(&RealMedium, &dir, Some(slot.id()), &Credential::None) {
                Ok(unlocked) => {
                    keystores += 1;
                    if slot.id() == ring.pinned() {
                        head_file(home, &ring, &unlocked, checks);
                    }
                }
                Err(error) => {
                    away += 1;
                    checks.warn(
                        "key slots",
                        format!("{place} does not open now: {error}"),
                        "run the doctor where that keystore is reachable and unlocked, or use another slot with --slot ID",
                    );
                }
            },
            SlotKind::File => match ring.unlock(&RealMedium, &dir, Some(slot.id()), &Credential::None) {
                Ok(unlocked) => {
                    unattended += 1;
                    if slot.id() == ring.pinned() {
                        head_file(home, &ring, &unlocked, checks);
                    }
                }
                Err(error) => {
                    let remedy = "put the key file back, or remove the slot: `palyra-ledger keys remove-slot ID`";
                    checks.problem("key slots", format!("{place} does not open: {error}"), remedy);
                }
            },
        }
    }
    let words = if recoveries > 0 { format!(", {recoveries} by recovery words") } else { String::new() };
    let what = format!(
        "{unattended} opened by key file, {keystores} by the system's keystore, {passphrases} by passphrase{words} (not tried); {} is pinned",
        ring.pinned()
    );
    if unattended + passphrases + keystores + recoveries + away == 0 {
        checks.problem("key slots", "no slot opens", "restore the `keys` folder from a backup");
    } else if ring.slots().len() == 1 {
        checks.warn(
            "key slots",
            what,
            "a second way in is a lifeline: `palyra-ledger keys add-slot passphrase --label NAME`, or `keys add-slot recovery`",
        );
    } else if passphrases + recoveries == 0 {
        checks.warn(
            "key slots",
            what,
            "every one needs this machine: words for the drawer open backups, too (`palyra-ledger keys add-slot recovery`)",
        );
    } else {
        checks.ok("key slots", what);
    }
}

fn head_file(home: &Path, ring: &KeyRing, unlocked: &Unlocked, checks: &mut Checks) {
    let key = unlocked.ledger_key().subkey(labels::HEAD_MAC);
    let opened = crate::log::HeadFile::open(&RealMedium, &home.join("head"), ring.ledger_id(), Some(&key), false);
    match opened {
        Ok((_, head)) => checks.ok("head file", format!("authentic; names event {}", head.seq)),
        Err(error) => checks.problem("head file", error.to_string(), "`palyra-ledger doctor --repair` writes it anew"),
    }
}

fn quarantine(home: &Path, checks: &mut Checks) {
    let entries = std::fs::read_dir(home.join("quarantine")).into_iter().flatten().filter_map(Result::ok);
    let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    match names.first() {
        None => checks.ok("quarantine", "empty"),
        Some(first) => checks.warn(
            "quarantine",
            format!("{} pieces of evidence, first {first}", names.len()),
            "look at what happened with `palyra-ledger log show`; remove them when they are not needed",
        ),
    }
}

fn spool(home: &Path, checks: &mut Checks) {
    let bytes = std::fs::symlink_metadata(home.join("reads.spool")).map_or(0, |meta| meta.len());
    if bytes > limits::SPOOL_BYTES_MAX / 2 {
        let what = format!("{bytes} bytes of reads wait to be folded into the log");
        checks.warn("read spool", what, "any command that writes folds them in");
    } else {
        checks.ok("read spool", format!("{bytes} bytes wait"));
    }
}

fn is_leftover(name: &str) -> bool {
    [staging::INIT, staging::RESTORE, staging::BACKUP].iter().any(|prefix| name.starts_with(prefix))
}

/// What interrupted work left beside the home. What somebody fills at this moment is none.
fn leftovers(home: &Path, checks: &mut Checks) {
    let parent = home.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let entries = std::fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter(|entry| is_leftover(&entry.file_name().to_string_lossy()));
    let mut left: Vec<_> = named.map(|entry| entry.path()).filter(|path| !staging::is_held(path)).collect();
    left.sort();
    let holds_keys = |path: &&PathBuf| path.join("keys").is_dir();
    if let Some(first) = left.iter().find(holds_keys) {
        let what = format!(
            "{} pieces of unfinished work beside this home; {} may hold the root key of a ledger",
            left.len(),
            first.display()
        );
        let remedy = format!(
            "nobody needs it: `rm -r '{}'`; the next `backup restore` beside it removes what an interrupted one left",
            first.display()
        );
        checks.warn("leftovers", what, remedy);
    } else if let Some(first) = left.first() {
        let what = format!("{} pieces of unfinished work beside this home, first {}", left.len(), first.display());
        let remedy = "an interrupted `init`, `backup create` or `backup restore` left them: nobody needs them, and they may be removed";
        checks.warn("leftovers", what, remedy);
    }
}
