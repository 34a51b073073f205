//! Opening: lock, keys, head, journal, index, in the order that lets nothing be destroyed before it
//! was compared.
//!
//! What a crash left is mended here, each in a way that a second crash only repeats: a torn group is
//! cut off after it was saved; a key ring that the log committed is promoted, one that it did not is
//! discarded; shreds that were recorded are carried out; the index catches up with the journal.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock, mpsc};

use crate::base::{BackendKind, Caller, LedgerId, StateRead, Timestamp, limits};
use crate::crypto::{Hash, Key, labels};
use crate::event::system::{HeadRestored, TailDropped};
use crate::event::{self, Event};
use crate::keys::{self, KeyRing, KeyTable, Unlocked};
use crate::log::{Frame, Head, HeadError, HeadFile, Journal, Last, Position, Tail};
use crate::projection::{Index, IndexError, IndexMode};
use crate::store::{Medium, RealMedium};
use crate::vault;

use super::config::Config;
use super::core::{Core, Layout, Queue, Signal, TableState};
use super::error::Error;
use super::fold::{self, STATE_SCHEMA};
use super::future::{self, Unknown};
use super::history;
use super::home;
use super::lock::HomeLock;
use super::outside::Outside;
use super::overlay::Overlay;
use super::reads;
use super::recover::{self, Found};
use super::restore::{self, Restored};
use super::rollback;

/// An opened ledger and what opening it found.
pub struct Opened {
    /// The ledger.
    pub core: Arc<Core>,
    /// What the head file said.
    pub head: Option<Head>,
}

/// What is opened before the journal.
struct Parts {
    layout: Layout,
    lock: Option<HomeLock>,
    marker: BackendKind,
    ring: KeyRing,
    unlocked: Unlocked,
    head_file: Option<HeadFile>,
    head: Option<Head>,
}

/// Mends the journal from the sled copy under the home's lock; see [`restore`].
pub fn repair(config: &Config) -> Result<Vec<Restored>, Error> {
    let parts = open_parts(config)?;
    // What a newer program wrote is not mended: it may be as it should be.
    let layout = &parts.layout;
    let looked = Journal::open(
        Arc::clone(&config.medium),
        &layout.journal(),
        &layout.index(),
        parts.ring.ledger_id(),
        limits::SEGMENT_BYTES_MAX,
        None,
        false,
    );
    if let Err(error) = looked.map_err(Error::from)
        && error.is_from_the_future()
    {
        return Err(error);
    }
    // Where the journal's end is to be taken as it is, the head file does not say how long it must be.
    let durable = if config.accept_head { None } else { parts.head.map(|head| head.seq) };
    restore::restore(config, &parts.layout, parts.ring.ledger_id(), durable)
}

/// Opens the ledger at a home.
pub fn open(config: &Config) -> Result<Opened, Error> {
    let parts = open_parts(config)?;
    let settings = match &config.settings {
        Some(settings) => settings.clone(),
        None => home::settings(&*config.medium, &parts.layout)?,
    };
    let ledger_id = parts.ring.ledger_id();
    let index_key = parts.unlocked.ledger_key().subkey(labels::INDEX);
    let (index, folded) = open_index(config, &parts.layout, &index_key, ledger_id)?;
    let (journal, tail) = Journal::open(
        Arc::clone(&config.medium),
        &parts.layout.journal(),
        &parts.layout.index(),
        ledger_id,
        settings.log.segment_bytes,
        folded,
        !config.read_only,
    )?;
    compare_with_head(config, &journal, &tail, parts.head.as_ref())?;
    let end = tail.last.ok_or_else(|| Error::NoLedger { home: parts.layout.home.clone() })?;
    let mut outside =
        rollback::Opening::new(config, &settings.anchors, (ledger_id, &parts.unlocked), &journal, end.seq);
    // What the settings do not name, the state does: of an index that does not read, once it is made anew.
    match index.as_ref().map(|index| outside.compare(index)) {
        None | Some(Err(Error::Fold { .. })) => outside.compare_configured()?,
        Some(compared) => compared?,
    }
    let (index, folded) = matching(&journal, index, folded);
    let from = folded.map_or(0, |at| at.seq + 1);
    let last = match Unknown::find(&journal, from, end.seq)? {
        None => end,
        Some(unknown) if config.known_part => unknown.before(&journal)?.ok_or_else(|| unknown.refuse())?,
        Some(unknown) => return Err(unknown.refuse()),
    };
    if !config.read_only {
        future::check_others(config, &parts.layout, &parts.ring, parts.unlocked.ledger_key())?;
    }
    let index = match index {
        Some(index) => FoldedIndex { index, scratch: None },
        None => fresh_index(config, &parts.layout, &index_key, ledger_id)?,
    };
    let spill = !config.read_only || index.scratch.is_some();
    fold_tail(&journal, &index.index, &parts.unlocked, from, last.seq, spill)?;
    outside.compare(&index.index)?;
    if config.accept_rollback {
        outside.compare_recorded(&index.index, config.rollback_note.as_deref())?;
    }
    let given_up = outside.given_up();
    let dropped = drop_torn(config, &parts.layout, &journal, &tail)?;
    let branch = if config.accept_rollback && !config.read_only {
        let branches = history::branches(&index.index).map_err(|source| Error::Fold { seq: last.seq, source })?;
        let own = history::branch_at(&branches, u64::MAX);
        Some(rollback::branch_event(last, own, parts.head.as_ref(), given_up))
    } else {
        None
    };
    assemble(config, settings, parts, journal, index, last, Found { dropped, branch })
}

