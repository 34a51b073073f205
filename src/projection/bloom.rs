//! Bloom filters in pages: a key's bits all lie in one page, so a lookup opens one.

use super::run::KeyHash;

/// Bytes of a page.
pub(super) const PAGE_BYTES: usize = 4096;
const PAGE_BITS: u32 = 8 * 4096;
/// Bits a key: with seven probes, about one key in a hundred that is not there seems to be.
const BITS_PER_KEY: usize = 10;
const _: () = assert!(PAGE_BITS as usize == 8 * PAGE_BYTES);
const PROBES: u32 = 7;

/// A filter being built.
pub(super) struct Bloom {
    pages: Vec<[u8; PAGE_BYTES]>,
}

/// Which page of `pages` holds a key's bits.
pub(super) fn page_of(hash: KeyHash, pages: u32) -> u32 {
    // The high bits scaled to the number of pages.
    u32::try_from((u64::from(hash.page) * u64::from(pages)) >> 32).unwrap_or(0)
}

fn bits(hash: KeyHash) -> impl Iterator<Item = (usize, u8)> {
    (0..PROBES).map(move |probe| {
        let bit = hash.first.wrapping_add(probe.wrapping_mul(hash.step | 1)) % PAGE_BITS;
        ((bit / 8) as usize, 1 << (bit % 8))
    })
}

impl Bloom {
    /// A filter for up to `keys` keys.
    pub(super) fn new(keys: usize) -> Self {
        let pages = keys.saturating_mul(BITS_PER_KEY).div_ceil(PAGE_BITS as usize).max(1);
        Self { pages: vec![[0; PAGE_BYTES]; pages] }
    }

    pub(super) fn add(&mut self, hash: KeyHash) {
        let page = page_of(hash, u32::try_from(self.pages.len()).unwrap_or(u32::MAX)) as usize;
        let Some(page) = self.pages.get_mut(page) else { return };
        for (byte, mask) in bits(hash) {
            if let Some(byte) = page.get_mut(byte) {
                *byte |= mask;
            }
        }
    }

    pub(super) fn pages(&self) -> &[[u8; PAGE_BYTES]] {
        &self.pages
    }
}

/// Whether a page may hold the key; nothing where the page is not whole.
pub(super) fn may_hold(page: &[u8], hash: KeyHash) -> bool {
    bits(hash).all(|(byte, mask)| page.get(byte).is_none_or(|byte| byte & mask != 0))
}
