//! The daemon as the one refresher of credential profiles.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::auth::RefreshResult;
use crate::base::limits;
use crate::oauth::{RefreshReport, Refresher, TokenClient};

use super::metrics::Metrics;
use super::shared::Shared;

/// Refreshes what is due, a little later or sooner each time, until the daemon stops. A slow provider holds up
/// nobody but itself. A refresh that is under way at the end is finished: its answer may hold the only token
/// there is.
pub async fn keep_refreshed(shared: Arc<Shared>, client: TokenClient) {
    let refresher = Refresher::new(&shared.ledger, client);
    let mut stop = shared.stop.clone();
    let mut rounds = JoinSet::new();
    loop {
        let spread = shared.random.array::<1>().map_or(0, |[byte]| u64::from(byte) * limits::REFRESH_TICK_MS / 1024);
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = rounds.join_next() => continue,
            () = tokio::time::sleep(Duration::from_millis(limits::REFRESH_TICK_MS - spread)) => {}
        }
        if rounds.len() < ROUNDS_MAX {
            rounds.spawn(round(Arc::clone(&shared), refresher.clone()));
        }
    }
    refresher.stop();
    rounds.join_all().await;
}

/// Rounds at once: each leaves alone what another has under way.
const ROUNDS_MAX: usize = 8;

async fn round(shared: Arc<Shared>, refresher: Refresher) {
    match refresher.run_due().await {
        Ok(reports) => reports.into_iter().for_each(|report| tell(&shared, report)),
        Err(error) => tracing::error!(%error, "what is due cannot be read"),
    }
}

fn tell(shared: &Shared, report: RefreshReport) {
    match report.outcome {
        Ok(RefreshResult::Renewed { .. }) => Metrics::count(&shared.metrics.refreshed),
        Ok(RefreshResult::Refused { what, .. } | RefreshResult::Failed { what, .. }) => {
            Metrics::count(&shared.metrics.refresh_failures);
            tracing::warn!(profile = %report.profile, what, "a token was not refreshed");
        }
        Err(error) => {
            Metrics::count(&shared.metrics.refresh_failures);
            tracing::error!(profile = %report.profile, %error, "a token was not refreshed");
        }
    }
}
