//! `init`: a new ledger.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::base::{BackendKind, SlotId};
use crate::engine::Ledger;
use crate::keys::{KeySlot, NewSlot};

use super::exit::Failure;
use super::invocation::Invocation;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Open it by a passphrase instead of a key file in the home
    #[arg(long)]
    passphrase: bool,
    /// Open it by the operating system's keystore instead of a key file in the home
    #[arg(long, conflicts_with = "passphrase")]
    os_keystore: bool,
    /// File whose first line is the passphrase of the first slot
    #[arg(long, value_name = "FILE", requires = "passphrase")]
    new_passphrase_file: Option<PathBuf>,
    /// Where sealed values are kept; it can be changed later with `secrets migrate-backend`
    #[arg(long, value_name = "KIND", default_value = "ledger")]
    backend: BackendKind,
    /// What to call the first key slot
    #[arg(long, default_value = "first")]
    label: String,
}

/// Makes a ledger.
pub fn run(invocation: &Invocation, args: &InitArgs) -> Result<(), Failure> {
    let first = if args.passphrase {
        let file = args.new_passphrase_file.as_deref().or(invocation.global.passphrase_file.as_deref());
        invocation.new_passphrase_slot(&args.label, file)?
    } else if args.os_keystore {
        NewSlot::os_keystore(&args.label)
    } else {
        NewSlot::file(&args.label)
    };
    let ledger = Ledger::init_on(invocation.config()?, first, args.backend)?;
    let head = ledger.log().head()?;
    let (slots, pinned) = ledger.keys().slots();
    let home = std::path::absolute(invocation.home()?).unwrap_or_default();
    let out = &invocation.out;
    if out.is_json() {
        let slots: Vec<_> = slots.iter().map(|slot| slot_json(slot, pinned)).collect();
        out.json(&json!({
            "ledger_id": ledger.id(),
            "home": home.to_string_lossy(),
            "backend": args.backend.name(),
            "slots": slots,
            "head": {"seq": head.seq, "hash": head.hash},
        }))?;
    } else {
        out.line(&format!("made ledger {} at {}", ledger.id(), home.display()))?;
        for slot in &slots {
            out.line(&format!("key slot {} ({}, {:?})", slot.id(), slot.kind().name(), slot.label()))?;
        }
        out.line(&format!("head {} {}", head.seq, head.hash))?;
        if args.os_keystore {
            out.note(
                "it opens with this user's keystore alone: add a passphrase slot too, for the day that it is lost",
            );
        } else if !args.passphrase {
            out.note("its key lies in the home: add a passphrase slot too (`palyra-ledger keys add-slot passphrase`)");
        }
    }
    invocation.close(&ledger);
    Ok(())
}

/// A key slot in JSON.
pub fn slot_json(slot: &KeySlot, pinned: SlotId) -> Value {
    json!({
        "id": slot.id(),
        "kind": slot.kind().name(),
        "label": slot.label(),
        "created_at_ms": slot.created_at().as_millis(),
        "pinned": slot.id() == pinned,
    })
}
