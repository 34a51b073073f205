//! `keys`: the ways in, and rotation.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use crate::base::{OsRandom, SecretBytes, SlotId};
use crate::engine::Ledger;
use crate::keys::{KeySlot, KeysError, NewSlot, RECOVERY_WORDS, RecoveryWords, SlotKind};

use super::exit::{ExitCode, Failure};
use super::init::slot_json;
use super::invocation::{Access, Invocation};

/// What `keys` does.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the key slots: each opens the ledger by itself
    Slots,
    /// Add a key slot
    #[command(subcommand)]
    AddSlot(AddSlot),
    /// Remove a key slot
    RemoveSlot(RemoveSlot),
    /// Start a new epoch key, or replace the root key
    Rotate(Rotate),
}

/// Which kind of slot to add.
#[derive(Debug, Subcommand)]
pub enum AddSlot {
    /// Opened by a key file in the home's keys folder
    File {
        /// What to call it
        #[arg(long, default_value = "file")]
        label: String,
    },
    /// Opened by the operating system's keystore, without a prompt as long as that is unlocked
    OsKeystore {
        /// What to call it
        #[arg(long, default_value = "os-keystore")]
        label: String,
    },
    /// Opened by 24 words that are shown once and kept nowhere: for the drawer
    Recovery {
        /// What to call it
        #[arg(long, default_value = "recovery")]
        label: String,
        /// Write the words to this new file (mode 0600) instead of the terminal
        #[arg(long, value_name = "FILE")]
        out_file: Option<PathBuf>,
    },
    /// Opened by a passphrase
    Passphrase {
        /// What to call it
        #[arg(long, default_value = "passphrase")]
        label: String,
        /// File whose first line is the new passphrase; otherwise it is asked for
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
}

/// Which slot to remove.
#[derive(Debug, Args)]
pub struct RemoveSlot {
    /// The slot
    id: SlotId,
    /// The slot that opens the ledger by default from now on
    #[arg(long, value_name = "ID")]
    pin: Option<SlotId>,
}

/// What to rotate.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Replace the root key and re-wrap everything under it; without this only a new epoch starts
    #[arg(long)]
    root: bool,
    /// Drop this key slot instead of carrying it over
    #[arg(long, value_name = "ID", requires = "root")]
    drop: Vec<SlotId>,
    /// Passphrase or recovery words of a slot that is carried over, in the file's first line; otherwise it is asked for
    #[arg(long, value_name = "ID=FILE", requires = "root", value_parser = slot_file)]
    slot_passphrase_file: Vec<(SlotId, PathBuf)>,
}

fn slot_file(text: &str) -> Result<(SlotId, PathBuf), String> {
    let (id, file) = text.split_once('=').ok_or("expected ID=FILE")?;
    let id = id.parse::<SlotId>().map_err(|error| error.to_string())?;
    if file.is_empty() { Err("expected ID=FILE".to_owned()) } else { Ok((id, file.into())) }
}

/// Runs `keys`.
pub fn run(invocation: &Invocation, command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Slots => slots(invocation),
        KeysCommand::AddSlot(slot) => add(invocation, slot),
        KeysCommand::RemoveSlot(args) => remove(invocation, &args),
        KeysCommand::Rotate(args) => rotate(invocation, &args),
    }
}

fn slots(invocation: &Invocation) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let (slots, pinned) = ledger.keys().slots();
    let out = &invocation.out;
    if out.is_json() {
        let slots: Vec<_> = slots.iter().map(|slot| slot_json(slot, pinned)).collect();
        out.json(&json!({"slots": slots}))?;
    } else {
        let rows: Vec<_> = slots.iter().map(|slot| row(slot, pinned)).collect();
        out.table(&["SLOT", "KIND", "LABEL", "CREATED", "PINNED"], &rows)?;
    }
    invocation.close(&ledger);
    Ok(())
}

fn row(slot: &KeySlot, pinned: SlotId) -> Vec<String> {
    vec![
        slot.id().to_string(),
        slot.kind().name().to_owned(),
        slot.label().to_owned(),
        super::time::second(slot.created_at()),
        if slot.id() == pinned { "yes".to_owned() } else { String::new() },
    ]
}

fn add(invocation: &Invocation, slot: AddSlot) -> Result<(), Failure> {
    let new = match slot {
        AddSlot::File { label } => NewSlot::file(label),
        AddSlot::OsKeystore { label } => NewSlot::os_keystore(label),
        AddSlot::Recovery { label, out_file } => return add_recovery(invocation, &label, out_file.as_deref()),
        AddSlot::Passphrase { label, new_passphrase_file } => {
            invocation.new_passphrase_slot(&label, new_passphrase_file.as_deref())?
        }
    };
    let ledger = invocation.open(Access::Write)?;
    let added = ledger.keys().add_slot(new)?;
    let (_, pinned) = ledger.keys().slots();
    let out = &invocation.out;
    if out.is_json() {
        out.json(&slot_json(&added, pinned))?;
    } else {
        out.line(&format!("added key slot {} ({}, {:?})", added.id(), added.kind().name(), added.label()))?;
    }
    invocation.close(&ledger);
    Ok(())
}

