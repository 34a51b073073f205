//! Replay to the middle of a long log, and questions to the whole of it.

use std::ops::ControlFlow;
use std::time::Instant;

use palyra_ledger::event::Kind;
use palyra_ledger::{Entry, ReplayOptions, ReplayPoint, Scan};

use crate::race::median;
use crate::report::{Section, figure};
use crate::{Fault, Plan, homes};

/// Replay to the middle: from a snapshot that is read to its end first, and from the first event.
pub fn replay(plan: &Plan) -> Result<Section, Fault> {
    let ledger = homes::open(&homes::loaded(plan, plan.many)?)?;
    let middle = ledger.log().head()?.seq / 2;
    let mut section = Section::new(
        "Replay to the middle of the log",
        "The nearest snapshot before the point is read to its end, block by block, and the rest is folded; with \
         `--from-genesis` every event is.",
        &["how", "events folded", "seconds"],
    );
    let (mut times, mut folded, mut root) = (Vec::new(), 0, None);
    for _ in 0..plan.rounds.min(5) {
        let begin = Instant::now();
        let replay = ledger.replay_with(ReplayPoint::Seq(middle), ReplayOptions::default())?;
        times.push(begin.elapsed().as_secs_f64());
        folded = middle - replay.snapshot().unwrap_or(0);
        root = Some(replay.state_root()?);
    }
    let fast = median(times);
    section.row(&["from a snapshot".to_owned(), figure(folded as f64), figure(fast)]);
    let begin = Instant::now();
    let whole = ledger
        .replay_with(ReplayPoint::Seq(middle), ReplayOptions { from_genesis: true, ..ReplayOptions::default() })?;
    section.row(&["from the first event".to_owned(), figure(middle as f64), figure(begin.elapsed().as_secs_f64())]);
    if Some(whole.state_root()?) != root {
        return Err("the two replays have different roots".into());
    }
    drop(whole);
    ledger.close()?;
    section.at_most("replay to the middle, seconds", 1.0, fast);
    Ok(section)
}

/// Looking through the whole log.
pub fn query(plan: &Plan) -> Result<Section, Fault> {
    let ledger = homes::open(&homes::loaded(plan, plan.many)?)?;
    let events = ledger.log().head()?.seq + 1;
    let mut section = Section::new(
        "Looking through the whole log",
        "`log query` on every core: by what the header says alone, and by what only the opened body says.",
        &["question", "found", "seconds", "events/s"],
    );
    let epoch = Kind::EpochStarted.number();
    let created = |entry: &Entry| entry.event.secret_refs().iter().any(|found| found.ends_with("nowhere"));
    let by_kind = Scan { header: &|header| header.kind == epoch, ..Scan::all() };
    let by_name = Scan { wants: &created, ..Scan::all() };
    for (what, scan) in [("a kind", by_kind), ("a secret", by_name)] {
        let (mut found, begin) = (0_u64, Instant::now());
        ledger.log().scan(&scan, &mut |_| {
            found += 1;
            ControlFlow::Continue(())
        })?;
        let seconds = begin.elapsed().as_secs_f64();
        section.row(&[what.to_owned(), figure(found as f64), figure(seconds), figure(events as f64 / seconds)]);
    }
    ledger.close()?;
    Ok(section)
}
