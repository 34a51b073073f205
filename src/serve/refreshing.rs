//! The daemon as the one refresher of credential profiles.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::RefreshResult;
use crate::base::limits;
use crate::oauth::{Refresher, TokenClient};

use super::metrics::Metrics;
use super::shared::Shared;

/// Refreshes what is due, a little later or sooner each time, until the daemon stops. A refresh that is
/// under way then is finished: its answer may hold the only token there is.
pub async fn keep_refreshed(shared: Arc<Shared>, client: TokenClient) {
    let refresher = Refresher::new(&shared.ledger, client);
    let mut stop = shared.stop.clone();
    loop {
        let spread = shared.random.array::<1>().map_or(0, |[byte]| u64::from(byte) * limits::REFRESH_TICK_MS / 1024);
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(Duration::from_millis(limits::REFRESH_TICK_MS - spread)) => {}
        }
        match refresher.run_due().await {
            Ok(reports) => {
                for report in reports {
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
            }
            Err(error) => tracing::error!(%error, "what is due cannot be read"),
        }
    }
}
