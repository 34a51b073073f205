//! Frames that sled's copy holds in several values, put together again.
//!
//! Each value says how long the whole frame is. Where sled wrote a value by itself, its key stands before it and
//! names the frame and the piece; where it wrote a whole node, the keys are folded away and the values of one
//! frame follow each other. Both are tried, then whatever else has the right length; the frame's hash decides.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::limits::CARVE_TRIES_MAX;
use crate::log::Frame;

use super::scan::{CHUNK, HeadPiece, KEY, LEAD, Piece, VARINT_MAX};
use super::{Extent, Found, Opened, Source, read_extents};

/// Puts together what can be.
pub(super) fn join(sources: &[Source<'_>], heads: &[HeadPiece], pieces: &mut [Piece]) -> Vec<Found> {
    pieces.sort_by_key(|piece| (piece.total, piece.source, piece.offset));
    let mut by_total: BTreeMap<u32, Vec<&Piece>> = BTreeMap::new();
    let wanted: BTreeSet<usize> = heads.iter().map(|head| head.header.frame_len()).collect();
    for piece in pieces.iter().filter(|piece| wanted.contains(&(piece.total as usize))) {
        by_total.entry(piece.total).or_default().push(piece);
    }
    let mut found = Vec::new();
    for head in heads {
        let total = head.header.frame_len();
        let alike = u32::try_from(total).ok().and_then(|total| by_total.get(&total));
        let alike = alike.map_or(&[][..], Vec::as_slice);
        let mut search = Search { opened: None, sources, head, total, alike, likely: true, tries: CARVE_TRIES_MAX };
        let first = Extent { source: head.source, offset: head.offset, len: CHUNK_LEN };
        let mut whole = search.go_on(&mut vec![first]);
        if whole.is_none() {
            // A likely piece may be damaged, and another copy of it lie elsewhere.
            search.likely = false;
            search.tries = CARVE_TRIES_MAX / 4;
            whole = search.go_on(&mut vec![first]);
        }
        found.extend(whole);
    }
    found
}

// A value of sled's copy is some kilobytes.
#[allow(clippy::cast_possible_truncation)]
const CHUNK_LEN: u32 = CHUNK as u32;

struct Search<'a> {
    sources: &'a [Source<'a>],
    opened: Option<Opened>,
    head: &'a HeadPiece,
    total: usize,
    /// Pieces of frames of this length, in order of place.
    alike: &'a [&'a Piece],
    /// Where a likely piece is at hand, the unlikely ones are left to other frames.
    likely: bool,
    /// Frames that may still be hashed.
    tries: usize,
}

impl Search<'_> {
    /// Adds the next piece in every likely way until the frame is whole.
    fn go_on(&mut self, extents: &mut Vec<Extent>) -> Option<Found> {
        let have = extents.len() * CHUNK;
        if have >= self.total {
            self.tries = self.tries.checked_sub(1)?;
            let mut bytes = Vec::new();
            read_extents(self.sources, extents, &mut self.opened, &mut bytes).ok()?;
            let frame = Frame::parse(&bytes).ok()?;
            return Some(Found::new(&frame.header, frame.hash, extents.clone()));
        }
        let len = u32::try_from((self.total - have).min(CHUNK)).ok()?;
        for place in self.candidates(extents) {
            if self.tries == 0 {
                return None;
            }
            extents.push(Extent { len, ..place });
            if let Some(found) = self.go_on(extents) {
                return Some(found);
            }
            extents.pop();
        }
        None
    }

    /// Places of the next piece, the likeliest first.
    fn candidates(&self, extents: &[Extent]) -> Vec<Extent> {
        let part = extents.len();
        let Some(last) = extents.last() else { return Vec::new() };
        let end = last.offset + u64::from(last.len);
        let near = end..=end + (LEAD + VARINT_MAX + 1) as u64;
        let rank = |piece: &Piece| {
            if piece.source == last.source && near.contains(&piece.offset) {
                0
            } else if self.is_keyed(piece, part) {
                1
            } else {
                2
            }
        };
        let mut places: Vec<(u8, u64, Extent)> = self
            .alike
            .iter()
            .filter(|piece| (piece.source, piece.offset) != (self.head.source, self.head.offset))
            .map(|piece| {
                let away = piece.offset.abs_diff(end);
                (rank(piece), away, Extent { source: piece.source, offset: piece.offset, len: 0 })
            })
            .collect();
        places.sort();
        let sure = self.likely && places.iter().any(|(rank, ..)| *rank < 2);
        places.into_iter().filter(|(rank, ..)| !sure || *rank < 2).map(|(.., extent)| extent).collect()
    }

    /// Whether the key before a piece names this frame and this part of it.
    fn is_keyed(&self, piece: &Piece, part: usize) -> bool {
        let Ok(part) = u16::try_from(part) else { return false };
        let seq = self.head.header.seq.to_be_bytes();
        (1..=VARINT_MAX).any(|width| {
            let end = piece.before.len() - width;
            let key = end.checked_sub(KEY).and_then(|start| piece.before.get(start..end));
            key.is_some_and(|key| key.starts_with(&seq) && key.ends_with(&part.to_be_bytes()))
        })
    }
}
