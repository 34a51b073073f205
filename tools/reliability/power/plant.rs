//! Faults planted in recordings: each is what a careless program would have done, and each has to be seen.

use super::states::{Recording, Seen};
use super::subject;
use super::sweep::{Left, Sweep};
use super::trace::{Call, Step};
use crate::Fault;

/// What became of a planted fault.
#[derive(Debug)]
pub struct Planted {
    /// The fault.
    pub what: &'static str,
    /// States that were tried until it was seen, or all.
    pub states: u64,
    /// The first verdict that saw it.
    pub seen: Option<String>,
    /// Whether the time was over before it was seen, or could be.
    pub cut_short: bool,
    /// Whether a recording had a place for it; where the time was over before one was made, it is not said that none had.
    pub placed: bool,
}

/// Recordings in which a place is looked for: those of one seed may happen to have none.
const RECORDINGS: u64 = 4;

/// States of one plant that are tried at most: each was seen within some dozens, and what is not seen in so many is not
/// seen in time.
const STATES: u64 = 3_000;

/// A fault: what it is, in whose recording, and how it gets there; how many places it changed.
type Plant = (&'static str, &'static str, fn(&mut Recording) -> usize);

const PLANTS: &[Plant] = &[
    ("the journal is not synced", "vault", |r| undo(r, |call| syncs(call) && of(call, "/journal/"))),
    ("syncs are calls of sync_file_range", "vault", |r| {
        each(r, syncs, |call| "sync_file_range".clone_into(&mut call.name))
    }),
    ("acknowledged before the journal is synced", "vault", early),
    ("the journal is written after its sync", "vault", late),
    ("the journal is synced while it is being written", "vault", raced),
    ("one write of the journal is lost", "vault", |r| {
        let writes: Vec<usize> = numbers(r, |call| call.name == "pwrite64" && of(call, "/journal/"));
        let one = writes.get(writes.len() / 4).copied();
        one.and_then(|at| r.trace.calls.get_mut(at)).map_or(0, |call| {
            call.result = -1;
            1
        })
    }),
    ("a byte of the journal is altered on its way to the disk", "vault", altered),
    ("the folder of a new segment is not synced", "vault", |r| undo(r, |call| syncs(call) && ends(call, "/journal"))),
    ("the key of a new secret is not synced", "vault", |r| undo_within(r, " put ")),
    ("acknowledged, and never done", "vault", |r| {
        let said: Vec<usize> = numbers(r, |call| call.name == "write" && is_put(&call.bytes(1)));
        // One in the middle: it is acknowledged twice and done once, and every state behind it lacks a version.
        let one = said.get(said.len() / 2).and_then(|at| r.trace.calls.get_mut(*at));
        one.map_or(0, |call| {
            let (hex_try, hex_ack) = (r"\x74\x72\x79", r"\x61\x63\x6b");
            call.args.iter_mut().for_each(|arg| *arg = arg.replacen(hex_try, hex_ack, 1));
            1
        })
    }),
    ("the folder of a new home is not synced", "creation", |r| {
        let root = r.root.clone();
        undo(r, move |call| syncs(call) && call.fd_path(0).is_some_and(|path| path == root))
    }),
    ("the files of a new home are not synced", "creation", |r| {
        undo(r, |call| syncs(call) && of(call, "/.palyra-init-"))
    }),
    ("the key ring is not synced", "rotation", |r| undo(r, |call| syncs(call) && of(call, "/keys/keyring"))),
    ("the folder of the key ring is not synced", "rotation", |r| undo(r, |call| syncs(call) && ends(call, "/keys"))),
    ("the new key table of a rotation is not synced", "rotation", |r| undo_within(r, " root")),
    ("the overwritten key of a shredded secret is not synced", "shredding", |r| undo_within(r, " shred ")),
    ("an import is acknowledged before it is synced", "import", early),
];

/// Plants each of them; each has its part of what is left, and no more.
pub fn all(seed: u64, sweep: &mut Sweep, left: &Left) -> Result<Vec<Planted>, Fault> {
    let mut found = Vec::new();
    let mut last: Option<(&str, u64, Recording)> = None;
    let mut left = left.clone();
    for (at, (what, name, plant)) in PLANTS.iter().enumerate() {
        let subject = subject::named(name).ok_or("there is no such subject")?;
        let (mut placed, mut tried, mut at_seed) = (None, 0, seed);
        while placed.is_none() && tried < RECORDINGS && !left.is_over() {
            at_seed = seed.wrapping_add(tried);
            let recording = match last.take() {
                Some((same, its, recording)) if same == *name && its == at_seed => recording,
                _ => sweep.recording(subject, at_seed)?,
            };
            let mut planted = recording.clone();
            last = Some((name, at_seed, recording));
            placed = (plant(&mut planted) > 0).then_some(planted);
            tried += 1;
        }
        let Some(planted) = placed else {
            let over = tried < RECORDINGS;
            found.push(Planted { what, states: 0, seen: None, cut_short: over, placed: over });
            continue;
        };
        let mut share = left.share(PLANTS.len() - at).first_failure();
        share.bound(STATES);
        let tally = sweep.try_all(subject, &planted, at_seed, &mut share, &mut Seen::new())?;
        left.took(tally.states);
        let failure = tally.failures.into_iter().next();
        let cut_short = failure.is_none() && tally.cut_short && tally.states < STATES;
        found.push(Planted { what, states: tally.states, seen: failure, cut_short, placed: true });
    }
    Ok(found)
}