/// Adds a slot whose words are shown once. A file is written before the slot is there, so that no slot is without
/// its words; on a terminal the words follow the slot, so that nobody writes down words that open nothing.
fn add_recovery(invocation: &Invocation, label: &str, file: Option<&Path>) -> Result<(), Failure> {
    let out = &invocation.out;
    if file.is_none() && !out.is_terminal() {
        return Err(Failure::usage(
            "recovery words are shown on a terminal or written to a file of their own, and nowhere else",
            "run the command on a terminal, or name a new file with --out-file",
        ));
    }
    let failed = |error| Failure::new(ExitCode::Io, format!("cannot write the recovery words: {error}"), "");
    let ledger = invocation.open(Access::Write)?;
    let words = RecoveryWords::generate(&OsRandom).map_err(crate::engine::Error::from)?;
    let text = words.text();
    if let Some(path) = file {
        let mut made = invocation.seat.create_new(path).map_err(failed)?;
        made.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        made.write_all(text.expose()).and_then(|()| made.write_all(b"\n")).map_err(failed)?;
        made.sync_all().map_err(failed)?;
    }
    let added = ledger.keys().add_slot(NewSlot::recovery(label, &words))?;
    let (_, pinned) = ledger.keys().slots();
    invocation.close(&ledger);
    if out.is_json() {
        let mut shown = slot_json(&added, pinned);
        if let (Some(shown), Some(path)) = (shown.as_object_mut(), file) {
            shown.insert("out".to_owned(), path.to_string_lossy().into());
        }
        out.json(&shown)?;
    } else {
        out.line(&format!("added key slot {} ({}, {:?})", added.id(), added.kind().name(), added.label()))?;
    }
    match file {
        Some(path) => out.note(&format!(
            "its {RECOVERY_WORDS} words are in {}: write them down, put them away, and remove the file",
            path.display()
        )),
        None => {
            out.note("write these words down and put them away; they open every backup, and are not shown again:");
            out.value(&in_rows(&text))?;
        }
    }
    Ok(())
}

/// The words with their numbers, in rows of six; wiped afterwards.
fn in_rows(text: &SecretBytes) -> Zeroizing<Vec<u8>> {
    let mut rows = Zeroizing::new(Vec::with_capacity(RECOVERY_WORDS * 16));
    for (at, word) in text.expose().split(|byte| *byte == b' ').enumerate() {
        rows.extend_from_slice(format!("{:>3}. ", at + 1).as_bytes());
        rows.extend_from_slice(word);
        rows.extend(std::iter::repeat_n(b' ', 9_usize.saturating_sub(word.len())));
        if at % 6 == 5 {
            rows.push(b'\n');
        }
    }
    rows
}

fn remove(invocation: &Invocation, args: &RemoveSlot) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Write)?;
    ledger.keys().remove_slot(args.id, args.pin)?;
    let (_, pinned) = ledger.keys().slots();
    let out = &invocation.out;
    if out.is_json() {
        out.json(&json!({"removed": args.id, "pinned": pinned}))?;
    } else {
        out.line(&format!("removed key slot {}; slot {pinned} opens the ledger by default", args.id))?;
    }
    invocation.close(&ledger);
    Ok(())
}

fn rotate(invocation: &Invocation, args: &Rotate) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Write)?;
    let epoch = if args.root {
        let passphrases = carried_over(invocation, &ledger, args)?;
        ledger.keys().rotate_root(&passphrases, &args.drop)?
    } else {
        ledger.keys().rotate_epoch()?
    };
    let root_generation = ledger.status()?.system.root_generation;
    let out = &invocation.out;
    if out.is_json() {
        out.json(&json!({"epoch": epoch, "root_generation": root_generation, "dropped": args.drop}))?;
    } else if args.root {
        out.line(&format!("root key replaced (generation {root_generation}); epoch {epoch} has begun"))?;
    } else {
        out.line(&format!("epoch {epoch} has begun"))?;
    }
    invocation.close(&ledger);
    Ok(())
}

/// The passphrases of every slot that needs one to be carried over.
fn carried_over(
    invocation: &Invocation,
    ledger: &Ledger,
    args: &Rotate,
) -> Result<Vec<(SlotId, SecretBytes)>, Failure> {
    let (slots, pinned) = ledger.keys().slots();
    let opened = invocation.global.slot.unwrap_or(pinned);
    let mut found = Vec::new();
    let known = |slot: &&KeySlot| matches!(slot.kind(), SlotKind::Passphrase | SlotKind::Recovery);
    for slot in slots.iter().filter(known).filter(|slot| !args.drop.contains(&slot.id())) {
        let id = slot.id();
        let named = args.slot_passphrase_file.iter().find(|(named, _)| *named == id);
        let passphrase = match (named, invocation.passphrase_used()) {
            (Some((_, file)), _) => invocation.first_line(file)?,
            (None, Some(used)) if id == opened => used,
            (None, _) if invocation.seat.is_terminal() => {
                invocation.prompt(&format!("{} of key slot {id} ({}): ", slot.kind().known(), slot.label()))?
            }
            (None, _) => {
                let needs = KeysError::SlotNeedsCredential { slot: id, what: slot.kind().known() };
                return Err(crate::engine::Error::from(needs).into());
            }
        };
        found.push((id, passphrase));
    }
    Ok(found)
}
