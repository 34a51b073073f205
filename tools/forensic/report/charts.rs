//! The charts, as inline SVG: names and descriptions for those who do not see them, one accent, patterns beside
//! colours.

use std::fmt::Write;

use super::bins::CLASSES;
use super::facts::{Activity, Bin, Facts, Range};
use super::text::{count, escape, number, range};

const WIDTH: u64 = 960;
/// Room for names of rows on the left.
const LEFT: u64 = 96;
const RIGHT: u64 = 12;
const PLOT: u64 = WIDTH - LEFT - RIGHT;
const TOP_ROW: u64 = 132;
const ROW: u64 = 40;
const GAP: u64 = 16;

/// A place on an axis, in hundredths of a unit of the drawing: whole numbers print the same everywhere.
fn scale(value: u64, of: u64, length: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(length) * 100 / u128::from(of.max(1))).unwrap_or(u64::MAX)
}

fn hundredths(value: u64) -> String {
    format!("{}.{:02}", value / 100, value % 100)
}

fn open(id: &str, height: u64, title: &str, description: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title\" aria-describedby=\"{id}-desc\">\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
        escape(title),
        escape(description)
    )
}

/// Events over time: all of them, and below a row for every domain that has some.
pub fn timeline(activity: &Activity) -> Option<String> {
    let (first, last) = (activity.bins.first()?, activity.bins.last()?);
    let bins = (last.at - first.at) / activity.bin_seconds + 1;
    let shown: Vec<(usize, &str)> = CLASSES
        .iter()
        .enumerate()
        .map(|(index, name)| (index, *name))
        .filter(|(index, _)| activity.bins.iter().any(|bin| of_class(bin, *index) > 0))
        .collect();
    let height = TOP_ROW + (ROW + GAP) * shown.len() as u64 + 44;
    let busiest = activity.bins.iter().max_by_key(|bin| (bin.total(), std::cmp::Reverse(bin.at)))?;
    let description = format!(
        "Columns of {} each, from {} to {}. The busiest begins at {} and has {}.",
        super::text::duration(activity.bin_seconds),
        first.from,
        last.from,
        busiest.from,
        count(busiest.total(), "event"),
    );
    let mut svg = open("timeline", height, "Events over time", &description);
    let place = Axis { first: first.at, bins, width: activity.bin_seconds };
    let values: Vec<(u64, u64)> = activity.bins.iter().map(|bin| (bin.at, bin.total())).collect();
    columns(&mut svg, &place, (10, TOP_ROW - 10, "all events"), &values, true);
    for (row, (index, name)) in (0_u64..).zip(shown) {
        let values: Vec<(u64, u64)> = activity.bins.iter().map(|bin| (bin.at, of_class(bin, index))).collect();
        columns(&mut svg, &place, (TOP_ROW + GAP + row * (ROW + GAP), ROW, name), &values, false);
    }
    time_axis(&mut svg, &place, height - 30);
    svg.push_str("</svg>");
    Some(svg)
}

fn of_class(bin: &Bin, index: usize) -> u64 {
    bin.counts.get(index).copied().unwrap_or_default()
}

struct Axis {
    first: u64,
    bins: u64,
    width: u64,
}

fn columns(svg: &mut String, axis: &Axis, (top, height, name): (u64, u64, &str), values: &[(u64, u64)], large: bool) {
    let most = values.iter().map(|(_, value)| *value).max().unwrap_or_default();
    let base = top + height;
    let _ = write!(svg, "<path class=\"line\" d=\"M{LEFT} {base}.5H{}\"/>", WIDTH - RIGHT);
    let _ = write!(svg, "<text class=\"label\" x=\"0\" y=\"{}\">{name}</text>", base - 4);
    let _ = write!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", LEFT - 8, top + 10, number(most));
    if large {
        let _ = write!(svg, "<path class=\"line\" d=\"M{LEFT} {top}.5H{}\"/>", WIDTH - RIGHT);
    }
    let slot = PLOT * 100 / axis.bins;
    let gap = if slot > 300 { 100 } else { slot / 5 };
    svg.push_str("<g class=\"bar\">");
    for (at, value) in values.iter().filter(|(_, value)| *value > 0) {
        let x = LEFT * 100 + scale((at - axis.first) / axis.width, axis.bins, PLOT);
        // A single event among thousands must still be seen.
        let tall = scale(*value, most, height).max(150);
        let (x, y) = (hundredths(x), hundredths(base * 100 - tall));
        let _ = write!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\"/>",
            hundredths((slot - gap).max(60)),
            hundredths(tall)
        );
    }
    svg.push_str("</g>");
}

