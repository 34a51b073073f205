//! Counters in Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::event::identity::RefusalCause;

/// What the daemon counts. Names and numbers, never an address or a name of somebody.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections that were accepted, by listener.
    pub device_connections: AtomicU64,
    /// Connections to the pairing listener.
    pub pairing_connections: AtomicU64,
    /// Connections to the local socket.
    pub socket_connections: AtomicU64,
    /// TLS handshakes that succeeded.
    pub handshakes: AtomicU64,
    /// Connections of devices that stand.
    pub open: AtomicU64,
    /// Connections that were cut because their device is trusted no more.
    pub cut: AtomicU64,
    /// When the daemon's certificate ends, Unix seconds.
    pub server_not_after: AtomicU64,
    /// Certificates of its own that the daemon took.
    pub server_renewals: AtomicU64,
    /// Tokens that were refreshed.
    pub refreshed: AtomicU64,
    /// Refreshes that failed.
    pub refresh_failures: AtomicU64,
    refused: Mutex<BTreeMap<RefusalCause, u64>>,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

/// What is asked of the ledger when metrics are read.
#[derive(Debug, Clone, Copy)]
pub struct Gauges {
    /// Devices that are paired.
    pub paired: usize,
    /// Certificates that are revoked.
    pub revoked: usize,
    /// Sequence number of the last event.
    pub head: u64,
    /// Pairing sessions under way.
    pub sessions: usize,
}

impl Metrics {
    /// Counts one.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal.
    pub fn refused(&self, cause: RefusalCause) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(cause).or_default() += 1;
    }

    /// Counts an answer.
    pub fn answered(&self, listener: &'static str, status: u16) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((listener, status)).or_default() += 1;
    }

    /// The text.
    #[must_use]
    pub fn text(&self, gauges: Gauges) -> String {
        let mut out = String::with_capacity(4096);
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
            let _ = writeln!(out, "# HELP palyra_ledger_{name} {help}\n# TYPE palyra_ledger_{name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "palyra_ledger_{name}{labels} {value}");
            }
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let one = |value: u64| [(String::new(), value)];
        let connections = [
            ("device", &self.device_connections),
            ("pairing", &self.pairing_connections),
            ("socket", &self.socket_connections),
        ]
        .map(|(listener, counter)| (format!("{{listener=\"{listener}\"}}"), load(counter)));
        family("connections_total", "counter", "Connections accepted.", &connections);
        family("handshakes_total", "counter", "TLS handshakes completed.", &one(load(&self.handshakes)));
        family("connections_open", "gauge", "Connections of devices.", &one(load(&self.open)));
        family("connections_cut_total", "counter", "Connections cut: no longer trusted.", &one(load(&self.cut)));
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused: Vec<_> = refused.iter().map(|(cause, count)| (format!("{{cause=\"{cause}\"}}"), *count)).collect();
        family("refusals_total", "counter", "Connections and requests refused.", &refused);
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let label = |listener: &str, status: u16| format!("{{listener=\"{listener}\",status=\"{status}\"}}");
        let requests: Vec<_> =
            requests.iter().map(|((listener, status), count)| (label(listener, *status), *count)).collect();
        family("requests_total", "counter", "Requests answered.", &requests);
        let renewals = load(&self.server_renewals);
        family("server_renewals_total", "counter", "Certificates that the daemon took.", &one(renewals));
        family("tokens_refreshed_total", "counter", "Tokens refreshed.", &one(load(&self.refreshed)));
        let failures = load(&self.refresh_failures);
        family("token_refresh_failures_total", "counter", "Refreshes that failed.", &one(failures));
        let end = load(&self.server_not_after);
        family("server_certificate_end_seconds", "gauge", "End of the daemon's certificate.", &one(end));
        family("devices_paired", "gauge", "Devices that are paired.", &one(gauges.paired as u64));
        family("certificates_revoked", "gauge", "Certificates that are revoked.", &one(gauges.revoked as u64));
        family("pairing_sessions", "gauge", "Pairings under way.", &one(gauges.sessions as u64));
        family("log_head", "gauge", "Sequence number of the last event.", &one(gauges.head));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_a_type_and_a_value_for_every_family() {
        let metrics = Metrics::default();
        metrics.refused(RefusalCause::DeviceRevoked);
        metrics.answered("device", 403);
        let text = metrics.text(Gauges { paired: 2, revoked: 1, head: 9, sessions: 0 });
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("palyra_ledger_") && value.parse::<u64>().is_ok(), "{line}");
            let family = name.split('{').next().unwrap();
            assert!(text.contains(&format!("# TYPE {family} ")), "{line}");
        }
        assert!(text.contains("palyra_ledger_refusals_total{cause=\"device_revoked\"} 1\n"));
        assert!(text.contains("palyra_ledger_requests_total{listener=\"device\",status=\"403\"} 1\n"));
    }
}