fn open_parts(config: &Config) -> Result<Parts, Error> {
    let layout = Layout { home: config.home.clone() };
    let lock = if config.lock {
        home::check(&config.home)?;
        home::check_markers(&*config.medium, &layout)?;
        Some(HomeLock::take(&layout.lock(), !config.read_only, config.lock_wait)?)
    } else {
        None
    };
    // Read under the lock: whoever had the home before may have switched it.
    let marker = home::check_markers(&*config.medium, &layout)?;
    let medium = &*config.medium;
    let (ring, unlocked) = unlock_ring(config, &layout)?;
    let mac_key = unlocked.ledger_key().subkey(labels::HEAD_MAC);
    let opened = HeadFile::open(medium, &layout.head(), ring.ledger_id(), Some(&mac_key), !config.read_only);
    let (head_file, head) = match opened {
        Ok((file, head)) => (Some(file), Some(head)),
        Err(HeadError::Store(_) | HeadError::Damaged { .. } | HeadError::Forged { .. }) if config.accept_head => {
            (None, None)
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Parts { layout, lock, marker, ring, unlocked, head_file, head })
}

/// Unlocks a key ring that can open every event. Which ring is in force, the log says later
/// ([`settle_ring`]). A staged one comes first: where its event is durable, events behind it may be sealed by
/// an epoch key that only it holds; where not, its epochs are still those of the one in force and one more.
fn unlock_ring(config: &Config, layout: &Layout) -> Result<(KeyRing, Unlocked), Error> {
    let (medium, dir) = (&*config.medium, layout.keys());
    let (current, next) = keys::read(medium, &dir)?;
    let unlock = |ring: &KeyRing| unlock(config, layout, ring);
    if let Some(next) = next
        && let Ok(unlocked) = unlock(&next)
    {
        return Ok((next, unlocked));
    }
    let ring = current.ok_or_else(|| Error::NoLedger { home: layout.home.clone() })?;
    let unlocked = unlock(&ring)?;
    Ok((ring, unlocked))
}

fn unlock(config: &Config, layout: &Layout, ring: &KeyRing) -> Result<Unlocked, keys::KeysError> {
    match &config.root {
        Some((root, slot)) => {
            let root = Key::from_slice(root.expose()).ok_or(keys::KeysError::RingAltered)?;
            ring.open_with_root(root, Some(*slot))
        }
        None => {
            let dir = layout.keys();
            ring.unlock_with(&*config.medium, &dir, &*config.keystore, config.slot, &config.credential)
        }
    }
}

fn open_index(
    config: &Config,
    layout: &Layout,
    key: &Key,
    ledger_id: LedgerId,
) -> Result<(Option<Index>, Option<Position>), Error> {
    if config.rebuild_index && !config.read_only {
        return Ok((None, None));
    }
    let mode = if config.read_only { IndexMode::Read } else { IndexMode::Write };
    match Index::open(Arc::clone(&config.medium), &layout.index(), key, ledger_id, STATE_SCHEMA, mode, &*config.random)
    {
        Ok((index, position)) => Ok((Some(index), position)),
        Err(IndexError::Rebuild { .. }) if !config.read_only => Ok((None, None)),
        Err(IndexError::Rebuild { .. } | IndexError::Newer { .. }) if config.known_part => Ok((None, None)),
        Err(error) => Err(error.into()),
    }
}

/// The head is compared with the journal before anything is changed and before sled is opened.
fn compare_with_head(config: &Config, journal: &Journal, tail: &Tail, head: Option<&Head>) -> Result<(), Error> {
    let Some(head) = head else { return Ok(()) };
    if config.accept_head {
        return Ok(());
    }
    let last = tail.last.map(|last| last.seq);
    if last.is_none_or(|last| last < head.seq) {
        return Err(Error::Truncated { last, head: head.seq });
    }
    if journal.position(head.seq)?.hash == head.hash { Ok(()) } else { Err(Error::HeadDiffers { seq: head.seq }) }
}

fn drop_torn(config: &Config, layout: &Layout, journal: &Journal, tail: &Tail) -> Result<Option<TailDropped>, Error> {
    let Some(torn) = tail.torn.as_ref().filter(|_| !config.read_only) else { return Ok(None) };
    config.medium.create_dir(&layout.quarantine())?;
    config.medium.sync_dir(&layout.home)?;
    let saved_as =
        free_name(&*config.medium, layout, &format!("{}-tail-{:020}", config.clock.now().as_millis(), torn.segment))?;
    let digest = journal.drop_torn(torn, Some(&layout.quarantine().join(&saved_as)))?;
    Ok(Some(TailDropped { segment: torn.segment, offset: torn.offset, bytes: torn.bytes, digest, saved_as }))
}

pub(super) fn free_name(medium: &dyn Medium, layout: &Layout, stem: &str) -> Result<String, Error> {
    for number in 0_u32.. {
        let name = if number == 0 { stem.to_owned() } else { format!("{stem}.{number}") };
        if !medium.exists(&layout.quarantine().join(&name))? {
            return Ok(name);
        }
    }
    Ok(stem.to_owned())
}

/// An index whose position is not in the journal belongs to another history: it is made anew.
fn matching(journal: &Journal, index: Option<Index>, folded: Option<Position>) -> (Option<Index>, Option<Position>) {
    match folded {
        Some(position) if !journal.position(position.seq).is_ok_and(|found| found.hash == position.hash) => {
            (None, None)
        }
        _ => (index, folded),
    }
}

/// An index, and the folder that it lives in where it is not the home's own.
struct FoldedIndex {
    index: Index,
    scratch: Option<tempfile::TempDir>,
}

/// An empty index: in the home, or beside it where only the known part of the log is folded.
fn fresh_index(config: &Config, layout: &Layout, key: &Key, ledger_id: LedgerId) -> Result<FoldedIndex, Error> {
    if config.known_part {
        let dir = super::replay::scratch_dir()?;
        let place = (Arc::new(RealMedium) as Arc<dyn Medium>, dir.path());
        // Under a key of its own: nothing reads it again.
        let key = Key::generate(&*config.random)?;
        let index = Index::scratch(place, &key, (ledger_id, STATE_SCHEMA), None, &*config.random)?;
        return Ok(FoldedIndex { index, scratch: Some(dir) });
    }
    if config.read_only {
        return Err(IndexError::Rebuild { reason: crate::projection::RebuildReason::Foreign }.into());
    }
    Ok(FoldedIndex { index: new_index(config, layout, key, ledger_id)?, scratch: None })
}

fn new_index(config: &Config, layout: &Layout, key: &Key, ledger_id: LedgerId) -> Result<Index, Error> {
    Index::discard(&*config.medium, &layout.index())?;
    config.medium.create_dir(&layout.index())?;
    Ok(Index::create(Arc::clone(&config.medium), &layout.index(), key, ledger_id, STATE_SCHEMA, &*config.random)?)
}

/// One decoded event on its way to the fold.
pub(super) struct Decoded {
    pub seq: u64,
    pub time: Timestamp,
    pub caller: Caller,
    pub event: Event,
    pub ends_batch: bool,
}

/// Opens and decodes one frame.
pub(super) fn decode_frame(frame: &Frame<'_>, unlocked: &Unlocked) -> Result<Decoded, Error> {
    let header = &frame.header;
    let seq = header.seq;
    let opener = unlocked.epoch(header.epoch)?;
    let body = frame.open(&opener).map_err(|source| Error::Sealed { seq, source })?;
    let (caller, event) =
        event::decode(header.kind, header.schema, &body).map_err(|source| Error::Codec { seq, source })?;
    let ends_batch = header.batch_index + 1 == header.batch_len;
    Ok(Decoded { seq, time: header.time, caller, event, ends_batch })
}

const CHUNK: usize = 512;

/// Reads, opens and decodes events on one thread while another visits them in order.
pub(super) fn decode_range(
    journal: &Journal,
    unlocked: &Unlocked,
    from: u64,
    to: u64,
    visit: &mut dyn FnMut(Decoded) -> Result<(), Error>,
) -> Result<(), Error> {
    if to < from {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel::<Result<Vec<Decoded>, Error>>(8);
        scope.spawn(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            let mut failed = None;
            let read = journal.read_range(from, to, &mut |frame| {
                match decode_frame(frame, unlocked) {
                    Ok(decoded) => chunk.push(decoded),
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
                if chunk.len() == CHUNK
                    && send.send(Ok(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK)))).is_err()
                {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            });
            // The receiver is gone only where the visitor failed first.
            let _ = send.send(Ok(chunk));
            if let Some(error) = failed.or(read.err().map(Error::from)) {
                let _ = send.send(Err(error));
            }
        });
        for chunk in receive {
            for decoded in chunk? {
                visit(decoded)?;
            }
        }
        Ok(())
    })
}

