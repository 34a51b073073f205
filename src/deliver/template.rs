//! Templates: text in which references stand between double braces.
//!
//! ```text
//! {{ palyra://global/db_password }}     becomes the value
//! {{{{                                  becomes {{
//! ```
//!
//! All other bytes pass as they are; they need not be UTF-8. What stands between double braces and is no
//! reference is an error and not text: a misspelt reference would otherwise be found by the program that
//! reads the file. `}}` outside of a reference is text. Reading comes before rendering, so that every
//! reference is known, and resolved, before a byte is written.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::base::{SecretBytes, SecretRef, SecretRefError, limits};

/// Why a template was refused. Nothing of its text is repeated: it may hold secrets in plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, byte {column}: {reason}")]
pub struct TemplateError {
    /// Line, from 1.
    pub line: usize,
    /// Byte within the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: TemplateReason,
}

/// What is wrong with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateReason {
    /// The template is longer than its bound.
    #[error("the template is longer than {max} bytes", max = limits::TEMPLATE_MAX)]
    TooLong,
    /// A reference does not end on its line.
    #[error("`{{{{` without `}}}}` on the same line; write `{{{{{{{{` for two braces as text")]
    Unclosed,
    /// What stands there is no reference.
    #[error("no reference stands between the braces: {0}; write `{{{{{{{{` for two braces as text")]
    Reference(#[from] SecretRefError),
    /// There are more references than the bound.
    #[error("there are more than {max} references", max = limits::DELIVERIES_MAX)]
    TooMany,
    /// With its values it is longer than the bound.
    #[error("with its values it is longer than {max} bytes", max = limits::RENDERED_MAX)]
    Rendered,
}

#[derive(Debug, Clone, Copy)]
enum Piece {
    /// Bytes of the template, from and to.
    Text(usize, usize),
    /// A reference by its number.
    Reference(usize),
}

/// A template that was read: its text, and the references in it, each once.
pub struct Template<'a> {
    text: &'a [u8],
    pieces: Vec<Piece>,
    references: Vec<SecretRef>,
}

impl std::fmt::Debug for Template<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("bytes", &self.text.len()).field("references", &self.references).finish()
    }
}

const OPEN: &[u8] = b"{{";
const CLOSE: &[u8] = b"}}";
const ESCAPED: &[u8] = b"{{{{";

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

