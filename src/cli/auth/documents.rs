//! `auth docs`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::auth::documents::{Documents, PROFILES_FILE, Plan, Problem, RUNTIME_FILE, rendered_at};
use crate::base::{limits, write_whole};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::engine::{Ledger, ReplayPoint};

use super::answer;

/// Arguments of `auth docs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Docs {
    #[command(subcommand)]
    command: Option<DocsCommand>,
    /// As they were after this event
    #[arg(long, value_name = "EVENT")]
    at: Option<u64>,
    /// Write both files into this folder instead of printing them
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum DocsCommand {
    /// Show what somebody changed in the files of a folder
    Diff {
        /// The folder
        dir: PathBuf,
    },
    /// Make what somebody changed true, in one batch, or say line by line why not
    Apply {
        /// The folder
        dir: PathBuf,
    },
}

/// Runs `auth docs`.
pub fn run(invocation: &Invocation, args: Docs) -> Result<(), Failure> {
    match args.command {
        Some(DocsCommand::Diff { dir }) => diff(invocation, &dir),
        Some(DocsCommand::Apply { dir }) => apply(invocation, &dir),
        None => render(invocation, args.at, args.write.as_deref()),
    }
}

fn documents(ledger: &Ledger, at: Option<u64>) -> Result<Documents, Failure> {
    let auth = ledger.auth();
    // The same bytes for the same event, whatever this machine's configuration says.
    let window = limits::REFRESH_WINDOW_MS;
    let Some(seq) = at else {
        // While others write, the live state may change between its reading and its root.
        for _ in 0..3 {
            if let Some(made) = auth.documents()? {
                return Ok(made);
            }
        }
        return Ok(ledger.replay(ReplayPoint::Head)?.auth_documents(window)?);
    };
    let head = ledger.log().head()?.seq;
    if seq > head {
        let what = format!("there is no event {seq}; the last one is {head}");
        return Err(Failure::new(ExitCode::NotFound, what, "`palyra-ledger log show` shows them"));
    }
    Ok(ledger.replay(ReplayPoint::Seq(seq))?.auth_documents(window)?)
}

fn render(invocation: &Invocation, at: Option<u64>, dir: Option<&Path>) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let made = documents(&ledger, at)?;
    invocation.close(&ledger);
    let seq = rendered_at(&made.profiles);
    let Some(dir) = dir else {
        if invocation.out.is_json() {
            return invocation.out.json(&json!({"seq": seq, PROFILES_FILE: made.profiles, RUNTIME_FILE: made.runtime}));
        }
        invocation.out.verbatim(made.profiles.as_bytes())?;
        invocation.out.verbatim(b"\n")?;
        return invocation.out.verbatim(made.runtime.as_bytes());
    };
    let dir = invocation.seat.path(dir);
    for (name, text) in [(PROFILES_FILE, &made.profiles), (RUNTIME_FILE, &made.runtime)] {
        let path = dir.join(name);
        write_whole(&path, text.as_bytes()).map_err(|error| unreadable(&path, &error))?;
    }
    let shown = json!({"seq": seq, "files": [dir.join(PROFILES_FILE), dir.join(RUNTIME_FILE)]});
    answer(invocation, &shown, &format!("wrote {PROFILES_FILE} and {RUNTIME_FILE} into {}", dir.display()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::Io, format!("{}: {error}", path.display()), "look at the folder and its owner")
}

fn read(invocation: &Invocation, dir: &Path) -> Result<Documents, Failure> {
    let dir = invocation.seat.path(dir);
    let one = |name: &str| {
        let path = dir.join(name);
        let mut text = String::new();
        let file = std::fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
        file.take(limits::DOCUMENT_MAX + 1).read_to_string(&mut text).map_err(|error| unreadable(&path, &error))?;
        Ok::<_, Failure>(text)
    };
    Ok(Documents { profiles: one(PROFILES_FILE)?, runtime: one(RUNTIME_FILE)? })
}

/// What the files ask for, against what they said when they were rendered.
fn plan(ledger: &Ledger, edited: &Documents) -> Result<Result<Plan, Vec<Problem>>, Failure> {
    let head = ledger.log().head()?.seq;
    let base = match rendered_at(&edited.profiles) {
        Some(seq) if seq > head => {
            let what = format!("the files were rendered at event {seq}, and this ledger's last event is {head}");
            return Err(Failure::new(ExitCode::Conflict, what, "they are another ledger's: render them anew"));
        }
        Some(seq) => Some(documents(ledger, Some(seq))?),
        None => None,
    };
    Ok(ledger.auth().plan(edited, base.as_ref())?)
}

fn refused(invocation: &Invocation, problems: &[Problem]) -> Failure {
    for problem in problems {
        invocation.out.warn(&problem.to_string());
    }
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let what = format!("the documents are refused ({} in all): {first}", problems.len());
    let conflict = problems.iter().any(|problem| problem.what.contains("in the ledger since"));
    let code = if conflict { ExitCode::Conflict } else { ExitCode::Usage };
    Failure::new(code, what, "mend the lines, or render the documents anew with `auth docs --write`")
}

fn diff(invocation: &Invocation, dir: &Path) -> Result<(), Failure> {
    let edited = read(invocation, dir)?;
    let ledger = invocation.open(Access::Read)?;
    let planned = plan(&ledger, &edited)?;
    invocation.close(&ledger);
    let out = &invocation.out;
    match planned {
        Ok(plan) => {
            let edits: Vec<_> = plan.edits.iter().map(ToString::to_string).collect();
            if out.is_json() {
                return out.json(&json!({"rendered": plan.rendered, "edits": edits, "problems": []}));
            }
            if edits.is_empty() {
                return out.line("nothing was changed");
            }
            edits.iter().try_for_each(|edit| out.line(edit))
        }
        Err(problems) => {
            if out.is_json() {
                return out
                    .json(&json!({"rendered": rendered_at(&edited.profiles), "edits": [], "problems": problems}));
            }
            problems.iter().try_for_each(|problem| out.line(&problem.to_string()))
        }
    }
}

fn apply(invocation: &Invocation, dir: &Path) -> Result<(), Failure> {
    let edited = read(invocation, dir)?;
    let ledger = invocation.open(Access::Write)?;
    let plan = plan(&ledger, &edited)?.map_err(|problems| refused(invocation, &problems))?;
    ledger.auth().apply(&plan)?;
    let seq = ledger.log().head()?.seq;
    invocation.close(&ledger);
    let edits: Vec<_> = plan.edits.iter().map(ToString::to_string).collect();
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&json!({"edits": edits, "seq": seq}));
    }
    if edits.is_empty() {
        return out.line("nothing was changed");
    }
    edits.iter().try_for_each(|edit| out.line(edit))
}
