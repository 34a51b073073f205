//! Anchors against the journal before a ledger is opened, and the branch that begins where an older copy was put
//! back on purpose.

use std::ops::ControlFlow;

use crate::base::LedgerId;
use crate::checkpoint::{Branch, Fit, fit, signing_key, verifier};
use crate::event::system::BranchStarted;
use crate::event::{Event, Kind};
use crate::keys::Unlocked;
use crate::log::{Head, Journal, Last};

use super::anchor_places::Places;
use super::anchors::{AnchorState, hash_at};
use super::config::{AnchorSettings, Config};
use super::error::Error;
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

/// What an anchor knows beyond the copy that is to be gone on with.
pub struct GivenUp {
    anchor: String,
    through: u64,
    branch: u32,
    note: String,
}

/// Compares the anchors with the journal before anything is written. An anchor that fits costs one read of a
/// frame; only where one does not fit, the headers of the whole journal are read for branches.
pub fn compare_at_opening(
    config: &Config,
    settings: &AnchorSettings,
    unlocked: &Unlocked,
    ledger_id: LedgerId,
    journal: &Journal,
    last: Option<u64>,
) -> Result<Option<GivenUp>, Error> {
    let places = Places { medium: &*config.medium, keystore: &*config.keystore, ledger: Some(ledger_id), settings };
    let Some(last) = last.filter(|_| !places.configured().is_empty()) else { return Ok(None) };
    let by = verifier(ledger_id, signing_key(unlocked.ledger_key())?.public());
    let mut known = None;
    let mut furthest: Option<GivenUp> = None;
    for (anchor, state) in places.states(Some(&by)) {
        let AnchorState::Holds(signed) = state else { continue };
        let checkpoint = signed.checkpoint();
        let ends = checkpoint.size - 1;
        if ends <= last && hash_at(journal, ends) == Some(checkpoint.head) {
            continue;
        }
        if known.is_none() {
            known = Some(branches(journal, unlocked, last)?);
        }
        let here = known.as_deref().unwrap_or_default();
        let error = match fit(checkpoint, last + 1, here, |seq| hash_at(journal, seq)) {
            Fit::Holds | Fit::Superseded { .. } => continue,
            Fit::Lost { last: through, .. } => Error::RolledBack { anchor: anchor.clone(), last, through },
            Fit::OtherBranch => Error::OtherBranch { anchor: anchor.clone(), branch: checkpoint.branch },
            Fit::Forked => Error::AnchorForked { anchor: anchor.clone(), seq: ends },
        };
        if !config.accept_rollback {
            return Err(error);
        }
        let branch = checkpoint.branch.max(furthest.as_ref().map_or(0, |known| known.branch));
        match &mut furthest {
            Some(known) if known.through >= ends => known.branch = branch,
            known => *known = Some(GivenUp { anchor, through: ends, branch, note: signed.note().to_owned() }),
        }
    }
    Ok(furthest)
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
