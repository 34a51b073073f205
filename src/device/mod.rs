//! The device's side: joining a ledger, and living as one of its devices.
//!
//! [`join`] is the pairing protocol without any I/O, [`messages`] what goes over the wire, [`DeviceFiles`]
//! what a device keeps, [`Client`] the connection to a daemon.

mod client;
mod exchange;
mod files;
pub mod join;
pub mod messages;

pub use client::{Client, ClientError, JoinOptions, Renewed, join_ledger, resume_join};
pub use exchange::Exchanged;
pub use files::{DeviceFiles, DeviceIdentity, DeviceNote, FilesError, Pending, PendingNote};
