//! What a replayed state holds, by domain.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::auth::{self, AuthError, Order, ProfileRecord, Runtime};
use crate::base::{DeviceId, Serial, StateError, StateRead, Timestamp, Visit};
use crate::crypto::{Hash, labels};
use crate::event::Event;
use crate::event::identity::{CrlIssued, Der};
use crate::identity::{self, Authorities, DeviceRecord};

use super::core::Core;
use super::error::Error;
use super::log_view::LogView;
use super::replay::{Replay, ReplayOptions, ReplayPoint};
use super::scan::Scan;
use super::state_diff::{self, StateChange};

/// The state before the first event.
struct Nothing;

impl StateRead for Nothing {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: &[u8], _: &mut Visit<'_>) -> Result<(), StateError> {
        Ok(())
    }
}

impl Replay {
    /// Everything that is there, as what changed since before the first event.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn contents(&self) -> Result<Vec<StateChange>, Error> {
        Ok(state_diff::between(&Nothing, self.state())?)
    }

    /// The devices as they were.
    ///
    /// # Errors
    /// [`Error::Identity`].
    pub fn devices(&self) -> Result<Vec<(DeviceId, DeviceRecord)>, Error> {
        let mut found = Vec::new();
        identity::list_devices(self.state(), &mut |id, record| {
            found.push((id, record));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Totals over device trust.
    ///
    /// # Errors
    /// [`Error::Identity`].
    pub fn trust_counters(&self) -> Result<identity::Counters, Error> {
        Ok(identity::counters(self.state())?)
    }

    /// The generations of the CA as they were.
    ///
    /// # Errors
    /// [`Error::Identity`].
    pub fn authorities(&self) -> Result<Authorities, Error> {
        Ok(identity::authorities(self.state())?)
    }

    /// The profiles as they were, and what had become of them.
    ///
    /// # Errors
    /// [`Error::Auth`].
    pub fn profiles(&self) -> Result<Vec<(ProfileRecord, Runtime)>, Error> {
        Ok(auth::list_profiles(self.state()).map_err(AuthError::from)?)
    }

    /// The orders of profiles as they were.
    ///
    /// # Errors
    /// [`Error::Auth`].
    pub fn orders(&self) -> Result<Vec<Order>, Error> {
        Ok(auth::list_orders(self.state()).map_err(AuthError::from)?)
    }
}

impl LogView {
    /// The last revocation list that was signed at or before an event, signed again: the same bytes, which
    /// the event's digest shows. Nothing where none was signed yet; no bytes where the key that signed it is
    /// gone.
    ///
    /// # Errors
    /// As [`LogView::read`].
    pub fn revocation_list_at(&self, seq: u64) -> Result<Option<(CrlIssued, Option<Der>)>, Error> {
        let kind = crate::event::Kind::CrlIssued.number();
        let scan = Scan { to: seq, newest_first: true, header: &|header| header.kind == kind, ..Scan::all() };
        let mut found = None;
        self.scan(&scan, &mut |entry| {
            found = Some(entry);
            ControlFlow::Break(())
        })?;
        let Some(entry) = found else { return Ok(None) };
        let Event::CrlIssued(issued) = entry.event else { return Ok(None) };
        let der = self.core.signed_again(entry.seq, &issued)?;
        Ok(Some((issued, der)))
    }
}

impl Core {
    fn signed_again(&self, seq: u64, issued: &CrlIssued) -> Result<Option<Der>, Error> {
        let Ok(authority) = self.authority(issued.generation) else { return Ok(None) };
        // Signed before it was decided: what other writers put in between is not on it. Times do not tell what
        // that is: many events bear the same one while a clock that was set back catches up.
        let (mut low, mut high, mut back) = (None, seq, 1);
        let revoked = loop {
            let at = match low {
                None => high.saturating_sub(back),
                Some(low) => low + (high - low) / 2,
            };
            let revoked = self.revoked_at(at, issued.this_update)?;
            match (revoked.len() as u64).cmp(&issued.entries) {
                Ordering::Equal => break revoked,
                Ordering::Less => low = Some(at),
                Ordering::Greater => (high, back) = (at, back * 2),
            }
            if low.is_some_and(|low| high - low <= 1) || high == 0 {
                return Ok(None);
            }
        };
        let times = (issued.this_update, issued.next_update);
        let der = authority.revocation_list(issued.number, &revoked, times)?;
        Ok((Hash::of(labels::REVOCATION_LIST, &[&der]) == issued.digest).then(|| Der::new(der)))
    }

    /// What a list had to name as of an event.
    fn revoked_at(&self, seq: u64, this_update: Timestamp) -> Result<Vec<(Serial, Timestamp)>, Error> {
        let replay = self.replay(ReplayPoint::Seq(seq), ReplayOptions::default())?;
        let mut revoked = Vec::new();
        identity::revocations(replay.state(), &mut |serial, entry| {
            if entry.is_needed(this_update) {
                revoked.push((serial, entry.time));
            }
            ControlFlow::Continue(())
        })?;
        Ok(revoked)
    }
}
