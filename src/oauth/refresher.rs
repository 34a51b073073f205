//! Refreshing: begin durable, send with nothing held, complete in one batch.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::{AuthError, RefreshResult, Started};
use crate::base::{ProfileId, SecretBytes, limits};
use crate::engine::{Auth, Error, Ledger, NewTokens, RefreshTicket};

use super::answer::Tokens;
use super::client::{ClientAuth, ClientFault, TokenClient};

/// What became of one refresh.
#[derive(Debug)]
pub struct RefreshReport {
    /// The profile.
    pub profile: ProfileId,
    /// What the ledger recorded: renewed, or why not.
    pub outcome: Result<RefreshResult, Error>,
}

impl RefreshReport {
    /// Whether there are new tokens.
    #[must_use]
    pub const fn is_renewed(&self) -> bool {
        matches!(self.outcome, Ok(RefreshResult::Renewed { .. }))
    }
}

/// Sends a refresh that was begun (RFC 6749, section 6). Nothing of the ledger is held meanwhile.
///
/// # Errors
/// [`ClientFault`]; nothing is sent where the lease would be over before the endpoint's time is.
pub async fn exchange(client: &TokenClient, ticket: &RefreshTicket) -> Result<Tokens, ClientFault> {
    let RefreshTicket { started, refresh_token, client_secret } = ticket;
    if client.clock().now().plus_millis(client.limit_ms()) > started.lease_until {
        // The machine slept, or was slow: somebody else may begin before this one is answered.
        return Err(ClientFault::Late);
    }
    let token = text(refresh_token)?;
    let auth = ClientAuth { id: &started.source.client_id, secret: client_secret.as_ref() };
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    client.tokens(&started.source.token_endpoint, auth, &form).await
}

fn text(token: &SecretBytes) -> Result<&str, ClientFault> {
    std::str::from_utf8(token.expose()).map_err(|_| ClientFault::Person("the refresh token in the vault is no text"))
}

/// A refresh that was sent, and what came back.
type Answered = (Held, Started, Result<Tokens, ClientFault>);
type Begun = (Held, Result<RefreshTicket, Error>);

/// Records how a refresh ended.
///
/// # Errors
/// [`AuthError::Superseded`] where it is no longer the one under way; otherwise as a write.
pub fn settle(auth: &Auth, started: &Started, answer: Result<Tokens, ClientFault>) -> Result<RefreshResult, Error> {
    match read(started, answer) {
        Ok(tokens) => {
            auth.renewed(started, &tokens)?;
            let rotated = tokens.refresh.is_some();
            Ok(RefreshResult::Renewed { expires_at: tokens.expires_at, rotated, answer: tokens.answer })
        }
        Err(failed) => auth.refresh_failed(started, &failed),
    }
}

/// What an answer means: new tokens, or a failure.
fn read(started: &Started, answer: Result<Tokens, ClientFault>) -> Result<NewTokens, RefreshResult> {
    let tokens = answer.map_err(|fault| fault.of_refresh())?;
    let (expires_at, answer) = (tokens.expires_at(), tokens.note(&started.source.scopes));
    Ok(NewTokens { access: tokens.access, refresh: tokens.refresh, expires_at, answer })
}

/// Refreshes profiles of an open ledger.
#[derive(Debug, Clone)]
pub struct Refresher {
    auth: Auth,
    client: TokenClient,
    /// What this process has under way: a lease goes by the wall clock, which may jump over it.
    under_way: Arc<Mutex<HashSet<ProfileId>>>,
    stopping: Arc<AtomicBool>,
}

/// A profile that this process refreshes.
#[derive(Debug)]
struct Held {
    id: ProfileId,
    all: Arc<Mutex<HashSet<ProfileId>>>,
}

impl Held {
    fn take(all: &Arc<Mutex<HashSet<ProfileId>>>, id: &ProfileId) -> Option<Self> {
        let new = all.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        new.then(|| Self { id: id.clone(), all: Arc::clone(all) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Thread(std::io::Error::other(error))))
}

impl Refresher {
    /// A refresher of a ledger's profiles.
    #[must_use]
    pub fn new(ledger: &Ledger, client: TokenClient) -> Self {
        Self { auth: ledger.auth(), client, under_way: Arc::default(), stopping: Arc::default() }
    }

