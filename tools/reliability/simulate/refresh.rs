//! Refreshers, and a provider whose tokens are good once.

use std::collections::{BTreeMap, BTreeSet};

use palyra_ledger::auth::{AuthError, RefreshResult, Started};
use palyra_ledger::event::auth::FailureKind;
use palyra_ledger::{AuditReads, Error, Timestamp};

use super::episode::{Episode, Planted, said};
use crate::workload::{Lane, Op, nonce, profile_id, settings, tokens};

/// How long a provider has to answer.
const ANSWER_MS: u64 = 30_000;
const PROFILES: u8 = 3;

/// One time that a token was sent.
struct Sent {
    profile: u8,
    generation: u64,
    /// End of the sender's lease, as the lab reckons it.
    until: Timestamp,
    /// Its answer reached nobody: the sender is gone, or gave up waiting.
    lost: bool,
}

/// How long a lease lasts, by the settings that the lab gives.
fn lease_ms() -> u64 {
    settings(AuditReads::Batched).auth.refresh_lease_s * 1_000
}

/// What the provider knows, and what the lab knows of each profile's refresh. That an answer was lost and when a lease
/// ends is reckoned here; what the ledger says of both is compared with it.
#[derive(Default)]
pub struct Provider {
    /// Refresh tokens that are good.
    good: BTreeSet<u64>,
    /// Each time that a token was sent.
    sent: BTreeMap<u64, Vec<Sent>>,
    /// Tokens whose successor was recorded.
    over: BTreeSet<u64>,
    /// The refresh under way: number and end of its lease.
    leases: BTreeMap<u8, (u64, Timestamp)>,
    /// The end of the lease of a refresh that was begun and, because of a fault, not heard of.
    unheard: BTreeMap<u8, Timestamp>,
}

impl Provider {
    /// A person logged in.
    pub fn logged_in(&mut self, token: u64) {
        self.good.insert(token);
    }

    /// The answer to a refresher reached nobody.
    fn lost(&mut self, token: u64, profile: u8, generation: u64) {
        let all = self.sent.entry(token).or_default().iter_mut();
        all.filter(|sent| (sent.profile, sent.generation) == (profile, generation)).for_each(|sent| sent.lost = true);
    }

    /// Whether a token may be spent without anybody knowing: its sender is gone, or its lease is over.
    fn in_doubt(&self, token: u64, now: Timestamp) -> bool {
        self.sent.get(&token).is_some_and(|all| all.iter().any(|sent| sent.lost || now >= sent.until))
    }
}

/// One refresher: in the middle of nothing, or of a refresh.
#[derive(Default)]
pub enum Refresher {
    /// Idle.
    #[default]
    Idle,
    /// It has a ticket and sent nothing.
    Begun { profile: u8, started: Box<Started>, token: u64, until: Timestamp },
    /// It sent its token; the answer is on its way.
    Sent { profile: u8, started: Box<Started>, token: u64, answer: Option<u64> },
}

impl Refresher {
    /// Its process is gone.
    pub fn died(&mut self, provider: &mut Provider) {
        if let Self::Sent { profile, started, token, .. } = self {
            provider.lost(*token, *profile, started.generation);
        }
        *self = Self::Idle;
    }
}

impl Episode {
    /// One step of one refresher.
    pub fn refresh(&mut self) -> Result<String, String> {
        let number = self.dice.below(self.refreshers.len() as u64);
        let slot = usize::try_from(number).unwrap_or(0);
        let mut refresher = self.refreshers.get_mut(slot).map(std::mem::take).unwrap_or_default();
        let (next, what) = match refresher {
            Refresher::Idle => self.begin()?,
            Refresher::Begun { .. } | Refresher::Sent { .. } if self.dice.once_in(12) => {
                refresher.died(&mut self.provider);
                (Refresher::Idle, "refresher went away".to_owned())
            }
            Refresher::Begun { profile, started, token, until } => self.send(profile, started, token, until)?,
            Refresher::Sent { profile, started, token, answer } => self.complete(profile, &started, token, answer)?,
        };
        // What was begun in a process that died since is over with it.
        if self.wound.is_none()
            && let Some(slot) = self.refreshers.get_mut(slot)
        {
            *slot = next;
        }
        Ok(what)
    }

