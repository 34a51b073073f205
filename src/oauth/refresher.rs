//! Refreshing: begin durable, send with nothing held, complete in one batch.

use std::collections::VecDeque;

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

/// A refresh that was sent, and what came back.
type Answered = (Started, Result<Tokens, ClientFault>);
type Begun = (ProfileId, Result<RefreshTicket, Error>);

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
    let (how, result) = read(client, answer);
    match how {
        Ok(tokens) => auth.renewed(started, &tokens)?,
        Err(failed) => auth.refresh_failed(started, &failed)?,
    }
    Ok(result)
}

/// Records how many refreshes ended, durable together; the outcomes in their order, each as [`settle`] gives it.
fn settle_all(auth: &Auth, client: &TokenClient, ended: Vec<Answered>) -> Vec<Result<RefreshResult, Error>> {
    let (mut all, mut results) = (Vec::with_capacity(ended.len()), Vec::with_capacity(ended.len()));
    for (started, answer) in ended {
        let (how, result) = read(client, answer);
        all.push((started, how));
        results.push(result);
    }
    let recorded = auth.complete_refreshes(&all);
    recorded.into_iter().zip(results).map(|(recorded, result)| recorded.map(|()| result)).collect()
}

/// What an answer means: new tokens or a failure, and the same in the words of the log.
fn read(
    client: &TokenClient,
    answer: Result<Tokens, ClientFault>,
) -> (Result<NewTokens, RefreshResult>, RefreshResult) {
    match answer {
        Ok(Tokens { access, refresh, expires_in_s }) => {
            let expires_at = expires_in_s.map(|seconds| client.clock().now().plus_millis(seconds * 1000));
            let result = RefreshResult::Renewed { expires_at, rotated: refresh.is_some() };
            (Ok(NewTokens { access, refresh, expires_at }), result)
        }
        Err(fault) => {
            let result = fault.of_refresh();
            (Err(result.clone()), result)
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
        loop {
            let room = limits::REFRESHES_AT_ONCE.saturating_sub(under_way.len());
            let next: Vec<_> = due.drain(..room.min(due.len())).collect();
            if !answers.is_empty() || !next.is_empty() {
                let (refresher, ended) = (self.clone(), std::mem::take(&mut answers));
                let (settled, begun) = apart(move || Ok(refresher.turn(ended, next))).await?;
                reports.extend(settled);
                for (profile, begun) in begun {
                    match begun {
                        Ok(ticket) => {
                            let client = self.client.clone();
                            under_way.spawn(async move {
                                let answer = exchange(&client, &ticket).await;
                                (ticket.started, answer)
                            });
                        }
                        Err(error) => reports.push(RefreshReport { profile, outcome: Err(error) }),
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
    fn turn(&self, ended: Vec<Answered>, next: Vec<ProfileId>) -> (Vec<RefreshReport>, Vec<Begun>) {
        let named: Vec<_> = ended.iter().map(|(started, _)| started.profile.id.clone()).collect();
        let settled = settle_all(&self.auth, &self.client, ended);
        let reports = named.into_iter().zip(settled).map(|(profile, outcome)| RefreshReport { profile, outcome });
        let reports = reports.collect();
        let begun = self.auth.begin_refreshes(&next, false);
        (reports, next.into_iter().zip(begun).collect())
    }
}
