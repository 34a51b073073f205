//! `export`: everything somebody owns, for whoever leaves or moves.

use std::io::Write;
use std::iter;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::deliver::{FileMode, check_secret_file, write_secret_file};
use crate::engine::{ExportedSecret, Ledger};
use crate::import::{ExportDoc, FORMAT, SecretDoc, VersionDoc};

use super::exit::{ExitCode, Failure};
use super::invocation::{Access, Invocation};
use super::{progress, story, time};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Every value leaves the ledger: say that this is meant
    #[arg(long, required = true)]
    reveal_everything: bool,
    /// The file, made with mode 0600; `-` is the standard output, for what is encrypted alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Encrypt to this age recipient (`age1...`); may be given several times
    #[arg(long, value_name = "RECIPIENT")]
    age_recipient: Vec<String>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// Runs `export`.
pub fn run(invocation: &Invocation, args: &ExportArgs) -> Result<(), Failure> {
    let stdout = args.out.as_os_str() == "-";
    let recipients = recipients(&args.age_recipient)?;
    if stdout && recipients.is_empty() {
        return Err(Failure::usage(
            "values in the clear go to a file alone",
            "name a file with --out, or encrypt with --age-recipient",
        ));
    }
    if stdout && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return Err(Failure::usage("an encrypted export is no text for a terminal", "name a file with --out"));
    }
    // Before anything is recorded: the log says that values were given out, and they were not where this fails.
    if !stdout {
        check_secret_file(&args.out, args.force)?;
    }
    let ledger = invocation.open(Access::Write)?;
    let made = document(invocation, &ledger, &args.age_recipient);
    invocation.close(&ledger);
    let (bytes, secrets, versions, seq) = made?;
    let bytes = if recipients.is_empty() { bytes } else { encrypt(&recipients, &bytes)? };
    if stdout {
        return invocation.out.verbatim(&bytes);
    }
    write_secret_file(&args.out, &bytes, FileMode::PRIVATE, args.force)?;
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&json!({
            "out": args.out.to_string_lossy(),
            "secrets": secrets,
            "versions": versions,
            "encrypted": !recipients.is_empty(),
            "seq": seq,
        }));
    }
    let (secrets, versions) = (story::count(secrets, "secret"), story::count(versions, "version"));
    let how = if recipients.is_empty() { "in the clear, mode 0600" } else { "encrypted" };
    out.line(&format!("wrote {secrets} ({versions}) to {}, {how}; event {seq}", args.out.display()))
}

fn recipients(texts: &[String]) -> Result<Vec<age::x25519::Recipient>, Failure> {
    let parse = |text: &String| {
        text.parse().map_err(|error: &str| {
            // Nothing secret by itself, but somebody may have pasted the identity.
            Failure::usage(format!("--age-recipient is none: {error}"), "a recipient begins with age1")
        })
    };
    texts.iter().map(parse).collect()
}

fn encrypt(recipients: &[age::x25519::Recipient], bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |what: String| Failure::new(ExitCode::Internal, format!("cannot encrypt: {what}"), "please report it");
    let all = recipients.iter().map(|one| one as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(all).map_err(|error| failed(error.to_string()))?;
    let mut sealed = Zeroizing::new(Vec::with_capacity(bytes.len() + bytes.len() / 1024 + 4096));
    let mut writer = encryptor.wrap_output(&mut *sealed).map_err(|error| failed(error.to_string()))?;
    writer.write_all(bytes).map_err(|error| failed(error.to_string()))?;
    writer.finish().map_err(|error| failed(error.to_string()))?;
    Ok(sealed)
}

type Made = (Zeroizing<Vec<u8>>, u64, u64, u64);

fn document(invocation: &Invocation, ledger: &Ledger, recipients: &[String]) -> Result<Made, Failure> {
    let exports = ledger.exports();
    let given = progress::bar(invocation, "opening", |tell| exports.secrets(recipients, tell));
    let (secrets, committed) = given?;
    let (profiles, orders) = exports.credentials()?;
    let identity = ledger.identity();
    let devices = identity.devices()?.into_iter().map(|(id, record)| {
        json!({
            "device": id,
            "name": record.name,
            "kind": record.kind.name(),
            "state": record.state.name(),
            "paired_at_ms": record.paired.as_millis(),
            "public_key": record.public_key,
            "certificate": record.certificate,
            "grants": record.grants,
        })
    });
    let authorities = identity.authorities()?.0.into_iter().map(|record| {
        json!({
            "generation": record.generation,
            "certificate": record.certificate,
            "state": record.state.name(),
            "not_after_ms": record.not_after.as_millis(),
        })
    });
    let (count, versions) = (secrets.len() as u64, secrets.iter().map(|one| one.versions.len() as u64).sum());
    let values: usize = secrets.iter().flat_map(|one| &one.versions).map(|one| one.value.len() * 4 / 3 + 512).sum();
    let document = ExportDoc {
        format: FORMAT.to_owned(),
        ledger: ledger.id().to_string(),
        seq: committed.seq,
        exported_at_ms: time::now().as_millis(),
        secrets: secrets.into_iter().map(secret).collect(),
        devices: devices.collect(),
        authorities: authorities.collect(),
        profiles,
        orders,
    };
    // Sized once, so that no reallocation leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        values + usize::try_from(count).unwrap_or(0).saturating_add(64).saturating_mul(2048),
    ));
    serde_json::to_writer(&mut *bytes, &document)
        .map_err(|error| Failure::new(ExitCode::Internal, format!("cannot write JSON: {error}"), "please report it"))?;
    bytes.extend(iter::once(b'\n'));
    Ok((bytes, count, versions, committed.seq))
}

fn secret(given: ExportedSecret) -> SecretDoc {
    let version = |one: crate::engine::ExportedVersion| VersionDoc {
        version: one.version,
        value: Zeroizing::new(STANDARD.encode(one.value.expose())),
        created_at_ms: one.times.created.as_millis(),
        updated_at_ms: one.times.updated.as_millis(),
        expires_at_ms: one.expires_at.map(crate::base::Timestamp::as_millis),
        deleted: one.deleted,
    };
    SecretDoc {
        scope: given.path.scope.to_string(),
        name: given.path.name.to_string(),
        description: given.description,
        labels: given.labels,
        versions: given.versions.into_iter().map(version).collect(),
    }
}
