//! `verify`: the verdict, what it rests on, and where what is wrong lies.

use std::path::PathBuf;

use clap::Args;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::{Output, Style};
use palyra_ledger::examine::{Bodies, Keys};
use palyra_ledger::inspect::{Anchor, Assessment, Evidence, Finding, FindingCode, Site, Verdict, assess};
use palyra_ledger::log::Frame;
use palyra_ledger::store::Medium;
use palyra_ledger::{Entry, KeysError, limits};
use serde_json::{Value, json};

use crate::args::{Global, KeyArgs};
use crate::case::{Case, progress, unreadable};
use crate::keyring;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A home, a journal, one segment, or `-` for one on the standard input
    path: PathBuf,
    /// A checkpoint that was kept elsewhere; several may be given
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Runs `verify`.
pub fn run(global: &Global, out: &Output, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let anchors = read_anchors(&args.anchor)?;
    let case = Case::open(&args.path, global)?;
    let Examined { assessment, level } = examine(&case, &anchors, &args.keys, &mut |_, _, _, _| {})?;
    let verdict = assessment.verdict();
    let printed = print(out, &assessment, &verdict, level);
    case.close(out)?;
    let code = code_of(&verdict);
    if code == ExitCode::Ok { printed.map(|()| code) } else { Ok(code) }
}

/// The exit code of a verdict.
pub fn code_of(verdict: &Verdict) -> ExitCode {
    let code = ExitCode::ALL.iter().copied().find(|code| code.number() == verdict.exit_code());
    code.unwrap_or(ExitCode::Internal)
}

/// Whether keys that do not open say something about the evidence, rather than about who asks.
const fn blames_evidence(error: &KeysError) -> bool {
    matches!(error, KeysError::RingAltered | KeysError::Damaged { .. } | KeysError::Foreign { .. } | KeysError::Store(_))
}

/// Reads the checkpoints that the examiner vouches for.
pub fn read_anchors(paths: &[PathBuf]) -> Result<Vec<Anchor>, Failure> {
    paths.iter().map(read_anchor).collect()
}

fn read_anchor(path: &PathBuf) -> Result<Anchor, Failure> {
    let evidence = Evidence::at(path).map_err(|error| unreadable(&error))?;
    let name = evidence.single().map(PathBuf::from).unwrap_or_default();
    let bytes = evidence.read_all(&name, limits::CHECKPOINT_NOTE_MAX as u64).map_err(|error| unreadable(&error))?;
    Anchor::parse(&name.display().to_string(), &bytes).map_err(|error| {
        let what = format!("{} is no anchor: {error}", name.display());
        Failure::usage(what, "give a checkpoint as the ledger or one of its devices kept it")
    })
}

/// A log that was examined.
pub struct Examined {
    /// What was found.
    pub assessment: Assessment,
    /// With what: `none`, `anchors` or `keys`.
    pub level: &'static str,
}

/// Shown every whole frame: where it stands, what its body holds if a key opened it, and whether there was a key.
pub type Look<'a> = &'a mut dyn FnMut(&Frame<'_>, Site<'_>, Option<&Entry>, bool);

/// Examines a log with what is at hand, and shows every frame on the way.
pub fn examine(case: &Case, anchors: &[Anchor], keys: &KeyArgs, look: Look<'_>) -> Result<Examined, Failure> {
    let (keys, ring_fault) = match keyring::try_open(case, keys)? {
        None => (None, None),
        Some(Ok(keys)) => (Some(keys), None),
        Some(Err(error)) if blames_evidence(&error) => (None, Some(error)),
        Some(Err(error)) => return Err(keyring::failure(error)),
    };
    let mut assessment = walk(case, anchors, keys.as_ref(), look)?;
    if let Some(error) = ring_fault {
        let what = format!("the keys in the evidence do not open: {error}");
        assessment.add(Finding::new(FindingCode::KeyringDiffers, None, what));
    }
    let level = match (&keys, anchors.is_empty()) {
        (Some(_), _) => "keys",
        (None, false) => "anchors",
        (None, true) => "none",
    };
    Ok(Examined { assessment, level })
}

