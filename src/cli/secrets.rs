//! `secrets`: write, read, list, hide, destroy.

mod args;
mod input;
mod migrate;
mod out_file;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::base::{Scope, ScopePrefix, SecretPath, Timestamp};
use crate::engine::{Error, GetOptions, Ledger, ListOptions, PutOptions, Receipt, Secret, SecretInfo};
use crate::event::import::OriginTimes;
use crate::event::vault::Versions;
use crate::vault::{Metadata, VaultError, VersionState};

use super::exit::Failure;
use super::invocation::{Access, Invocation};
use super::{story, time};

pub use args::SecretsCommand;
use args::{Describe, Expiry, Get, List, Select, Set, Shred};
pub use input::bounded;

/// Runs `secrets`.
pub fn run(invocation: &Invocation, command: SecretsCommand) -> Result<(), Failure> {
    match command {
        SecretsCommand::Set(args) => set(invocation, &args),
        SecretsCommand::Get(args) => get(invocation, &args),
        SecretsCommand::List(args) => list(invocation, args),
        SecretsCommand::History { reference } => history(invocation, &reference),
        SecretsCommand::Describe(args) => describe(invocation, &args),
        SecretsCommand::Delete(args) => {
            let done = change(invocation, &args.reference, |ledger| {
                ledger.vault(args.reference.scope.clone()).delete(
                    &args.reference.name,
                    versions(&args),
                    args.if_version,
                )
            })?;
            receipt(invocation, "deleted", &args.reference, args.version, done)
        }
        SecretsCommand::Undelete(args) => {
            let done = change(invocation, &args.reference, |ledger| {
                ledger.vault(args.reference.scope.clone()).undelete(
                    &args.reference.name,
                    versions(&args),
                    args.if_version,
                )
            })?;
            receipt(invocation, "brought back", &args.reference, args.version, done)
        }
        SecretsCommand::Shred(args) => shred(invocation, &args),
        SecretsCommand::MigrateBackend(args) => migrate::run(invocation, &args),
    }
}

fn versions(args: &Select) -> Versions {
    args.version.map_or(Versions::All, Versions::One)
}

fn set(invocation: &Invocation, args: &Set) -> Result<(), Failure> {
    if !args.extra.is_empty() {
        // What stands there may be the value: it is not repeated.
        return Err(Failure::usage(
            "a secret's value is never an argument: others could read it in the process list",
            "give it with --stdin or --file FILE, or type it when asked",
        ));
    }
    let expires = expiry(&args.expiry)?;
    let max = invocation.settings().limits.max_value_bytes;
    let value = input::read(invocation, &args.source, &args.reference, max)?;
    let mut options = PutOptions::new();
    if let Some(version) = args.if_version {
        options = options.if_version(version);
    }
    if let Some(text) = &args.description {
        options = options.description(text);
    }
    if !args.label.is_empty() {
        options = options.labels(labels(&args.label));
    }
    if let Some(time) = expires {
        options = options.expires_at(time);
    }
    let done = change(invocation, &args.reference, |ledger| {
        ledger.vault(args.reference.scope.clone()).put(&args.reference.name, &value, options)
    })?;
    let out = &invocation.out;
    if out.is_json() {
        out.json(&receipt_json(&args.reference, done))
    } else {
        let size = story::count(value.len() as u64, "byte");
        out.line(&format!("wrote version {} of {} ({size}), event {}", done.version, args.reference, done.seq))
    }
}

fn labels(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}

fn expiry(args: &Expiry) -> Result<Option<Timestamp>, Failure> {
    let refused = |flag: &str, example: &str| {
        Failure::usage(format!("{flag} is not understood"), format!("for example {flag} {example}"))
    };
    match (&args.expires_in, &args.expires_at) {
        (Some(text), _) => {
            let millis = time::duration_ms(text).map_err(|_| refused("--expires-in", "30d"))?;
            Ok(Some(time::now().plus_millis(millis)))
        }
        (None, Some(text)) => time::moment(text).map(Some).map_err(|_| refused("--expires-at", "2030-01-31T12:00:00Z")),
        (None, None) => Ok(None),
    }
}

