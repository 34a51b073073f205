//! Giving secrets to programs: in their environment, on a descriptor, in a pipe that looks like a file, or in
//! a file that was asked for. What a program prints can be masked on its way.
//!
//! Nothing here resolves a reference, and nothing here opens a ledger: values come in, and go where they were
//! sent. A value is never in an argument, never in this process's own environment, and in no file but the one
//! that was asked for.

mod env_file;
mod file;
mod forms;
mod mask;
mod memory;
mod mount;
mod program;
mod stream;
mod template;

pub use env_file::{EnvEntry, EnvFileError, EnvFileReason, EnvValue, parse_env_file, read_env_file};
pub use file::{FileError, FileMode, FileReason, Written, check_secret_file, write_secret_file};
pub use forms::{Forms, MaskedName};
pub use mask::Masker;
pub use memory::{Held, in_memory};
pub use mount::{Mount, MountFolder, keep_watch};
pub use program::{Ending, Launch, LaunchError, descriptor_path, is_ignored};
pub use template::{Template, TemplateError, TemplateReason, escape};
