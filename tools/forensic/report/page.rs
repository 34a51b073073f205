//! The page: one HTML document without scripts and without a request to anywhere.

use std::fmt::Write;

use palyra_ledger::Hash;
use palyra_ledger::inspect::Finding;

use super::charts;
use super::facts::{Capped, Facts, NotableRow, Row};
use super::text::{bytes, count, duration, escape, number, range};
use super::words::Grade;
use crate::verify::code_name;

const STYLE: &str = include_str!("style.css");

/// Sections: the id, the name in the contents and in the heading.
const SECTIONS: [(&str, &str); 8] = [
    ("findings", "Findings"),
    ("chain", "The chain"),
    ("activity", "Activity over time"),
    ("kinds", "Activity by kind"),
    ("actors", "Activity by actor"),
    ("notable", "Events worth a look"),
    ("epochs", "Key epochs"),
    ("evidence", "What was examined"),
];

/// The page as text.
pub fn html(facts: &Facts) -> String {
    let mut page = String::with_capacity(256 * 1024);
    head(&mut page, facts);
    page.push_str("<main id=\"main\">");
    summary(&mut page, facts);
    for (id, name) in SECTIONS {
        let _ = write!(page, "<section aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{name}</h2>");
        match id {
            "findings" => findings(&mut page, facts),
            "chain" => chain(&mut page, facts),
            "activity" => activity(&mut page, facts),
            "kinds" => kinds(&mut page, facts),
            "actors" => actors(&mut page, facts),
            "notable" => notable(&mut page, facts),
            "epochs" => epochs(&mut page, facts),
            _ => evidence(&mut page, facts),
        }
        page.push_str("</section>");
    }
    let _ = write!(
        page,
        "</main><footer><p>Made by {}. All times are UTC. The same evidence gives the same page, byte for byte; \
         it holds no script and asks no other machine for anything. The values of secrets are in none of it.</p></footer></body></html>\n",
        escape(facts.tool)
    );
    page
}

fn head(page: &mut String, facts: &Facts) {
    let ledger = facts.log.ledger_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\
         <meta name=\"referrer\" content=\"no-referrer\"><meta name=\"color-scheme\" content=\"light dark\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><link rel=\"icon\" href=\"data:,\">\
         <title>{word}: examination of ledger {ledger}</title><style>{STYLE}</style></head><body>\
         <a class=\"skip\" href=\"#main\">To the verdict</a>\
         <header><h1>Examination of a ledger</h1><p class=\"soft\">Ledger <code>{ledger}</code></p>\
         <nav aria-label=\"Contents\"><ol>",
        word = escape(&facts.verdict.word),
    );
    for (id, name) in SECTIONS {
        let _ = write!(page, "<li><a href=\"#{id}-h\">{name}</a></li>");
    }
    page.push_str("</ol></nav></header>");
}

const fn grade_name(grade: Grade) -> (&'static str, &'static str, &'static str) {
    match grade {
        Grade::Good => (
            "good",
            "Clean",
            "<circle cx=\"24\" cy=\"24\" r=\"21\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\"/><path d=\"M14 25l7 7 14-16\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\"/>",
        ),
        Grade::Caution => (
            "caution",
            "Whole, with a reservation",
            "<path d=\"M24 5L45 43H3z\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\" stroke-linejoin=\"round\"/><path d=\"M24 18v12M24 34.5v4\" stroke=\"currentColor\" stroke-width=\"4\"/>",
        ),
        Grade::Bad => (
            "bad",
            "Not clean",
            "<path d=\"M16 3h16l13 13v16L32 45H16L3 32V16z\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\" stroke-linejoin=\"round\"/><path d=\"M16 16l16 16M32 16L16 32\" stroke=\"currentColor\" stroke-width=\"4\"/>",
        ),
        Grade::Unknown => (
            "unknown",
            "Nothing can be said",
            "<rect x=\"4\" y=\"4\" width=\"40\" height=\"40\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\"/><path d=\"M18 18a6 6 0 1 1 8 6q-2 1-2 5M24 33v4\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\"/>",
        ),
    }
}

fn summary(page: &mut String, facts: &Facts) {
    let (class, says, icon) = grade_name(facts.verdict.grade);
    let verdict = &facts.verdict;
    let _ = write!(
        page,
        "<section class=\"verdict {class}\" aria-labelledby=\"verdict-h\"><svg viewBox=\"0 0 48 48\" role=\"img\" aria-label=\"{says}\"><title>{says}</title>{icon}</svg>\
         <div><h2 class=\"word\" id=\"verdict-h\">{}</h2><p class=\"means\">{}</p><p class=\"soft\">{}</p><p><strong>Next:</strong> {}</p></div></section>",
        escape(&verdict.word),
        escape(verdict.means),
        escape(verdict.level_means),
        escape(verdict.next)
    );
    let log = &facts.log;
    page.push_str("<dl>");
    let mut pair = |name: &str, value: String| {
        let _ = write!(page, "<dt>{name}</dt><dd>{value}</dd>");
    };
    let faults = facts.findings.rows.iter().filter(|finding| !finding.code.is_note()).count() as u64;
    pair("Events", number(log.events));
    if let Some(first) = &log.first {
        pair("First", format!("event {}, {}", number(first.seq), escape(first.time.as_deref().unwrap_or("no time"))));
    }
    if let Some(last) = &log.last {
        pair("Last", format!("event {}, {}", number(last.seq), escape(last.time.as_deref().unwrap_or("no time"))));
        pair("Hash of the last", hash(last.hash));
    }
    pair("Anchored", anchored(facts));
    let more = if facts.findings.left_out() > 0 { " at least" } else { "" };
    let notes = facts.findings.rows.len() as u64 - faults;
    pair("Findings", format!("{}{more}, and {}", count(faults, "fault"), count(notes, "note")));
    pair("Digest of the files", hash(facts.evidence.sha256_of_list));
    page.push_str("</dl>");
}

