//! Contents of files, in pages that are shared: an image costs what differs from the one before.

use std::sync::Arc;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes that a disk writes whole.
pub const SECTOR: u64 = 512;

/// A page with its digest.
#[derive(Debug)]
struct Page {
    bytes: [u8; PAGE],
    digest: [u8; 32],
}

/// What a file holds; pages of zeros are not kept.
#[derive(Debug, Clone, Default)]
pub struct Content {
    len: u64,
    pages: Vec<Option<Arc<Page>>>,
}

impl Content {
    /// Of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Cuts, or fills with zeros.
    pub fn set_len(&mut self, len: u64) {
        let whole = usize::try_from(len).unwrap_or(usize::MAX);
        if len < self.len {
            let within = whole % PAGE;
            self.pages.truncate(whole.div_ceil(PAGE));
            if within != 0
                && let Some(last) = self.pages.get_mut(whole / PAGE)
                && let Some(page) = last
            {
                let mut bytes = page.bytes;
                bytes.get_mut(within..).unwrap_or_default().fill(0);
                *last = kept(&bytes);
            }
        }
        self.pages.resize(whole.div_ceil(PAGE), None);
        self.len = len;
    }

    /// Writes at an offset, growing as needed.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let end = at.saturating_add(bytes.len() as u64);
        if end > self.len {
            self.set_len(end);
        }
        let mut offset = usize::try_from(at).unwrap_or(usize::MAX);
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = offset % PAGE;
            let (now, later) = rest.split_at(rest.len().min(PAGE - within));
            if let Some(slot) = self.pages.get_mut(offset / PAGE) {
                let mut page = slot.as_ref().map_or([0; PAGE], |page| page.bytes);
                page.get_mut(within..within + now.len()).unwrap_or_default().copy_from_slice(now);
                *slot = kept(&page);
            }
            offset += now.len();
            rest = later;
        }
    }

    /// Some of its bytes; fewer where it ends.
    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let end = at.saturating_add(len as u64).min(self.len);
        let mut out = vec![0; usize::try_from(end.saturating_sub(at)).unwrap_or(0)];
        for (from, piece) in self.pieces() {
            let (first, last) = (from.max(at), (from + piece.len() as u64).min(end));
            if first >= last {
                continue;
            }
            let range = |base: u64| usize::try_from(first - base).ok()..usize::try_from(last - base).ok();
            if let (Some(from), Some(to)) = (slice(range(at)), slice(range(from)))
                && let (Some(into), Some(bytes)) = (out.get_mut(from), piece.get(to))
            {
                into.copy_from_slice(bytes);
            }
        }
        out
    }

    /// What tells it from others.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.len.to_le_bytes());
        for (number, page) in (0_u64..).zip(&self.pages) {
            if let Some(page) = page {
                hasher.update(&number.to_le_bytes()).update(&page.digest);
            }
        }
        hasher.finalize().into()
    }

    /// The pieces that are not zero, each with its offset.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (0_u64..).zip(&self.pages).filter_map(|(number, page)| {
            let at = number * PAGE as u64;
            let len = usize::try_from(self.len - at).unwrap_or(PAGE).min(PAGE);
            Some((at, page.as_ref()?.bytes.get(..len)?))
        })
    }
}

fn slice(range: std::ops::Range<Option<usize>>) -> Option<std::ops::Range<usize>> {
    Some(range.start?..range.end?)
}

fn kept(bytes: &[u8; PAGE]) -> Option<Arc<Page>> {
    if bytes.iter().all(|&byte| byte == 0) {
        return None;
    }
    Some(Arc::new(Page { digest: blake3::hash(bytes).into(), bytes: *bytes }))
}
