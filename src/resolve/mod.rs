//! Resolving references to secrets: the one place where a reference becomes a value.
//!
//! A reference is text that others wrote; what it may reach is said by the rules of `[resolve]` in
//! `config.toml`, and by the scope that a resolver is bound to. Without rules only the vault is reached.
//!
//! | source | the rule | what is checked |
//! |---|---|---|
//! | vault | the resolver's scope | as for every read; [`crate::engine::Vault::get_ref`] |
//! | env | `env_allow` | the name |
//! | file | `file_dirs` | owner, mode, kind and size, on the descriptor that is read |
//! | exec | `exec_allow` | owner and mode of the program and of every folder above it |
//!
//! Resolving has two halves. [`Outside`] takes values from this process's own surroundings and needs no
//! ledger: a command whose ledger a daemon serves runs it where the command is. [`SecretResolver`] adds the
//! vault, makes fingerprints and records what happened, before any value is given away.

mod admit;
mod exec;
mod field;
mod file;
mod outcome;
mod outside;
mod resolver;

pub use outcome::{Check, Detail, Reason, Resolution};
pub use outside::{Claim, Outside, Taken};
pub use resolver::{Bound, SecretResolver};
