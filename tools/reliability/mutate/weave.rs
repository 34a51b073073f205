//! Puts mutants into a source text, and finds them again in the text that this gives.

use std::cmp::Reverse;
use std::ops::Range;

use super::points::{Point, points};
use crate::Fault;

/// A source text with its mutants.
#[derive(Debug, Default)]
pub struct Woven {
    /// The text.
    pub text: String,
    /// Where each mutant stands in it, by number.
    pub places: Vec<(u32, Range<usize>)>,
}

impl Woven {
    /// The smallest mutant around a stretch of the text.
    pub fn around(&self, stretch: &Range<usize>) -> Option<u32> {
        let holds = |place: &Range<usize>| place.start <= stretch.start && stretch.end <= place.end;
        let around = self.places.iter().filter(|(_, place)| holds(place));
        around.rev().min_by_key(|(_, place)| place.len()).map(|(number, _)| *number)
    }

    /// Every mutant that touches the lines of a stretch of the text.
    pub fn beside(&self, stretch: &Range<usize>) -> Vec<u32> {
        let before = self.text.get(..stretch.start).and_then(|text| text.rfind('\n')).unwrap_or(0);
        let after = self
            .text
            .get(stretch.end..)
            .and_then(|text| text.find('\n'))
            .map_or(self.text.len(), |at| stretch.end + at);
        let touches = |place: &Range<usize>| place.start <= after && before <= place.end;
        self.places.iter().filter(|(_, place)| touches(place)).map(|(number, _)| *number).collect()
    }
}

/// Puts mutants into their source. They lie beside each other or one within the other: a mutant keeps the original text
/// within it, so that the text grows by their depth alone.
pub fn weave(source: &str, points: &[&Point]) -> Woven {
    let mut order: Vec<&Point> = points.to_vec();
    order.sort_by_key(|point| (point.range.start, !point.range.is_empty(), Reverse(point.range.end), point.number));
    let (mut woven, mut done, mut open) = (Woven::default(), 0, Vec::<(&Point, usize)>::new());
    for point in order {
        close(&mut woven, source, &mut done, &mut open, point.range.start);
        copy(&mut woven, source, &mut done, point.range.start);
        open.push((point, woven.text.len()));
        woven.text.push_str(&point.before);
    }
    close(&mut woven, source, &mut done, &mut open, source.len());
    copy(&mut woven, source, &mut done, source.len());
    // From the outermost inwards.
    woven.places.sort_by_key(|(_, place)| (place.start, Reverse(place.end)));
    woven
}

fn copy(woven: &mut Woven, source: &str, done: &mut usize, to: usize) {
    woven.text.push_str(source.get(*done..to).unwrap_or_default());
    *done = to;
}

/// Ends the mutants that end here or before.
fn close(woven: &mut Woven, source: &str, done: &mut usize, open: &mut Vec<(&Point, usize)>, here: usize) {
    while let Some((point, begin)) = open.pop_if(|(point, _)| point.range.end <= here) {
        copy(woven, source, done, point.range.end);
        woven.text.push_str(&point.after);
        woven.places.push((point.number, begin..woven.text.len()));
    }
}

