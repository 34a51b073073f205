//! What a masked value looks like in an output: itself, and as programs encode it.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, PAD};
use zeroize::{Zeroize, Zeroizing};

use crate::base::{SecretBytes, limits};

/// What stands in the output in a value's place: `[masked:NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedName(pub String);

/// Everything that is looked for in an output, and what takes its place.
#[derive(Default)]
pub struct Forms {
    /// Pieces of values, with the number of their mark; none is longer than the bound.
    pieces: Vec<(Zeroizing<Vec<u8>>, usize)>,
    marks: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forms").field("pieces", &self.pieces.len()).field("marks", &self.marks.len()).finish()
    }
}

impl Forms {
    /// Nothing to look for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value with all of its forms; says whether it is long enough to be looked for.
    #[must_use = "a value that is too short is not masked, and somebody should be told"]
    pub fn add(&mut self, name: &MaskedName, value: &SecretBytes) -> bool {
        let bytes = value.expose();
        if bytes.len() < limits::MASK_MIN {
            return false;
        }
        let mark = self.marks.len();
        self.marks.push(format!("[masked:{}]", name.0).into_bytes());
        self.add_form(mark, bytes, limits::MASK_MIN);
        // A program that prints line by line, or puts something before each line.
        for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if line.len() < bytes.len() {
                self.add_form(mark, line, limits::MASK_FORM_MIN);
            }
        }
        for form in encoded(bytes) {
            self.add_form(mark, &form, limits::MASK_FORM_MIN);
        }
        true
    }

    /// Adds a form, cut into pieces of about the same length where it is long.
    fn add_form(&mut self, mark: usize, form: &[u8], min: usize) {
        if form.len() < min {
            return;
        }
        let count = form.len().div_ceil(limits::MASK_PIECE_MAX);
        let size = form.len().div_ceil(count);
        for piece in form.chunks(size) {
            if !self.pieces.iter().any(|(known, _)| known.as_slice() == piece) {
                self.pieces.push((Zeroizing::new(piece.to_vec()), mark));
            }
        }
    }

    /// The pieces, with the number of their mark.
    pub fn pieces(&self) -> impl Iterator<Item = (&[u8], usize)> {
        self.pieces.iter().map(|(piece, mark)| (piece.as_slice(), *mark))
    }

    /// A piece by its number in [`Forms::pieces`], with the number of its mark.
    #[must_use]
    pub fn piece(&self, number: usize) -> Option<(&[u8], usize)> {
        self.pieces.get(number).map(|(piece, mark)| (piece.as_slice(), *mark))
    }

    /// A mark by its number.
    #[must_use]
    pub fn mark(&self, number: usize) -> &[u8] {
        self.marks.get(number).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// The ways in which programs write bytes down.
fn encoded(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = Vec::new();
    for alphabet in [&STANDARD, &URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, NO_PAD);
        // Alone it ends in characters of its own, with or without padding.
        forms.push(Zeroizing::new(GeneralPurpose::new(alphabet, PAD).encode(value).into_bytes()));
        forms.push(Zeroizing::new(engine.encode(value).into_bytes()));
        (0..3).for_each(|offset| forms.push(inner_base64(&engine, value, offset)));
    }
    forms.push(hex(value, b"0123456789abcdef"));
    forms.push(hex(value, b"0123456789ABCDEF"));
    forms.push(percent(value, b"0123456789ABCDEF"));
    forms.push(percent(value, b"0123456789abcdef"));
    forms.push(json(value, false));
    forms.push(json(value, true));
    forms
}

/// The value's characters within base64 of something longer, where `offset` bytes stand before it within a
/// group of three: those that depend on the value alone.
fn inner_base64(engine: &GeneralPurpose, value: &[u8], offset: usize) -> Zeroizing<Vec<u8>> {
    let mut padded = Zeroizing::new(Vec::with_capacity(value.len() + offset));
    padded.resize(offset, 0);
    padded.extend_from_slice(value);
    let mut text = Zeroizing::new(engine.encode(padded.as_slice()).into_bytes());
    // The first characters hold bits of what stands before, the last one bits of what follows.
    let shared_end = usize::from(padded.len() % 3 != 0);
    let end = text.len().saturating_sub(shared_end);
    let begin = [0, 2, 3].get(offset).copied().unwrap_or_default().min(end);
    let inner = Zeroizing::new(text.get(begin..end).unwrap_or_default().to_vec());
    text.zeroize();
    inner
}

