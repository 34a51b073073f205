//! Refreshing: begin durable, send with nothing held, complete in one batch.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

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

/// Records how a refresh ended.
///
/// # Errors
/// [`AuthError::Superseded`] where it is no longer the one under way; otherwise as a write.
pub fn settle(auth: &Auth, started: &Started, answer: Result<Tokens, ClientFault>) -> Result<RefreshResult, Error> {
    match answer {
        Ok(tokens) => {
            let expires_at = tokens.expires_at();
            let rotated = tokens.refresh.is_some();
            auth.renewed(started, &NewTokens { access: tokens.access, refresh: tokens.refresh, expires_at })?;
            Ok(RefreshResult::Renewed { expires_at, rotated })
        }
        Err(fault) => auth.refresh_failed(started, &fault.of_refresh()),
    }
}

/// Refreshes profiles of an open ledger.
#[derive(Debug, Clone)]
pub struct Refresher {
    auth: Auth,
    client: TokenClient,
    room: Arc<Semaphore>,
    /// What this process has under way: a lease goes by the wall clock, which may jump over it.
    under_way: Arc<Mutex<HashSet<ProfileId>>>,
    stopping: Arc<AtomicBool>,
}

/// A profile that this process refreshes.
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
        Self {
            auth: ledger.auth(),
            client,
            room: Arc::new(Semaphore::new(limits::REFRESHES_AT_ONCE)),
            under_way: Arc::default(),
            stopping: Arc::default(),
        }
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
    /// at this moment is left to it.
    ///
    /// # Errors
    /// [`Error`] where the state cannot be read.
    pub async fn run_due(&self) -> Result<Vec<RefreshReport>, Error> {
        let auth = self.auth.clone();
        let due = apart(move || auth.due()).await?;
        let mut running = tokio::task::JoinSet::new();
        for id in due {
            let refresher = self.clone();
            running.spawn(async move {
                let _permit = refresher.room.acquire().await;
                if refresher.stopping.load(Ordering::Acquire) { None } else { Some(refresher.refresh(id, false).await) }
            });
        }
        let mut reports = Vec::with_capacity(running.len());
        while let Some(report) = running.join_next().await {
            reports.extend(report.ok().flatten());
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
}
