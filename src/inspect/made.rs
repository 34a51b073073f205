//! Frames that tests make.

use crate::base::{LedgerId, Timestamp};
use crate::crypto::{Hash, Key, Opener, labels};
use crate::log::frame::{self, Header, Sealing};

/// Frames with bodies of these lengths.
pub(super) fn frames(lengths: &[usize]) -> Vec<u8> {
    let opener = Opener::new(&Key::from_bytes(&mut [0x11; 32]), labels::EPOCH_SEAL, labels::EPOCH_COMMIT);
    let mut bytes = Vec::new();
    let mut prev = Hash([0; 32]);
    for (seq, length) in (0_u64..).zip(lengths) {
        let header = Header {
            ledger_id: LedgerId::from_bytes([0xA0; 16]),
            seq,
            prev,
            time: Timestamp::from_millis(seq),
            group_start: seq,
            kind: 32,
            schema: 1,
            epoch: 0,
            batch_index: 0,
            batch_len: 1,
            body_len: 0,
            nonce: [0; 24],
            commitment: [0; 32],
        };
        let nonce = [seq.to_le_bytes()[0]; 24];
        prev = frame::seal(header, &Sealing { opener: &opener, nonce }, &vec![7; *length], &mut bytes);
    }
    bytes
}
