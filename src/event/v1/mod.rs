//! Events as schema version 1 wrote them, where a later version took its place (stored; never edited).
//!
//! Each is read by its own frozen type, which checks that the bytes are the one encoding of it, and becomes the
//! present event by `From`: pure, total, and with `None` for what was not recorded. Nothing is written in these
//! forms any more. A kind that gets a third version keeps both: version 1 then becomes version 2, and that the
//! present one.

mod auth;
mod identity;
mod import;
mod system;
mod vault;

pub use auth::RefreshSucceeded;
pub use identity::DeviceRevoked;
pub use import::{CredentialsImported, ImportedOrder, ImportedProfile};
pub use system::SpoolDropped;
pub use vault::SecretPut;
