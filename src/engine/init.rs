//! Creation: a whole ledger in a folder beside the home, renamed into place.
//!
//! A crash leaves no home, or a whole one; what it may leave beside it is named
//! `.palyra-init-<random>` and holds nothing that anybody relies on.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::{BackendKind, LedgerId, Timestamp, limits};
use crate::crypto::labels;
use crate::event::system::{LedgerCreated, SlotNote};
use crate::event::{self, Event};
use crate::keys::{self, KeyRing, KeyTable, NewSlot};
use crate::log::frame::{self, Header, Sealing};
use crate::log::{Group, Head, HeadFile, Journal, Last};
use crate::projection::Index;

use super::config::Config;
use super::core::Layout;
use super::error::Error;
use super::fold::{self, STATE_SCHEMA};
use super::{home, staging};

/// Makes a new ledger at the configured home; fails if anything is there.
pub fn init(config: &Config, first: &NewSlot) -> Result<(), Error> {
    let random = &*config.random;
    if config.lock {
        home::prepare(&config.home)?;
    }
    let parent = config.home.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let staging = Layout { home: parent.join(format!("{}{}", staging::INIT, LedgerId::from_bytes(random.array()?))) };
    let made = build(config, &staging, first).and_then(|()| {
        config.medium.rename(&staging.home, &config.home)?;
        config.medium.sync_dir(parent)?;
        Ok(())
    });
    if made.is_err() && config.lock {
        // Best effort: what stays behind is inert.
        let _ = std::fs::remove_dir_all(&staging.home);
    }
    made
}

fn build(config: &Config, layout: &Layout, first: &NewSlot) -> Result<(), Error> {
    let (medium, random) = (&*config.medium, &*config.random);
    let now = config.clock.now();
    let ledger_id = LedgerId::from_bytes(random.array()?);
    for folder in [&layout.home, &layout.keys(), &layout.index(), &layout.quarantine()] {
        medium.create_dir(folder)?;
    }
    let ca = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(|error| Error::CaKey(Box::new(error)))?;
    let ca_public_key = rcgen::PublicKeyData::subject_public_key_info(&ca);
    let ca_key = Zeroizing::new(ca.serialize_der());
    drop(ca);
    let (ring, unlocked, files) = KeyRing::create(random, ledger_id, ca_key, first, config.argon_cost, now)?;
    files.write(medium, &layout.keys())?;
    keys::create(medium, &layout.keys(), &ring)?;
    let table = KeyTable::create(medium, &layout.keys(), ledger_id, ring.table_generation())?;
    table.fill(&unlocked.kek(), random, limits::KEY_TABLE_FILL)?;
    let slots = ring.slots().iter().map(slot_note).collect();
    let created = LedgerCreated {
        ledger_id,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        ca_public_key,
        slots,
        keyring: ring.digest(),
    };
    let last = write_genesis(config, layout, ledger_id, &unlocked, now, created)?;
    let mac_key = unlocked.ledger_key().subkey(labels::HEAD_MAC);
    let head = Head { seq: last.seq, hash: last.hash, time: now, witness_clean: false, witness_next: 0 };
    HeadFile::create(medium, &layout.head(), ledger_id, &mac_key, &head)?;
    let settings = toml::to_string(&config.settings.clone().unwrap_or_default()).unwrap_or_default();
    medium.write_atomic(&layout.config(), settings.as_bytes())?;
    medium.write_atomic(&layout.backend(), home::marker(BackendKind::Ledger).as_bytes())?;
    // Late, so that little is left that could fail and leave an item behind.
    files.keep(&*config.keystore).map_err(keys::KeysError::KeystorePut)?;
    // The marker comes last: without it a folder is no ledger.
    medium.write_atomic(&layout.format(), home::FORMAT.as_bytes())?;
    for folder in [&layout.keys(), &layout.index(), &layout.quarantine(), &layout.home] {
        medium.sync_dir(folder)?;
    }
    Ok(())
}

fn write_genesis(
    config: &Config,
    layout: &Layout,
    ledger_id: LedgerId,
    unlocked: &keys::Unlocked,
    time: Timestamp,
    created: LedgerCreated,
) -> Result<Last, Error> {
    let settings = config.settings.clone().unwrap_or_default();
    let journal = Journal::create(
        Arc::clone(&config.medium),
        &layout.journal(),
        &layout.index(),
        ledger_id,
        settings.log.segment_bytes,
    )?;
    let event = Event::LedgerCreated(created);
    let body = event::encode(&config.caller, &event).map_err(|source| Error::Codec { seq: 0, source })?;
    let header = Header {
        ledger_id,
        seq: 0,
        prev: frame::genesis(ledger_id),
        time,
        group_start: 0,
        kind: body.kind,
        schema: body.schema,
        epoch: 0,
        batch_index: 0,
        batch_len: 1,
        body_len: 0,
        nonce: [0; 24],
        commitment: [0; 32],
    };
    let mut group = Group { bytes: Vec::new(), starts: vec![0], last: None };
    let opener = unlocked.epoch(0)?;
    let hash =
        frame::seal(header, &Sealing { opener: &opener, nonce: config.random.array()? }, &body.plain, &mut group.bytes);
    let last = Last { seq: 0, hash, time };
    group.last = Some(last);
    journal.append(&group)?;
    let index_key = unlocked.ledger_key().subkey(labels::INDEX);
    let index = Index::create(
        Arc::clone(&config.medium),
        &layout.index(),
        &index_key,
        ledger_id,
        STATE_SCHEMA,
        &*config.random,
    )?;
    index.apply(fold::apply(&index, 0, time, &event).map_err(|source| Error::Fold { seq: 0, source })?);
    index.freeze(journal.position(0)?);
    index.flush_frozen()?;
    journal.save_offsets();
    Ok(last)
}

/// What events record of a key slot.
pub(super) fn slot_note(slot: &keys::KeySlot) -> SlotNote {
    SlotNote { slot: slot.id(), kind: slot.kind().name().to_owned(), label: slot.label().to_owned() }
}
