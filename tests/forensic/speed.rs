//! A long log to measure on: `PALYRA_LONG_LOG=DIR cargo nextest run --test forensic --run-ignored only a_long_log`.

use std::io::Write;
use std::path::PathBuf;

use palyra_ledger::crypto::{Hash, Key, Opener, labels};
use palyra_ledger::log::frame::{Header, Sealing, genesis, seal};
use palyra_ledger::log::segment::{SegmentHeader, SegmentTrailer, digest, file_name};
use palyra_ledger::{LedgerId, Timestamp};

const EVENTS: u64 = 1_000_000;
const SEGMENT: u64 = 100_000;

#[test]
#[ignore = "writes 600 MB"]
fn a_long_log() {
    let home = PathBuf::from(std::env::var_os("PALYRA_LONG_LOG").unwrap());
    std::fs::create_dir_all(home.join("journal")).unwrap();
    let ledger_id = LedgerId::from_bytes([7; 16]);
    let opener = Opener::new(&Key::from_bytes(&mut [1; 32]), labels::EPOCH_SEAL, labels::EPOCH_COMMIT);
    let (mut prev, body) = (genesis(ledger_id), vec![0x5a; 400]);
    for first in (0..EVENTS).step_by(usize::try_from(SEGMENT).unwrap()) {
        let mut bytes = SegmentHeader { ledger_id, first_seq: first, prev }.encode().to_vec();
        for seq in first..first + SEGMENT {
            let mut nonce = [0; 24];
            nonce[..8].copy_from_slice(&seq.to_le_bytes());
            let header = Header {
                ledger_id,
                seq,
                prev,
                time: Timestamp::from_millis(1_767_225_600_000 + seq * 37),
                group_start: seq,
                kind: 32 + u16::try_from(seq % 6).unwrap(),
                schema: 1,
                epoch: 0,
                batch_index: 0,
                batch_len: 1,
                body_len: 0,
                nonce,
                commitment: [0; 32],
            };
            prev = seal(header, &Sealing { opener: &opener, nonce }, &body, &mut bytes);
        }
        let mut running = digest();
        running.update(&bytes);
        let trailer = SegmentTrailer {
            ledger_id,
            first_seq: first,
            last_seq: first + SEGMENT - 1,
            frames_len: bytes.len() as u64 - 128,
            last_hash: prev,
            digest: running.finish(),
        };
        let mut file = std::fs::File::create(home.join("journal").join(file_name(first))).unwrap();
        file.write_all(&bytes).unwrap();
        if first + SEGMENT < EVENTS {
            file.write_all(&trailer.encode()).unwrap();
        }
    }
    assert_ne!(prev, Hash([0; 32]));
}