impl<'a> Template<'a> {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`], with the place.
    pub fn parse(text: &'a [u8]) -> Result<Self, TemplateError> {
        let fail = |at: usize, reason| Err(place(text, at, reason));
        if text.len() > limits::TEMPLATE_MAX {
            return fail(0, TemplateReason::TooLong);
        }
        let mut template = Self { text, pieces: Vec::new(), references: Vec::new() };
        let mut known: HashMap<SecretRef, usize> = HashMap::new();
        let mut at = 0;
        while let Some(open) = find(text.get(at..).unwrap_or_default(), OPEN).map(|offset| at + offset) {
            let rest = text.get(open..).unwrap_or_default();
            if rest.starts_with(ESCAPED) {
                // The first two of the four are the text.
                template.pieces.push(Piece::Text(at, open + OPEN.len()));
                at = open + ESCAPED.len();
                continue;
            }
            let inner = rest.get(OPEN.len()..).unwrap_or_default();
            let line = inner.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let Some(end) = find(line, CLOSE) else { return fail(open, TemplateReason::Unclosed) };
            let reference = match read(line.get(..end).unwrap_or_default()) {
                Ok(reference) => reference,
                Err(reason) => return fail(open, reason.into()),
            };
            let next = template.references.len();
            let number = *known.entry(reference.clone()).or_insert(next);
            if number == next {
                if next == limits::DELIVERIES_MAX {
                    return fail(open, TemplateReason::TooMany);
                }
                template.references.push(reference);
            }
            template.pieces.push(Piece::Text(at, open));
            template.pieces.push(Piece::Reference(number));
            at = open + OPEN.len() + end + CLOSE.len();
        }
        template.pieces.push(Piece::Text(at, text.len()));
        Ok(template)
    }

    /// The references in order of their first place, each once.
    #[must_use]
    pub fn references(&self) -> &[SecretRef] {
        &self.references
    }

    /// The text with a value for each of [`Template::references`]; one that is not there leaves nothing.
    ///
    /// # Errors
    /// [`TemplateReason::Rendered`].
    pub fn render(&self, values: &[Option<SecretBytes>]) -> Result<Zeroizing<Vec<u8>>, TemplateError> {
        let bytes = |piece: &Piece| -> &[u8] {
            match *piece {
                Piece::Text(from, to) => self.text.get(from..to).unwrap_or_default(),
                Piece::Reference(number) => {
                    values.get(number).and_then(Option::as_ref).map(SecretBytes::expose).unwrap_or_default()
                }
            }
        };
        let total = self.pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(bytes(piece).len()));
        if total > limits::RENDERED_MAX {
            return Err(place(self.text, 0, TemplateReason::Rendered));
        }
        // Room for all of it from the start: a vector that grows leaves copies behind.
        let mut out = Zeroizing::new(Vec::with_capacity(total));
        for piece in &self.pieces {
            out.extend_from_slice(bytes(piece));
        }
        Ok(out)
    }
}

fn read(inner: &[u8]) -> Result<SecretRef, SecretRefError> {
    let inner = inner.trim_ascii();
    let text = std::str::from_utf8(inner).map_err(|_| SecretRefError::Text)?;
    text.parse()
}

fn place(text: &[u8], at: usize, reason: TemplateReason) -> TemplateError {
    let before = text.get(..at).unwrap_or_default();
    let line = before.split(|byte| *byte == b'\n').count();
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    TemplateError { line, column, reason }
}

/// Text as a template that renders to it, whatever stands in it.
#[must_use]
pub fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = find(rest, OPEN) {
        let (before, after) = rest.split_at(at);
        out.extend_from_slice(before);
        out.extend_from_slice(ESCAPED);
        rest = after.get(OPEN.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[allow(clippy::unnecessary_wraps)]
    fn value(text: &[u8]) -> Option<SecretBytes> {
        Some(SecretBytes::from(text))
    }

    fn rendered(text: &str, values: &[Option<SecretBytes>]) -> Vec<u8> {
        Template::parse(text.as_bytes()).unwrap().render(values).unwrap().to_vec()
    }

    fn refused(text: &[u8]) -> TemplateError {
        Template::parse(text).unwrap_err()
    }

    #[test]
    fn references_become_values_and_the_rest_stays() {
        let text = "a={{ palyra://global/a }}\nb={{palyra://global/b}}{{\tpalyra://global/a }}}}\n";
        let template = Template::parse(text.as_bytes()).unwrap();
        assert_eq!(template.references().len(), 2, "one reference is resolved once");
        assert_eq!(rendered(text, &[value(b"{{x}}"), value(b"\xff\0")]), b"a={{x}}\nb=\xff\0{{x}}}}\n");
        assert_eq!(rendered("{{palyra://global/a?required=false}}", &[None]), b"");
        let mixed = [b"\xfe{{ env://HOME }}".as_slice(), b"\xfd"].concat();
        let mixed = Template::parse(&mixed).unwrap();
        assert_eq!(mixed.render(&[value(b"v")]).unwrap().as_slice(), b"\xfev\xfd");
    }

    #[test]
    fn four_braces_are_two() {
        assert_eq!(rendered("{{{{ .Values.x }} {", &[]), b"{{ .Values.x }} {");
        assert_eq!(rendered("{{{{{", &[]), b"{{{");
        assert_eq!(rendered("{{{{{{palyra://global/a}}", &[value(b"v")]), b"{{v");
    }

    #[test]
    fn what_is_no_reference_is_refused_by_its_place() {
        for (text, line, column) in [
            ("{{ secret }}", 1, 1),
            ("a\nbc {{}}", 2, 4),
            ("a\n{{ palyra://global/a\n}}", 2, 1),
            ("{{{palyra://global/a}}", 1, 1),
            ("x {{ global/a }}", 1, 3),
            ("x {{", 1, 3),
        ] {
            let error = refused(text.as_bytes());
            assert_eq!((error.line, error.column), (line, column), "{text}");
        }
        assert!(!refused(b"{{ hunter2 }}").to_string().contains("hunter2"), "the text may be a secret");
        assert!(refused(b"{{").to_string().contains("`{{{{`"));
        assert!(matches!(refused(b"{{ \xff }}").reason, TemplateReason::Reference(_)));
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(refused(&vec![b'x'; limits::TEMPLATE_MAX + 1]).reason, TemplateReason::TooLong);
        let many: Vec<_> = (0..=limits::DELIVERIES_MAX).map(|n| format!("{{{{palyra://global/s{n}}}}}")).collect();
        assert_eq!(refused(many.concat().as_bytes()).reason, TemplateReason::TooMany);
        let often = "{{palyra://global/a}}".repeat(limits::RENDERED_MAX / (1024 * 1024) + 1);
        let template = Template::parse(often.as_bytes()).unwrap();
        let error = template.render(&[value(&vec![b'x'; 1024 * 1024])]).unwrap_err();
        assert_eq!(error.reason, TemplateReason::Rendered);
    }

    fn braces() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![3 => Just(b'{'), 1 => Just(b'}'), 1 => Just(b'\n'), 2 => any::<u8>()], 0..64)
    }

    proptest! {
        #[test]
        fn escaped_text_renders_to_itself(text in braces()) {
            let escaped = escape(&text);
            let template = Template::parse(&escaped).unwrap();
            prop_assert_eq!(template.render(&[]).unwrap().to_vec(), text);
        }

        #[test]
        fn values_stand_where_their_references_stood(
            // Text that ends with a brace would join with the braces behind it.
            parts in prop::collection::vec((braces(), prop::collection::vec(any::<u8>(), 0..16)), 1..8)
        ) {
            let (mut text, mut wanted, mut values) = (Vec::new(), Vec::<u8>::new(), Vec::new());
            for (number, (part, value)) in parts.iter().enumerate() {
                let mut part = part.clone();
                part.push(b'.');
                text.extend(escape(&part));
                text.extend(format!("{{{{ palyra://global/s{number} }}}}").bytes());
                wanted.extend(&part);
                wanted.extend(value);
                values.push(Some(SecretBytes::from(value.as_slice())));
            }
            let template = Template::parse(&text).unwrap();
            prop_assert_eq!(template.render(&values).unwrap().to_vec(), wanted);
        }
    }
}