/// Opens for writing, changes, closes.
fn change(
    invocation: &Invocation,
    reference: &SecretPath,
    act: impl FnOnce(&Ledger) -> Result<Receipt, Error>,
) -> Result<Receipt, Failure> {
    let ledger = invocation.open(Access::Write)?;
    let done = act(&ledger).map_err(|error| with_hint(error, reference));
    invocation.close(&ledger);
    done
}

/// A lost compare-and-set says what to compare with now.
fn with_hint(error: Error, reference: &SecretPath) -> Failure {
    let found = match &error {
        Error::Vault(VaultError::Conflict { found, .. }) => Some(*found),
        _ => None,
    };
    let mut failure = Failure::from(error);
    if let Some(found) = found {
        failure.hint =
            format!("look at it with `palyra-ledger secrets get {reference}`, then write with --if-version {found}");
    }
    failure
}

fn receipt_json(reference: &SecretPath, done: Receipt) -> Value {
    json!({"ref": reference.to_string(), "version": done.version, "seq": done.seq})
}

fn receipt(
    invocation: &Invocation,
    verb: &str,
    reference: &SecretPath,
    version: Option<u32>,
    done: Receipt,
) -> Result<(), Failure> {
    let out = &invocation.out;
    if out.is_json() {
        let shown = Receipt { version: version.unwrap_or(done.version), seq: done.seq };
        return out.json(&receipt_json(reference, shown));
    }
    let what = version.map_or_else(|| reference.to_string(), |version| format!("version {version} of {reference}"));
    out.line(&format!("{verb} {what}, event {}", done.seq))
}

fn describe(invocation: &Invocation, args: &Describe) -> Result<(), Failure> {
    let expires = expiry(&args.expiry)?;
    let metadata = Metadata {
        description: args.description.clone(),
        labels: if args.no_labels {
            Some(BTreeMap::new())
        } else {
            Some(labels(&args.label)).filter(|map| !map.is_empty())
        },
        expires_at: if args.no_expiry { Some(None) } else { expires.map(Some) },
    };
    if metadata == Metadata::default() {
        return Err(Failure::usage(
            "there is nothing to change",
            "`palyra-ledger secrets describe --help` shows the flags",
        ));
    }
    let done = change(invocation, &args.reference, |ledger| {
        ledger.vault(args.reference.scope.clone()).describe(&args.reference.name, &metadata, args.if_version)
    })?;
    receipt(invocation, "described", &args.reference, None, done)
}

fn shred(invocation: &Invocation, args: &Shred) -> Result<(), Failure> {
    let Select { reference, version, if_version } = &args.select;
    let what = version
        .map_or_else(|| format!("all versions of {reference}"), |number| format!("version {number} of {reference}"));
    invocation.confirm(&format!("Destroy {what} for good?"), args.yes)?;
    let done = change(invocation, reference, |ledger| {
        ledger.vault(reference.scope.clone()).shred(&reference.name, versions(&args.select), *if_version)
    })?;
    receipt(invocation, "shredded", reference, *version, done)
}

fn get(invocation: &Invocation, args: &Get) -> Result<(), Failure> {
    let options = args.version.map_or_else(GetOptions::current, GetOptions::version);
    if let Some(path) = &args.out_file {
        return out_file::write(invocation, args, path);
    }
    if args.reveal {
        return reveal(invocation, &args.reference, options);
    }
    let ledger = invocation.open(Access::Read)?;
    let info = ledger.vault(args.reference.scope.clone()).info(&args.reference.name, options)?;
    invocation.close(&ledger);
    match info.state {
        VersionState::Live => {}
        VersionState::Deleted => {
            return Err(Error::Vault(VaultError::Deleted { target: Box::new(info.reference) }).into());
        }
        VersionState::Shredded => {
            let (target, version) = (Box::new(info.reference), info.version);
            return Err(Error::Vault(VaultError::Shredded { target, version }).into());
        }
    }
    warn_expired(invocation, &info);
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&info_json(&info));
    }
    for (key, value) in described(&info) {
        out.line(&format!("{key:<12} {value}"))?;
    }
    Ok(())
}

