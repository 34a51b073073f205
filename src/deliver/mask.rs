//! Masking a stream: every value that is looked for gives way to its mark, wherever the stream is cut.
//!
//! At each place the longest piece wins. Only what may be the beginning of a piece is held back, so that a
//! prompt without a line end appears at once. A prompt may end like a secret begins; after a while the first
//! bytes of what is held back are shown, fewer than the shortest piece has, and the rest of it stays masked
//! where it turns out to be one.

use std::collections::HashMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::limits;

use super::forms::Forms;

/// Looks for values in one stream.
pub struct Masker {
    forms: Arc<Forms>,
    /// Pieces by their first two bytes.
    starts: HashMap<[u8; 2], Vec<usize>>,
    firsts: [bool; 256],
    /// What is held back: always a proper beginning of a piece.
    held: Zeroizing<Vec<u8>>,
    /// How much of it was shown already.
    shown: usize,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masker").field("forms", &self.forms).field("held", &self.held.len()).finish_non_exhaustive()
    }
}

enum Found {
    /// A piece of this length, with its mark.
    Piece(usize, usize),
    /// More bytes must say.
    Open,
    Nothing,
}

impl Masker {
    /// Looks for all of these.
    #[must_use]
    pub fn new(forms: Arc<Forms>) -> Self {
        let (mut starts, mut firsts) = (HashMap::<_, Vec<usize>>::new(), [false; 256]);
        for (number, (piece, _)) in forms.pieces().enumerate() {
            if let Some(start) = piece.first_chunk::<2>() {
                starts.entry(*start).or_default().push(number);
                if let Some(first) = firsts.get_mut(usize::from(start[0])) {
                    *first = true;
                }
            }
        }
        // Never longer than a chunk behind the beginning of a piece: it never moves.
        let held = Zeroizing::new(Vec::with_capacity(limits::MASK_PIECE_MAX + limits::MASK_CHUNK));
        Self { forms, starts, firsts, held, shown: 0 }
    }

    fn at(&self, rest: &[u8], last: bool) -> Found {
        let Some(first) = rest.first() else { return Found::Nothing };
        if !self.firsts.get(usize::from(*first)).is_some_and(|begins| *begins) {
            return Found::Nothing;
        }
        let Some(start) = rest.first_chunk::<2>() else {
            return if last { Found::Nothing } else { Found::Open };
        };
        let mut best: Option<(usize, usize)> = None;
        let mut open = false;
        for number in self.starts.get(start).into_iter().flatten() {
            let Some((piece, mark)) = self.forms.piece(*number) else { continue };
            if rest.starts_with(piece) {
                if best.is_none_or(|(length, _)| length < piece.len()) {
                    best = Some((piece.len(), mark));
                }
            } else if piece.starts_with(rest) {
                open = true;
            }
        }
        match best {
            // A longer one may be on its way.
            _ if open && !last => Found::Open,
            Some((length, mark)) => Found::Piece(length, mark),
            None => Found::Nothing,
        }
    }