/// As if the syncs of key tables had failed, and nobody had looked, while a command with this word is under way.
fn undo_within(recording: &mut Recording, word: &str) -> usize {
    let (mut within, mut found) = (false, 0);
    for call in &mut recording.trace.calls {
        let said = if call.name == "write" { call.bytes(1) } else { Vec::new() };
        let text = String::from_utf8_lossy(&said);
        if text.contains(word) {
            within = text.starts_with("try ");
        }
        if within && syncs(call) && of(call, "/keys/table-") {
            call.result = -1;
            found += 1;
        }
    }
    found
}

fn syncs(call: &Call) -> bool {
    call.name == "fsync" || call.name == "fdatasync"
}

/// Whether a line says that a put begins: its loss shows, that of a rotation does not.
fn is_put(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    text.starts_with("try ") && text.contains(" put ")
}

/// Whether a call's descriptor lies at such a path.
fn of(call: &Call, part: &str) -> bool {
    call.fd_path(0).is_some_and(|path| String::from_utf8_lossy(&path).contains(part))
}

fn ends(call: &Call, part: &str) -> bool {
    call.fd_path(0).is_some_and(|path| path.ends_with(part.as_bytes()))
}

fn numbers(recording: &Recording, is: impl Fn(&Call) -> bool) -> Vec<usize> {
    recording.trace.calls.iter().enumerate().filter(|(_, call)| is(call)).map(|(at, _)| at).collect()
}

fn each(recording: &mut Recording, is: impl Fn(&Call) -> bool, change: impl Fn(&mut Call)) -> usize {
    let mut found = 0;
    for call in recording.trace.calls.iter_mut().filter(|call| is(call)) {
        change(call);
        found += 1;
    }
    found
}

/// As if the calls had failed, and nobody had looked.
fn undo(recording: &mut Recording, is: impl Fn(&Call) -> bool) -> usize {
    each(recording, is, |call| call.result = -1)
}

/// A byte of one write of the journal is another one. What is compared with the recorded program's own
/// result is not affected: that was done before.
fn altered(recording: &mut Recording) -> usize {
    let writes =
        numbers(recording, |call| call.name == "pwrite64" && of(call, "/journal/") && call.bytes(1).len() > 200);
    let one = writes.get(writes.len() / 4).copied();
    let Some(call) = one.and_then(|at| recording.trace.calls.get_mut(at)) else { return 0 };
    let Some(text) = call.args.get_mut(1) else { return 0 };
    // Every byte is shown as `\xNN`, in quotes: one of the sealed body.
    let at = 1 + 4 * 190;
    let other = if text.get(at..at + 4) == Some(r"\x00") { r"\x01" } else { r"\x00" };
    if text.get(at..at + 2) != Some(r"\x") {
        return 0;
    }
    text.replace_range(at..at + 4, other);
    1
}

fn enters(recording: &Recording, step: Step, is: impl Fn(&Call) -> bool) -> bool {
    matches!(step, Step::Enter(number) if recording.trace.calls.get(number).is_some_and(is))
}

fn journal_sync(call: &Call) -> bool {
    syncs(call) && of(call, "/journal/")
}

fn journal_write(call: &Call) -> bool {
    call.name == "pwrite64" && of(call, "/journal/")
}

/// Every acknowledgement comes before the last sync of the journal that stood before it.
fn early(recording: &mut Recording) -> usize {
    let mut steps: Vec<Step> = Vec::new();
    let (mut found, mut last) = (0, None);
    let all = recording.trace.steps.clone();
    for step in all {
        if enters(recording, step, journal_sync) {
            last = Some(steps.len());
        }
        let said = |call: &Call| call.name == "write" && call.bytes(1).starts_with(b"ack ");
        match last {
            Some(at) if enters(recording, step, said) => {
                steps.insert(at, step);
                last = None;
                found += 1;
            }
            _ => steps.push(step),
        }
    }
    recording.trace.steps = steps;
    found
}

/// Every write of the journal comes after the sync that stood behind it.
fn late(recording: &mut Recording) -> usize {
    delayed(
        recording,
        |recording, step| matches!(step, Step::Leave(number) if recording.trace.calls.get(number).is_some_and(journal_sync)),
    )
}

/// Every write of the journal returns after the sync that stood behind it was entered.
fn raced(recording: &mut Recording) -> usize {
    let mut steps: Vec<Step> = Vec::new();
    let (mut found, mut waiting) = (0, Vec::new());
    for step in recording.trace.steps.clone() {
        let returns = matches!(step, Step::Leave(at) if recording.trace.calls.get(at).is_some_and(journal_write));
        if returns {
            waiting.push(step);
            continue;
        }
        steps.push(step);
        if enters(recording, step, journal_sync) {
            found += waiting.len();
            steps.append(&mut waiting);
        }
    }
    steps.append(&mut waiting);
    recording.trace.steps = steps;
    found
}

fn delayed(recording: &mut Recording, until: impl Fn(&Recording, Step) -> bool) -> usize {
    let mut steps: Vec<Step> = Vec::new();
    let (mut found, mut waiting) = (0, Vec::new());
    for step in recording.trace.steps.clone() {
        let (Step::Enter(number) | Step::Leave(number)) = step;
        if recording.trace.calls.get(number).is_some_and(journal_write) {
            waiting.push(step);
            continue;
        }
        steps.push(step);
        if until(recording, step) {
            found += waiting.len();
            steps.append(&mut waiting);
        }
    }
    steps.append(&mut waiting);
    recording.trace.steps = steps;
    found
}
