//! `manifest`: every file with its digests, when and by what it was examined. The only command whose output
//! names the time it ran.

use std::path::PathBuf;

use clap::Args;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;
use palyra_ledger::{Clock, SystemClock};
use serde_json::json;

use crate::args::Global;
use crate::case::Case;

/// Arguments of `manifest`.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// A folder, a file, or `-` for the standard input
    path: PathBuf,
    /// Who examines, for the record
    #[arg(long, value_name = "NAME")]
    examiner: Option<String>,
    /// Number of the case, for the record
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
}

/// Runs `manifest`.
pub fn run(global: &Global, out: &Output, args: &ManifestArgs) -> Result<ExitCode, Failure> {
    let started = SystemClock.now();
    let global = Global { no_hash: false, ..global.clone() };
    let case = Case::for_record(&args.path, &global)?;
    let closed = case.close(out);
    // No argument of this tool is a secret; paths are evidence of what was asked for.
    let command_line: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let bytes: u64 = case.bracket.files.iter().map(|file| file.bytes).sum();
    if out.is_json() {
        out.json(&json!({
            "tool": concat!("palyra-forensic ", env!("CARGO_PKG_VERSION")),
            "argv": command_line,
            "examiner": args.examiner,
            "case": args.case,
            "started": started.to_string(),
            "ended": SystemClock.now().to_string(),
            "what": case.what,
            "files": case.bracket.files,
            "unreadable": case.bracket.unreadable.iter()
                .map(|(path, why)| json!({"path": path, "why": why})).collect::<Vec<_>>(),
            "bytes": bytes,
            "unchanged": closed.is_ok(),
        }))?;
    } else {
        out.line(&format!("tool: palyra-forensic {}", env!("CARGO_PKG_VERSION")))?;
        out.line(&format!("command: {}", command_line.join(" ")))?;
        for (name, text) in [("examiner", &args.examiner), ("case", &args.case)] {
            if let Some(text) = text {
                out.line(&format!("{name}: {text}"))?;
            }
        }
        out.line(&format!("started: {started}"))?;
        for file in &case.bracket.files {
            let digest = |hash: Option<palyra_ledger::Hash>| hash.map(|hash| hash.to_string()).unwrap_or_default();
            let (blake3, sha256) = (digest(file.blake3), digest(file.sha256));
            out.line(&format!("{}: {} bytes, modified {}", file.path, file.bytes, file.modified))?;
            out.line(&format!("  BLAKE3  {blake3}"))?;
            out.line(&format!("  SHA-256 {sha256}"))?;
        }
        for (path, why) in &case.bracket.unreadable {
            out.line(&format!("{path}: not readable: {why}"))?;
        }
        out.line(&format!("ended: {}", SystemClock.now()))?;
    }
    closed.map(|()| ExitCode::Ok)
}
