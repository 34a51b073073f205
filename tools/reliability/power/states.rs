//! The disks that a power cut could leave, at every point of a recording.

// A seed, what was seen of it and a state are what this is about.
#![allow(clippy::similar_names)]

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::disk::{Change, Disk, Fate, Pending, What, sectors};
use super::image::{Image, Node};
use super::replay::{Happened, Replay};
use super::trace::{Step, Trace};
use crate::Fault;

/// One disk that a power cut could leave.
#[derive(Debug, Clone)]
pub struct State {
    /// The disk.
    pub image: Image,
    /// What the program had said by then, a line each.
    pub said: Arc<[String]>,
    /// Where the cut falls and what became of what was pending: enough to find it again in the recording.
    pub cut: String,
}

/// What was tried: images, each with how much had been acknowledged.
pub type Seen = HashSet<([u8; 32], usize)>;

/// Pending operations of which each is kept and lost alone, at most: of more, some are drawn.
const ALONE: usize = 24;
/// How often a recording is gone through; a power of two.
const PASSES: usize = 32;
/// Random choices at each point.
const RANDOM: usize = 6;

/// What is drawn from: `SplitMix64`.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.draw() % bound.max(1) as u64).unwrap_or(0)
    }
}

/// A recording and what it began with.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The calls.
    pub trace: Trace,
    /// They, as the recorder wrote them down.
    pub text: String,
    /// The folder that was recorded.
    pub root: Vec<u8>,
    /// What was in it, durably.
    pub before: Image,
    /// What had been said before.
    pub said: Vec<String>,
    /// Whether what the recorded program says counts.
    pub listens: bool,
}

impl Recording {
    /// Reads what the recorder wrote down.
    pub fn new(text: String, root: Vec<u8>, before: Image) -> Result<Self, Fault> {
        let trace = Trace::parse(&text)?;
        Ok(Self { trace, text, root, before, said: Vec::new(), listens: true })
    }

    /// Holds the model against what the recorded program left: with everything that is pending, it is the same.
    pub fn compare(&self, after: &Image) -> Result<(), Fault> {
        let mut replay = Replay::new(&self.trace, &self.root, Disk::holding(&self.before));
        for step in &self.trace.steps {
            replay.step(*step)?;
        }
        let model = replay.disk.left(&vec![Fate::Kept; replay.disk.pending.len()]);
        let differs = |path: &&Vec<u8>| match (model.nodes.get(*path), after.nodes.get(*path)) {
            (Some(Node::Folder(_)), Some(Node::Folder(_))) => false,
            (Some(Node::File(_, _, one)), Some(Node::File(_, _, other))) => one != other,
            _ => true,
        };
        match model.nodes.keys().chain(after.nodes.keys()).find(differs) {
            None => Ok(()),
            Some(path) => {
                let path = String::from_utf8_lossy(path);
                Err(format!("the recording is not complete: at {path} it gives something else than there is").into())
            }
        }
    }

    /// Visits every state that is not in `seen` yet: those of one point are drawn by `seed`. Says at how many points the
    /// power was cut. It goes through the recording several times, so that a visitor who stops early has been everywhere.
    pub fn states(
        &self,
        seed: u64,
        seen: &mut Seen,
        visit: &mut dyn FnMut(State) -> ControlFlow<()>,
    ) -> Result<usize, Fault> {
        let mut points = 0;
        for pass in 0..PASSES {
            // Bits turned round: each pass falls between the ones before.
            let turned = (pass as u64).reverse_bits() >> (64 - PASSES.trailing_zeros());
            if self.pass(seed, turned, seen, &mut points, visit)?.is_break() {
                break;
            }
        }
        Ok(points)
    }

    /// States for second cuts, drawn by `seed`: of so many points, each as likely as every other, one each, in the order in
    /// which they were drawn.
    pub fn drawn(&self, seed: u64, count: usize) -> Result<Vec<State>, Fault> {
        let mut points = 0;
        self.points(&mut |_, _| points += 1)?;
        let mut dice = Dice::new(seed ^ 0x5ec0_4d00);
        let mut order: Vec<usize> = (0..points).collect();
        let count = count.min(points);
        for at in 0..count {
            order.swap(at, at + dice.below(points - at));
        }
        order.truncate(count);
        let mut found: Vec<(usize, State)> = Vec::with_capacity(count);
        let mut point = 0;
        self.points(&mut |replay, (at, line, said)| {
            if let Some(place) = order.iter().position(|drawn| *drawn == point) {
                let pending = &replay.disk.pending;
                let mut all = choices(pending, &mut dice);
                let (what, fates) = all.swap_remove(dice.below(all.len()));
                let cut = format!("step {at} (line {line}), {what} of {} pending", pending.len());
                found.push((place, State { image: replay.disk.left(&fates), said: said.to_vec().into(), cut }));
            }
            point += 1;
        })?;
        found.sort_by_key(|(place, _)| *place);
        Ok(found.into_iter().map(|(_, state)| state).collect())
    }

