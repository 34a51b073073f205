//! The page: one HTML document without scripts and without a request to anywhere.

use std::fmt::Write;

use palyra_ledger::Hash;

use super::facts::Facts;
use super::sections;
use super::text::{count, escape, number, range};
use super::words::Grade;

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
            "findings" => sections::findings(&mut page, facts),
            "chain" => sections::chain(&mut page, facts),
            "activity" => sections::activity(&mut page, facts),
            "kinds" => sections::kinds(&mut page, facts),
            "actors" => sections::actors(&mut page, facts),
            "notable" => sections::notable(&mut page, facts),
            "epochs" => sections::epochs(&mut page, facts),
            _ => sections::evidence(&mut page, facts),
        }
        page.push_str("</section>");
    }
    let _ = writeln!(
        page,
        "</main><footer><p>Made by {}. All times are UTC. The same evidence gives the same page, byte for byte; \
         it holds no script and asks no other machine for anything. The values of secrets are in none of it.</p></footer></body></html>",
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
    let begin = facts.log.unread.as_ref().map_or(0, |unread| unread.through.saturating_add(1));
    match (facts.log.anchored_events, facts.log.unanchored) {
        (covered, None) if begin > 0 && covered > begin => {
            format!("every event from {} on; those before it were not read", number(begin))
        }
        (covered, _) if begin > 0 && covered <= begin => "no event that was read".to_owned(),
        (0, _) => "no event: nothing kept elsewhere vouches for this log".to_owned(),
        (_, None) => "every event".to_owned(),
        (covered, Some(open)) => {
            format!("events {}; not events {}", range(begin, covered - 1), range(open.from, open.through))
        }
    }
}
