//! What is counted while a log is walked: bounded, however long the log is and whatever it holds.

use std::collections::{BTreeMap, VecDeque};

use palyra_ledger::event::Kind;
use palyra_ledger::inspect::Site;
use palyra_ledger::log::Frame;
use palyra_ledger::{Entry, Timestamp};

use super::bins::Bins;
use crate::rows;

/// Kinds that an investigator looks at first: trust given or taken, keys changed, something refused or mended.
const NOTABLE: [Kind; 40] = [
    Kind::AnchorConflict,
    Kind::BranchStarted,
    Kind::CompromiseDeclared,
    Kind::CompromiseClosed,
    Kind::EpochStarted,
    Kind::KeySlotAdded,
    Kind::KeySlotRemoved,
    Kind::KeySlotPinned,
    Kind::RootRotated,
    Kind::TailDropped,
    Kind::WitnessSetAside,
    Kind::WitnessRebuilt,
    Kind::ClockStepped,
    Kind::CommandRefused,
    Kind::JournalRestored,
    Kind::HeadRestored,
    Kind::KeyTableRepaired,
    Kind::SpoolDropped,
    Kind::SecretShredded,
    Kind::CaCertified,
    Kind::CaPrepared,
    Kind::CaActivated,
    Kind::CaTainted,
    Kind::CaRevoked,
    Kind::PairingApproved,
    Kind::PairingDenied,
    Kind::PairingRefused,
    Kind::DevicePaired,
    Kind::DeviceRevoked,
    Kind::DeviceCleared,
    Kind::DeviceRemoved,
    Kind::DeviceGranted,
    Kind::CertificateRevoked,
    Kind::ConnectionsRefused,
    Kind::ProfileSet,
    Kind::ProfileDeleted,
    Kind::ProfileLoggedIn,
    Kind::ProfileLoggedOut,
    Kind::RefreshFailed,
    Kind::FailedOver,
];

/// Notable events that are kept; the last ones are.
const NOTABLE_MAX: usize = 200;
/// Actors that are told apart; the rest are counted together.
const ACTORS_MAX: usize = 10_000;
/// Ranges of events that are there; a destroyed log has thousands.
const RANGES_MAX: usize = 2_000;
/// Segments, epochs and silences that are kept.
const SEGMENTS_MAX: usize = 100_000;
const EPOCHS_MAX: usize = 10_000;
const CHECKPOINTS_MAX: usize = 100_000;
/// The event that records a checkpoint.
const CHECKPOINT_KIND: u16 = 16;
const SILENCES_MAX: usize = 5;
/// Kinds that are told apart: every number there is would fit, but only a forger uses them all.
const KINDS_MAX: usize = 512;

/// How often, from when to when.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Events.
    pub events: u64,
    /// Number of the first.
    pub first_seq: u64,
    /// Number of the last.
    pub last_seq: u64,
    /// Time of the first.
    pub first_time: Timestamp,
    /// Time of the last.
    pub last_time: Timestamp,
}

impl Span {
    fn add(into: &mut Option<Self>, seq: u64, time: Timestamp) {
        match into {
            Some(span) => {
                span.events += 1;
                span.last_seq = seq;
                span.last_time = time;
            }
            None => {
                *into = Some(Self { events: 1, first_seq: seq, last_seq: seq, first_time: time, last_time: time });
            }
        }
    }
}

/// A segment as the walk met it.
#[derive(Debug)]
pub struct Segment {
    /// Path below the evidence's root.
    pub file: String,
    /// Its events.
    pub span: Option<Span>,
    /// Bytes of them.
    pub bytes: u64,
}

/// An event worth a look.
#[derive(Debug)]
pub struct Notable {
    /// Number.
    pub seq: u64,
    /// Time.
    pub time: Timestamp,
    /// Kind number.
    pub kind: u16,
    /// What happened, where a key opened it.
    pub says: Option<String>,
    /// Why, in the actor's words.
    pub reason: Option<String>,
}

/// A time in which nothing was recorded.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// The event before it.
    pub after: u64,
    /// Its time.
    pub from: Timestamp,
    /// The time of the next.
    pub to: Timestamp,
}