fn walk(case: &Case, anchors: &[Anchor], keys: Option<&Keys>, look: Look<'_>) -> Result<Assessment, Failure> {
    let mut course = case.course()?;
    let head_key = keys.and_then(Keys::head_key);
    course.head_key = head_key.as_ref();
    let bar = progress(case.log_bytes(&course), "verifying");
    let dir = case.keys_dir();
    let table = keys.and_then(|keys| keys.table(&case.evidence, &dir).ok());
    let mut bodies = keys.map(|keys| Bodies::new(keys, table.as_ref()));
    let mut seen = 0_u64;
    let mut assessment = assess(&case.evidence, &course, anchors, case.is_live(), &mut |frame, site| {
        seen += frame.bytes().len() as u64;
        if frame.header.seq % 4096 == 0 {
            bar.set_position(seen);
        }
        let entry = bodies.as_mut().and_then(|bodies| bodies.visit(frame, site));
        look(frame, site, entry.as_ref(), keys.is_some());
    });
    bar.finish_and_clear();
    if let Some(bodies) = bodies {
        for finding in bodies.finish(&case.evidence, &dir) {
            assessment.add(finding);
        }
    }
    assessment.sort();
    Ok(assessment)
}

fn print(out: &Output, assessment: &Assessment, verdict: &Verdict, level: &str) -> Result<(), Failure> {
    let report = assessment.report();
    let coverage = &assessment.coverage;
    if out.is_json() {
        return out.json(&json!({
            "verdict": verdict.to_string(),
            "exit_code": verdict.exit_code(),
            "level": level,
            "ledger_id": report.ledger_id,
            "events": report.events,
            "first": assessment.walked.first.map(|(seq, time)| json!({"seq": seq, "time": time.to_string()})),
            "last": report.head.map(|head| json!({
                "seq": head.seq, "hash": head.hash, "time": assessment.walked.last_time.map(|time| time.to_string()),
            })),
            "anchored_events": coverage.anchored_events,
            "unanchored": coverage.unanchored.map(|(from, through)| json!({"from": from, "through": through})),
            "findings": report.findings,
        }));
    }
    for finding in &report.findings {
        let style = if finding.code.is_note() { Style::Warn } else { Style::Bad };
        let at = finding.seq.map(|seq| format!(" at event {seq}")).unwrap_or_default();
        out.painted(&[(style, &code_name(finding.code)), (Style::Plain, &format!("{at}: {}", finding.what))])?;
    }
    let style = match verdict {
        Verdict::IntactAnchored => Style::Good,
        Verdict::IntactUnanchored => Style::Warn,
        _ => Style::Bad,
    };
    out.painted(&[(style, &verdict.to_string())])?;
    let id = report.ledger_id.map(|id| id.to_string()).unwrap_or_else(|| "unknown".to_owned());
    out.line(&format!("ledger {id}, {} events checked with {}", report.events, level_words(level)))?;
    if let Some(head) = report.head {
        out.line(&format!("last event {} {}", head.seq, head.hash))?;
    }
    match coverage.unanchored {
        Some((from, through)) if coverage.anchored_events > 0 => {
            out.line(&format!("anchored: events 0 to {}; unanchored: events {from} to {through}", from.saturating_sub(1)))
        }
        Some((from, through)) => out.line(&format!("unanchored: events {from} to {through}")),
        None if coverage.anchored_events > 0 => out.line("anchored: every event"),
        None => Ok(()),
    }
}

fn level_words(level: &str) -> &'static str {
    match level {
        "keys" => "all keys",
        "anchors" => "anchors and no keys",
        _ => "no keys and no anchors",
    }
}

/// The stable name of a finding's code.
pub fn code_name(code: FindingCode) -> String {
    serde_json::to_value(code).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}
