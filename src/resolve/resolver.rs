//! The whole of resolving: the vault, what is outside, fingerprints, and the record.

use std::time::{Duration, Instant};

use crate::base::{Caller, Scope, SecretBytes, SecretPath, SecretRef, SecretSource, Timestamp};
use crate::engine::{Error, GetOptions, Ledger, Resolutions, ResolveSettings, Resolved, Vault, value_digest};
use crate::event::vault::{ResolveReason, ResolveStatus};
use crate::vault::{VaultError, VersionState};

use super::outcome::{Check, Detail, Reason, Resolution, Trace};
use super::outside::{Claim, Outside, Taken, fitting, max_bytes};

/// Which scopes' secrets a resolver may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// One scope's.
    Scope(Scope),
    /// Those of every scope: for whoever administers the ledger, not for a scope's own code.
    Every,
}

/// Resolves references for one caller, under the ledger's rules.
///
/// ```
/// # use palyra_ledger::{Actor, Caller, Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes};
/// # use palyra_ledger::resolve::{Bound, SecretResolver};
/// # let dir = tempfile::tempdir()?;
/// # let ledger = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?;
/// let vault = ledger.vault(Scope::global());
/// vault.put(&"key".parse()?, &SecretBytes::from(br#"{"token": "t-1"}"#.as_slice()), PutOptions::new())?;
///
/// let caller = Caller::library(Actor::new("mailer")?);
/// let resolver = SecretResolver::new(&ledger, caller, Bound::Scope(Scope::global()));
/// let resolution = resolver.resolve(&"palyra://global/key?field=token".parse()?)?;
/// assert_eq!(resolution.value.as_ref().map(SecretBytes::expose), Some(b"t-1".as_slice()));
///
/// let denied = resolver.resolve(&"palyra://skill:mail/key".parse()?)?;
/// assert_eq!((denied.status.name(), denied.value), ("blocked", None));
/// # ledger.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SecretResolver {
    ledger: Ledger,
    bound: Bound,
    record: Resolutions,
    outside: Outside,
    /// The handle of the scope that it is bound to.
    bound_vault: Option<Vault>,
}

impl SecretResolver {
    /// A resolver under the rules of the ledger's settings.
    #[must_use]
    pub fn new(ledger: &Ledger, caller: Caller, bound: Bound) -> Self {
        let rules = ledger.resolutions().settings().clone();
        Self::with_rules(ledger, caller, bound, rules)
    }

    /// A resolver under rules of its own; the vault's are the ledger's.
    #[must_use]
    pub fn with_rules(ledger: &Ledger, caller: Caller, bound: Bound, rules: ResolveSettings) -> Self {
        let ledger = ledger.on_behalf_of(caller);
        let record = ledger.resolutions();
        let bound_vault = match &bound {
            Bound::Scope(scope) => Some(ledger.vault(scope.clone())),
            Bound::Every => None,
        };
        Self { ledger, bound, record, outside: Outside::new(rules), bound_vault }
    }

    /// Resolves a reference. That there is no value is no error: the resolution says why.
    ///
    /// # Errors
    /// What stood in the way of resolving anything: a ledger that is closed, that cannot be read, or that cannot
    /// record it as the settings demand.
    pub fn resolve(&self, reference: &SecretRef) -> Result<Resolution, Error> {
        let resolution = self.take(reference)?;
        self.record.record(&[noted(reference, &resolution)])?;
        Ok(resolution)
    }

    /// Resolves several references; they are recorded together.
    ///
    /// # Errors
    /// As [`SecretResolver::resolve`].
    pub fn resolve_all(&self, references: &[SecretRef]) -> Result<Vec<Resolution>, Error> {
        let resolutions = references.iter().map(|reference| self.take(reference)).collect::<Result<Vec<_>, _>>()?;
        self.record_all(references, &resolutions)?;
        Ok(resolutions)
    }