fn hash(hash: Option<Hash>) -> String {
    hash.map_or_else(|| "not made".to_owned(), |hash| format!("<code>{hash}</code>"))
}

fn anchored(facts: &Facts) -> String {
    match (facts.log.anchored_events, facts.log.unanchored) {
        (0, _) => "no event: nothing kept elsewhere vouches for this log".to_owned(),
        (_, None) => "every event".to_owned(),
        (covered, Some(open)) => {
            format!("events {}; not events {}", range(0, covered - 1), range(open.from, open.through))
        }
    }
}

fn left_out<T>(page: &mut String, list: &Capped<T>, what: &str) {
    if list.left_out() > 0 {
        let _ = write!(
            page,
            "<p class=\"soft\">{} of {} are shown; {} {what} are left out here. Verify and timeline list them all.</p>",
            number(list.rows.len() as u64),
            number(list.total),
            number(list.left_out()),
        );
    }
}

/// Opens a table that can be scrolled with the keyboard where it is wider than the screen.
fn table(page: &mut String, caption: &str, columns: &[(&str, &str)]) {
    let _ = write!(
        page,
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>",
        escape(caption)
    );
    for (class, name) in columns {
        let _ = write!(page, "<th scope=\"col\" class=\"{class}\">{name}</th>");
    }
    page.push_str("</tr></thead><tbody>");
}

const TABLE_END: &str = "</tbody></table></div>";

fn findings(page: &mut String, facts: &Facts) {
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

fn figure(page: &mut String, svg: &str, name: &str, caption: &str) {
    let _ = write!(
        page,
        "<figure><div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\">{svg}</div><figcaption>{caption}</figcaption></figure>"
    );
}

fn chain(page: &mut String, facts: &Facts) {
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

fn spans(page: &mut String, caption: &str, what: &str, list: &Capped<Row>, code: bool) {
    let mut columns = vec![("", what), ("num", "Events"), ("num", "Numbers")];
    if list.rows.iter().any(|row| row.bytes.is_some()) {
        columns.push(("num", "Size"));
    }
    columns.extend([("time", "First"), ("time", "Last")]);
    table(page, caption, &columns);
    for row in &list.rows {
        let name = escape(&row.name);
        let name = if code { format!("<code>{name}</code>") } else { name };
        let size = row.bytes.map(|size| format!("<td class=\"num\">{}</td>", bytes(size))).unwrap_or_default();
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{name}</th><td class=\"num\">{}</td><td class=\"num\">{}</td>{size}<td class=\"time\">{}</td><td class=\"time\">{}</td></tr>",
            number(row.events),
            range(row.first_seq, row.last_seq),
            escape(&row.first_time),
            escape(&row.last_time)
        );
    }
    page.push_str(TABLE_END);
}

fn activity(page: &mut String, facts: &Facts) {
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

/// Rows with a bar for their share of all events.
fn shares(page: &mut String, caption: &str, what: &str, list: &Capped<Row>) {
    let classed = list.rows.iter().any(|row| row.class.is_some());
    let mut columns = vec![("", what), ("num", "Events"), ("share", "<span aria-hidden=\"true\"></span>")];
    if classed {
        columns.insert(1, ("", "Domain"));
    }
    columns.extend([("time", "First"), ("time", "Last")]);
    table(page, caption, &columns);
    let most = list.rows.iter().map(|row| row.events).max().unwrap_or(1).max(1);
    for row in &list.rows {
        let class = row.class.map(|class| format!("<td>{class}</td>")).unwrap_or_default();
        let tenths = u128::from(row.events) * 1000 / u128::from(most);
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th>{class}<td class=\"num\">{}</td><td class=\"share\" aria-hidden=\"true\"><i style=\"width:{}.{}%\"></i></td>\
             <td class=\"time\">{}</td><td class=\"time\">{}</td></tr>",
            escape(&row.name.replace('_', " ")),
            number(row.events),
            tenths / 10,
            tenths % 10,
            escape(&row.first_time),
            escape(&row.last_time)
        );
    }
    page.push_str(TABLE_END);
}

fn kinds(page: &mut String, facts: &Facts) {
    shares(page, "Kinds of events, the most frequent first", "Kind", &facts.kinds);
    left_out(page, &facts.kinds, "kinds");
}

fn actors(page: &mut String, facts: &Facts) {
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

fn notable(page: &mut String, facts: &Facts) {
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

fn epochs(page: &mut String, facts: &Facts) {
    page.push_str(
        "<p>An epoch is the time in which one key seals the events. A new one begins on demand and by age.</p>",
    );
    spans(page, "Key epochs", "Epoch", &facts.log.epochs, false);
    left_out(page, &facts.log.epochs, "epochs");
}

fn evidence(page: &mut String, facts: &Facts) {
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