/// Folds the events that the index lacks.
fn fold_tail(
    journal: &Journal,
    index: &Index,
    unlocked: &Unlocked,
    from: u64,
    to: u64,
    flush: bool,
) -> Result<(), Error> {
    let mut fold_one = |decoded: Decoded| -> Result<(), Error> {
        let Decoded { seq, time, event, ends_batch, .. } = decoded;
        let delta = fold::apply(index, seq, time, &event).map_err(|source| Error::Fold { seq, source })?;
        index.apply(delta);
        if flush && ends_batch && index.should_flush() {
            index.freeze(journal.position(seq)?);
            index.flush_frozen()?;
        }
        Ok(())
    };
    if to.saturating_sub(from) < CHUNK as u64 {
        let mut failed = None;
        journal.read_range(from, to, &mut |frame| match decode_frame(frame, unlocked).and_then(&mut fold_one) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        return failed.map_or(Ok(()), Err);
    }
    decode_range(journal, unlocked, from, to, &mut fold_one)
}

fn assemble(
    config: &Config,
    settings: super::config::Settings,
    parts: Parts,
    journal: Journal,
    FoldedIndex { index, scratch }: FoldedIndex,
    last: Last,
    found: Found,
) -> Result<Opened, Error> {
    let Parts { layout, lock, marker, ring, unlocked, head_file, head } = parts;
    let system = fold::system(&index).map_err(|source| Error::Fold { seq: last.seq, source })?;
    let system = system.ok_or(Error::Fold { seq: 0, source: fold::FoldError::Creation })?;
    settle_marker(config, &layout, marker, &index)?;
    let (ring, unlocked) = settle_ring(config, &layout, ring, unlocked, system.keyring)?;
    let table =
        KeyTable::open(&*config.medium, &layout.keys(), ring.ledger_id(), ring.table_generation(), !config.read_only)?;
    let kek = unlocked.kek();
    let mac_key = unlocked.ledger_key().subkey(labels::HEAD_MAC);
    let counters = vault::counters(&index).map_err(|error| Error::Vault(error.into()))?;
    let restored = head_file.is_none().then_some(HeadRestored { seq: last.seq, hash: last.hash });
    let head_file = match head_file {
        Some(file) => Some(file),
        None if config.read_only => None,
        None => Some(restore_head(config, &layout, ring.ledger_id(), &mac_key, last)?),
    };
    let rewound =
        head.is_some_and(|head| head.seq > last.seq).then_some(HeadRestored { seq: last.seq, hash: last.hash });
    let core = Arc::new(Core {
        ledger_id: ring.ledger_id(),
        settings,
        read_only: config.read_only,
        background: config.background && !config.read_only,
        witness: config.witness && !config.read_only,
        argon_cost: config.argon_cost,
        medium: Arc::clone(&config.medium),
        clock: Arc::clone(&config.clock),
        latest: AtomicU64::new(last.time.as_millis()),
        registry: OnceLock::new(),
        awaited: AtomicUsize::new(0),
        random: Arc::clone(&config.random),
        head: head_file.map(|file| (file, mac_key)),
        ring: Mutex::new(ring),
        quiet: Mutex::default(),
        unlocked: RwLock::new(Arc::new(unlocked)),
        table: RwLock::new(TableState::new(table, kek, counters.next_slot)),
        queue: Mutex::new(Queue {
            next_seq: last.seq + 1,
            last_time: last.time,
            skewed: false,
            next_no: 1,
            waiting: VecDeque::new(),
            bytes: 0,
            leading: false,
            parked: Vec::new(),
            done: 1,
            dead: None,
            overlay: Overlay::default(),
            epoch: system.epoch,
        }),
        done: AtomicU64::new(1),
        listing: Mutex::default(),
        published: Condvar::new(),
        chain: Mutex::new(last.hash),
        visible: AtomicU64::new(last.seq + 1),
        outside: Outside::new(Arc::clone(&config.keystore)),
        reads: reads::ReadBuffer::default(),
        checkpoints: super::checkpoints::Checkpoints::default(),
        refusals: super::refusals::Refusals::default(),
        trust: OnceLock::new(),
        signal: Signal::default(),
        closing: AtomicBool::new(false),
        layout,
        journal,
        index,
        scratch,
        lock: Mutex::new(lock),
        closed: AtomicBool::new(false),
    });
    if !config.read_only {
        recover::recover(config, &core, found, restored.or(rewound), system.epoch_started)?;
    }
    Ok(Opened { core, head })
}

fn restore_head(
    config: &Config,
    layout: &Layout,
    ledger_id: LedgerId,
    mac_key: &Key,
    last: Last,
) -> Result<HeadFile, Error> {
    let path: PathBuf = layout.head();
    if config.medium.exists(&path)? {
        config.medium.create_dir(&layout.quarantine())?;
        let name = free_name(&*config.medium, layout, &format!("{}-head", config.clock.now().as_millis()))?;
        config.medium.rename(&path, &layout.quarantine().join(name))?;
        config.medium.sync_dir(&layout.quarantine())?;
    }
    let head = Head { seq: last.seq, hash: last.hash, time: last.time, witness_clean: false, witness_next: 0 };
    let file = HeadFile::create(&*config.medium, &path, ledger_id, mac_key, &head)?;
    config.medium.sync_dir(&layout.home)?;
    Ok(file)
}

/// Marker and log must name the same backend. Between a switch and its end the log may be ahead: the marker
/// follows it then. Anything else is never settled by guessing.
fn settle_marker(config: &Config, layout: &Layout, marker: BackendKind, index: &Index) -> Result<(), Error> {
    let state = vault::backend(index).map_err(|error| Error::Vault(error.into()))?;
    if marker == state.kind {
        return Ok(());
    }
    if !state.switched || state.other != Some(marker) {
        return Err(Error::BackendDiffers { path: layout.backend(), marker, log: state.kind });
    }
    if !config.read_only {
        config.medium.write_atomic(&layout.backend(), home::marker(state.kind).as_bytes())?;
    }
    Ok(())
}

/// The log says which key ring is the committed one.
fn settle_ring(
    config: &Config,
    layout: &Layout,
    ring: KeyRing,
    unlocked: Unlocked,
    committed: Hash,
) -> Result<(KeyRing, Unlocked), Error> {
    let medium = &*config.medium;
    let settled = if config.read_only {
        let (current, next) = keys::read(medium, &layout.keys())?;
        [current, next].into_iter().flatten().find(|ring| ring.digest() == committed)
    } else {
        Some(keys::settle(medium, &layout.keys(), committed)?)
    };
    match settled {
        Some(settled) if settled.digest() == ring.digest() => Ok((ring, unlocked)),
        Some(settled) => {
            let unlocked = unlock(config, layout, &settled)?;
            Ok((settled, unlocked))
        }
        None => Err(keys::KeysError::RingNotCommitted.into()),
    }
}

/// A state root: BLAKE3 over every key and value in order (DESIGN section 1.5).
pub(super) fn state_root(state: &dyn StateRead) -> Result<Hash, Error> {
    let mut hasher = crate::crypto::Hasher::new(labels::STATE_ROOT);
    state.scan(&[], &[], &mut |key, value| {
        hash_entry(&mut hasher, key, value);
        ControlFlow::Continue(())
    })?;
    Ok(hasher.finish())
}

/// Adds one entry to a state root.
pub(super) fn hash_entry(hasher: &mut crate::crypto::Hasher, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        hasher.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        hasher.update(part);
    }
}