fn time_axis(svg: &mut String, axis: &Axis, y: u64) {
    const TICKS: u64 = 6;
    let short = axis.bins * axis.width < 3 * 86_400;
    let every = axis.bins.div_ceil(TICKS).max(1);
    for index in (0..axis.bins).step_by(usize::try_from(every).unwrap_or(1)) {
        let x = LEFT + scale(index, axis.bins, PLOT) / 100;
        let seconds = axis.first.saturating_add(index * axis.width);
        let time = palyra_ledger::Timestamp::from_millis(seconds.saturating_mul(1000)).to_string();
        // Times that no calendar reaches are made up; they have no room on an axis.
        let (date, clock) = time.split_once('T').unwrap_or(("no date", ""));
        let clock = clock.get(..if axis.width < 60 { 8 } else { 5 }).unwrap_or(clock);
        let _ = write!(svg, "<path class=\"line\" d=\"M{x}.5 {}v5\"/>", y - 14);
        let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"start\">{}</text>", escape(date));
        if short || axis.width < 86_400 {
            let _ = write!(svg, "<text x=\"{x}\" y=\"{}\" text-anchor=\"start\">{}</text>", y + 15, escape(clock));
        }
    }
}

/// Where the rows of the chain map begin.
const CHAIN: u64 = 26;
const THICK: u64 = 34;
/// Marks of findings that are drawn: more would be one block.
const MARKS_MAX: usize = 400;

/// The chain from its first number to the last that anything speaks of: segments, what is missing, where findings
/// lie, checkpoints, and how far anchors reach.
pub fn chain(facts: &Facts) -> Option<String> {
    let log = &facts.log;
    let last = log.present.rows.iter().map(|range| range.through).max()?;
    let anchored = log.anchors.iter().filter(|anchor| Some(anchor.ledger_id) == log.ledger_id).map(|a| a.size).max();
    let named = facts.findings.rows.iter().filter_map(|finding| finding.through.or(finding.seq)).max();
    // A damaged number may be anything: what lies far beyond the log would squash it into a corner.
    let beyond = [anchored, named.map(|seq| seq + 1)].into_iter().flatten().filter(|end| *end / 4 <= last.max(8)).max();
    let first = log.present.rows.iter().map(|range| range.from).min().filter(|_| log.events > 0).unwrap_or(0);
    let first = if log.first.as_ref().is_some_and(|end| end.seq > 0) && facts.findings.total == 0 { first } else { 0 };
    let map = Map { first, end: (last + 1).max(beyond.unwrap_or(0)) };
    let missing = missing(&log.present.rows, &map);
    let mut svg = open("chain", 148, "Map of the chain", &description(facts, &map, &missing));
    svg.push_str(
        "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M0 0V6\"/></pattern></defs>",
    );
    let _ = write!(svg, "<text class=\"label\" x=\"0\" y=\"{}\">events</text>", CHAIN + 21);
    for segment in &log.segments.rows {
        map.rect(&mut svg, "pale edge", (CHAIN, THICK), segment.first_seq, segment.last_seq);
    }
    for gap in &missing {
        map.rect(&mut svg, "lost", (CHAIN, THICK), gap.from, gap.through);
    }
    for finding in facts.findings.rows.iter().filter(|finding| !finding.code.is_note()).take(MARKS_MAX) {
        if let Some(seq) = finding.seq.filter(|seq| (map.first..map.end).contains(seq)) {
            let x = hundredths(map.place(seq));
            let _ = write!(svg, "<path class=\"hurt\" d=\"M{x} {} l-5 -10h10z\"/>", CHAIN - 2);
        }
    }
    let _ = write!(svg, "<text class=\"label\" x=\"0\" y=\"{}\">anchored</text>", CHAIN + THICK + 26);
    if log.anchored_events > map.first {
        map.rect(&mut svg, "bar", (CHAIN + THICK + 14, 14), map.first, log.anchored_events - 1);
    }
    if let Some(range) = log.unanchored {
        let (from, to) =
            (map.place(range.from.max(map.first)), map.place(range.through.saturating_add(1).min(map.end)));
        let _ = write!(
            svg,
            "<rect fill=\"url(#hatch)\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"14\"/>",
            hundredths(from),
            CHAIN + THICK + 14,
            hundredths(to.saturating_sub(from))
        );
    }
    for seq in &log.checkpoints.rows {
        let x = hundredths(map.place(*seq));
        let _ = write!(svg, "<path class=\"tick\" d=\"M{x} {}v8\"/>", CHAIN + THICK - 8);
    }
    map.axis(&mut svg, 128);
    svg.push_str("</svg>");
    Some(svg)
}

