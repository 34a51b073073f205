//! A reader of fixed-width little-endian fields, for the hand-written formats.

/// Reads from the front of a slice and never past its end.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// The version that a format's bytes begin with behind its magic, where a newer program wrote them: it is above the
/// last one that is known, and they are not `whole` in that one, as bytes of ours with a damaged version would be.
pub(crate) fn newer(bytes: &[u8], magic: [u8; 4], known: u16, whole: impl FnOnce(&[u8]) -> bool) -> Option<u16> {
    let mut reader = Reader(bytes);
    let version = (reader.take()? == magic).then(|| reader.u16())??;
    if version <= known {
        return None;
    }
    let as_known = zeroize::Zeroizing::new([&magic[..], &known.to_le_bytes(), reader.0].concat());
    (!whole(&as_known)).then_some(version)
}
