//! The sections of the page below the verdict.

use std::fmt::Write;

use palyra_ledger::Hash;
use palyra_ledger::inspect::Finding;

use super::charts;
use super::facts::{Facts, NotableRow};
use super::tables::{TABLE_END, figure, left_out, shares, spans, table};
use super::text::{bytes, count, duration, escape, number, range};
use crate::verify::code_name;

pub fn findings(page: &mut String, facts: &Facts) {
    if facts.findings.rows.is_empty() {
        page.push_str(
            "<p class=\"none\">Nothing was found wrong with what is here. The verdict says how far that reaches.</p>",
        );
        return;
    }
    table(
        page,
        "What is wrong, and what is to be known, in the order of the log",
        &[("", "Finding"), ("num", "Event"), ("", "Where"), ("", "What")],
    );
    for finding in &facts.findings.rows {
        finding_row(page, finding);
    }
    page.push_str(TABLE_END);
    left_out(page, &facts.findings, "findings");
}

fn finding_row(page: &mut String, finding: &Finding) {
    let (class, grade) = if finding.code.is_note() { ("caution", "Note") } else { ("bad", "Fault") };
    let event = match (finding.seq, finding.through) {
        (Some(from), through) => range(from, through.unwrap_or(from)),
        (None, _) => "\u{2013}".to_owned(),
    };
    let file = finding.file.as_deref().map(|file| format!("<code>{}</code>", escape(file))).unwrap_or_default();
    let offset = finding.offset.map(|offset| format!(" byte {}", number(offset))).unwrap_or_default();
    let _ = write!(
        page,
        "<tr><th scope=\"row\"><span class=\"kindof {class}\">{grade}</span> <code>{}</code></th><td class=\"num\">{event}</td>\
         <td>{file}{offset}</td><td>{}</td></tr>",
        escape(&code_name(finding.code)),
        escape(&finding.what)
    );
}

pub fn chain(page: &mut String, facts: &Facts) {
    let Some(svg) = charts::chain(facts) else {
        page.push_str("<p class=\"none\">There is no event to draw.</p>");
        return;
    };
    figure(
        page,
        &svg,
        "Map of the chain",
        "Blocks are segments, by the numbers of their events. A red block is a range that is missing or damaged, a red \
         mark above is a fault, a short stroke at the lower edge is a checkpoint. The lower bar is solid where an anchor \
         vouches for the events, and hatched where none does.",
    );
    if !facts.log.anchors.is_empty() {
        table(
            page,
            "Anchors that the log was compared with",
            &[("", "Anchor"), ("num", "Events"), ("time", "Made"), ("", "Root of the tree")],
        );
        for anchor in &facts.log.anchors {
            let _ = write!(
                page,
                "<tr><th scope=\"row\">{}</th><td class=\"num\">{}</td><td class=\"time\">{}</td><td><code>{}</code></td></tr>",
                escape(&anchor.source),
                number(anchor.size),
                escape(&anchor.time),
                anchor.root
            );
        }
        page.push_str(TABLE_END);
    }
    spans(page, "Segments of the journal", "Segment", &facts.log.segments, true);
    left_out(page, &facts.log.segments, "segments");
}

pub fn activity(page: &mut String, facts: &Facts) {
    let activity = &facts.activity;
    let Some(svg) = charts::timeline(activity) else {
        page.push_str("<p class=\"none\">There is no event to draw.</p>");
        return;
    };
    let caption = format!(
        "Every column is {} (UTC). The number at the left of a row is its highest column; rows have scales of their own.",
        duration(activity.bin_seconds)
    );
    figure(page, &svg, "Events over time", &caption);
    busiest(page, facts);
    if activity.silences.is_empty() {
        return;
    }
    table(
        page,
        "The longest times in which nothing was recorded",
        &[("", "How long"), ("num", "After event"), ("time", "From"), ("time", "To")],
    );
    for silence in &activity.silences {
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td class=\"num\">{}</td><td class=\"time\">{}</td><td class=\"time\">{}</td></tr>",
            duration(silence.seconds),
            number(silence.after),
            escape(&silence.from),
            escape(&silence.to)
        );
    }
    page.push_str(TABLE_END);
}

/// The highest columns in words: what a chart says to those who do not see it.
fn busiest(page: &mut String, facts: &Facts) {
    const SHOWN: usize = 5;
    let mut bins: Vec<_> = facts.activity.bins.iter().collect();
    bins.sort_by_key(|bin| (std::cmp::Reverse(bin.total()), bin.at));
    let caption = format!("The busiest times, of {} each", duration(facts.activity.bin_seconds));
    let mut columns = vec![("time", "From"), ("num", "Events")];
    columns.extend(facts.classes.iter().map(|class| ("num", *class)));
    table(page, &caption, &columns);
    for bin in bins.into_iter().take(SHOWN) {
        let _ = write!(
            page,
            "<tr><th scope=\"row\" class=\"time\">{}</th><td class=\"num\">{}</td>",
            escape(&bin.from),
            number(bin.total())
        );
        for count in bin.counts {
            let _ = write!(page, "<td class=\"num\">{}</td>", number(count));
        }
        page.push_str("</tr>");
    }
    page.push_str(TABLE_END);
}

