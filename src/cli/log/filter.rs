//! Which events are shown.

use crate::base::{SecretPath, Timestamp};
use crate::cli::exit::Failure;
use crate::engine::{Entry, Error, Ledger};
use crate::event::Kind;

/// Which events are shown: those that every given condition holds for.
#[derive(Debug, Default)]
pub struct Filter {
    kinds: Vec<u16>,
    reference: Option<String>,
    actor: Option<String>,
}

impl Filter {
    /// A filter by kind names, secret and actor.
    pub fn new(kinds: &[String], reference: Option<SecretPath>, actor: Option<String>) -> Result<Self, Failure> {
        let kinds = kinds.iter().map(|name| {
            Kind::from_name(name).map(Kind::number).ok_or_else(|| {
                let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                Failure::usage(format!("`{name}` is no kind of event"), format!("the kinds are {}", known.join(", ")))
            })
        });
        Ok(Self {
            kinds: kinds.collect::<Result<_, _>>()?,
            reference: reference.map(|target| target.to_string()),
            actor,
        })
    }

    /// Whether an event is shown.
    pub fn wants(&self, entry: &Entry) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && self.actor.as_ref().is_none_or(|actor| entry.caller.actor.as_str() == actor)
            && self.reference.as_ref().is_none_or(|target| entry.event.secret_refs().contains(target))
    }
}

/// The first event at or after a time. Times never run backwards, so this is a binary search.
pub fn first_since(ledger: &Ledger, since: Timestamp) -> Result<u64, Error> {
    let (mut low, mut high) = (0, ledger.log().head()?.events);
    while low < high {
        let middle = low + (high - low) / 2;
        if ledger.log().entry(middle)?.time < since {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
