//! References that a command needs, each resolved once.

use std::collections::HashMap;

use crate::base::{Scope, SecretBytes, SecretRef, limits};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::Invocation;
use crate::cli::resolving;

/// Where a reference's value will be.
#[derive(Debug, Clone, Copy)]
pub struct Ticket(usize);

/// References that are to be resolved.
#[derive(Debug, Default)]
pub struct Wanted {
    references: Vec<SecretRef>,
    known: HashMap<SecretRef, usize>,
}

impl Wanted {
    /// Asks for a reference.
    pub fn add(&mut self, reference: &SecretRef) -> Ticket {
        let next = self.references.len();
        let number = *self.known.entry(reference.clone()).or_insert(next);
        if number == next {
            self.references.push(reference.clone());
        }
        Ticket(number)
    }

    /// Resolves all of them, or none.
    pub fn resolve(self, invocation: &Invocation, scope: Option<&Scope>) -> Result<Values, Failure> {
        resolve(invocation, scope, &self.references).map(Values)
    }
}

/// What references gave.
pub struct Values(Vec<Option<SecretBytes>>);

impl Values {
    /// The value; none where there is none and none is needed.
    pub fn get(&self, ticket: Ticket) -> Option<&SecretBytes> {
        self.0.get(ticket.0).and_then(Option::as_ref)
    }
}

/// Resolves references in order, as one scope or as whoever has the ledger: each has a value, or may be missing.
pub fn resolve(
    invocation: &Invocation,
    scope: Option<&Scope>,
    references: &[SecretRef],
) -> Result<Vec<Option<SecretBytes>>, Failure> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    if references.len() > limits::DELIVERIES_MAX {
        let what = format!("{} references are more than {}", references.len(), limits::DELIVERIES_MAX);
        return Err(Failure::usage(what, "give the program fewer"));
    }
    let resolutions = resolving::resolve_all(invocation, scope, references)?;
    if resolutions.len() != references.len() {
        return Err(Failure::new(ExitCode::Internal, "a reference was not looked at", "please report it"));
    }
    let bad = resolutions.iter().zip(references).find(|(resolution, _)| !resolution.is_acceptable());
    if let Some((resolution, reference)) = bad {
        return Err(match &resolution.reason {
            Some(reason) => Failure::unresolved(reference, reason),
            None => Failure::new(ExitCode::Internal, "a reference gave no value and no reason", "please report it"),
        });
    }
    Ok(resolutions.into_iter().map(|resolution| resolution.value).collect())
}
