//! No nonce is used twice under one key (invariant I5), also not in a history that a power cut took back.

use std::collections::HashMap;

use palyra_ledger::log::frame::{Frame, HASH_LEN, Header};
use palyra_ledger::log::segment::SEGMENT_HEADER_LEN;
use palyra_ledger::testing::SimDisk;

/// Nonces that were used, by the epoch whose key sealed with them: each with the frame that has it.
#[derive(Default)]
pub struct Nonces(HashMap<(u32, [u8; 24]), [u8; HASH_LEN]>);

impl Nonces {
    /// Looks at every frame of a home's journal, and says how many were new. On a disk that nobody has opened since the
    /// power went a frame may be `torn`: what is left of it is not another frame with its nonce, and it was looked at
    /// before the power went.
    pub fn observe(&mut self, disk: &SimDisk, torn: bool) -> Result<u64, String> {
        let mut new = 0;
        for path in disk.files().into_iter().filter(|path| path.extension().is_some_and(|name| name == "seg")) {
            let bytes = disk.contents(&path).unwrap_or_default();
            let mut rest = bytes.get(SEGMENT_HEADER_LEN..).unwrap_or_default();
            while let Ok(header) = Header::parse(rest)
                && let Some((frame, behind)) = rest.split_at_checked(header.frame_len())
            {
                if torn && Frame::parse(frame).is_err() {
                    rest = behind;
                    continue;
                }
                let hash = frame.last_chunk().copied().unwrap_or([0; HASH_LEN]);
                match self.0.insert((header.epoch, header.nonce), hash) {
                    None => new += 1,
                    Some(other) if other == hash => {}
                    Some(_) => {
                        return Err(format!("event {} has a nonce that another frame of its epoch has", header.seq));
                    }
                }
                rest = behind;
            }
        }
        Ok(new)
    }
}
