//! Whether frames stand in their batches, groups and epochs as a writer puts them.

use crate::log::frame::Header;

/// The batch that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Batch {
    /// None: the last frame ended one, or none came yet.
    #[default]
    Whole,
    /// The next frame's place and the number of frames.
    Within { next: u16, len: u16 },
    /// Damage was passed over: the beginning may lie in it.
    Unknown,
}

/// Follows batches, groups and epochs from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Order {
    batch: Batch,
    group: Option<u64>,
    /// Epochs that began so far, where that is known.
    epoch: Option<u32>,
}

/// Kind of the event that begins an epoch.
const EPOCH: u16 = 2;

impl Order {
    /// At the beginning of a log.
    pub(super) fn at_beginning() -> Self {
        Self { epoch: Some(0), ..Self::default() }
    }

    /// Whether frames of the batch under way are still to come.
    pub(super) fn is_within(&self) -> bool {
        matches!(self.batch, Batch::Within { .. })
    }

    /// Nothing more comes of the batch under way.
    pub(super) fn end_batch(&mut self) {
        self.batch = Batch::Whole;
    }

    /// Damage was passed over.
    pub(super) fn forget(&mut self) {
        *self = Self { batch: Batch::Unknown, group: None, epoch: None };
    }

    /// Takes the next frame; what is wrong with its place.
    pub(super) fn take(&mut self, header: &Header) -> Option<&'static str> {
        let Header { batch_index: place, batch_len: len, group_start: group, seq, .. } = *header;
        let fits = match self.batch {
            Batch::Whole => place == 0,
            Batch::Within { next, len: of } => place == next && len == of,
            Batch::Unknown => true,
        };
        // Frames that were synced together name the first of them, which begins a batch.
        let begins = group == seq && place == 0;
        let stays = self.group.is_none_or(|last| last == group && seq > 0);
        self.batch = match place + 1 {
            next if next == len => Batch::Whole,
            next => Batch::Within { next, len },
        };
        self.group = Some(group);
        let same_epoch = self.epoch.is_none_or(|epoch| epoch == header.epoch);
        self.epoch = Some(header.epoch.saturating_add(u32::from(header.kind == EPOCH)));
        if !fits {
            Some("a batch is not whole")
        } else if !(begins || stays) {
            Some("it neither begins a group nor belongs to that of the frame before it")
        } else if !same_epoch {
            Some("it names another epoch than the one that began last")
        } else {
            None
        }
    }
}
