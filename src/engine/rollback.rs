//! Anchors against the journal before a ledger is opened, and the branch that begins where an older copy was put
//! back on purpose.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::base::{LedgerId, StateRead};
use crate::checkpoint::{Branch, Fit, Settled, SignedCheckpoint, VerifierKey, fit, signing_key, verifier};
use crate::event::system::BranchStarted;
use crate::event::{Event, Kind};
use crate::keys::Unlocked;
use crate::log::{Head, Journal, Last};

use super::anchor_places::{Places, at_hand};
use super::anchors::{AnchorState, hash_at};
use super::config::{AnchorSettings, Config};
use super::error::Error;
use super::history;
use super::open::decode_frame;

/// Branches, as the events that begin them say.
fn branches(journal: &Journal, unlocked: &Unlocked, last: u64) -> Result<Vec<Branch>, Error> {
    let mut found = Ok(Vec::new());
    journal.read_range(0, last, &mut |frame| {
        if frame.header.kind != Kind::BranchStarted.number() {
            return ControlFlow::Continue(());
        }
        match (decode_frame(frame, unlocked).map(|decoded| decoded.event), &mut found) {
            (Ok(Event::BranchStarted(event)), Ok(known)) => {
                known.push(Branch { number: event.branch, from: event.from });
                ControlFlow::Continue(())
            }
            (Err(error), _) => {
                found = Err(error);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    })?;
    found
}

/// The name of a note that somebody had at hand, in the log.
const NOTE: &str = "note";

/// What an anchor knows beyond the copy that is to be gone on with.
pub struct GivenUp {
    anchor: String,
    through: u64,
    branch: u32,
    note: String,
}

/// The comparison of a journal with what is kept outside of it, while it opens. An anchor that fits costs one read
/// of a frame; only where one does not fit, the headers of the whole journal are read for branches.
pub struct Opening<'a> {
    places: Places<'a>,
    ledger_id: LedgerId,
    unlocked: &'a Unlocked,
    journal: &'a Journal,
    last: u64,
    accept: bool,
    branches: Option<Vec<Branch>>,
    settled: Vec<Settled>,
    compared: BTreeSet<String>,
    given_up: Option<GivenUp>,
}

impl<'a> Opening<'a> {
    /// For a journal that ends with event `last`.
    pub fn new(
        config: &'a Config,
        settings: &'a AnchorSettings,
        (ledger_id, unlocked): (LedgerId, &'a Unlocked),
        journal: &'a Journal,
        last: u64,
    ) -> Self {
        let ledger = Some(ledger_id);
        Self {
            places: Places { medium: &*config.medium, keystore: &*config.keystore, ledger, settings },
            ledger_id,
            unlocked,
            journal,
            last,
            accept: config.accept_rollback,
            branches: None,
            settled: Vec::new(),
            compared: BTreeSet::new(),
            given_up: None,
        }
    }

    /// Compares the anchors of the settings and those that the state says were used; each once. One that cannot be
    /// read ends nothing.
    pub fn compare(&mut self, state: &dyn StateRead) -> Result<(), Error> {
        let failed = |source| Error::Fold { seq: self.last, source };
        self.settled = history::settled(state).map_err(failed)?;
        let used = history::anchors_used(state).map_err(failed)?;
        self.compare_places(&used)
    }

    /// The same before the state can be read, with the anchors of the settings alone.
    pub fn compare_configured(&mut self) -> Result<(), Error> {
        self.compare_places(&[])
    }

    /// What else is known where somebody accepts a rollback: what the log records of it, and a note at hand.
    pub fn compare_recorded(&mut self, state: &dyn StateRead, note: Option<&[u8]>) -> Result<(), Error> {
        let by = self.verifier()?;
        for (anchor, record) in history::conflicts(state).map_err(|source| Error::Fold { seq: self.last, source })? {
            if let Ok(signed) = SignedCheckpoint::verify(record.note.as_bytes(), &by) {
                self.compare_one(&anchor, &signed)?;
            }
        }
        match note {
            Some(bytes) => self.compare_one(NOTE, &at_hand(bytes, &by)?),
            None => Ok(()),
        }
    }

    fn compare_places(&mut self, used: &[String]) -> Result<(), Error> {
        let places = self.places;
        let mut all = places.configured();
        all.extend(places.unnamed(used));
        all.retain(|place| self.compared.insert(place.name()));
        if all.is_empty() {
            return Ok(());
        }
        let by = self.verifier()?;
        for place in all {
            if let AnchorState::Holds(signed) = places.state(place, Some(&by)) {
                self.compare_one(&place.name(), &signed)?;
            }
        }
        Ok(())
    }

    fn verifier(&self) -> Result<VerifierKey, Error> {
        Ok(verifier(self.ledger_id, signing_key(self.unlocked.ledger_key())?.public()))
    }

    fn compare_one(&mut self, anchor: &str, signed: &SignedCheckpoint) -> Result<(), Error> {
        let (checkpoint, journal, last) = (signed.checkpoint(), self.journal, self.last);
        let ends = checkpoint.size - 1;
        if ends <= last && hash_at(journal, ends) == Some(checkpoint.head) {
            return Ok(());
        }
        let here = match self.branches.take() {
            Some(here) => here,
            None => branches(journal, self.unlocked, last)?,
        };
        let found = fit(checkpoint, last + 1, &here, |seq| hash_at(journal, seq)).settled(checkpoint, &self.settled);
        self.branches = Some(here);
        let anchor = anchor.to_owned();
        let error = match found {
            Fit::Holds | Fit::Superseded { .. } => return Ok(()),
            Fit::Lost { last: through, .. } => Error::RolledBack { anchor: anchor.clone(), last, through },
            Fit::OtherBranch => Error::OtherBranch { anchor: anchor.clone(), branch: checkpoint.branch },
            Fit::Forked => Error::AnchorForked { anchor: anchor.clone(), seq: ends },
        };
        if !self.accept {
            return Err(error);
        }
        let branch = checkpoint.branch.max(self.given_up.as_ref().map_or(0, |known| known.branch));
        match &mut self.given_up {
            Some(known) if known.through >= ends => known.branch = branch,
            known => *known = Some(GivenUp { anchor, through: ends, branch, note: signed.note().to_owned() }),
        }
        Ok(())
    }

    /// What is given up where this copy is gone on with.
    pub fn given_up(self) -> Option<GivenUp> {
        self.given_up
    }
}

/// The event that begins a branch behind the copy that was put back. Its number is above every one that is known,
/// here or at an anchor.
pub fn branch_event(last: Last, own: u32, head: Option<&Head>, given_up: Option<GivenUp>) -> Event {
    let by_head = head.map(|head| head.seq).filter(|seq| *seq > last.seq);
    let by_anchor = given_up.as_ref().map(|known| known.through).filter(|through| *through > last.seq);
    let branch = own.max(given_up.as_ref().map_or(0, |known| known.branch)).saturating_add(1);
    let (anchor, note) = given_up.map_or_else(Default::default, |known| (known.anchor, known.note));
    let (head, lost_through) = (last.hash, by_head.max(by_anchor));
    Event::BranchStarted(BranchStarted { from: last.seq + 1, head, branch, lost_through, anchor, note })
}
