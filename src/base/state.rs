//! The state as a domain sees it: an ordered map of bytes, the fold of the events (invariant I1).

use std::ops::ControlFlow;

/// The state could not be read. It is a projection: the log behind it is not affected.
#[derive(Debug, thiserror::Error)]
#[error("the state cannot be read: {0}")]
pub struct StateError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// One change of the state: a key and its new value, or none.
pub type Change = (Box<[u8]>, Option<Box<[u8]>>);

/// What one event changes, in order.
pub type Delta = Vec<Change>;

/// What a scan calls for each key and value; it may stop the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Read access to the state.
pub trait StateRead {
    /// The value under a key.
    ///
    /// # Errors
    /// [`StateError`] where the projection is damaged or cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// Visits keys from `from` (inclusive) to `end` (exclusive) in order.
    ///
    /// # Errors
    /// As [`StateRead::get`].
    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError>;
}

/// The first key after every key that begins with `prefix`, or an empty key for "no end".
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}
