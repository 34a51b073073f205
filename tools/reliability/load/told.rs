//! The verdict on a load, and its tables.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use palyra_ledger::limits;

use super::figures::{Sample, courses, percentiles};
use super::flood::NONSENSE;
use super::peers::Peer;
use super::{CALM, DESCRIPTORS_BOUND, FLOOD_BOUND, LATE_BOUND, LONG, MEMORY_BOUND, RATE, Results, normal};
use crate::Run;
use crate::outcome::{Outcome, Table};
use crate::provider::Provider;

/// Seconds of the warm-up: a fifth of the load, and two minutes at most.
fn warm_up(results: &Results) -> f64 {
    (results.steady.as_secs_f64() / 5.0).min(120.0)
}

impl Results {
    fn warm(&self) -> Vec<Sample> {
        let warm = warm_up(self);
        self.samples.iter().filter(|sample| sample.at >= warm).copied().collect()
    }

    fn answered(&self) -> u64 {
        let kinds = self.tally.kinds().into_iter().filter(|kind| kind.contains(" /v1/") && !kind.contains("renew"));
        kinds.map(|kind| self.tally.count(kind) as u64).sum()
    }

    /// Everything that went wrong.
    pub fn judge(&self, provider: &Provider, revoked: &[Arc<Peer>]) -> Vec<String> {
        let mut failures = self.tally.take_faults();
        let mut unless = |right: bool, what: String| {
            if !right {
                failures.push(what);
            }
        };
        for (what, seen) in &self.planted {
            unless(*seen, format!("the check is blind: it did not see {what}"));
        }
        for peer in revoked {
            let accepted = peer.accepted.load(Ordering::SeqCst);
            unless(accepted == 0, format!("device {}: {accepted} requests answered after its revocation", peer.id));
        }
        unless(!revoked.is_empty(), "no device was revoked".to_owned());
        let rate = self.answered() as f64 / self.asked_s;
        // A development build, or a machine with other work, is no measure.
        unless(rate >= 0.95 * RATE as f64 || cfg!(debug_assertions), format!("{rate:.0} of {RATE} requests a second"));
        for kind in ["certs renew", "pairing", "secrets set", "auth refresh", "backup create"] {
            let was = |name: &&str| name.replace("POST /v1/renew", "certs renew").contains(kind);
            unless(self.tally.kinds().iter().any(was), format!("{kind} never came about"));
        }
        unless(provider.served() > 0, "no token was refreshed".to_owned());
        let twice = provider.spent_twice();
        unless(twice == 0, format!("{twice} refresh tokens were spent twice"));
        let (memory, descriptors, _) = courses(&self.warm());
        if let Some(memory) = memory {
            let what = format!("memory grew from {:.1} to {:.1} MiB after the warm-up", memory.start, memory.end);
            unless(!memory.grew(MEMORY_BOUND), what);
            let late = memory.end - memory.middle;
            let what = format!("memory grew by {late:.1} MiB in the second half");
            unless(self.steady < LONG || late <= LATE_BOUND, what);
        }
        if let Some(descriptors) = descriptors {
            let what = format!("descriptors grew from {} to {}", descriptors.start, descriptors.end);
            unless(!descriptors.grew(DESCRIPTORS_BOUND), what);
        }
        self.judge_flood(&mut unless);
        failures
    }

