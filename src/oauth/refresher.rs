//! Refreshing: begin durable, send with nothing held, complete in one batch.

use std::sync::Arc;

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
pub async fn exchange(client: &TokenClient, ticket: &RefreshTicket) -> Result<Tokens, ClientFault> {
    let RefreshTicket { started, refresh_token, client_secret } = ticket;
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
pub fn settle(
    auth: &Auth,
    client: &TokenClient,
    started: &Started,
    answer: Result<Tokens, ClientFault>,
) -> Result<RefreshResult, Error> {
    match answer {
        Ok(tokens) => {
            let now = client.clock().now();
            let expires_at = tokens.expires_in_s.map(|seconds| now.plus_millis(seconds * 1000));
            let rotated = tokens.refresh.is_some();
            auth.renewed(started, &NewTokens { access: tokens.access, refresh: tokens.refresh, expires_at })?;
            Ok(RefreshResult::Renewed { expires_at, rotated })
        }
        Err(fault) => {
            let result = fault.of_refresh();
            auth.refresh_failed(started, &result)?;
            Ok(result)
        }
    }
}

/// Refreshes profiles of an open ledger.
#[derive(Debug, Clone)]
pub struct Refresher {
    auth: Auth,
    client: TokenClient,
}

async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Thread(std::io::Error::other(error))))
}

impl Refresher {
    /// A refresher of a ledger's profiles.
    #[must_use]
    pub fn new(ledger: &Ledger, client: TokenClient) -> Self {
        Self { auth: ledger.auth(), client }
    }

    /// Refreshes one profile.
    pub async fn refresh(&self, id: ProfileId, force: bool) -> RefreshReport {
        let outcome = self.run(id.clone(), force).await;
        RefreshReport { profile: id, outcome }
    }

    async fn run(&self, id: ProfileId, force: bool) -> Result<RefreshResult, Error> {
        let auth = self.auth.clone();
        let ticket = apart(move || auth.begin_refresh(&id, force)).await?;
        let answer = exchange(&self.client, &ticket).await;
        let (auth, client) = (self.auth.clone(), self.client.clone());
        apart(move || settle(&auth, &client, &ticket.started, answer)).await
    }

    /// Refreshes every profile that is due, [`limits::REFRESHES_AT_ONCE`] at once. What another refreshes
    /// at this moment is left to it.
    ///
    /// # Errors
    /// [`Error`] where the state cannot be read.
    pub async fn run_due(&self) -> Result<Vec<RefreshReport>, Error> {
        let auth = self.auth.clone();
        let due = apart(move || auth.due()).await?;
        let room = Arc::new(tokio::sync::Semaphore::new(limits::REFRESHES_AT_ONCE));
        let mut running = tokio::task::JoinSet::new();
        for id in due {
            let (refresher, room) = (self.clone(), Arc::clone(&room));
            running.spawn(async move {
                let _permit = room.acquire().await;
                refresher.refresh(id, false).await
            });
        }
        let mut reports = Vec::with_capacity(running.len());
        while let Some(report) = running.join_next().await {
            reports.extend(report);
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
