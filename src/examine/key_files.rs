//! What can be said about key ring and key table without opening them.

use std::path::Path;

use crate::base::LedgerId;
use crate::inspect::{Finding, FindingCode};
use crate::keys::{self, KeyTable, KeysError, SlotStatus};
use crate::store::Medium;

/// Slots that are named one by one.
const NAMED_MAX: usize = 100;

/// Looks at the clear parts: what does not read, belongs to another ledger, or fails its check. A copy without
/// keys has nothing to find.
#[must_use]
pub fn key_files(medium: &dyn Medium, dir: &Path, ledger_id: Option<LedgerId>) -> Vec<Finding> {
    let ring = match keys::read(medium, dir) {
        Ok((Some(ring), _) | (None, Some(ring))) => ring,
        Ok((None, None)) => return Vec::new(),
        Err(KeysError::Store(error)) => return vec![Finding::new(FindingCode::Unreadable, None, error.to_string())],
        Err(error) => {
            let what = format!("the key ring does not read: {error}");
            return vec![Finding::new(FindingCode::KeyringDiffers, None, what)];
        }
    };
    if ledger_id.is_some_and(|id| id != ring.ledger_id()) {
        let what = format!("the key ring belongs to ledger {}", ring.ledger_id());
        return vec![Finding::new(FindingCode::ForeignFrame, None, what)];
    }
    match KeyTable::open(medium, dir, ring.ledger_id(), ring.table_generation(), false) {
        Ok(table) => slots(&table),
        Err(KeysError::Store(error)) if !error.is_not_found() => {
            vec![Finding::new(FindingCode::Unreadable, None, error.to_string())]
        }
        Err(error @ KeysError::Foreign { .. }) => {
            vec![Finding::new(FindingCode::ForeignFrame, None, error.to_string())]
        }
        Err(error) => {
            let what = format!("the key table does not read: {error}");
            vec![Finding::new(FindingCode::KeySlotDamaged, None, what)]
        }
    }
}

/// What is to be said of a table of which one header is damaged.
pub(super) fn damaged_header(table: &KeyTable) -> Option<Finding> {
    let what = "the header of one copy of the key table is damaged; the other holds".to_owned();
    table.has_damaged_header().then(|| Finding::new(FindingCode::KeySlotRepairable, None, what))
}

/// Both copies of a slot are never written at once: a crash damages one at most.
fn slots(table: &KeyTable) -> Vec<Finding> {
    let mut found: Vec<Finding> = damaged_header(table).into_iter().collect();
    let surveyed = table.survey(&mut |slot, copies, alike| {
        let code = match copies {
            [SlotStatus::Damaged, SlotStatus::Damaged] => FindingCode::KeySlotDamaged,
            [SlotStatus::Damaged, _] | [_, SlotStatus::Damaged] => FindingCode::KeySlotRepairable,
            [SlotStatus::Present, SlotStatus::Present] if !alike => FindingCode::KeySlotDamaged,
            _ => return,
        };
        if found.len() < NAMED_MAX {
            let what = match code {
                FindingCode::KeySlotRepairable => format!("one copy of key slot {slot} is damaged"),
                _ if alike => format!("both copies of key slot {slot} are damaged"),
                _ => format!("the copies of key slot {slot} are damaged or differ"),
            };
            found.push(Finding::new(code, None, what));
        }
    });
    if let Err(error) = surveyed {
        found.push(Finding::new(FindingCode::Unreadable, None, format!("the key table cannot be read: {error}")));
    }
    found
}
