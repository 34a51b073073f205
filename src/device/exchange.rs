//! What a device makes of the checkpoint that a ledger shows it.

use crate::base::LedgerId;
use crate::checkpoint::{NoteError, SignedCheckpoint};

use super::client::ClientError;
use super::messages::CheckpointMessage;

/// A contact after which the device knows what the ledger was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchanged {
    /// Events that the ledger's checkpoint covers.
    pub size: u64,
    /// Its branch of history.
    pub branch: u32,
    /// Whether the branch that the device knew was given up: an older copy was put back on purpose.
    pub given_up: bool,
}

/// Judges an answer. The device does not rest on the ledger's word that all is well: a ledger that was rolled
/// back would say so, too. The key is the one that the device saw first, over a connection which only the ledger
/// can answer.
pub fn judge(
    ledger: LedgerId,
    seen: Option<&SignedCheckpoint>,
    answer: &CheckpointMessage,
) -> Result<(SignedCheckpoint, Exchanged), ClientError> {
    let shown = match seen {
        Some(seen) => SignedCheckpoint::verify(answer.note.as_bytes(), &seen.checkpoint().verifier())?,
        None => SignedCheckpoint::parse(answer.note.as_bytes())?,
    };
    let now = shown.checkpoint();
    if now.ledger_id != ledger {
        return Err(NoteError::OtherLedger.into());
    }
    let Some(known) = seen.map(SignedCheckpoint::checkpoint) else {
        return Ok((shown.clone(), Exchanged { size: now.size, branch: now.branch, given_up: false }));
    };
    let rolled_back = |fit: &str| ClientError::RolledBack { known: known.size, fit: fit.to_owned() };
    let forked = ClientError::Forked { seq: known.size - 1 };
    match answer.fit.as_deref() {
        Some(fit @ ("lost" | "other_branch")) => return Err(rolled_back(fit)),
        Some("holds" | "superseded") => {}
        _ => return Err(forked),
    }
    if now.branch < known.branch {
        return Err(rolled_back("other_branch"));
    }
    if now.branch == known.branch && now.size < known.size {
        return Err(rolled_back("lost"));
    }
    if (now.branch, now.size) == (known.branch, known.size) && (now.head, now.root) != (known.head, known.root) {
        return Err(forked);
    }
    let given_up = now.branch > known.branch;
    let exchanged = Exchanged { size: now.size, branch: now.branch, given_up };
    Ok((shown, exchanged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::checkpoint::{Checkpoint, signing_key};
    use crate::crypto::{Hash, Key};

    const LEDGER: [u8; 16] = [4; 16];

    fn note(size: u64, branch: u32, head: u8, key: u8) -> SignedCheckpoint {
        let key = signing_key(&Key::from_bytes(&mut [key; 32])).unwrap();
        let checkpoint = Checkpoint {
            ledger_id: LedgerId::from_bytes(LEDGER),
            size,
            root: Hash([2; 32]),
            head: Hash([head; 32]),
            state: None,
            time: Timestamp::from_millis(1),
            branch,
            key: key.public(),
        };
        SignedCheckpoint::sign(checkpoint, &key).unwrap()
    }

    fn answer(note: &SignedCheckpoint, fit: &str) -> CheckpointMessage {
        CheckpointMessage { note: note.note().to_owned(), fit: Some(fit.to_owned()) }
    }

    #[test]
    fn a_device_does_not_rest_on_the_ledgers_word() {
        let ledger = LedgerId::from_bytes(LEDGER);
        let seen = note(10, 1, 1, 7);
        let of = |shown: &SignedCheckpoint, fit: &str| judge(ledger, Some(&seen), &answer(shown, fit));
        assert_eq!(of(&note(10, 1, 1, 7), "holds").unwrap().1.size, 10);
        assert_eq!(of(&note(12, 1, 3, 7), "holds").unwrap().1.size, 12);
        let branch = of(&note(5, 2, 3, 7), "superseded").unwrap().1;
        assert!(branch.given_up && branch.branch == 2);
        for shown in [note(9, 1, 1, 7), note(12, 0, 1, 7)] {
            assert!(matches!(of(&shown, "holds"), Err(ClientError::RolledBack { known: 10, .. })));
        }
        assert!(matches!(of(&note(12, 1, 3, 7), "lost"), Err(ClientError::RolledBack { .. })));
        assert!(matches!(of(&note(10, 1, 9, 7), "holds"), Err(ClientError::Forked { seq: 9 })));
        assert!(matches!(of(&note(12, 1, 3, 7), "forked"), Err(ClientError::Forked { .. })));
        assert!(matches!(of(&note(12, 1, 3, 7), "fine"), Err(ClientError::Forked { .. })));
        assert!(matches!(of(&note(12, 1, 3, 8), "holds"), Err(ClientError::Checkpoint(NoteError::OtherKey))));
        let other = judge(LedgerId::from_bytes([5; 16]), None, &answer(&note(1, 0, 1, 7), "holds"));
        assert!(matches!(other, Err(ClientError::Checkpoint(NoteError::OtherLedger))));
        assert_eq!(judge(ledger, None, &answer(&note(1, 0, 1, 7), "holds")).unwrap().1.size, 1);
    }
}
