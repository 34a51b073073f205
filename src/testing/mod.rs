//! For tests only: a clock and a random source that a test holds in its hand, and disks that
//! forget, tear and fail.
//!
//! This module is public so that integration tests and programs that embed the library can use
//! it; nothing in the product does. It is not part of the stable interface.
//!
//! - [`ManualClock`] and [`SeededRandom`] make a run repeatable.
//! - [`SimDisk`] is a file system in memory that knows what a power cut may take away.
//!   [`SimDisk::set_cut_after`] cuts the power at a chosen operation, [`SimDisk::crash`] gives one
//!   of the disks that the cut could have left, [`for_every_cut`] does both for a whole workload.
//! - [`FaultMedium`] lets the n-th operation of any medium fail and notices whoever goes on
//!   after a failed sync.
//! - [`flip_byte`] damages one byte.
//! - [`OtherProgram`] leaves in a home what a newer or an older version would.
//!
//! One toy example, which is also a test: a file is only safe when its name is, too.
//!
//! ```
//! use std::path::Path;
//! use palyra_ledger::store::{Medium, OpenMode};
//! use palyra_ledger::testing::SimDisk;
//! let disk = SimDisk::new();
//! let file = disk.open(Path::new("/note"), OpenMode::CreateNew)?;
//! file.write_at(0, b"remember me")?;
//! file.sync()?;
//! assert_eq!(disk.crash_strict().contents(Path::new("/note")), None, "the name was never synced");
//! disk.sync_dir(Path::new("/"))?;
//! assert_eq!(disk.crash_strict().contents(Path::new("/note")).as_deref(), Some(&b"remember me"[..]));
//! # Ok::<(), palyra_ledger::store::StoreError>(())
//! ```

mod clock;
mod dice;
mod fault;
mod flip;
#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod fuzz_auth;
#[doc(hidden)]
pub mod fuzz_backup;
#[doc(hidden)]
mod fuzz_import;
#[doc(hidden)]
pub mod fuzz_pairing;
#[doc(hidden)]
pub mod fuzz_programs;
mod keystore;
mod other;
mod pairing;
mod sim;
mod sweep;
mod tree;

pub use clock::ManualClock;
pub use dice::SeededRandom;
pub use fault::{Fault, FaultError, FaultMedium, FaultOp, Violation};
pub use flip::{flip_byte, flip_byte_at_path};
pub use keystore::MemoryKeystore;
pub use other::{Made, OtherProgram};
pub use pairing::{ask_to_pair, pair_device};
pub use sim::SimDisk;
pub use sweep::{Cut, for_every_cut};
