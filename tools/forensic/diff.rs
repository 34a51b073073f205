//! `diff`: where two copies of a ledger part.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use clap::Args;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;
use palyra_ledger::inspect::{FindingCode, Report, walk};
use palyra_ledger::{Hash, LedgerId};
use serde_json::{Value, json};

use crate::args::Global;
use crate::case::Case;

/// Events that one side may be ahead, in pieces of this many.
const PIECE: usize = 4096;
/// Ranges that are kept of each kind.
const RANGES_MAX: usize = 10_000;

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A home, a journal or one segment
    one: PathBuf,
    /// Another one
    other: PathBuf,
}

#[derive(Debug, Default)]
struct Difference {
    /// Events that both have, alike, before the first that is not.
    common: u64,
    last_common: Option<(u64, Hash)>,
    same: u64,
    differing: Vec<(u64, u64)>,
    only_one: Vec<(u64, u64)>,
    only_other: Vec<(u64, u64)>,
}

fn widen(ranges: &mut Vec<(u64, u64)>, seq: u64) {
    let room = ranges.len() < RANGES_MAX;
    match ranges.last_mut() {
        // With no room left the last range stands for the rest.
        Some((_, last)) if !room || last.checked_add(1) == Some(seq) || *last == seq => *last = seq,
        _ => ranges.push((seq, seq)),
    }
}

impl Difference {
    fn parted(&self) -> bool {
        !(self.differing.is_empty() && self.only_one.is_empty() && self.only_other.is_empty())
    }

    fn both(&mut self, seq: u64, one: Hash, other: Hash) {
        if one != other {
            widen(&mut self.differing, seq);
            return;
        }
        self.same += 1;
        if !self.parted() {
            self.common += 1;
            self.last_common = Some((seq, one));
        }
    }
}

/// The other side's events as they are needed.
struct Ahead {
    receiver: Receiver<Vec<(u64, Hash)>>,
    piece: std::vec::IntoIter<(u64, Hash)>,
    front: Option<(u64, Hash)>,
}

impl Ahead {
    fn new(receiver: Receiver<Vec<(u64, Hash)>>) -> Self {
        let mut ahead = Self { receiver, piece: Vec::new().into_iter(), front: None };
        ahead.step();
        ahead
    }

    fn step(&mut self) {
        self.front = self.piece.next();
        while self.front.is_none() {
            let Ok(piece) = self.receiver.recv() else { return };
            self.piece = piece.into_iter();
            self.front = self.piece.next();
        }
    }
}

/// Runs `diff`. Damage counts as absence, and two copies with damage are never clean: `verify` says more about it.
pub fn run(global: &Global, out: &Output, args: &DiffArgs) -> Result<ExitCode, Failure> {
    let (one, other) = (Case::open(&args.one, global)?, Case::open(&args.other, global)?);
    let (one_course, other_course) = (one.course()?, other.course()?);
    let mut difference = Difference::default();
    let (sender, receiver) = sync_channel(8);
    let sides = std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let sender = sender;
            let mut piece = Vec::with_capacity(PIECE);
            let walked = walk(&one.evidence, &one_course, &mut |frame, _| {
                piece.push((frame.header.seq, frame.hash));
                if piece.len() >= PIECE {
                    let _ = sender.send(std::mem::replace(&mut piece, Vec::with_capacity(PIECE)));
                }
            });
            let _ = sender.send(piece);
            Side::of(&walked.report)
        });
        let mut ahead = Ahead::new(receiver);
        let walked = walk(&other.evidence, &other_course, &mut |frame, _| {
            let seq = frame.header.seq;
            while let Some((before, _)) = ahead.front.filter(|(before, _)| *before < seq) {
                widen(&mut difference.only_one, before);
                ahead.step();
            }
            match ahead.front {
                Some((same, hash)) if same == seq => {
                    difference.both(seq, hash, frame.hash);
                    ahead.step();
                }
                _ => widen(&mut difference.only_other, seq),
            }
        });
        while let Some((seq, _)) = ahead.front {
            widen(&mut difference.only_one, seq);
            ahead.step();
        }
        (first.join().unwrap_or_default(), Side::of(&walked.report))
    });
    one.close(out)?;
    other.close(out)?;
    let verdict = verdict(&sides, &difference);
    print(out, &sides, &difference, verdict)?;
    Ok(verdict.1)
}

/// One of the two copies.
#[derive(Debug, Default)]
struct Side {
    id: Option<LedgerId>,
    events: u64,
    /// Nothing is wrong with it in itself.
    whole: bool,
}

impl Side {
    fn of(report: &Report) -> Self {
        let torn = report.findings.iter().any(|finding| finding.code == FindingCode::TornTail);
        Self { id: report.ledger_id, events: report.events, whole: report.ok && !torn }
    }
}

fn verdict((one, other): &(Side, Side), difference: &Difference) -> (&'static str, ExitCode) {
    if one.events == 0 && other.events == 0 {
        ("UNVERIFIABLE(no_log)", ExitCode::NotFound)
    } else if one.id != other.id {
        ("FOREIGN", ExitCode::Integrity)
    } else if !difference.differing.is_empty() {
        ("FORKED", ExitCode::Integrity)
    } else if difference.only_one.is_empty() && difference.only_other.is_empty() {
        // Other bytes than events may still differ, or be the same damage twice.
        if one.whole && other.whole { ("SAME", ExitCode::Ok) } else { ("SAME-BUT-DAMAGED", ExitCode::Integrity) }
    } else if difference.only_one.is_empty() {
        ("OTHER-HAS-MORE", if one.whole { ExitCode::Truncated } else { ExitCode::Integrity })
    } else if difference.only_other.is_empty() {
        ("ONE-HAS-MORE", if other.whole { ExitCode::Truncated } else { ExitCode::Integrity })
    } else {
        ("EACH-LACKS-SOME", ExitCode::Integrity)
    }
}

fn print(
    out: &Output,
    (one, other): &(Side, Side),
    difference: &Difference,
    (word, code): (&str, ExitCode),
) -> Result<(), Failure> {
    let ranges = |ranges: &[(u64, u64)]| -> Vec<Value> {
        ranges.iter().map(|(from, through)| json!({"from": from, "through": through})).collect()
    };
    if out.is_json() {
        return out.json(&json!({
            "result": word, "exit_code": code.number(),
            "one": one.id, "other": other.id,
            "one_whole": one.whole, "other_whole": other.whole,
            "common_events": difference.common, "same_events": difference.same,
            "last_common": difference.last_common.map(|(seq, hash)| json!({"seq": seq, "hash": hash})),
            "parts_at": difference.differing.first().map(|(from, _)| from),
            "differing": ranges(&difference.differing),
            "only_one": ranges(&difference.only_one), "only_other": ranges(&difference.only_other),
        }));
    }
    out.line(word)?;
    for (side, which) in [(one, "first"), (other, "second")] {
        if !side.whole {
            out.line(&format!("the {which} copy is damaged in itself: `palyra-forensic verify` says where"))?;
        }
    }
    if difference.same > difference.common {
        out.line(&format!("{} events are the same in both", difference.same))?;
    }
    if let Some((seq, hash)) = difference.last_common {
        out.line(&format!("{} events in common before they part, the last is {seq} {hash}", difference.common))?;
    }
    let named = [
        ("different", &difference.differing),
        ("only in the first", &difference.only_one),
        ("only in the second", &difference.only_other),
    ];
    for (what, ranges) in named {
        for (from, through) in ranges.iter().take(50) {
            out.line(&format!("{what}: events {from} to {through}"))?;
        }
    }
    Ok(())
}
