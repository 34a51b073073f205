//! Backups and restorations, as a person would tell them.

use crate::event::Event;

use super::super::time;
use super::count;

/// One sentence about an event of this kind.
pub fn summary(event: &Event) -> Option<String> {
    Some(match event {
        Event::BackupCreated(event) => {
            let what = if event.from == 0 { "a full backup" } else { "an increment" };
            let itself = if event.key_file { "; it holds a key file and opens itself" } else { "" };
            let recipients = match event.recipients {
                0 => String::new(),
                some => format!(" and for {}", count(u64::from(some), "age recipient")),
            };
            let (from, to, bytes) = (event.from, event.to, event.bytes);
            format!("made {what} of events {from} to {to} ({bytes} bytes) for the key slots{recipients}{itself}")
        }
        Event::LedgerRestored(event) => {
            let by = event.opened_by.map_or_else(|| "an age identity".to_owned(), |slot| format!("key slot {slot}"));
            format!(
                "restored the ledger from backup {} of {}, which ends with event {}; {by} opened it",
                event.backup,
                time::second(event.created),
                event.to
            )
        }
        _ => return None,
    })
}