    fn judge_flood(&self, unless: &mut impl FnMut(bool, String)) {
        for (who, _, turned) in self.shed.tried() {
            // Nonsense is answered, which is no fault, but everybody else asks for more than there is.
            let shed = turned > 0 || who == NONSENSE;
            unless(shed, format!("overload: nobody was turned away of: {who}"));
        }
        for status in self.shed.statuses().into_keys() {
            unless([200, 400, 429, 503].contains(&status), format!("overload: an answer with status {status}"));
        }
        let share = self.devices * limits::DEVICE_CONNECTIONS_MAX as u64;
        let most = share.min(limits::CONNECTIONS_MAX as u64);
        unless(self.seen.most_open <= most, format!("overload: {} connections of devices", self.seen.most_open));
        unless(self.seen.answered > 0, "overload: the local socket never answered".to_owned());
        let before = self.samples.last().map_or(0, |sample| sample.rss_kib);
        let peak = self.flooded.iter().map(|sample| sample.rss_kib).max().unwrap_or(0);
        let grown = peak.saturating_sub(before) as f64 / 1024.0;
        unless(grown <= FLOOD_BOUND, format!("overload: memory grew by {grown:.0} MiB"));
        let what = format!("answers were not as fast as before within {} s of the overload", CALM.as_secs());
        unless(self.calm.is_some(), what);
        let held = |sample: Option<&Sample>| sample.and_then(|sample| sample.descriptors);
        if let (Some(before), Some(after)) = (held(self.samples.last()), held(self.after.as_ref())) {
            // The devices' own connections of before are gone with the overload.
            let what = format!("descriptors after the overload: {after}, before: {before}");
            unless(after as f64 <= before as f64 + DESCRIPTORS_BOUND, what);
        }
    }

    fn latencies(&self) -> [Table; 2] {
        let header = ["request", "number", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "most ms"];
        let mut requests = Table::new("Latency from when a request was due, by kind", &header);
        let mut duties = Table::new("Beside them, each from its start (a command is a whole process)", &header);
        for kind in self.tally.kinds() {
            let mut cells = vec![kind.to_owned()];
            cells.extend(percentiles(&self.tally.sorted(kind)));
            let request = kind.contains(" /v1/") && !kind.contains("renew");
            if request { &mut requests } else { &mut duties }.row(&cells);
        }
        [requests, duties]
    }

    fn process(&self) -> Table {
        let header = ["of the daemon", "start", "middle", "end", "most", "gain an hour"];
        let title = format!(
            "After {:.0} s of warm-up: medians of the first, the middle and the last fifth, and a line through all",
            warm_up(self)
        );
        let mut table = Table::new(&title, &header);
        let (memory, descriptors, threads) = courses(&self.warm());
        for (name, course) in [("resident memory, MiB", memory), ("descriptors", descriptors), ("threads", threads)] {
            let mut cells = vec![name.to_owned()];
            cells.extend(course.map_or_else(|| vec!["not counted".to_owned(); 5], |course| course.cells()));
            table.row(&cells);
        }
        table
    }

    fn tenths(&self) -> Table {
        let header = ["second", "resident memory, MiB", "descriptors", "threads"];
        let mut table = Table::new("The daemon from its start, at every tenth of the load", &header);
        for tenth in 0..=10 {
            let Some(sample) = self.samples.get(tenth * self.samples.len().saturating_sub(1) / 10) else { continue };
            let descriptors = sample.descriptors.map_or_else(|| "-".to_owned(), |count| count.to_string());
            table.row(&[
                format!("{:.0}", sample.at),
                format!("{:.1}", sample.rss_kib as f64 / 1024.0),
                descriptors,
                sample.threads.to_string(),
            ]);
        }
        table
    }

    fn overload(&self) -> Table {
        let mut table = Table::new("Overload", &["what", "number"]);
        let mut row = |what: String, number: String| table.row(&[what, number]);
        row("seconds".to_owned(), format!("{:.0}", self.flood_s));
        row("connections wanted at once".to_owned(), self.seen.wanted.to_string());
        for (who, tried, turned) in self.shed.tried() {
            row(format!("connections of {who}"), format!("{tried}, {turned} turned away"));
        }
        row("most connections of devices at once".to_owned(), self.seen.most_open.to_string());
        for (status, number) in self.shed.statuses() {
            row(format!("answers with status {status}"), number.to_string());
        }
        let looks = format!("{} of {}", self.seen.answered, self.seen.looks);
        row("the local socket told its metrics meanwhile".to_owned(), looks);
        let mib = |sample: Option<&Sample>| format!("{:.1}", sample.map_or(0, |sample| sample.rss_kib) as f64 / 1024.0);
        let peak = self.flooded.iter().max_by_key(|sample| sample.rss_kib);
        row("resident memory before, MiB".to_owned(), mib(self.samples.last()));
        row("at most meanwhile".to_owned(), mib(peak));
        row("afterwards".to_owned(), mib(self.after.as_ref()));
        let most = |of: &dyn Fn(&Sample) -> u64| self.flooded.iter().map(of).max().unwrap_or(0).to_string();
        row("most descriptors".to_owned(), most(&|sample| sample.descriptors.unwrap_or(0)));
        row("most threads".to_owned(), most(&|sample| sample.threads));
        let calm = self.calm.map_or_else(|| "never".to_owned(), |(s, p99)| format!("{s:.1}, p99 {p99:.2} ms"));
        row(format!("seconds until answers were ordinary again (p99 within {:.0} ms)", normal(&self.tally)), calm);
        table
    }

