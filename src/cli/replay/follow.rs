//! Event by event: with keys on a terminal, as a stream otherwise.

use std::ops::ControlFlow;

use serde_json::{Map, Value, json};

use crate::cli::exit::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::log::print_entry;
use crate::cli::progress;
use crate::cli::seat::Key;
use crate::cli::story;
use crate::engine::{Entry, Ledger, Replay, ReplayOptions, ReplayPoint, StateChange};

use super::{ReplayArgs, point, to_json};

/// Runs `replay --follow`.
pub fn run(invocation: &Invocation, ledger: &Ledger, args: &ReplayArgs) -> Result<(), Failure> {
    let first = match &args.at {
        Some(text) => seq_of(ledger, text)?,
        None => 0,
    };
    let last = match &args.to {
        Some(text) => seq_of(ledger, text)?,
        None => ledger.log().head()?.seq,
    };
    if first > last {
        return Err(Failure::usage(
            format!("event {first} is not before event {last}"),
            "name the earlier point first",
        ));
    }
    let walk = Walk { invocation, ledger, from_genesis: args.from_genesis };
    if invocation.seat.is_terminal() && invocation.out.is_terminal() && !invocation.out.is_json() {
        return walk.by_keys(first, last);
    }
    walk.stream(first, last)
}

fn seq_of(ledger: &Ledger, text: &str) -> Result<u64, Failure> {
    Ok(match point(ledger, Some(text))? {
        ReplayPoint::Seq(seq) => seq,
        ReplayPoint::Time(time) => {
            let after = ledger.log().first_at(time.plus_millis(1))?;
            after.checked_sub(1).ok_or(crate::engine::Error::BeforeFirst(time))?
        }
        ReplayPoint::Head => ledger.log().head()?.seq,
    })
}

struct Walk<'a> {
    invocation: &'a Invocation,
    ledger: &'a Ledger,
    from_genesis: bool,
}

impl Walk<'_> {
    fn at(&self, seq: u64) -> Result<Replay, Failure> {
        Ok(progress::bar(self.invocation, "replaying", |tell| {
            let options = ReplayOptions { from_genesis: self.from_genesis, progress: Some(tell) };
            self.ledger.replay_with(ReplayPoint::Seq(seq), options)
        })?)
    }

    /// The state after an event, and what that event changed.
    fn land(&self, seq: u64) -> Result<(Replay, Entry, Vec<StateChange>), Failure> {
        let entry = self.ledger.log().entry(seq)?;
        let Some(before) = seq.checked_sub(1) else {
            let replay = self.at(0)?;
            let changes = replay.contents()?;
            return Ok((replay, entry, changes));
        };
        let mut replay = self.at(before)?;
        let changes = replay.step(&entry)?;
        Ok((replay, entry, changes))
    }

    fn show(&self, entry: &Entry, changes: &[StateChange]) -> Result<(), Failure> {
        let out = &self.invocation.out;
        if !out.is_json() {
            print_entry(out, entry)?;
            return changes
                .iter()
                .try_for_each(|change| super::print_change(self.invocation, self.ledger, change, "        "));
        }
        let changes = changes.iter().map(|change| to_json(self.ledger, change)).collect::<Vec<_>>();
        let mut shown = match story::entry_json(entry) {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        shown.insert("changes".to_owned(), json!(changes));
        out.json(&Value::Object(shown))
    }

    fn stream(&self, first: u64, last: u64) -> Result<(), Failure> {
        let (mut replay, entry, changes) = self.land(first)?;
        self.show(&entry, &changes)?;
        let mut failed = None;
        self.ledger.log().read(first + 1, last, &mut |entry| {
            let shown = replay.step(&entry).map_err(Failure::from).and_then(|changes| self.show(&entry, &changes));
            match shown {
                Ok(()) if self.invocation.seat.is_gone() => ControlFlow::Break(()),
                Ok(()) => ControlFlow::Continue(()),
                Err(failure) => {
                    failed = Some(failure);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn by_keys(&self, first: u64, last: u64) -> Result<(), Failure> {
        let out = &self.invocation.out;
        out.note("space or n: the next event; b: the one before; q: leave");
        let (mut replay, entry, changes) = self.land(first)?;
        self.show(&entry, &changes)?;
        let mut keys = self.invocation.seat.keys().map_err(|error| Failure::from_terminal(&error))?;
        loop {
            out.flush()?;
            match keys.next().map_err(|error| Failure::from_terminal(&error))? {
                Key::Forward if replay.seq() < last => {
                    let entry = self.ledger.log().entry(replay.seq() + 1)?;
                    let changes = replay.step(&entry)?;
                    self.show(&entry, &changes)?;
                }
                Key::Forward => out.note("this is the last event"),
                Key::Back => match replay.seq().checked_sub(1) {
                    Some(seq) => {
                        let (earlier, entry, changes) = self.land(seq)?;
                        self.show(&entry, &changes)?;
                        replay = earlier;
                    }
                    None => out.note("this is the first event"),
                },
                Key::Other => {}
                Key::Quit => return Ok(()),
            }
        }
    }
}