/// Everything counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// Events in the order of time.
    pub bins: Bins,
    /// By kind number.
    pub kinds: BTreeMap<u16, Option<Span>>,
    /// By actor, where keys opened the bodies.
    pub actors: BTreeMap<String, Option<Span>>,
    /// Events of actors beyond the bound.
    pub other_actors: u64,
    /// Events that no key opened; all of them where there was none.
    pub sealed: u64,
    /// By epoch.
    pub epochs: BTreeMap<u32, Option<Span>>,
    /// Segments in order.
    pub segments: Vec<Segment>,
    /// Numbers that are there, as ranges.
    pub present: Vec<(u64, u64)>,
    /// Events worth a look.
    pub notable: VecDeque<Notable>,
    /// How many there were.
    pub notable_total: u64,
    /// Events that record a checkpoint.
    pub checkpoints: Vec<u64>,
    /// The longest silences, the longest first.
    pub silences: Vec<Silence>,
    last: Option<(u64, Timestamp)>,
}

impl Tally {
    /// Counts one event.
    pub fn add(&mut self, frame: &Frame<'_>, site: Site<'_>, entry: Option<&Entry>) {
        let header = &frame.header;
        let (seq, time) = (header.seq, header.time);
        self.bins.add(time, header.kind);
        if self.kinds.len() < KINDS_MAX || self.kinds.contains_key(&header.kind) {
            Span::add(self.kinds.entry(header.kind).or_default(), seq, time);
        }
        if self.epochs.len() < EPOCHS_MAX || self.epochs.contains_key(&header.epoch) {
            Span::add(self.epochs.entry(header.epoch).or_default(), seq, time);
        }
        self.place(seq);
        if header.kind == CHECKPOINT_KIND && self.checkpoints.len() < CHECKPOINTS_MAX {
            self.checkpoints.push(seq);
        }
        self.segment(frame, site);
        self.silence(seq, time);
        match entry {
            Some(entry) => self.actor(entry.caller.actor.as_str(), seq, time),
            None => self.sealed += 1,
        }
        if Kind::from_number(header.kind).is_none_or(|kind| NOTABLE.contains(&kind)) {
            self.note(frame, entry);
        }
    }

    fn place(&mut self, seq: u64) {
        match self.present.last_mut() {
            Some((_, to)) if seq == to.saturating_add(1) => *to = seq,
            // A frame that stands twice, or out of order, is a finding; the map shows what is there at all.
            Some((_, to)) if seq <= *to => {}
            _ => {
                if self.present.len() < RANGES_MAX {
                    self.present.push((seq, seq));
                }
            }
        }
    }

    fn segment(&mut self, frame: &Frame<'_>, site: Site<'_>) {
        let same = self.segments.last().is_some_and(|segment| std::path::Path::new(&segment.file) == site.path);
        if !same && self.segments.len() < SEGMENTS_MAX {
            self.segments.push(Segment { file: site.path.display().to_string(), span: None, bytes: 0 });
        }
        if let Some(segment) = self.segments.last_mut() {
            Span::add(&mut segment.span, frame.header.seq, frame.header.time);
            segment.bytes += frame.bytes().len() as u64;
        }
    }

    fn silence(&mut self, seq: u64, time: Timestamp) {
        if let Some((after, from)) = self.last.replace((seq, time))
            && time > from
        {
            let length = |silence: &Silence| silence.to.as_millis() - silence.from.as_millis();
            let new = Silence { after, from, to: time };
            let shortest = self.silences.last().map_or(0, length);
            if self.silences.len() < SILENCES_MAX || length(&new) > shortest {
                let at = self.silences.partition_point(|other| length(other) >= length(&new));
                self.silences.insert(at, new);
                self.silences.truncate(SILENCES_MAX);
            }
        }
    }

    fn actor(&mut self, actor: &str, seq: u64, time: Timestamp) {
        if let Some(span) = self.actors.get_mut(actor) {
            Span::add(span, seq, time);
        } else if self.actors.len() < ACTORS_MAX {
            Span::add(self.actors.entry(actor.to_owned()).or_default(), seq, time);
        } else {
            self.other_actors += 1;
        }
    }

    fn note(&mut self, frame: &Frame<'_>, entry: Option<&Entry>) {
        self.notable_total += 1;
        if self.notable.len() == NOTABLE_MAX {
            self.notable.pop_front();
        }
        self.notable.push_back(Notable {
            seq: frame.header.seq,
            time: frame.header.time,
            kind: frame.header.kind,
            says: entry.map(|entry| rows::message(frame, Some(entry))),
            reason: entry.and_then(|entry| entry.caller.reason.as_ref().map(ToString::to_string)),
        });
    }
}