struct Map {
    first: u64,
    /// One behind the last.
    end: u64,
}

impl Map {
    fn place(&self, seq: u64) -> u64 {
        LEFT * 100 + scale(seq.saturating_sub(self.first).min(self.end - self.first), self.end - self.first, PLOT)
    }

    fn rect(&self, svg: &mut String, class: &str, (top, height): (u64, u64), from: u64, through: u64) {
        let (x, to) = (self.place(from), self.place(through.saturating_add(1)));
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{height}\"/>",
            hundredths(x),
            hundredths(to.saturating_sub(x).max(120))
        );
    }

    fn axis(&self, svg: &mut String, y: u64) {
        let _ = write!(svg, "<path class=\"line\" d=\"M{LEFT} {}.5H{}\"/>", y - 22, WIDTH - RIGHT);
        let length = self.end - self.first;
        let parts = length.clamp(1, 6);
        for part in 0..=parts {
            let seq =
                self.first + u64::try_from(u128::from(length) * u128::from(part) / u128::from(parts)).unwrap_or(0);
            let (x, anchor) = (self.place(seq) / 100, if part == parts { "end" } else { "middle" });
            let anchor = if part == 0 { "start" } else { anchor };
            let shown = if part == parts { seq - 1 } else { seq };
            let _ = write!(svg, "<path class=\"line\" d=\"M{x} {}v5\"/>", y - 22);
            let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>", number(shown));
        }
    }
}

/// What lies between the ranges that are there.
fn missing(present: &[Range], map: &Map) -> Vec<Range> {
    let mut at = map.first;
    let mut gaps = Vec::new();
    for range in present {
        if range.from > at {
            gaps.push(Range { from: at, through: range.from - 1 });
        }
        at = at.max(range.through.saturating_add(1));
    }
    if at < map.end {
        gaps.push(Range { from: at, through: map.end - 1 });
    }
    gaps
}

fn description(facts: &Facts, map: &Map, missing: &[Range]) -> String {
    const NAMED: usize = 8;
    let log = &facts.log;
    let mut text = format!("Events {} in {}.", range(map.first, map.end - 1), count(log.segments.total, "segment"));
    if missing.is_empty() {
        text.push_str(" No number is missing.");
    } else {
        let named: Vec<String> = missing.iter().take(NAMED).map(|gap| range(gap.from, gap.through)).collect();
        let more = if missing.len() > NAMED { " and others" } else { "" };
        let _ = write!(text, " Missing or damaged: {}{more}.", named.join("; "));
    }
    let _ = match log.anchored_events {
        some if some > map.first => write!(text, " Anchored: events {}.", range(map.first, some - 1)),
        _ => write!(text, " No event is anchored."),
    };
    let _ = write!(text, " {}.", count(log.checkpoints.total, "checkpoint"));
    text
}