    /// Visits every point at which the power may be cut: its step, the line of it, and what was said by then.
    fn points(&self, visit: &mut dyn FnMut(&Replay<'_>, (usize, usize, &[String]))) -> Result<(), Fault> {
        let mut replay = Replay::new(&self.trace, &self.root, Disk::holding(&self.before));
        let (mut said, mut line) = (self.said.clone(), 0);
        visit(&replay, (0, line, said.as_slice()));
        for (at, step) in (1..).zip(&self.trace.steps) {
            let (Step::Enter(number) | Step::Leave(number)) = *step;
            line = self.trace.calls.get(number).map_or(line, |call| call.line);
            match replay.step(*step)? {
                Happened::Nothing => continue,
                Happened::Changed => {}
                Happened::Said(_) if !self.listens => continue,
                Happened::Said(word) => said.push(word),
            }
            visit(&replay, (at, line, said.as_slice()));
        }
        Ok(())
    }

    fn pass(
        &self,
        seed: u64,
        pass: u64,
        seen: &mut Seen,
        points: &mut usize,
        visit: &mut dyn FnMut(State) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        let mut replay = Replay::new(&self.trace, &self.root, Disk::holding(&self.before));
        let mut said = self.said.clone();
        let mut shared: Option<Arc<[String]>> = None;
        let (mut line, mut point) = (0, 0_u64);
        for (at, step) in std::iter::once(None).chain(self.trace.steps.iter().copied().map(Some)).enumerate() {
            if let Some(step) = step {
                let (Step::Enter(number) | Step::Leave(number)) = step;
                line = self.trace.calls.get(number).map_or(line, |call| call.line);
                match replay.step(step)? {
                    Happened::Nothing => continue,
                    Happened::Changed => {}
                    Happened::Said(_) if !self.listens => continue,
                    Happened::Said(word) => {
                        said.push(word);
                        shared = None;
                    }
                }
            }
            point += 1;
            if point % PASSES as u64 != pass {
                continue;
            }
            *points += 1;
            let promised = said.iter().filter(|word| word.starts_with("ack ")).count();
            let mut dice = Dice::new(seed ^ (at as u64).wrapping_mul(0x1234_5678_9abc_def1));
            for (what, fates) in choices(&replay.disk.pending, &mut dice) {
                let image = replay.disk.left(&fates);
                if !seen.insert((image.digest(), promised)) {
                    continue;
                }
                let cut = format!("step {at} (line {line}), {what} of {} pending", replay.disk.pending.len());
                let said = Arc::clone(shared.get_or_insert_with(|| said.clone().into()));
                if visit(State { image, said, cut }).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What may become of pending operations.
fn choices(pending: &[Pending], dice: &mut Dice) -> Vec<(String, Vec<Fate>)> {
    let len = pending.len();
    let all = |fate: Fate| vec![fate; len];
    let but = |mut fates: Vec<Fate>, at: usize, fate: Fate| {
        if let Some(place) = fates.get_mut(at) {
            *place = fate;
        }
        fates
    };
    let mut found = vec![("none".to_owned(), all(Fate::Lost)), ("all".to_owned(), all(Fate::Kept))];
    let only = |names: bool| {
        let kept = |one: &Pending| if matches!(one.what, What::Name(..)) == names { Fate::Kept } else { Fate::Lost };
        pending.iter().map(kept).collect::<Vec<_>>()
    };
    found.push(("names alone".to_owned(), only(true)));
    found.push(("data alone".to_owned(), only(false)));
    // The newest are always among them: what is older was the newest at an earlier point.
    let singles: Vec<usize> = if len <= ALONE {
        (0..len).collect()
    } else {
        (len - ALONE / 2..len).chain((0..ALONE / 2).map(|_| dice.below(len))).collect()
    };
    for at in singles {
        found.push((format!("number {at} alone"), but(all(Fate::Lost), at, Fate::Kept)));
        found.push((format!("all but number {at}"), but(all(Fate::Kept), at, Fate::Lost)));
        let Some(What::Data(_, Change::Write(from, bytes))) = pending.get(at).map(|one| &one.what) else { continue };
        let count = sectors(*from, bytes.len());
        let mut fates = vec![Fate::Zeros, Fate::Stale];
        if count > 1 {
            let half = (1_u64 << (count / 2).min(63)) - 1;
            fates.extend([Fate::Torn(half), Fate::Torn(!half), Fate::Torn(dice.draw()), Fate::Torn(dice.draw())]);
        }
        for fate in fates {
            found.push((format!("number {at} {fate:?}, the others lost"), but(all(Fate::Lost), at, fate)));
            found.push((format!("number {at} {fate:?}, the others kept"), but(all(Fate::Kept), at, fate)));
        }
    }
    if len > 1 {
        for number in 0..RANDOM {
            let fates = pending.iter().map(|one| random(one, dice)).collect();
            found.push((format!("random choice {number}"), fates));
        }
    }
    found
}

fn random(one: &Pending, dice: &mut Dice) -> Fate {
    let write = matches!(one.what, What::Data(_, Change::Write(..)));
    match dice.below(16) {
        0 if write => Fate::Zeros,
        1 if write => Fate::Stale,
        2 | 3 if write => Fate::Torn(dice.draw()),
        even if even % 2 == 0 => Fate::Kept,
        _ => Fate::Lost,
    }
}