    fn begin(&mut self) -> Result<(Refresher, String), String> {
        let profile = self.dice.small(PROFILES);
        let Some(known) = self.world.profile(profile).cloned().filter(|known| known.oauth) else {
            return Ok((Refresher::Idle, "no profile to refresh".to_owned()));
        };
        let Some(token) = known.refresh else { return Ok((Refresher::Idle, "no token to refresh".to_owned())) };
        let force = self.dice.once_in(3);
        let id = profile_id(profile).map_err(said)?;
        let now = self.now()?;
        let lease = self.provider.leases.get(&profile).copied().filter(|_| known.refreshing);
        let busy = lease.is_some_and(|(_, until)| now < until);
        let until = now.plus_millis(lease_ms());
        let op = if known.refreshing { Op::BeginAgain { profile } } else { Op::Begin { profile } };
        let mut refused = None;
        let begun = self.mutate(Lane::Credentials, &op, |ledger| match ledger.auth().begin_refresh(&id, force) {
            Ok(ticket) => Ok(ticket),
            Err(Error::Auth(error)) => {
                refused = Some(error);
                Err("refused".into())
            }
            Err(error) => Err(error.into()),
        });
        // Where a storage fault met it, the ledger could not look, and its refusal says nothing.
        if let (Some(error), Err(_)) = (refused, &begun) {
            let expected = match &error {
                AuthError::Busy { .. } => busy,
                AuthError::NotDue(_) | AuthError::CoolingDown { .. } | AuthError::NeedsPerson { .. } => !busy && !force,
                AuthError::Disabled(_) => !busy && !force && !known.enabled,
                _ => false,
            };
            self.count("refreshes refused");
            return if expected {
                Ok((Refresher::Idle, format!("refresh of {profile} refused")))
            } else {
                Err(format!(
                    "a refresh of profile {profile} (force {force}) was refused: {error}; {known:?}, {lease:?}"
                ))
            };
        }
        let Some(ticket) = begun? else {
            self.provider.unheard.insert(profile, until);
            return Ok((Refresher::Idle, "refresh met a fault".to_owned()));
        };
        if busy {
            return Err(format!(
                "two refreshes of profile {profile} hold one lease: {lease:?} and {:?}",
                ticket.started
            ));
        }
        if nonce(ticket.refresh_token.expose()) != Ok(token) {
            return Err(format!("a refresh of profile {profile} carries another token than the newest"));
        }
        let started = ticket.started;
        if started.lease_until != until {
            return Err(format!(
                "the lease of profile {profile} ends at {}, and was asked for until {until}",
                started.lease_until
            ));
        }
        if self.provider.in_doubt(token, now) && !started.after_lost_answer {
            return Err(format!("profile {profile}: an answer was lost, and its next refresh does not say so"));
        }
        self.provider.leases.insert(profile, (started.generation, until));
        self.count("refreshes begun");
        let what = format!("refresh {} of {profile} begun", started.generation);
        Ok((Refresher::Begun { profile, started: Box::new(started), token, until }, what))
    }

    fn send(
        &mut self,
        profile: u8,
        started: Box<Started>,
        token: u64,
        until: Timestamp,
    ) -> Result<(Refresher, String), String> {
        // As the product's own refresher does: by a clock that is never behind the log.
        let now = self.now()?;
        let late = now.plus_millis(ANSWER_MS) > until;
        if late && self.planted != Some(Planted::NoLease) {
            let result = RefreshResult::Failed {
                failure: FailureKind::Transient,
                what: "its lease was nearly over".to_owned(),
                retry_after_ms: None,
                unanswered: false,
            };
            let what = self.end(profile, &started, None, Some(&result))?;
            return Ok((Refresher::Idle, format!("too late, {what}")));
        }
        let again = self.provider.sent.get(&token).is_some_and(|sent| !sent.is_empty());
        if again && !self.provider.in_doubt(token, now) {
            return Err(format!("profile {profile}: a refresh token was spent twice, and no answer was lost"));
        }
        if self.provider.over.contains(&token) {
            return Err(format!("profile {profile}: a refresh token was spent after its successor was recorded"));
        }
        let sent = Sent { profile, generation: started.generation, until, lost: false };
        self.provider.sent.entry(token).or_default().push(sent);
        self.count(if again { "tokens sent again after an answer was lost" } else { "tokens sent" });
        let answer = self.provider.good.remove(&token).then(|| self.dice.number());
        self.provider.good.extend(answer);
        Ok((Refresher::Sent { profile, started, token, answer }, format!("token of {profile} sent")))
    }

