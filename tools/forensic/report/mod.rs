//! `report`: what was found, as one page for people and as JSON for programs.

mod bins;
mod charts;
mod facts;
mod gather;
mod page;
mod sections;
mod tables;
mod tally;
mod text;
mod words;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::{Output, json_text};

use crate::args::{Global, KeyArgs};
use crate::case::Case;
use crate::verify::{self, Examined, Known};

use facts::Facts;
use gather::Sources;
use tally::Tally;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A home, a journal, one segment, or `-` for one on the standard input
    path: PathBuf,
    /// New file for the page; without one, the page goes to the standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the same facts as JSON on the standard output
    #[arg(long)]
    json: bool,
    /// A checkpoint that was kept elsewhere; several may be given
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
    /// The ledger's public key (`NAME+ID+KEY`), or a file with it; checkpoints must be signed by it
    #[arg(long, value_name = "VKEY|FILE")]
    public_key: Option<String>,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Runs `report`. The exit code is the verdict's.
pub fn run(global: &Global, out: &Output, args: &ReportArgs) -> Result<ExitCode, Failure> {
    let known = Known::read(args.public_key.as_deref(), &args.anchor)?;
    let case = Case::for_record(&args.path, global)?;
    if let Some(path) = &args.output {
        outside(&case, path)?;
    }
    let mut tally = Tally::default();
    let Examined { assessment, level } = verify::examine(&case, &known, &args.keys, &mut |frame, site, entry| {
        tally.add(frame, site, entry);
    })?;
    let sources =
        Sources { what: case.what, bracket: &case.bracket, assessment: &assessment, anchors: &known.anchors, level };
    let facts = Facts::new(&sources, tally);
    let code = verify::code_of(assessment.verdict().exit_code());
    // What changed while it was read is no evidence: nothing is written about it.
    case.close(out)?;
    let json = args.json || out.is_json();
    if json {
        let value = serde_json::to_value(&facts)
            .map_err(|error| Failure::new(ExitCode::Internal, format!("the facts are no JSON: {error}"), ""))?;
        out.verbatim(json_text(&value).as_bytes())?;
        out.verbatim(b"\n")?;
    }
    match &args.output {
        Some(path) => write_new(path, page::html(&facts).as_bytes())?,
        None if !json => out.verbatim(page::html(&facts).as_bytes())?,
        None => {}
    }
    Ok(code)
}

/// Refuses to write into what is examined.
pub fn outside(case: &Case, path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let inside = case.evidence.single().is_none()
        && folder.canonicalize().is_ok_and(|folder| folder.starts_with(case.evidence.place(Path::new(""))));
    if inside {
        let what = format!("{} lies in the evidence, which is never changed", path.display());
        return Err(Failure::usage(what, "name a place elsewhere"));
    }
    Ok(())
}

/// Writes a file that was not there before: an earlier report may be in somebody's hands already.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Failure::new(ExitCode::Conflict, format!("{} is there already", path.display()), "name a new file");
        }
        let what = format!("cannot write {}: {error}", path.display());
        Failure::new(ExitCode::Io, what, "name a file in a folder that is there and has space")
    })
}