/// The raw value alone. Where reads must be durable first, or wait to be folded in, the ledger is
/// opened for writing.
fn reveal(invocation: &Invocation, reference: &SecretPath, options: GetOptions) -> Result<(), Failure> {
    let read = |access| -> Result<Result<Secret, Error>, Failure> {
        let ledger = invocation.open(access)?;
        let secret = ledger.vault(reference.scope.clone()).get_with(&reference.name, options);
        invocation.close(&ledger);
        Ok(secret)
    };
    let secret = match read(Access::Read)? {
        Err(Error::ReadOnly | Error::SpoolFull { .. }) => read(Access::Write)??,
        other => other?,
    };
    warn_expired(invocation, &secret.info);
    invocation.out.value(secret.value.expose())
}

fn warn_expired(invocation: &Invocation, info: &SecretInfo) {
    let now = time::now();
    if let Some(expires) = info.expires_at.filter(|_| info.is_expired(now)) {
        let ago = time::rough(now.as_millis().saturating_sub(expires.as_millis()));
        invocation.out.warn(&format!("{} expired {ago} ago: replace it", info.reference));
    }
}

/// A secret's metadata in JSON: never its value.
fn info_json(info: &SecretInfo) -> Value {
    let mut map = Map::new();
    map.insert("ref".to_owned(), info.reference.to_string().into());
    map.insert("version".to_owned(), info.version.into());
    map.insert("state".to_owned(), info.state.name().into());
    map.insert("created_at_ms".to_owned(), info.created_at.as_millis().into());
    map.insert("updated_at_ms".to_owned(), info.updated_at.as_millis().into());
    map.insert("value_bytes".to_owned(), info.value_bytes.into());
    if let Some(time) = info.expires_at {
        map.insert("expires_at_ms".to_owned(), time.as_millis().into());
    }
    if let Some(time) = info.last_read_at {
        map.insert("last_read_at_ms".to_owned(), time.as_millis().into());
    }
    if let Some(text) = &info.description {
        map.insert("description".to_owned(), text.clone().into());
    }
    map.insert("labels".to_owned(), json!(info.labels));
    if let Some(origin) = &info.origin {
        map.insert("origin".to_owned(), origin_json(origin));
    }
    Value::Object(map)
}

/// What the store that it came from said of its times.
fn origin_json(origin: &OriginTimes) -> Value {
    json!({"created_at_ms": origin.created.as_millis(), "updated_at_ms": origin.updated.as_millis()})
}

fn described(info: &SecretInfo) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("secret", info.reference.to_string()),
        ("version", info.version.to_string()),
        ("value", format!("{} (--reveal prints it)", story::count(u64::from(info.value_bytes), "byte"))),
        ("created", time::second(info.created_at)),
        ("updated", time::second(info.updated_at)),
    ];
    lines.extend(info.origin.iter().flat_map(|origin| {
        [("made there", time::second(origin.created)), ("changed there", time::second(origin.updated))]
    }));
    lines.extend(info.expires_at.map(|at| ("expires", time::second(at))));
    lines.extend(info.last_read_at.map(|at| ("last read", time::second(at))));
    lines.extend(info.description.clone().map(|text| ("description", text)));
    lines.extend(info.labels.iter().map(|(key, value)| ("label", format!("{key}={value}"))));
    lines
}