/// A body, and what becomes of it; `on` and `flip` stand for the switch.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("a comparison", "let x = a == b;", "let x = flip(N, a == b);"),
    (
        "comparisons within a connective",
        "let x = a < b && c != d;",
        "let x = (if on(N) { (a < b) || (c != d) } else { flip(N, (if on(N) { (a) <= (b) } else { a < b })) && \
         flip(N, c != d) });",
    ),
    ("a chain that binds", "if let Some(x) = y && x == z {}", "if let Some(x) = y && flip(N, x == z) {}"),
    (
        "conditions",
        "if a.b() {} match c { _ if d => {} _ => {} } let x = matches!(e, f) && g == h;",
        "if flip(N, a.b()) {} match c { _ if flip(N, d) => {} _ => {} } \
         let x = (if on(N) { (matches!(e, f)) || (g == h) } else { flip(N, matches!(e, f)) && flip(N, g == h) });",
    ),
    ("a negation", "let x = !y;", "let x = flip(N, !y);"),
    ("a negated comparison", "let x = !(y == z);", "let x = !(flip(N, y == z));"),
    (
        "sums",
        "let x = a + b - c; x += 1;",
        "let x = (if on(N) { (a + b) + (c) } else { (if on(N) { (a) - (b) } else { a + b }) - c }); \
         (if on(N) { x -= 1 } else { x += 1 });",
    ),
    ("calls", "a.b(c); d(e)?; let f = g();", "if !on(N) { a.b(c); } if !on(N) { d(e)?; } let f = g();"),
    ("types, patterns, lengths", "let [x, ..]: [u8; 1 + 1] = [0; 2 + 2];", "let [x, ..]: [u8; 1 + 1] = [0; 2 + 2];"),
    ("macros", "assert!(a < b); const A: u8 = 1 + 1;", "assert!(a < b); const A: u8 = 1 + 1;"),
    (
        "letters beyond ASCII",
        "let x = \"\u{e9}\u{2026}\"; let y = a == b;",
        "let x = \"\u{e9}\u{2026}\"; let y = flip(N, a == b);",
    ),
];

/// A file, and what becomes of it.
const FILES: &[(&str, &str, &str)] = &[
    ("a body", "fn f() -> bool { g() }", "fn f() -> bool { if on(N) { return true; } if on(N) { return false; } g() }"),
    ("a body without a result", "fn f() { g() }", "fn f() { if on(N) { return (); } g() }"),
    (
        "a result",
        "fn f() -> Result<Option<u8>, E> { g() }",
        "fn f() -> Result<Option<u8>, E> { if on(N) { return Ok(None); } g() }",
    ),
    ("what is the default already", "fn f() -> Option<u8> { None }", "fn f() -> Option<u8> { None }"),
    ("a constant function", "const fn f() -> bool { 1 < 2 }", "const fn f() -> bool { 1 < 2 }"),
    ("tests", "#[cfg(test)] mod tests { fn f() { g() } }", "#[cfg(test)] mod tests { fn f() { g() } }"),
    ("what is printed", "impl Debug for T { fn fmt() { g() } }", "impl Debug for T { fn fmt() { g() } }"),
];

/// Text without the numbers and the path of the switch.
fn bare(text: &str) -> String {
    let mut out = String::new();
    for (at, piece) in text.split("crate::mutant::").enumerate() {
        let rest = piece.trim_start_matches(|letter: char| letter != '(').trim_start_matches('(');
        let (name, rest) = if at == 0 { ("", piece) } else { (piece.split('(').next().unwrap_or(""), rest) };
        out.push_str(name);
        if at > 0 {
            out.push_str("(N");
        }
        out.push_str(rest.trim_start_matches(|letter: char| at > 0 && letter.is_ascii_digit()));
    }
    out
}

/// Weaves small texts and compares: this program has no tests of its own, and a mutant in a wrong place would be a
/// finding that is none.
///
/// # Errors
/// The first that is not as it should be.
pub fn check() -> Result<(), Fault> {
    let bodies = EXAMPLES.iter().map(|(what, source, expected)| {
        // A result of no known type: the body itself stays.
        let file = |text: &str| format!("fn f() -> T {{ {text} }}");
        (*what, file(source), file(expected))
    });
    let files = FILES.iter().map(|(what, source, expected)| (*what, (*source).to_owned(), (*expected).to_owned()));
    for (what, source, expected) in bodies.chain(files) {
        let found = points("example", &source, 1)?;
        let woven = weave(&source, &found.iter().collect::<Vec<_>>());
        let text = bare(&woven.text);
        if text != expected {
            return Err(format!("weaving {what} gave\n{text}\nand not\n{expected}").into());
        }
        syn::parse_file(&woven.text).map_err(|fault| format!("weaving {what} gave no Rust: {fault}"))?;
        // Every mutant is found again by its place, and taking all out gives the original.
        if woven.places.len() != found.len() || weave(&source, &[]).text != source {
            return Err(format!("weaving {what} lost something").into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn small_texts_are_woven_as_they_should_be() {
        super::check().unwrap();
    }
}
