//! The two TOML documents: rendered from the state, and read back after people changed them.
//!
//! The same state at the same event gives the same bytes: profiles by id, fields in a fixed order, and
//! "now" is the time of the event.

mod imported;
mod plan;
mod read;
mod render;
mod shape;

use crate::event::auth::{CredentialType, FailureKind};

pub use imported::{Brought, bring};
pub use plan::{Edit, Plan, Problem, plan, rendered_at};
pub use render::render;

/// File name of the static part.
pub const PROFILES_FILE: &str = "auth_profiles.toml";
/// File name of what became of the profiles.
pub const RUNTIME_FILE: &str = "auth_profile_runtime_state.toml";

/// The documents of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// `auth_profiles.toml`.
    pub profiles: String,
    /// `auth_profile_runtime_state.toml`.
    pub runtime: String,
}

/// Kinds of failure that a report may name.
#[must_use]
pub fn failure_kind(name: &str) -> Option<FailureKind> {
    FailureKind::ALL.iter().copied().find(|kind| kind.name() == name)
}

/// A kind of credential by its name.
#[must_use]
pub fn credential_type(name: &str) -> Option<CredentialType> {
    CredentialType::ALL.iter().copied().find(|kind| kind.name() == name)
}

#[cfg(test)]
mod tests;