    fn complete(
        &mut self,
        profile: u8,
        started: &Started,
        token: u64,
        answer: Option<u64>,
    ) -> Result<(Refresher, String), String> {
        let (failure, what) = (FailureKind::AuthInvalid, "the provider answered invalid_grant".to_owned());
        let result = match answer {
            Some(_) if self.dice.once_in(8) => Some(RefreshResult::Failed {
                failure: FailureKind::Transient,
                what: "no answer came".to_owned(),
                retry_after_ms: None,
                unanswered: true,
            }),
            Some(_) => None,
            None => Some(RefreshResult::Refused { failure, what }),
        };
        if let Some(RefreshResult::Failed { .. }) = result {
            self.provider.lost(token, profile, started.generation);
        }
        let what = self.end(profile, started, answer, result.as_ref())?;
        // Whether that was recorded shows at the next opening: the answer itself is gone.
        if self.wound.is_some() {
            self.provider.lost(token, profile, started.generation);
        }
        Ok((Refresher::Idle, what))
    }

    /// Records how a refresh ended: taken if it is still the one under way, refused otherwise.
    fn end(
        &mut self,
        profile: u8,
        started: &Started,
        answer: Option<u64>,
        failed: Option<&RefreshResult>,
    ) -> Result<String, String> {
        let under_way = self.provider.leases.get(&profile) == Some(&(started.generation, started.lease_until))
            && self.world.profile(profile).is_some_and(|known| known.refreshing);
        let now = self.now()?;
        let old = self.world.profile(profile).and_then(|known| known.refresh);
        let op = match (failed, answer) {
            (None, Some(new)) => Op::Renewed { profile, nonce: new },
            _ => Op::NotRenewed { profile },
        };
        let mut superseded = false;
        let done = self.mutate(Lane::Credentials, &op, |ledger| {
            let auth = ledger.auth();
            let done = match failed {
                Some(result) => auth.refresh_failed(started, result).map(drop),
                None => auth.renewed(started, &tokens(answer.unwrap_or(0), now)),
            };
            if let Err(Error::Auth(AuthError::Superseded { .. } | AuthError::NoProfile(_) | AuthError::Static(_))) =
                &done
            {
                superseded = true;
            }
            Ok(done?)
        });
        if superseded {
            return if under_way {
                Err(format!("refresh {} of profile {profile} is under way and was not taken", started.generation))
            } else {
                self.count("answers that came too late, refused");
                Ok(format!("refresh of {profile} superseded"))
            };
        }
        if done?.is_none() {
            return Ok("end of a refresh met a fault".to_owned());
        }
        if !under_way {
            return Err(format!("refresh {} of profile {profile} was taken, and is not under way", started.generation));
        }
        self.provider.leases.remove(&profile);
        if failed.is_none() {
            self.provider.over.extend(old);
            self.count("refreshes completed");
        }
        Ok(format!("refresh of {profile} ended"))
    }

    /// The refreshes under way after an opening: those that were begun and not ended, with the leases that they had.
    pub fn learn_refreshes(&mut self) -> Result<(), String> {
        let unheard = std::mem::take(&mut self.provider.unheard);
        for profile in 0..PROFILES {
            let before = self.provider.leases.remove(&profile);
            if self.world.profile(profile).is_some_and(|known| known.refreshing) {
                let id = profile_id(profile).map_err(said)?;
                let Some((_, runtime)) = self.must(|ledger| ledger.auth().profile(&id))? else { return Ok(()) };
                let lease = runtime.lease.ok_or("a refresh under way without a lease")?;
                let is = (runtime.generation, lease.until);
                let next = before.map_or(0, |(generation, _)| generation) + 1;
                let known =
                    before == Some(is) || unheard.get(&profile).is_some_and(|until| is.1 == *until && is.0 >= next);
                if !known {
                    return Err(format!(
                        "profile {profile} has a lease {is:?}, where {before:?}, {unheard:?} were asked for"
                    ));
                }
                self.provider.leases.insert(profile, is);
            }
        }
        Ok(())
    }
}
