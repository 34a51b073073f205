//! Envelopes are bound to their place: each opens there, and nowhere else.

use std::path::Path;

use palyra_ledger::crypto::Key;
use palyra_ledger::event::Event;
use palyra_ledger::examine::{self, Asked, Keys};
use palyra_ledger::inspect::Course;
use palyra_ledger::keys::{self, KeyTable};
use palyra_ledger::vault::open_envelope;
use palyra_ledger::{Credential, LedgerId, Scope, SecretName, SecretPath};

use super::corpus::Corpus;
use super::files::Files;
use crate::Fault;

/// Where an envelope is opened.
#[derive(Debug, Clone)]
pub struct Place {
    ledger: LedgerId,
    path: SecretPath,
    version: u32,
}

/// Whether an envelope opens in a place.
pub type Opens<'a> = &'a dyn Fn(&Place, &Key, &[u8]) -> bool;

/// As the library does it.
pub fn really(place: &Place, key: &Key, envelope: &[u8]) -> bool {
    open_envelope(place.ledger, key, &place.path, place.version, envelope).is_ok()
}

/// As it would be if the scope were not in the associated data: whichever scope it was sealed for will do.
pub fn scopeless(place: &Place, key: &Key, envelope: &[u8]) -> bool {
    let scopes = ["global", "principal:ana", "skill:mail"].iter().filter_map(|scope| scope.parse::<Scope>().ok());
    let mut places = scopes.map(|scope| {
        let path = SecretPath { scope, name: place.path.name.clone() };
        Place { path, ..place.clone() }
    });
    places.any(|place| really(&place, key, envelope))
}

/// As it would be if the version were not in it.
pub fn versionless(place: &Place, key: &Key, envelope: &[u8]) -> bool {
    (1..=40).any(|version| really(&Place { version, ..place.clone() }, key, envelope))
}

struct Held {
    place: Place,
    slot: u64,
    envelope: Vec<u8>,
}

/// Every live envelope of a ledger.
fn envelopes(corpus: &Corpus) -> Result<Vec<Held>, Fault> {
    let files = &corpus.files;
    let opened = Keys::open(files, Path::new("keys"), None, &Credential::None)?;
    let course = Course::of_home(files, Path::new(""))?;
    let live = |slot: u64| corpus.slots.iter().any(|known| known.slot == slot && !known.shredded);
    let mut held = Vec::new();
    let asked = Asked { keys: Some(&opened), ..Asked::default() };
    examine::verify_opened(files, &course, &asked, &mut |_, _, entry| {
        if let Some(Event::SecretPut(put)) = entry.map(|entry| &entry.event)
            && live(put.slot)
        {
            let path = SecretPath { scope: put.scope.clone(), name: put.name.clone() };
            let place = Place { ledger: corpus.id, path, version: put.version };
            held.push(Held { place, slot: put.slot, envelope: put.envelope.clone() });
        }
    });
    Ok(held)
}

/// Opens every envelope in its own place, and in others that differ in one thing; says how many others.
pub fn check(corpus: &Corpus, opens: Opens<'_>) -> Result<u64, Fault> {
    let files: &Files = &corpus.files;
    let dir = Path::new("keys");
    let ring = keys::read(files, dir)?.0.ok_or("there is no key ring")?;
    let kek = ring.unlock(files, dir, None, &Credential::None)?.kek();
    let table = KeyTable::open(files, dir, corpus.id, corpus.generation, false)?;
    let held = envelopes(corpus)?;
    let mut tried = 0;
    for (at, one) in held.iter().enumerate() {
        let key = table.slot_key(&kek, one.slot)?;
        let place = &one.place;
        let shown = format!("--seed {}: version {} of {}", corpus.seed, place.version, place.path);
        if !opens(place, &key, &one.envelope) {
            return Err(format!("{shown} does not open in its own place").into());
        }
        let other: &Held = held.get((at + 1) % held.len()).ok_or("no envelope")?;
        let scope: Scope = if place.path.scope == Scope::global() { "skill:mail".parse()? } else { Scope::global() };
        let name: SecretName = format!("{}-", place.path.name).parse()?;
        let with = |path: SecretPath| Place { path, ..place.clone() };
        let places = [
            ("under another scope", with(SecretPath { scope, name: place.path.name.clone() })),
            ("under another name", with(SecretPath { scope: place.path.scope.clone(), name })),
            ("as another version", Place { version: place.version + 1, ..place.clone() }),
            ("in another ledger", Place { ledger: LedgerId::from_bytes([7; 16]), ..place.clone() }),
        ];
        for (how, elsewhere) in &places {
            tried += 1;
            if opens(elsewhere, &key, &one.envelope) {
                return Err(format!("{shown} opens {how}").into());
            }
        }
        tried += 1;
        if held.len() > 1 && opens(place, &table.slot_key(&kek, other.slot)?, &one.envelope) {
            return Err(format!("{shown} opens with the key of another").into());
        }
    }
    if tried == 0 { Err("a ledger has no envelope".into()) } else { Ok(tried) }
}
