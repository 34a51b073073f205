use std::fs;

use super::*;
use crate::store::RealMedium;

fn key(byte: u8) -> Key {
    Key::from_bytes(&mut [byte; 32])
}

fn head(seq: u64) -> Head {
    let time = Timestamp::from_millis(seq);
    Head { seq, hash: Hash([7; 32]), time, witness_clean: seq.is_multiple_of(2), witness_next: seq + 1 }
}

/// A file of two records, the newest of which says 2.
fn written(path: &Path) -> LedgerId {
    let ledger = LedgerId::from_bytes([1; 16]);
    let file = HeadFile::create(&RealMedium, path, ledger, &key(1), &head(1)).unwrap();
    file.write(&key(1), &head(2)).unwrap();
    ledger
}

#[test]
fn each_way_in_which_a_head_file_is_wrong_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("head");
    let ledger = written(&path);
    let open = |ledger, key: Option<&Key>| HeadFile::open(&RealMedium, &path, ledger, key, false).map(|(_, head)| head);
    assert_eq!(open(ledger, Some(&key(1))).unwrap(), head(2));
    assert_eq!(open(ledger, None).unwrap(), head(2));
    assert!(matches!(open(ledger, Some(&key(2))), Err(HeadError::Forged { .. })));
    let other = LedgerId::from_bytes([2; 16]);
    assert!(matches!(open(other, Some(&key(1))), Err(HeadError::Foreign { found, .. }) if found == ledger));

    let good = fs::read(&path).unwrap();
    let second = usize::try_from(SECOND_AT).unwrap();
    let with = |at: usize, record: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + RECORD_LEN].copy_from_slice(record);
        fs::write(&path, bytes).unwrap();
    };
    with(0, &[0; RECORD_LEN]);
    assert_eq!(open(ledger, Some(&key(1))).unwrap(), head(1), "the older record, where the newest is torn");
    let mut damaged = good[..RECORD_LEN].to_vec();
    damaged[4] = 2;
    with(0, &damaged);
    assert_eq!(open(ledger, Some(&key(1))).unwrap(), head(1), "a damaged version is damage, and no newer program's");
    with(second, &[0; RECORD_LEN]);
    assert_eq!(open(ledger, Some(&key(1))).unwrap(), head(2));
    // A record that somebody made, and numbered to be the newest: only who has no key believes it.
    with(second, &encode(ledger, 9, &head(99), &key(2)));
    assert_eq!(open(ledger, Some(&key(1))).unwrap(), head(2));
    assert_eq!(open(ledger, None).unwrap(), head(99));
    for nothing in [Vec::new(), vec![0; RECORD_LEN], vec![0; good.len()]] {
        fs::write(&path, nothing).unwrap();
        assert!(matches!(open(ledger, Some(&key(1))), Err(HeadError::Damaged { .. })));
    }
    // Another version may mean anything: no older record stands for it. Its MAC shows that it is no damage.
    let mut newer = encode(ledger, 3, &head(3), &key(1))[..RECORD_LEN - 32].to_vec();
    newer[4..6].copy_from_slice(&2_u16.to_le_bytes());
    let mac = keyed_hash(&key(1), &[&newer]);
    newer.extend_from_slice(&mac.0);
    with(second, &newer);
    assert!(matches!(open(ledger, Some(&key(1))), Err(HeadError::Newer { version: 2, .. })));
}

#[test]
fn writing_goes_on_in_the_older_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("head");
    let ledger = written(&path);
    let (file, _) = HeadFile::open(&RealMedium, &path, ledger, Some(&key(1)), true).unwrap();
    let before = fs::read(&path).unwrap();
    file.write(&key(1), &head(3)).unwrap();
    let after = fs::read(&path).unwrap();
    assert_eq!(before[..RECORD_LEN], after[..RECORD_LEN], "the record that said 2 is left as it was");
    let (_, found) = HeadFile::open(&RealMedium, &path, ledger, Some(&key(1)), false).unwrap();
    assert_eq!(found, head(3));
}