fn hex(value: &[u8], digits: &[u8; 16]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(value.len() * 2));
    for byte in value {
        push_hex(&mut text, *byte, digits);
    }
    text
}

fn push_hex(text: &mut Vec<u8>, byte: u8, digits: &[u8; 16]) {
    for half in [byte >> 4, byte & 15] {
        text.push(digits.get(usize::from(half)).copied().unwrap_or_default());
    }
}

/// RFC 3986: everything but the unreserved characters.
fn percent(value: &[u8], digits: &[u8; 16]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(*byte);
        } else {
            text.push(b'%');
            push_hex(&mut text, *byte, digits);
        }
    }
    text
}

/// Within a JSON string; some writers escape `/` as well. Bytes beyond ASCII stay, as most writers leave them.
fn json(value: &[u8], slashes: bool) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(value.len() * 6));
    for byte in value {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            12 => b'f',
            b'/' if slashes => b'/',
            0..32 => {
                text.extend_from_slice(b"\\u00");
                push_hex(&mut text, *byte, b"0123456789abcdef");
                continue;
            }
            _ => {
                text.push(*byte);
                continue;
            }
        };
        text.extend_from_slice(&[b'\\', short]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD as PADDED;
    use proptest::prelude::*;

    fn found(forms: &Forms, text: &[u8]) -> bool {
        forms.pieces().any(|(piece, _)| text.windows(piece.len()).any(|window| window == piece))
    }

    fn forms(value: &[u8]) -> Forms {
        let mut forms = Forms::new();
        assert!(forms.add(&MaskedName("X".to_owned()), &SecretBytes::from(value)));
        forms
    }

    #[test]
    fn a_short_value_is_not_looked_for() {
        let mut forms = Forms::new();
        assert!(!forms.add(&MaskedName("PIN".to_owned()), &SecretBytes::from(b"123".as_slice())));
        assert!(forms.is_empty());
    }

    #[test]
    fn a_long_value_is_cut_into_pieces_that_cover_it() {
        let value: Vec<u8> = (0..3000u32).map(|n| (n % 251) as u8).collect();
        let forms = forms(&value);
        assert!(forms.pieces().all(|(piece, _)| piece.len() <= limits::MASK_PIECE_MAX));
        let raw: Vec<&[u8]> = forms.pieces().map(|(piece, _)| piece).take(6).collect();
        assert_eq!(raw.concat(), value);
    }

    #[test]
    fn lines_of_a_key_are_looked_for_by_themselves() {
        let forms = forms(b"-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END KEY-----\n");
        assert!(found(&forms, b"| MC4CAQAwBQYDK2VwBCIEIA |"));
    }

    proptest! {
        #[test]
        fn every_encoding_of_something_around_it_is_found(
            value in prop::collection::vec(any::<u8>(), 12..80),
            before in prop::collection::vec(any::<u8>(), 0..5),
            after in prop::collection::vec(any::<u8>(), 0..5),
        ) {
            let forms = forms(&value);
            let around = [before, value.clone(), after].concat();
            prop_assert!(found(&forms, PADDED.encode(&around).as_bytes()));
            let url = base64::engine::general_purpose::URL_SAFE.encode(&around);
            prop_assert!(found(&forms, url.as_bytes()));
            let hex: Vec<String> = around.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert!(found(&forms, hex.concat().as_bytes()));
            prop_assert!(found(&forms, hex.concat().to_uppercase().as_bytes()));
            prop_assert!(found(&forms, &percent(&around, b"0123456789ABCDEF")));
        }

        #[test]
        fn json_strings_are_found(value in "[ -~\n\t\"\\\\é]{12,40}") {
            let text = serde_json::to_string(&format!("x{value}y")).unwrap();
            prop_assert!(found(&forms(value.as_bytes()), text.as_bytes()));
        }
    }
}
