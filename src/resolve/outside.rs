//! The half of resolving that needs no ledger: variables, files and programs, where this process is.

use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::base::{EnvName, SecretBytes, SecretRef, SecretSource};
use crate::crypto::Hash;
use crate::engine::{ResolveSettings, value_digest};
use crate::event::vault::ResolveReason;

use super::outcome::{Check, Reason, Trace};
use super::{exec, field, file};

/// Takes values from this process's surroundings, under the rules of `[resolve]`.
#[derive(Debug, Clone)]
pub struct Outside {
    rules: ResolveSettings,
    stop: Option<Arc<AtomicBool>>,
}

/// What was taken for one reference: the value, or why there is none.
#[derive(Debug)]
pub struct Taken {
    /// The value.
    pub value: Result<SecretBytes, Reason>,
    /// How long it took.
    pub took: Duration,
}

/// What whoever took a value says about it, without the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Digest of the value, where there is one.
    pub digest: Option<Hash>,
    /// Its length in bytes.
    pub bytes: Option<u32>,
    /// Why there is none.
    pub reason: Option<Reason>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

impl Taken {
    /// What is said about it.
    #[must_use]
    pub fn claim(&self) -> Claim {
        let took_us = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX);
        match &self.value {
            Ok(value) => Claim {
                digest: Some(value_digest(value.expose())),
                bytes: u32::try_from(value.len()).ok(),
                reason: None,
                took_us,
            },
            Err(reason) => Claim { digest: None, bytes: None, reason: Some(reason.clone()), took_us },
        }
    }
}

impl Outside {
    /// A resolver under these rules.
    #[must_use]
    pub const fn new(rules: ResolveSettings) -> Self {
        Self { rules, stop: None }
    }

    /// The same, with a mark for programs that run: once it is set they are ended, and no more are started.
    #[must_use]
    pub fn stopped_by(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Takes the value of a reference; none for one of the vault, which is not outside.
    #[must_use]
    pub fn take(&self, reference: &SecretRef) -> Option<Taken> {
        let begun = Instant::now();
        let (rules, trace) = (&self.rules, &mut Trace::default());
        let max = max_bytes(rules, reference);
        let value = match &reference.source {
            SecretSource::Vault { .. } => return None,
            SecretSource::Env { name, .. } => variable(rules, name, trace),
            SecretSource::File { path, .. } => {
                file::open_checked(rules, path, trace).and_then(|file| file::read(file, max))
            }
            SecretSource::Exec { program, args, .. } => exec::admit(rules, program, trace).and_then(|real| {
                let bounds = exec::Bounds { max, timeout: timeout_ms(rules, reference), stop: self.stop.as_deref() };
                exec::run(rules, &real, program, args, &bounds)
            }),
        };
        let value = value.and_then(|value| fitting(value, reference, max));
        Some(Taken { value, took: begun.elapsed() })
    }

    /// What would be allowed, step by step, without taking the value; none for a reference of the vault.
    #[must_use]
    pub fn explain(&self, reference: &SecretRef) -> Option<(Vec<Check>, Option<Reason>)> {
        let (rules, mut trace) = (&self.rules, Trace(Some(Vec::new())));
        let judged = match &reference.source {
            SecretSource::Vault { .. } => return None,
            SecretSource::Env { name, .. } => variable(rules, name, &mut trace).map(drop),
            SecretSource::File { path, .. } => file::open_checked(rules, path, &mut trace)
                .and_then(|file| file::judge_size(&file, max_bytes(rules, reference), &mut trace)),
            SecretSource::Exec { program, .. } => exec::admit(rules, program, &mut trace).map(drop),
        };
        Some((trace.0.unwrap_or_default(), judged.err()))
    }
}

/// The tighter of the two bounds on a value.
pub fn max_bytes(rules: &ResolveSettings, reference: &SecretRef) -> u32 {
    reference.max_bytes.unwrap_or(u32::MAX).min(rules.max_bytes)
}

fn timeout_ms(rules: &ResolveSettings, reference: &SecretRef) -> u32 {
    reference.timeout_ms.unwrap_or(u32::MAX).min(rules.timeout_ms)
}

/// The value, or its field, if it is within the bound.
pub fn fitting(value: SecretBytes, reference: &SecretRef, max: u32) -> Result<SecretBytes, Reason> {
    if value.len() as u64 > u64::from(max) {
        return Err(Reason::bound(ResolveReason::TooLarge, u64::from(max)));
    }
    match reference.source.field() {
        Some(field) => Ok(field::extract(&value, field)?),
        None => Ok(value),
    }
}

fn variable(rules: &ResolveSettings, name: &EnvName, trace: &mut Trace) -> Result<SecretBytes, Reason> {
    let matches = |allowed: &&String| match allowed.strip_suffix('*') {
        Some(stem) => name.as_str().starts_with(stem),
        None => allowed.as_str() == name.as_str(),
    };
    let allowed = rules.env_allow.iter().find(matches);
    let what = || "the variable is in resolve.env_allow".to_owned();
    let found = || allowed.map_or("it is not".to_owned(), |entry| format!("as {entry}"));
    trace.check(allowed.is_some(), || ResolveReason::EnvNotAllowed.into(), what, found)?;
    let value = std::env::var_os(name.as_str()).map(|value| SecretBytes::new(value.into_vec()));
    let what = || "the variable is set".to_owned();
    let found = || value.as_ref().map_or("it is not".to_owned(), |value| format!("{} bytes", value.len()));
    trace.check(value.is_some(), || ResolveReason::EnvUnset.into(), what, found)?;
    value.ok_or_else(|| ResolveReason::EnvUnset.into())
}