    /// Begins nothing more; what is under way goes on to its end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Refreshes one profile.
    pub async fn refresh(&self, id: ProfileId, force: bool) -> RefreshReport {
        let outcome = self.run(id.clone(), force).await;
        RefreshReport { profile: id, outcome }
    }

    async fn run(&self, id: ProfileId, force: bool) -> Result<RefreshResult, Error> {
        let busy = |until| AuthError::Busy { profile: id.clone(), until };
        let Some(_held) = Held::take(&self.under_way, &id) else { return Err(busy(self.auth.now()).into()) };
        let (auth, wanted) = (self.auth.clone(), id.clone());
        let ticket = apart(move || auth.begin_refresh(&wanted, force)).await?;
        let answer = exchange(&self.client, &ticket).await;
        let auth = self.auth.clone();
        apart(move || settle(&auth, &ticket.started, answer)).await
    }

    /// Refreshes every profile that is due, [`limits::REFRESHES_AT_ONCE`] at once. What another refreshes
    /// at this moment is left to it. Whatever came back while the ledger was busy is recorded together with
    /// the beginning of the next ones: one thread for all of them, and few syncs.
    ///
    /// # Errors
    /// [`Error`] where the state cannot be read.
    pub async fn run_due(&self) -> Result<Vec<RefreshReport>, Error> {
        let auth = self.auth.clone();
        let mut due = VecDeque::from(apart(move || auth.due()).await?);
        let mut under_way = tokio::task::JoinSet::new();
        let mut reports = Vec::with_capacity(due.len());
        let mut answers = Vec::new();
        let mut fault = None;
        loop {
            if self.stopping.load(Ordering::Acquire) {
                due.clear();
            }
            let room = limits::REFRESHES_AT_ONCE.saturating_sub(under_way.len());
            let next = due.drain(..room.min(due.len()));
            let next: Vec<_> = next.filter_map(|id| Held::take(&self.under_way, &id)).collect();
            if !answers.is_empty() || !next.is_empty() {
                let (refresher, ended) = (self.clone(), std::mem::take(&mut answers));
                let (settled, begun) = match apart(move || Ok(refresher.turn(ended, next))).await {
                    Ok(turned) => turned,
                    Err(error) => {
                        // What is under way is finished all the same.
                        due.clear();
                        fault.get_or_insert(error);
                        (Vec::new(), Vec::new())
                    }
                };
                reports.extend(settled);
                for (held, begun) in begun {
                    match begun {
                        Ok(ticket) => {
                            let client = self.client.clone();
                            under_way.spawn(async move {
                                let answer = exchange(&client, &ticket).await;
                                (held, ticket.started, answer)
                            });
                        }
                        Err(error) => reports.push(RefreshReport { profile: held.id.clone(), outcome: Err(error) }),
                    }
                }
            }
            match under_way.join_next().await {
                Some(answer) => answers.extend(answer),
                None if due.is_empty() => break,
                None => {}
            }
            while let Some(answer) = under_way.try_join_next() {
                answers.extend(answer);
            }
        }
        if let Some(error) = fault {
            return Err(error);
        }
        let elsewhere = |report: &RefreshReport| {
            matches!(
                report.outcome,
                Err(Error::Auth(AuthError::Busy { .. } | AuthError::NotDue(_) | AuthError::CoolingDown { .. }))
            )
        };
        reports.retain(|report| !elsewhere(report));
        reports.sort_by(|a, b| a.profile.cmp(&b.profile));
        Ok(reports)
    }

    /// Records what came back, and begins the next ones.
    fn turn(&self, ended: Vec<Answered>, next: Vec<Held>) -> (Vec<RefreshReport>, Vec<Begun>) {
        let (mut held, mut all) = (Vec::with_capacity(ended.len()), Vec::with_capacity(ended.len()));
        for (profile, started, answer) in ended {
            held.push(profile);
            let answer = read(&started, answer);
            all.push((started, answer));
        }
        let recorded = self.auth.complete_refreshes(&all);
        let report = |(held, outcome): (&Held, _)| RefreshReport { profile: held.id.clone(), outcome };
        let reports = held.iter().zip(recorded).map(report).collect();
        let ids: Vec<_> = next.iter().map(|held| held.id.clone()).collect();
        let begun = self.auth.begin_refreshes(&ids, false);
        (reports, next.into_iter().zip(begun).collect())
    }
}