    /// Resolves references of the vault, and takes others' word for what they took outside: for a command that
    /// runs elsewhere than the ledger is open. What is claimed is recorded under the caller's name.
    ///
    /// # Errors
    /// As [`SecretResolver::resolve`].
    pub fn resolve_claimed(&self, asked: &[(SecretRef, Option<Claim>)]) -> Result<Vec<Resolution>, Error> {
        let one = |(reference, claim): &(SecretRef, Option<Claim>)| match (&reference.source, claim) {
            (SecretSource::Vault { .. }, _) => self.take(reference),
            (_, Some(claim)) => Ok(self.claimed(reference, claim)),
            // Nobody took it: here it must not be, since this is not where the command is.
            (_, None) => {
                let reason = Reason::from(match reference.source {
                    SecretSource::Env { .. } => ResolveReason::EnvNotAllowed,
                    SecretSource::File { .. } => ResolveReason::FileOutside,
                    _ => ResolveReason::ExecNotAllowed,
                });
                Ok(self.settled(reference, Err(reason), Duration::ZERO))
            }
        };
        let resolutions = asked.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        let resolved: Vec<_> =
            asked.iter().zip(&resolutions).map(|((reference, _), resolution)| noted(reference, resolution)).collect();
        self.record.record(&resolved)?;
        Ok(resolutions)
    }

    fn record_all(&self, references: &[SecretRef], resolutions: &[Resolution]) -> Result<(), Error> {
        let resolved: Vec<_> =
            references.iter().zip(resolutions).map(|(reference, resolution)| noted(reference, resolution)).collect();
        self.record.record(&resolved)
    }

    /// What would be allowed, step by step, and why it would not. No value is read, and nothing is recorded.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn explain(&self, reference: &SecretRef) -> Result<(Vec<Check>, Option<Reason>), Error> {
        if let Some(explained) = self.outside.explain(reference) {
            return Ok(explained);
        }
        let mut trace = Trace(Some(Vec::new()));
        let judged = match &reference.source {
            SecretSource::Vault { path, version, .. } => self.explain_vault(reference, path, *version, &mut trace)?,
            _ => Ok(()),
        };
        Ok((trace.0.unwrap_or_default(), judged.err()))
    }

    fn explain_vault(
        &self,
        reference: &SecretRef,
        path: &SecretPath,
        version: Option<u32>,
        trace: &mut Trace,
    ) -> Result<Result<(), Reason>, Error> {
        let within = match &self.bound {
            Bound::Every => true,
            Bound::Scope(scope) => *scope == path.scope,
        };
        let what = || "the secret's scope is one that this resolver may read".to_owned();
        let found = || match &self.bound {
            Bound::Every => "every scope".to_owned(),
            Bound::Scope(scope) => format!("bound to {scope}"),
        };
        if let Err(reason) = trace.check(within, || ResolveReason::ScopeDenied.into(), what, found) {
            return Ok(Err(reason));
        }
        let info = match self.ledger.vault(path.scope.clone()).info(&path.name, options(version)) {
            Ok(info) => info,
            Err(error) => {
                let reason = vault_reason(error)?;
                let _ =
                    trace.check(false, || reason.clone(), || "the secret is there".to_owned(), || reason.to_string());
                return Ok(Err(reason));
            }
        };
        let what = || "the secret is there".to_owned();
        let found = || format!("version {}, {}", info.version, info.state.name());
        let reason = match info.state {
            VersionState::Live => None,
            VersionState::Deleted => Some(ResolveReason::Deleted),
            VersionState::Shredded => Some(ResolveReason::Shredded),
        };
        let max = max_bytes(self.record.settings(), reference);
        let judged = trace
            .check(reason.is_none(), || reason.unwrap_or(ResolveReason::Shredded).into(), what, found)
            .and_then(|()| {
                let what = || format!("it has at most {max} bytes");
                let bound = || Reason::bound(ResolveReason::TooLarge, u64::from(max));
                trace.check(info.value_bytes <= max, bound, what, || format!("{} bytes", info.value_bytes))
            });
        Ok(judged)
    }

    fn take(&self, reference: &SecretRef) -> Result<Resolution, Error> {
        let SecretSource::Vault { path, version, .. } = &reference.source else {
            // Everything else is outside.
            let Some(Taken { value, took }) = self.outside.take(reference) else { return Err(Error::Closed) };
            return Ok(self.settled(reference, value, took));
        };
        let begun = Instant::now();
        let read = match &self.bound_vault {
            // Another scope is refused there, and the refusal recorded as every denied read is.
            Some(vault) => vault.get_ref(path, options(*version)),
            None => self.ledger.vault(path.scope.clone()).get_with(&path.name, options(*version)),
        };
        let value = match read {
            Ok(secret) => fitting(secret.value, reference, max_bytes(self.record.settings(), reference)),
            Err(error) => Err(vault_reason(error)?),
        };
        Ok(self.settled(reference, value, begun.elapsed()))
    }

    fn settled(&self, reference: &SecretRef, value: Result<SecretBytes, Reason>, took: Duration) -> Resolution {
        let (value, reason) = match value {
            Ok(value) => (Some(value), None),
            Err(reason) => (None, Some(reason)),
        };
        let claim = Claim {
            digest: value.as_ref().map(|value| value_digest(value.expose())),
            bytes: value.as_ref().and_then(|value| u32::try_from(value.len()).ok()),
            reason,
            took_us: 0,
        };
        Resolution { value, took, ..self.claimed(reference, &claim) }
    }

    fn claimed(&self, reference: &SecretRef, claim: &Claim) -> Resolution {
        Resolution {
            value: None,
            status: claim.reason.as_ref().map_or(ResolveStatus::Resolved, Reason::status),
            reason: claim.reason.clone(),
            required: reference.required,
            source: reference.source.kind(),
            fingerprint: self.record.reference_print(reference),
            value_fingerprint: claim.digest.as_ref().map(|digest| self.record.value_print(digest)),
            bytes: claim.bytes,
            at: self.now(),
            took: Duration::from_micros(claim.took_us),
        }
    }

    fn now(&self) -> Timestamp {
        self.record.now()
    }
}