fn list(invocation: &Invocation, args: List) -> Result<(), Failure> {
    let scopes = match &args.scope {
        None => ScopePrefix::all(),
        Some(text) if args.recursive => text.parse().map_err(|error| bad_scope(text, error))?,
        Some(text) => ScopePrefix::from(&text.parse::<Scope>().map_err(|error| bad_scope(text, error))?),
    };
    let mut options = ListOptions::new().prefix(args.prefix.unwrap_or_default());
    if let Some(after) = args.after {
        options = options.after(after);
    }
    if args.all {
        options = options.including_deleted();
    }
    if let Some(limit) = args.limit {
        options = options.limit(limit);
    }
    let ledger = invocation.open(Access::Read)?;
    let found = ledger.list(&scopes, &options)?;
    invocation.close(&ledger);
    let out = &invocation.out;
    if out.is_json() {
        let secrets: Vec<_> = found.iter().map(info_json).collect();
        return out.json(&json!({"secrets": secrets}));
    }
    if found.is_empty() {
        out.note("no secrets");
        return Ok(());
    }
    let now = time::now();
    let rows: Vec<_> = found.iter().map(|info| list_row(info, now)).collect();
    out.table(&["SECRET", "VERSION", "BYTES", "UPDATED", "STATE", "DESCRIPTION"], &rows)?;
    if let (Some(limit), Some(last)) = (args.limit, found.last())
        && found.len() == limit
    {
        out.note(&format!("there may be more: --after {}", last.reference));
    }
    Ok(())
}

fn bad_scope(text: &str, error: crate::base::RefError) -> Failure {
    Failure::usage(
        format!("`{text}` is no scope: {error}"),
        "name a whole scope, or the beginning of scopes with --recursive, for example `channel --recursive`",
    )
}

fn list_row(info: &SecretInfo, now: Timestamp) -> Vec<String> {
    let state = match info.state {
        VersionState::Live if info.is_expired(now) => "expired",
        state => state.name(),
    };
    vec![
        info.reference.to_string(),
        info.version.to_string(),
        info.value_bytes.to_string(),
        time::second(info.updated_at),
        state.to_owned(),
        info.description.clone().unwrap_or_default(),
    ]
}

fn history(invocation: &Invocation, reference: &SecretPath) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let history = ledger.vault(reference.scope.clone()).history(&reference.name)?;
    invocation.close(&ledger);
    let out = &invocation.out;
    if out.is_json() {
        let versions: Vec<_> = history
            .versions
            .iter()
            .map(|version| {
                let mut map = Map::new();
                map.insert("version".to_owned(), version.version.into());
                map.insert("state".to_owned(), version.state.name().into());
                map.insert("seq".to_owned(), version.seq.into());
                map.insert("created_at_ms".to_owned(), version.created_at.as_millis().into());
                map.insert("value_bytes".to_owned(), version.value_bytes.into());
                if let Some(time) = version.expires_at {
                    map.insert("expires_at_ms".to_owned(), time.as_millis().into());
                }
                if let Some(seq) = version.shredded_by {
                    map.insert("shredded_by_seq".to_owned(), seq.into());
                }
                if let Some(origin) = &version.origin {
                    map.insert("origin".to_owned(), origin_json(origin));
                }
                Value::Object(map)
            })
            .collect();
        return out.json(&json!({"ref": reference.to_string(), "versions": versions}));
    }
    let rows: Vec<_> = history
        .versions
        .iter()
        .map(|version| {
            vec![
                version.version.to_string(),
                version.state.name().to_owned(),
                version.seq.to_string(),
                time::second(version.created_at),
                version.value_bytes.to_string(),
                version.shredded_by.map(|seq| seq.to_string()).unwrap_or_default(),
                version.origin.map(|origin| time::second(origin.updated)).unwrap_or_default(),
            ]
        })
        .collect();
    out.table(&["VERSION", "STATE", "EVENT", "WRITTEN", "BYTES", "SHREDDED BY", "CHANGED THERE"], &rows)
}
