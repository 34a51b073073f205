//! Finding a frame by its header alone, without hashing what lies before it.

use std::sync::Arc;

use crate::log::frame::{Frame, Header};
use crate::log::segment::SEGMENT_HEADER_LEN;

use super::scan::Walk;
use super::{Journal, JournalError};

impl Journal {
    /// The first frame from `from` to `to` (both inclusive) whose header is wanted. Headers are taken as they
    /// stand; that of the frame that is given was checked.
    ///
    /// # Errors
    /// [`JournalError`] where a segment cannot be read, or the wanted frame is damaged.
    pub fn find(&self, from: u64, to: u64, wanted: &dyn Fn(&Header) -> bool) -> Result<Option<Header>, JournalError> {
        let to = match self.last() {
            Some(last) => to.min(last.seq),
            None => return Ok(None),
        };
        let mut seq = from;
        while seq <= to {
            let segment = self.segment_of(seq)?;
            let offset = if seq == segment.first_seq { SEGMENT_HEADER_LEN as u64 } else { self.position(seq)?.offset };
            let path = segment.path.clone();
            let mut walk = Walk::new(Arc::clone(&segment), offset);
            let begun = seq;
            while seq <= to
                && let Some((offset, bytes)) = walk.next_bytes()?
            {
                let damaged = |why| JournalError::Damaged { path: path.clone(), offset, seq, why };
                let header = Header::parse(bytes).map_err(damaged)?;
                if wanted(&header) {
                    return Frame::parse(bytes).map(|frame| Some(frame.header)).map_err(damaged);
                }
                seq += 1;
            }
            if seq == begun {
                return Err(JournalError::Missing { seq });
            }
        }
        Ok(None)
    }
}
