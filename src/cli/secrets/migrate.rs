//! `secrets migrate-backend`.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::base::BackendKind;
use crate::cli::exit::Failure;
use crate::cli::invocation::{Access, Invocation};
use crate::cli::story;

use super::args::MigrateBackend;

/// Moves every envelope, or says what would be moved.
pub fn run(invocation: &Invocation, args: &MigrateBackend) -> Result<(), Failure> {
    if args.dry_run {
        return plan(invocation, args);
    }
    let ledger = invocation.open(Access::Write)?;
    let from = ledger.backends().state()?.kind;
    if args.leave_former {
        ledger.backends().leave_former()?;
    }
    let bar = if invocation.out.is_json() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    if let Ok(style) = ProgressStyle::with_template("moving {bar:32} {pos}/{len}") {
        bar.set_style(style);
    }
    let moved = ledger.backends().migrate(args.kind, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    invocation.close(&ledger);
    let moved = moved?;
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&json!({
            "from": from.name(),
            "backend": args.kind.name(),
            "envelopes": moved.envelopes,
            "copied": moved.copied,
            "removed": moved.removed,
            "aborted": moved.aborted,
        }));
    }
    let removed = story::count(moved.removed, "object");
    if moved.aborted {
        out.line(&format!("gave the move up: secrets stay in {}; removed {removed}", args.kind))
    } else if moved.envelopes == 0 && moved.copied == 0 {
        out.line(&format!("secrets are in {}; removed {removed} that no version needs there", args.kind))
    } else {
        let held = story::count(moved.envelopes, "sealed value");
        out.line(&format!(
            "{} holds {held}, copied {} and compared each; removed {removed} from elsewhere",
            args.kind, moved.copied
        ))
    }
}

fn plan(invocation: &Invocation, args: &MigrateBackend) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let plan = ledger.backends().plan(args.kind)?;
    invocation.close(&ledger);
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&json!({
            "from": plan.now.kind.name(),
            "backend": args.kind.name(),
            "unfinished": plan.now.other.map(BackendKind::name),
            "switched": plan.now.switched,
            "envelopes": plan.envelopes,
            "bytes": plan.bytes,
            "obstacle": plan.obstacle,
        }));
    }
    let (held, bytes) = (story::count(plan.envelopes, "sealed value"), story::count(plan.bytes, "byte"));
    out.line(&format!("{} holds {held} ({bytes}) that would go to {}", plan.now.kind, args.kind))?;
    if let Some(other) = plan.now.other {
        out.line(&format!("a move is unfinished: {other} holds copies too"))?;
    }
    match plan.obstacle {
        Some(obstacle) => out.line(&format!("it cannot: {obstacle}")),
        None => out.line("that backend can be reached; nothing was changed"),
    }
}