pub fn kinds(page: &mut String, facts: &Facts) {
    shares(page, "Kinds of events, the most frequent first", "Kind", &facts.kinds);
    left_out(page, &facts.kinds, "kinds");
}

pub fn actors(page: &mut String, facts: &Facts) {
    match &facts.actors {
        None => page.push_str(
            "<p class=\"none\">Who did what stands in the sealed bodies. Without keys they were not opened; give the ledger's keys to fill this part.</p>",
        ),
        Some(actors) => {
            shares(page, "Actors, the most active first", "Actor", actors);
            left_out(page, actors, "actors");
            if facts.sealed_events > 0 {
                let _ = write!(
                    page,
                    "<p>{} did not open with these keys and are counted for nobody.</p>",
                    count(facts.sealed_events, "event")
                );
            }
        }
    }
}

pub fn notable(page: &mut String, facts: &Facts) {
    if facts.notable.rows.is_empty() {
        page.push_str("<p class=\"none\">Trust was neither given nor taken, no key changed, and nothing was refused or mended.</p>");
        return;
    }
    page.push_str("<p>Trust given or taken, keys changed, commands refused, damage mended.</p>");
    let said = facts.notable.rows.iter().any(|row| row.says.is_some());
    let mut columns = vec![("num", "Event"), ("time", "Time"), ("", "Kind")];
    if said {
        columns.push(("", "What"));
    }
    table(page, "Events worth a look", &columns);
    for row in &facts.notable.rows {
        notable_row(page, row, said);
    }
    page.push_str(TABLE_END);
    left_out(page, &facts.notable, "earlier events");
}

fn notable_row(page: &mut String, row: &NotableRow, said: bool) {
    let _ = write!(
        page,
        "<tr><th scope=\"row\" class=\"num\">{}</th><td class=\"time\">{}</td><td>{}</td>",
        number(row.seq),
        escape(&row.time),
        escape(&row.kind.replace('_', " "))
    );
    if said {
        let says = row.says.as_deref().map_or_else(|| "not opened".to_owned(), escape);
        let reason = row.reason.as_deref().map(|reason| format!(" <span class=\"soft\">({})</span>", escape(reason)));
        let _ = write!(page, "<td>{says}{}</td>", reason.unwrap_or_default());
    }
    page.push_str("</tr>");
}

pub fn epochs(page: &mut String, facts: &Facts) {
    page.push_str(
        "<p>An epoch is the time in which one key seals the events. A new one begins on demand and by age.</p>",
    );
    spans(page, "Key epochs", "Epoch", &facts.log.epochs, false);
    left_out(page, &facts.log.epochs, "epochs");
}

pub fn evidence(page: &mut String, facts: &Facts) {
    let evidence = &facts.evidence;
    let _ = write!(
        page,
        "<p>{}, {} in all, read as {} and not changed: digests were made before and compared after. The digest of the \
         files is the SHA-256 over what <code>sha256sum</code> prints for them, sorted by path.</p>",
        count(evidence.files.total, "file"),
        bytes(evidence.bytes),
        escape(&evidence.what.name().replace('_', " "))
    );
    table(page, "Files", &[("", "Path"), ("num", "Bytes"), ("", "SHA-256 and BLAKE3")]);
    for file in &evidence.files.rows {
        let digest = |name: &str, hash: Option<Hash>| {
            hash.map(|hash| format!("<code class=\"digest\" title=\"{name}\">{hash}</code>")).unwrap_or_default()
        };
        let _ = write!(
            page,
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"num\">{}</td><td>{}{}</td></tr>",
            escape(&file.path),
            number(file.bytes),
            digest("SHA-256", file.sha256),
            digest("BLAKE3", file.blake3)
        );
    }
    page.push_str(TABLE_END);
    left_out(page, &evidence.files, "files");
    if !evidence.unreadable.rows.is_empty() {
        table(page, "Files that could not be read", &[("", "Path"), ("", "Why")]);
        for file in &evidence.unreadable.rows {
            let (path, why) = (escape(&file.path), escape(&file.why));
            let _ = write!(page, "<tr><th scope=\"row\"><code>{path}</code></th><td>{why}</td></tr>");
        }
        page.push_str(TABLE_END);
        left_out(page, &evidence.unreadable, "files");
    }
}
