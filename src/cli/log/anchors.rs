//! `log checkpoint`, `log anchors`, `log accept-rollback`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::base::limits;
use crate::checkpoint::Fit;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::cli::output::Style;
use crate::cli::time;
use crate::engine::{AnchorState, AnchorStatus, Error, Ledger};
use crate::store::{Medium, RealMedium};

/// Arguments of `log checkpoint`.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// Only print the public key that checkpoints are signed with, for whoever checks them
    #[arg(long)]
    public_key: bool,
}

/// Arguments of `log accept-rollback`.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// A signed checkpoint of this ledger, or an anchor's copy, that knows of more than this copy holds
    #[arg(long, value_name = "FILE")]
    note: Option<PathBuf>,
}

/// Runs `log checkpoint`. An anchor that could not be written is a warning: the checkpoint stands. Where none took
/// it, the exit code says so.
pub fn checkpoint(invocation: &Invocation, args: &CheckpointArgs) -> Result<(), Failure> {
    let out = &invocation.out;
    if args.public_key {
        let ledger = invocation.open(Access::Read)?;
        let key = ledger.checkpoint_key()?.to_string();
        invocation.close(&ledger);
        return if out.is_json() { out.json(&json!({"public_key": key})) } else { out.line(&key) };
    }
    let ledger = invocation.open(Access::Write)?;
    let made = ledger.checkpoint()?;
    let checkpoint = made.signed.checkpoint().clone();
    invocation.close(&ledger);
    let anchors: Vec<Value> = made
        .anchors
        .iter()
        .map(|placing| json!({"anchor": placing.anchor, "ok": placing.failure.is_none(), "what": placing.failure}))
        .collect();
    if out.is_json() {
        out.json(&json!({
            "event": made.event,
            "size": checkpoint.size,
            "head": checkpoint.head,
            "tree_root": checkpoint.root,
            "state_root": checkpoint.state,
            "time_ms": checkpoint.time.as_millis(),
            "branch": checkpoint.branch,
            "public_key": checkpoint.verifier().to_string(),
            "note": made.signed.note(),
            "anchors": anchors,
        }))?;
    } else {
        // The note as it is: its lines are what is signed.
        out.value(made.signed.note().as_bytes())?;
    }
    for placing in &made.anchors {
        match &placing.failure {
            Some(why) => out.warn(&format!("{} does not have it: {why}", placing.anchor)),
            None => out.note(&format!("{} has it", placing.anchor)),
        }
    }
    let kept = made.anchors.iter().any(|placing| placing.failure.is_none());
    if kept || made.anchors.is_empty() { Ok(()) } else { Err(Failure::quiet(ExitCode::Unanchored)) }
}

/// How an anchor stands to the log, in a word and in a sentence.
fn verdict(status: &AnchorStatus) -> (&'static str, Style, String) {
    match (&status.state, status.fit) {
        (AnchorState::Absent, _) if status.anchor.starts_with("device:") => {
            ("outside", Style::Dim, "the device shows it at its next contact".to_owned())
        }
        (AnchorState::Absent, _) if status.placed.is_some() => ("absent", Style::Warn, "it is gone".to_owned()),
        (AnchorState::Absent, _) => ("empty", Style::Dim, "it has no checkpoint yet".to_owned()),
        (AnchorState::Unreachable(why), _) => ("absent", Style::Warn, why.clone()),
        (AnchorState::Unusable(why), _) => ("unusable", Style::Bad, why.to_string()),
        (AnchorState::Holds(signed), fit) => {
            let size = signed.checkpoint().size;
            match fit {
                Some(Fit::Holds) | None => ("holds", Style::Good, format!("events 0 to {}", size - 1)),
                Some(Fit::Lost { first, last }) => {
                    ("lost", Style::Bad, format!("events {first} to {last} are missing here"))
                }
                Some(Fit::Forked) => ("forked", Style::Bad, format!("event {} is another one here", size - 1)),
                Some(Fit::OtherBranch) => {
                    ("other_branch", Style::Bad, format!("branch {} is not here", signed.checkpoint().branch))
                }
                Some(Fit::Superseded { since }) => {
                    ("superseded", Style::Warn, format!("a branch that ended before event {since}"))
                }
            }
        }
    }
}