    /// Takes the next bytes of the stream and gives what may be shown of it now.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for chunk in bytes.chunks(limits::MASK_CHUNK) {
            self.held.extend_from_slice(chunk);
            self.advance(false, out);
        }
    }

    /// The stream has ended: gives the rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.advance(true, out);
    }

    /// Nothing came for a while: shows the first bytes of what is held back.
    pub fn idle(&mut self, out: &mut Vec<u8>) {
        let visible = self.held.len().min(limits::MASK_MIN - 1);
        out.extend_from_slice(self.held.get(self.shown..visible).unwrap_or_default());
        self.shown = self.shown.max(visible);
    }

    /// Whether something is held back that [`Masker::idle`] would show.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.shown < self.held.len().min(limits::MASK_MIN - 1)
    }

    fn advance(&mut self, last: bool, out: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(rest) = self.held.get(at..).filter(|rest| !rest.is_empty()) {
            match self.at(rest, last) {
                Found::Open => break,
                Found::Piece(length, mark) => {
                    out.extend_from_slice(self.forms.mark(mark));
                    self.shown = self.shown.saturating_sub(length);
                    at += length;
                }
                Found::Nothing => {
                    if self.shown > 0 {
                        self.shown -= 1;
                    } else {
                        out.extend_from_slice(rest.get(..1).unwrap_or_default());
                    }
                    at += 1;
                }
            }
        }
        let kept = self.held.len() - at;
        self.held.copy_within(at.., 0);
        if let Some(freed) = self.held.get_mut(kept..) {
            freed.fill(0);
        }
        self.held.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SecretBytes;
    use crate::deliver::MaskedName;
    use proptest::prelude::*;

    fn forms(values: &[&[u8]]) -> Arc<Forms> {
        let mut forms = Forms::new();
        for (number, value) in values.iter().enumerate() {
            let _ = forms.add(&MaskedName(number.to_string()), &SecretBytes::from(*value));
        }
        Arc::new(forms)
    }

    /// The whole text at once, at each place the longest piece.
    fn oracle(forms: &Forms, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let longest =
                forms.pieces().filter(|(piece, _)| text[at..].starts_with(piece)).max_by_key(|(p, _)| p.len());
            match longest {
                Some((piece, mark)) => {
                    out.extend_from_slice(forms.mark(mark));
                    at += piece.len();
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }

    fn masked(values: &[&[u8]], chunks: &[&[u8]]) -> Vec<u8> {
        let mut masker = Masker::new(forms(values));
        let mut out = Vec::new();
        for chunk in chunks {
            masker.push(chunk, &mut out);
        }
        masker.finish(&mut out);
        out
    }

    #[test]
    fn a_value_gives_way_wherever_the_stream_is_cut() {
        assert_eq!(masked(&[b"hunter2"], &[b"a hun", b"te", b"r2 b"]), b"a [masked:0] b");
        assert_eq!(masked(&[b"hunter2"], &[b"a hunter", b"3 hunt"]), b"a hunter3 hunt");
        assert_eq!(masked(&[b"abcd", b"abcdef"], &[b"abcd", b"ef abcde"]), b"[masked:1] [masked:0]e");
        assert_eq!(masked(&[b"\0\xff\0\xff"], &[b"\0\0\xff\0\xff\xff"]), b"\0[masked:0]\xff");
    }

    #[test]
    fn only_what_may_be_a_beginning_is_held_back() {
        let mut masker = Masker::new(forms(&[b": secret"]));
        let mut out = Vec::new();
        masker.push(b"Password", &mut out);
        assert_eq!(out, b"Password", "nothing is held back");
        masker.push(b": ", &mut out);
        assert_eq!(out, b"Password");
        masker.idle(&mut out);
        assert_eq!(out, b"Password: ", "after a while the beginning is shown");
        assert!(!masker.is_holding());
        masker.push(b"secret.", &mut out);
        assert_eq!(out, b"Password: [masked:0].", "and the rest stays masked");
        masker.push(b": se", &mut out);
        masker.idle(&mut out);
        masker.push(b"xy", &mut out);
        assert_eq!(out, b"Password: [masked:0].: sexy", "nothing is shown twice");
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            values in prop::collection::vec(prop::collection::vec(0u8..3, 4..12), 1..4),
            text in prop::collection::vec(0u8..3, 0..200),
            cuts in prop::collection::vec(0usize..200, 0..20),
            planted in prop::collection::vec((0usize..4, 0usize..200), 0..5),
        ) {
            let mut text = text;
            for (which, place) in planted {
                let value = values[which % values.len()].clone();
                let place = place.min(text.len());
                text.splice(place..place, value);
            }
            let forms = forms(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let mut masker = Masker::new(Arc::clone(&forms));
            let (mut out, mut from) = (Vec::new(), 0);
            for cut in cuts {
                masker.push(&text[from..cut], &mut out);
                from = cut;
            }
            masker.finish(&mut out);
            prop_assert_eq!(out, oracle(&forms, &text));
        }

        #[test]
        fn pauses_show_nothing_but_beginnings(
            value in prop::collection::vec(0u8..3, 4..12),
            text in prop::collection::vec(0u8..3, 0..100),
        ) {
            // A pause after every byte: without the marks' beginnings it is what the oracle gives.
            let forms = forms(&[&value]);
            let mut masker = Masker::new(Arc::clone(&forms));
            let mut out = Vec::new();
            for byte in &text {
                masker.push(&[*byte], &mut out);
                masker.idle(&mut out);
            }
            masker.finish(&mut out);
            prop_assert!(!out.windows(value.len()).any(|window| window == value));
        }
    }
}