    /// What it comes to.
    pub fn outcome(&self, run: &Run, failures: Vec<String>, seconds: f64) -> Outcome {
        let mut table = Table::new("Load", &["what", "number"]);
        let mut row = |what: &str, number: String| table.row(&[what.to_owned(), number]);
        row("devices", self.devices.to_string());
        row("requests a second that were due", RATE.to_string());
        row("requests a second that were answered", format!("{:.0}", self.answered() as f64 / self.asked_s));
        row("requests due, of them of devices under revocation", {
            format!("{}, {}", self.due, self.due.saturating_sub(self.answered()))
        });
        row("devices revoked", self.revoked.0.to_string());
        row("their requests afterwards, all refused", self.revoked.1.to_string());
        row("tokens refreshed, none spent twice", self.refreshes.to_string());
        row("events of the log, verified with the state", self.events.to_string());
        for (what, seen) in &self.planted {
            row(&format!("planted: {what}"), if *seen { "seen" } else { "NOT SEEN" }.to_owned());
        }
        let mut tables = vec![table];
        tables.extend(self.latencies());
        tables.extend([self.process(), self.tenths(), self.overload()]);
        let mut not_tried = vec![
            "A network: everything goes over loopback, and whoever asks shares the machine's cores with the daemon, so \
             that the latencies hold the client's work as well."
                .to_owned(),
        ];
        if self.steady < LONG {
            not_tried.push(format!(
                "A short load of {} s: {} devices instead of 256, and more duties a second.",
                self.steady.as_secs(),
                self.devices
            ));
        }
        if cfg!(debug_assertions) {
            not_tried.push(format!("2,000 requests a second: a development build is asked {RATE}."));
        }
        if self.samples.iter().all(|sample| sample.descriptors.is_none()) {
            not_tried
                .push("Descriptors: this user may not count those of the daemon, which is not dumpable.".to_owned());
        }
        let steady = self.steady.as_secs();
        Outcome {
            title: "Load".to_owned(),
            what: format!(
                "The real daemon serves paired devices over mutual TLS on connections that are kept alive. Requests are due \
                 by a clock, whatever became of those before, and their latency counts from when they were due. Meanwhile \
                 devices and the daemon renew their certificates, devices are revoked and others are paired over the wire, \
                 secrets get new versions and the log new keys, OAuth tokens are refreshed at an endpoint of the lab's own \
                 by the daemon and by hand, and backups are made through the daemon. Every answer is looked at: a value is \
                 never older than what was acknowledged before it was asked for; after the acknowledgement of its \
                 revocation a device gets no answer, neither on its standing connection nor on a new one. After the \
                 warm-up memory may gain {MEMORY_BOUND:.0} MiB, as much as its caches hold, and {LATE_BOUND:.0} MiB in the \
                 second half of a long load, and descriptors {DESCRIPTORS_BOUND:.0}. Then the daemon is \
                 overloaded: devices over their share, silence, half requests, nonsense, half commands at the local \
                 socket, all without pause. It must turn away, gain no more than {FLOOD_BOUND:.0} MiB, go on telling its \
                 metrics at the local socket, and answer as fast as before within {} s. At the end the log is verified \
                 with its state, and the last chain of backups.",
                CALM.as_secs()
            ),
            command: format!("tools/lab load --count {steady} --seed {}", run.seed),
            tried: (self.answered(), "requests of paired devices".to_owned()),
            seconds,
            failures,
            tables,
            not_tried,
        }
    }
}
