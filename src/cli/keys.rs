//! `keys`: the ways in, and rotation.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::base::{SecretBytes, SlotId};
use crate::engine::Ledger;
use crate::keys::{KeySlot, KeysError, NewSlot, SlotKind};

use super::exit::Failure;
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
    /// Passphrase of a slot that is carried over, in the file's first line; otherwise it is asked for
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
    for slot in slots.iter().filter(|slot| slot.kind() == SlotKind::Passphrase && !args.drop.contains(&slot.id())) {
        let id = slot.id();
        let named = args.slot_passphrase_file.iter().find(|(named, _)| *named == id);
        let passphrase = match (named, invocation.passphrase_used()) {
            (Some((_, file)), _) => invocation.first_line(file)?,
            (None, Some(used)) if id == opened => used,
            (None, _) if invocation.seat.is_terminal() => {
                invocation.prompt(&format!("passphrase of key slot {id} ({}): ", slot.label()))?
            }
            (None, _) => return Err(crate::engine::Error::from(KeysError::SlotNeedsCredential { slot: id }).into()),
        };
        found.push((id, passphrase));
    }
    Ok(found)
}
