//! The sealed log: frames, the journal's segments, and the head file.
//!
//! The log knows bytes and kind numbers, never an event. One frame holds one event: a clear,
//! fixed-width header, a sealed body, and the frame's own hash. Each header holds the hash of the
//! frame before it: the chain. Frames of one command form a batch; batches that were synced together
//! form a group.
//!
//! Why the batch and group stand in every header: after a power cut the last group may be torn. A
//! torn group was never acknowledged, so it is dropped whole. Damage inside an older, acknowledged
//! group looks the same at first sight, and dropping that would lose events in silence. The frames
//! after the damage tell the two apart: if any of them belongs to a later group, the damaged one had
//! been synced, and opening stops with an error instead.
//!
//! | invariant | kept by |
//! |---|---|
//! | I3 a frame's hash covers header, ciphertext and previous hash | [`frame::Frame::parse`] |
//! | I8 an I/O fault ends the writer | [`journal::Journal::append`] |
//! | I9 verification needs no key | [`frame`], [`segment`], [`journal`] |

pub mod frame;
pub mod head;
pub mod journal;
pub mod segment;

pub use frame::{Frame, FrameError, Header, Sealing};
pub use head::{Head, HeadError, HeadFile};
pub use journal::{Group, Journal, JournalError, Last, Position, Tail, Torn};