/// Runs `log anchors`.
pub fn list(invocation: &Invocation) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let anchors = ledger.anchors()?;
    invocation.close(&ledger);
    let out = &invocation.out;
    let now = time::now();
    let mut code = ExitCode::Ok;
    let mut rows = Vec::new();
    for status in &anchors {
        let (word, style, what) = verdict(status);
        code = match word {
            "forked" => ExitCode::Integrity,
            "lost" | "other_branch" if code != ExitCode::Integrity => ExitCode::Truncated,
            // What should vouch for the log and cannot: nobody may take that for a clean answer.
            "absent" | "unusable" if code == ExitCode::Ok => ExitCode::Unanchored,
            _ => code,
        };
        let held = match &status.state {
            AnchorState::Holds(signed) => Some(signed.checkpoint()),
            _ => None,
        };
        let age = status.time().map(|made| now.as_millis().saturating_sub(made.as_millis()));
        rows.push(json!({
            "anchor": status.anchor,
            "fit": word,
            "what": what,
            "size": held.map(|held| held.size),
            "branch": held.map(|held| held.branch),
            "time_ms": held.map(|held| held.time.as_millis()),
            "age_ms": age,
            "placed_by_event": status.placed,
            "configured": status.configured,
        }));
        if !out.is_json() {
            let made = status.time().map(|made| format!(" ({})", time::second(made))).unwrap_or_default();
            out.painted(&[
                (style, &format!("{word:<13}")),
                (Style::Bold, &status.anchor),
                (Style::Plain, &format!(": {what}{made}")),
            ])?;
        }
    }
    if out.is_json() {
        out.json(&json!({"anchors": rows}))?;
    } else if anchors.is_empty() {
        out.line("no anchors: name files on another disk, or `keystore = true`, under `[anchors]` in config.toml")?;
    }
    if code == ExitCode::Ok { Ok(()) } else { Err(Failure::quiet(code)) }
}

fn read_note(invocation: &Invocation, path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let path = invocation.seat.path(path);
    RealMedium.read_all(&path, limits::ANCHOR_BYTES_MAX).map_err(|error| Error::from(error).into())
}

/// What a ledger that opens records of a rollback, or a note at hand proves.
fn known_more(ledger: &Ledger, note: Option<&[u8]>) -> Result<Option<String>, Failure> {
    if let Some(found) = note.map(|note| ledger.fit(note)).transpose()?.and_then(lost) {
        return Ok(Some(format!("the note says that {found}")));
    }
    let anchors = ledger.anchors()?;
    let known = anchors.iter().find_map(|status| Some((&status.anchor, lost(status.fit?)?)));
    Ok(known.map(|(anchor, found)| format!("{anchor} says that {found}")))
}

fn lost(fit: Fit) -> Option<String> {
    match fit {
        Fit::Holds | Fit::Superseded { .. } => None,
        Fit::Lost { first, last } => Some(format!("events {first} to {last} are missing here")),
        Fit::Forked => Some("this ledger holds other events than those that were known".to_owned()),
        Fit::OtherBranch => Some("a branch of history is not here".to_owned()),
    }
}

/// Runs `log accept-rollback`.
pub fn accept(invocation: &Invocation, args: &AcceptArgs) -> Result<(), Failure> {
    if invocation.global.reason.is_none() {
        return Err(Failure::usage(
            "putting an older copy back needs a reason, for the log",
            "say why with --reason TEXT",
        ));
    }
    let note = args.note.as_deref().map(|path| read_note(invocation, path)).transpose()?;
    let refused = match invocation.open(Access::Read) {
        Ok(ledger) => {
            let known = known_more(&ledger, note.as_deref());
            invocation.close(&ledger);
            known?.ok_or_else(|| {
                Failure::new(
                    ExitCode::Conflict,
                    "nothing that can be asked from here knows of more than this ledger holds: there is no rollback to accept",
                    "use the ledger as it is; where somebody kept a signed checkpoint that knows more, --note FILE",
                )
            })?
        }
        Err(failure) if matches!(failure.code, ExitCode::Truncated | ExitCode::Integrity) => failure.what,
        Err(failure) => return Err(failure),
    };
    let question = format!(
        "{refused}. Go on with this older copy? What was recorded after it is given up, and the log says so for ever."
    );
    invocation.confirm(&question, args.yes)?;
    let config = match note {
        Some(note) => invocation.config()?.rollback_note(note),
        None => invocation.config()?,
    };
    let ledger = invocation.start_branch(&config)?;
    let branches = ledger.branches()?;
    let head = ledger.log().head()?;
    invocation.close(&ledger);
    let Some(branch) = branches.last() else {
        return Err(Failure::new(ExitCode::Internal, "the branch was not recorded", ""));
    };
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&json!({
            "branch": branch.number,
            "from": branch.from,
            "lost_through": branch.lost_through,
            "anchor": branch.anchor,
            "seq": head.seq,
        }));
    }
    out.line(&format!("branch {} of history begins with event {}", branch.number, branch.from))
}
