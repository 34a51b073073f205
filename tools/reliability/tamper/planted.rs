//! What an examination would come to whose library left a check out: altered ledgers are made to fit with the ledger's own
//! keys where the check would have seen them. The suite must then say that its own class is not detected.

use std::path::Path;

use palyra_ledger::checkpoint;
use palyra_ledger::crypto::{Hash, keyed_hash, labels};
use palyra_ledger::keys::{self, Unlocked};
use palyra_ledger::log::frame::seal;
use palyra_ledger::log::{Frame, Sealing};
use palyra_ledger::{Credential, Timestamp};

use super::bound;
use super::class::{Case, below, between, flip, head, notes};
use super::corpus::{Corpus, checkpoint_of};
use super::cut::kept;
use super::files::Files;
use super::forged::forge_head;
use super::judge::Spot;
use super::log::{field, hash_of, number};
use super::{classes, judge};
use crate::Fault;
use crate::workload::Dice;

/// What became of a planted fault.
#[derive(Debug)]
pub struct Planted {
    /// The fault.
    pub what: &'static str,
    /// How it was planted.
    pub how: &'static str,
    /// Cases tried.
    pub tried: u64,
    /// What the suite said.
    pub seen: Option<String>,
}

struct Plant {
    what: &'static str,
    how: &'static str,
    /// The class whose check must see it.
    class: &'static str,
    make: fn(&Corpus, &Unlocked, &mut Dice) -> Option<Case>,
}

const PLANTS: &[Plant] = &[
    Plant {
        what: "checksums off: no hash of a frame, segment or head is compared",
        how: "a flipped bit, and every hash and the head file made to fit before the library looks",
        class: "bits of one to three events flipped",
        make: unhashed,
    },
    Plant {
        what: "the MAC of the head file is not compared",
        how: "the forged head file gets a MAC by the ledger's own key",
        class: "an end cut off, and a head file forged to fit",
        make: unmaced,
    },
    Plant {
        what: "a stale checkpoint is accepted as the newest",
        how: "the examiner is given an anchor of an earlier state",
        class: "an end cut off, and the head file with it",
        make: stale,
    },
    Plant {
        what: "the signature of a checkpoint is not compared",
        how: "what another key would have signed is signed by the ledger's own",
        class: "an own checkpoint by another key",
        make: unsigned,
    },
    Plant {
        what: "the header is left out of the associated data of a body",
        how: "the altered header is sealed anew with the epoch's own key",
        class: "a kind, schema or time altered, hashes made anew",
        make: headerless,
    },
];

/// Cases of each plant at most.
const CASES: u64 = 40;

/// Plants each of them in a ledger of this seed.
pub fn all(seed: u64) -> Result<Vec<Planted>, Fault> {
    let corpus = Corpus::new(seed)?;
    let dir = Path::new("keys");
    let ring = keys::read(&corpus.files, dir)?.0.ok_or("there is no key ring")?;
    let unlocked = ring.unlock(&corpus.files, dir, None, &Credential::None)?;
    let mut found = Vec::new();
    for plant in PLANTS {
        let class = classes().into_iter().find(|class| class.name == plant.class).ok_or("there is no such class")?;
        let mut planted = Planted { what: plant.what, how: plant.how, tried: 0, seen: None };
        for number in 0..CASES {
            let mut dice = Dice::of(seed, number);
            // The same class without the plant must be clean, or what is seen is not the plant.
            let sound = (class.make)(&corpus, &mut dice).map(|case| judge(&corpus, class, &case, number));
            if let Some(failure) = sound.and_then(|tally| tally.failures.into_iter().next()) {
                return Err(format!("without a plant: {failure}").into());
            }
            let Some(case) = (plant.make)(&corpus, &unlocked, &mut dice) else { continue };
            planted.tried += 1;
            let said = judge(&corpus, class, &case, number).failures.into_iter();
            planted.seen = said.filter(|failure| failure.contains("not detected")).map(|text| short(&text)).next();
            if planted.seen.is_some() {
                break;
            }
        }
        found.push(planted);
    }
    for (what, how, opens) in [
        (
            "the scope is dropped from the associated data of an envelope",
            "an opener that takes any scope",
            bound::scopeless as fn(&_, &_, &_) -> _,
        ),
        (
            "the version is dropped from the associated data of an envelope",
            "an opener that takes any version",
            bound::versionless,
        ),
    ] {
        let failed = bound::check(&corpus, &opens).err().map(|fault| fault.to_string());
        found.push(Planted { what, how, tried: 1, seen: failed });
    }
    Ok(found)
}