fn noted<'a>(reference: &'a SecretRef, resolution: &Resolution) -> Resolved<'a> {
    Resolved {
        reference,
        print: resolution.fingerprint,
        reason: resolution.reason.as_ref().map(|reason| reason.code),
        at: resolution.at,
    }
}

fn options(version: Option<u32>) -> GetOptions {
    version.map_or_else(GetOptions::current, GetOptions::version)
}

/// What an error of the vault says about one reference; an error that is about the ledger stays one.
fn vault_reason(error: Error) -> Result<Reason, Error> {
    let code = match &error {
        Error::Vault(VaultError::ScopeDenied { .. }) => ResolveReason::ScopeDenied,
        Error::Vault(VaultError::NotFound { .. }) => ResolveReason::NoSecret,
        Error::Vault(VaultError::NoVersion { .. }) => ResolveReason::NoVersion,
        Error::Vault(VaultError::Deleted { .. }) => ResolveReason::Deleted,
        Error::Vault(VaultError::Shredded { .. }) => ResolveReason::Shredded,
        Error::Envelope { .. }
        | Error::Away { .. }
        | Error::KeyMissing { .. }
        | Error::Misplaced { .. }
        | Error::Sealed { .. }
        | Error::Journal(_) => {
            let detail = Detail::Vault { what: error.to_string() };
            return Ok(Reason { code: ResolveReason::VaultDamaged, detail });
        }
        _ => {
            let code = match error.backend_is_locked() {
                Some(true) => ResolveReason::VaultLocked,
                Some(false) => ResolveReason::VaultAway,
                None => return Err(error),
            };
            return Ok(Reason { code, detail: Detail::Vault { what: error.to_string() } });
        }
    };
    Ok(code.into())
}
