//! Canaries: secrets that stand nowhere else in the world, and the search for them in every form that programs give
//! to bytes.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::workload::Dice;

/// Bytes of a piece: a freed buffer often loses its first bytes, so that head and end are looked for on their own.
const PIECE: usize = 20;
/// Shortest piece that is looked for: below that it may stand somewhere by accident.
const SHORTEST: usize = 11;
/// Bytes by which the places of pieces are found.
const KEY: usize = 4;

/// A secret that is looked for.
#[derive(Debug, Clone)]
pub struct Canary {
    /// What it is.
    pub what: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Letters and digits that follow from the dice.
pub fn letters(dice: &mut Dice, length: usize) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..length).filter_map(|_| dice.pick(LETTERS).copied().map(char::from)).collect()
}

impl Canary {
    /// A fresh one: letters and digits with what is escaped somewhere in the middle.
    pub fn fresh(dice: &mut Dice, what: &str) -> Self {
        let text = format!("{}%+/=&\\\"' ~{}", letters(dice, PIECE), letters(dice, PIECE));
        Self { what: what.to_owned(), bytes: text.into_bytes() }
    }

    /// A fresh one of letters and digits alone.
    pub fn plain(dice: &mut Dice, what: &str) -> Self {
        Self { what: what.to_owned(), bytes: letters(dice, 2 * PIECE).into_bytes() }
    }

    /// What something else made.
    pub fn of(what: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { what: what.to_owned(), bytes: bytes.into() }
    }

    /// It as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Every form in which it is looked for, with its name.
    pub fn forms(&self) -> Vec<(&'static str, Vec<u8>)> {
        let bytes = &self.bytes;
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let listed = format!("{bytes:?}");
        let percent = bytes.iter().fold(String::new(), |mut out, byte| {
            if byte.is_ascii_alphanumeric() {
                out.push(char::from(*byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        });
        let json = serde_json::to_string(&self.text()).unwrap_or_default();
        let wide: Vec<u8> = self.text().encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut forms = vec![
            ("raw", bytes.clone()),
            ("hex", hex.to_uppercase().into_bytes()),
            ("hex", hex.into_bytes()),
            ("UTF-16", wide),
            ("percent-encoded", percent.into_bytes()),
            ("JSON", json.trim_matches('"').as_bytes().to_vec()),
            ("list of numbers", listed.trim_matches(['[', ']']).as_bytes().to_vec()),
        ];
        // Base64 depends on the place within its text: what this canary alone decides of it.
        for (before, from) in [0, 2, 3].into_iter().enumerate() {
            let whole = [&vec![0; before], bytes.as_slice()].concat();
            let to = whole.len() * 8 / 6;
            for text in [STANDARD_NO_PAD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
                forms.push(("base64", text.as_bytes().get(from..to).unwrap_or_default().to_vec()));
            }
        }
        forms
    }
}

/// A place at which a canary stands.
#[derive(Debug, Clone, Copy)]
pub struct Hit {
    /// Which of them.
    pub canary: usize,
    /// In which form.
    pub form: &'static str,
    /// Where.
    pub at: usize,
}

/// Looks for many canaries in all their forms at once.
pub struct Search {
    canaries: Vec<Canary>,
    pieces: Vec<(usize, &'static str, Vec<u8>)>,
    by_key: HashMap<[u8; KEY], Vec<usize>>,
    /// Which first pairs of bytes there are: all others are passed over at once.
    first: Vec<bool>,
}

impl Search {
    /// For these canaries.
    pub fn new(canaries: Vec<Canary>) -> Self {
        let mut pieces: Vec<(usize, &'static str, Vec<u8>)> = Vec::new();
        for (number, canary) in canaries.iter().enumerate() {
            for (form, bytes) in canary.forms() {
                let length = if form == "raw" { PIECE } else { PIECE + 4 };
                let length = length.min(bytes.len()).max(SHORTEST);
                let ends = [bytes.get(..length), bytes.get(bytes.len().saturating_sub(length)..)];
                for piece in ends.into_iter().flatten().filter(|piece| piece.len() >= SHORTEST) {
                    if !pieces.iter().any(|(other, _, known)| *other == number && known == piece) {
                        pieces.push((number, form, piece.to_vec()));
                    }
                }
            }
        }
        let mut by_key: HashMap<[u8; KEY], Vec<usize>> = HashMap::new();
        let mut first = vec![false; 1 << 16];
        for (at, (_, _, piece)) in pieces.iter().enumerate() {
            if let Some(key) = piece.first_chunk::<KEY>() {
                by_key.entry(*key).or_default().push(at);
                if let Some(place) = first.get_mut(usize::from(u16::from_le_bytes([key[0], key[1]]))) {
                    *place = true;
                }
            }
        }
        Self { canaries, pieces, by_key, first }
    }

    /// What is looked for.
    pub fn canaries(&self) -> &[Canary] {
        &self.canaries
    }

    /// Every place of these bytes.
    pub fn look(&self, bytes: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut before = None;
        for (at, &byte) in bytes.iter().enumerate() {
            if let Some(last) = before {
                let pair = usize::from(u16::from_le_bytes([last, byte]));
                if self.first.get(pair).copied().unwrap_or(false) {
                    self.look_at(bytes, at - 1, &mut hits);
                }
            }
            before = Some(byte);
        }
        hits
    }

    fn look_at(&self, bytes: &[u8], at: usize, hits: &mut Vec<Hit>) {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(found) = rest.first_chunk::<KEY>().and_then(|key| self.by_key.get(key)) else { return };
        for (canary, form, piece) in found.iter().filter_map(|piece| self.pieces.get(*piece)) {
            if rest.starts_with(piece) {
                hits.push(Hit { canary: *canary, form, at });
            }
        }
    }

    /// What stands in some bytes, in words: the canary, its form, and where.
    pub fn told(&self, bytes: &[u8]) -> Vec<String> {
        let name = |hit: &Hit| self.canaries.get(hit.canary).map_or("", |canary| canary.what.as_str()).to_owned();
        let mut told: Vec<String> =
            self.look(bytes).iter().map(|hit| format!("{} ({}) at byte {}", name(hit), hit.form, hit.at)).collect();
        told.truncate(8);
        told
    }

    /// Forms of the first canary that are not found where they are planted; none is as it must be.
    pub fn blind(&self) -> Vec<String> {
        let mut blind = Vec::new();
        for (number, canary) in self.canaries.iter().enumerate() {
            for (form, bytes) in canary.forms().into_iter().filter(|(_, bytes)| bytes.len() >= SHORTEST) {
                let planted = [&[b'x'; 777][..], &bytes, &[b'y'; 99]].concat();
                if !self.look(&planted).iter().any(|hit| hit.canary == number) {
                    blind.push(format!("{} ({form})", canary.what));
                }
            }
        }
        blind
    }
}