/// Without the findings behind it.
fn short(text: &str) -> String {
    text.split(", [").next().unwrap_or_default().chars().filter(|c| *c != '|').collect()
}

fn unhashed(corpus: &Corpus, _: &Unlocked, dice: &mut Dice) -> Option<Case> {
    let (mut frames, event) = (corpus.frames.clone(), below(dice, corpus.frames.len()));
    let frame = frames.get_mut(event)?;
    let at = palyra_ledger::log::frame::HEADER_LEN + below(dice, frame.len() - 200);
    flip(frame, at, dice);
    let mut files = corpus.files.clone();
    corpus.log.forge(frames, event, &mut files);
    forge_head(&mut files);
    files.remove(notes());
    Some(Case::new(files, vec![Spot::event(event)]))
}

fn unmaced(corpus: &Corpus, keys: &Unlocked, dice: &mut Dice) -> Option<Case> {
    // Near the end: a log that ends before the last rotation does not fit the key ring, which tells.
    let keep = between(dice, corpus.frames.len() - 3, corpus.frames.len())?;
    let mut files = kept(corpus, keep)?;
    forge_head(&mut files);
    files.remove(notes());
    let key = keys.ledger_key().subkey(labels::HEAD_MAC);
    for at in [0, 4096] {
        let (covered, mac) = files.edit(head()).get_mut(at..at + 128)?.split_at_mut(96);
        mac.copy_from_slice(&keyed_hash(&key, &[covered]).0);
    }
    Some(Case::new(files, vec![Spot::event(keep)]))
}

fn stale(corpus: &Corpus, keys: &Unlocked, dice: &mut Dice) -> Option<Case> {
    let older = usize::try_from(corpus.older.first()?.events).ok()?;
    let mut files = kept(corpus, between(dice, older, corpus.frames.len())?)?;
    files.remove(head());
    files.remove(notes());
    let key = checkpoint::signing_key(keys.ledger_key()).ok()?;
    let note = checkpoint_of(corpus.id, corpus.frames.get(..older)?, &key).ok()?;
    Some(Case::new(files, Vec::new()).anchored(note.note().as_bytes()))
}

fn unsigned(corpus: &Corpus, keys: &Unlocked, dice: &mut Dice) -> Option<Case> {
    let key = checkpoint::signing_key(keys.ledger_key()).ok()?;
    let size = between(dice, 1, corpus.frames.len() + 1)?;
    let note = checkpoint_of(corpus.id, corpus.frames.get(..size)?, &key).ok()?;
    let mut files: Files = corpus.files.clone();
    let held = files.edit(notes());
    held.extend_from_slice(note.note().as_bytes());
    held.push(b'\n');
    Some(Case::new(files, Vec::new()))
}

fn headerless(corpus: &Corpus, keys: &Unlocked, dice: &mut Dice) -> Option<Case> {
    let event = between(dice, 0, corpus.frames.len() - 1)?;
    let now = number(corpus.frames.get(event)?, &field::TIME);
    let room = number(corpus.frames.get(event + 1)?, &field::TIME).checked_sub(now).filter(|room| *room > 0)?;
    let mut later = Some(now + 1 + dice.below(room));
    let mut frames: Vec<Vec<u8>> = corpus.frames.get(..event)?.to_vec();
    // What follows is sealed under the hash before it, too.
    for old in corpus.frames.get(event..)? {
        let frame = Frame::parse(old).ok()?;
        let (mut header, opener) = (frame.header.clone(), keys.epoch(frame.header.epoch).ok()?);
        let body = frame.open(&opener).ok()?;
        header.time = later.take().map_or(header.time, Timestamp::from_millis);
        header.prev = frames.last().map_or(header.prev, |before| Hash(hash_of(before)));
        let sealing = Sealing { opener: &opener, nonce: header.nonce };
        let mut sealed = Vec::new();
        seal(header, &sealing, &body, &mut sealed);
        frames.push(sealed);
    }
    let mut files = corpus.files.clone();
    corpus.log.forge(frames, event, &mut files);
    files.remove(head());
    files.remove(notes());
    Some(Case::new(files, vec![Spot::event(event)]))
}
