//! `verify`: the verdict, what it rests on, and where what is wrong lies.

use std::path::{Path, PathBuf};

use clap::Args;
use palyra_ledger::checkpoint::VerifierKey;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::{Output, Style};
use palyra_ledger::examine::{self, Asked};
use palyra_ledger::inspect::{self, Anchor, Assessment, Evidence, Finding, FindingCode, Kept, Reason, Site, Verdict};
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
    /// The ledger's public key (`NAME+ID+KEY`), or a file with it; checkpoints must be signed by it
    #[arg(long, value_name = "VKEY|FILE")]
    public_key: Option<String>,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Runs `verify`.
pub fn run(global: &Global, out: &Output, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let known = Known::read(args.public_key.as_deref(), &args.anchor)?;
    let case = Case::open(&args.path, global)?;
    let Examined { assessment, level } = match examine(&case, &known, &args.keys, &mut |_, _, _| {}) {
        Err(failure) if failure.code == ExitCode::Locked => {
            unopened(out)?;
            return Err(failure);
        }
        other => other?,
    };
    let verdict = assessment.verdict();
    let printed = print(out, &assessment, &verdict, level);
    case.close(out)?;
    let code = code_of(verdict.exit_code());
    if code == ExitCode::Ok { printed.map(|()| code) } else { Ok(code) }
}

/// The exit code with a number.
pub fn code_of(number: u8) -> ExitCode {
    ExitCode::ALL.iter().copied().find(|code| code.number() == number).unwrap_or(ExitCode::Internal)
}

/// What the examiner knows from elsewhere.
pub struct Known {
    /// The ledger's public key.
    pub public_key: Option<VerifierKey>,
    /// Checkpoints that were kept elsewhere.
    pub anchors: Vec<Anchor>,
}

impl Known {
    /// Reads it.
    pub fn read(public_key: Option<&str>, paths: &[PathBuf]) -> Result<Self, Failure> {
        let public_key = public_key.map(read_key).transpose()?;
        let mut anchors = Vec::new();
        for path in paths {
            anchors.extend(read_anchor(path, public_key.as_ref())?);
        }
        let known = Self { public_key, anchors };
        if let Some(first) = known.anchors.first() {
            known.signed_by(&first.signed.checkpoint().verifier(), "the other anchors")?;
        }
        Ok(known)
    }

    /// Refuses anchors that another key signed: no verdict may rest on them.
    fn signed_by(&self, key: &VerifierKey, whose: &str) -> Result<(), Failure> {
        match self.anchors.iter().find(|anchor| anchor.signed.checkpoint().verifier() != *key) {
            None => Ok(()),
            Some(other) => Err(Failure::new(
                ExitCode::Integrity,
                format!("{} cannot be relied on: it is signed by another key than {whose}", other.source),
                "give checkpoints of this ledger, as it, an anchor or one of its devices kept them",
            )),
        }
    }
}

/// A log that was examined.
pub struct Examined {
    /// What was found.
    pub assessment: Assessment,
    /// With what: `none`, `public_key` or `keys`.
    pub level: &'static str,
}

/// Shown every whole frame: where it stands, and what its body holds if a key opened it.
pub type Look<'a> = &'a mut dyn FnMut(&Frame<'_>, Site<'_>, Option<&Entry>);

/// Examines a log with what is at hand, and shows every frame on the way.
pub fn examine(case: &Case, known: &Known, keys: &KeyArgs, look: Look<'_>) -> Result<Examined, Failure> {
    let (opened, ring_fault) = match keyring::try_open(case, keys)? {
        None => (None, None),
        Some(Ok(keys)) => (Some(keys), None),
        // Keys from elsewhere say something about whoever brought them.
        Some(Err(error)) if blames_evidence(&error) && keys.are_in_evidence() => (None, Some(error)),
        Some(Err(error)) => return Err(brought(error)),
    };
    if let Some(key) = opened.as_ref().and_then(examine::Keys::verifier) {
        let foreign = course_id(case)?.filter(|id| !key.name.ends_with(&id.to_string()));
        if let (Some(id), false) = (foreign, keys.are_in_evidence()) {
            let what = format!("the keys are those of {}, and the log is that of ledger {id}", key.name);
            return Err(Failure::new(ExitCode::Locked, what, "name the folder of this ledger's keys with --keys-dir"));
        }
        known.signed_by(&key, "the ledger's own")?;
    }
    let (elsewhere, dir) = keyring::place(case, keys)?;
    let from: &dyn Medium = elsewhere.as_ref().unwrap_or(&case.evidence);
    let asked = Asked {
        anchors: &known.anchors,
        public_key: known.public_key.as_ref(),
        keys: opened.as_ref(),
        // What lies beside a single file is not the evidence.
        keys_from: (elsewhere.is_some() || case.evidence.single().is_none()).then_some((from, dir.as_path())),
        live: case.is_live(),
    };
    let mut assessment = check(case, &asked, look)?;
    if let Some(error) = ring_fault {
        let what = format!("the keys in the evidence do not open: {error}");
        assessment.add(Finding::new(FindingCode::KeyringDiffers, None, what));
    }
    let level = match (&opened, known.public_key.is_some() || !known.anchors.is_empty()) {
        (Some(_), _) => "keys",
        (None, true) => "public_key",
        (None, false) => "none",
    };
    Ok(Examined { assessment, level })
}

/// Keys were asked for and none are at hand: what was asked cannot be said.
fn unopened(out: &Output) -> Result<(), Failure> {
    let verdict = Verdict::Unverifiable(Reason::NeedsKey);
    if out.is_json() {
        return out.json(&json!({"verdict": verdict.to_string(), "exit_code": verdict.exit_code(), "level": "none"}));
    }
    out.painted(&[(Style::Bad, &verdict.to_string())])
}

/// The failure of keys that somebody brought: they are not the ones, and say nothing against the evidence.
fn brought(error: KeysError) -> Failure {
    let (blames, absent) = match &error {
        KeysError::Store(error) => (false, error.is_not_found()),
        other => (blames_evidence(other), false),
    };
    let failure = keyring::failure(error);
    match (blames, absent) {
        (true, _) => Failure::new(ExitCode::DecryptFailed, failure.what, "name the keys of this ledger"),
        (_, true) => Failure::new(ExitCode::Locked, failure.what, "name the folder of the keys with --keys-dir"),
        _ => failure,
    }
}

/// Whether keys that do not open say something about the evidence, rather than about who asks.
const fn blames_evidence(error: &KeysError) -> bool {
    matches!(error, KeysError::RingAltered | KeysError::Damaged { .. } | KeysError::Foreign { .. })
}

pub fn read_anchor(path: &Path, by: Option<&VerifierKey>) -> Result<Vec<Anchor>, Failure> {
    let (name, bytes) = read_small(path)?;
    let notes = inspect::read_notes(&name, Kept::Elsewhere, &bytes, by);
    let hint = "give a checkpoint as the ledger, an anchor or one of its devices kept it, and the key that signed it";
    match notes {
        Ok(notes) if !notes.is_empty() => Ok(notes),
        // An anchor that is not what it claims to be vouches for nothing: no verdict may rest on it.
        Ok(_) => Err(Failure::new(ExitCode::Integrity, format!("{name} holds no checkpoint"), hint)),
        Err(error) => Err(Failure::new(ExitCode::Integrity, format!("{name} cannot be relied on: {error}"), hint)),
    }
}

fn read_small(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let evidence = Evidence::at(path).map_err(|error| unreadable(&error))?;
    let name = evidence.single().map(PathBuf::from).unwrap_or_default();
    let bytes = evidence.read_all(&name, limits::ANCHOR_BYTES_MAX).map_err(|error| unreadable(&error))?;
    Ok((name.display().to_string(), bytes))
}

/// A key's text, or a file that holds it.
fn read_key(text: &str) -> Result<VerifierKey, Failure> {
    let refused = |error: palyra_ledger::checkpoint::NoteError| {
        Failure::usage(
            format!("the public key is not acceptable: {error}"),
            "give it as the ledger shows it: NAME+ID+KEY",
        )
    };
    match text.parse() {
        Ok(key) => Ok(key),
        Err(error) if text.contains('+') => Err(refused(error)),
        Err(_) => {
            let (_, bytes) = read_small(Path::new(text))?;
            String::from_utf8_lossy(&bytes).trim().parse().map_err(refused)
        }
    }
}

/// The ledger that the log's first readable segment names.
fn course_id(case: &Case) -> Result<Option<palyra_ledger::LedgerId>, Failure> {
    Ok(inspect::ledger_of(&case.evidence, &case.course()?))
}

fn check(case: &Case, asked: &Asked<'_>, look: Look<'_>) -> Result<Assessment, Failure> {
    let course = case.course()?;
    let bar = progress(case.log_bytes(&course), "verifying");
    let mut seen = 0_u64;
    let assessment = examine::verify_opened(&case.evidence, &course, asked, &mut |frame, site, entry| {
        seen += frame.bytes().len() as u64;
        if frame.header.seq % 4096 == 0 {
            bar.set_position(seen);
        }
        look(frame, site, entry);
    });
    bar.finish_and_clear();
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
            "signed_events": coverage.signed_events,
            "unanchored": coverage.unanchored.map(|(from, through)| json!({"from": from, "through": through})),
            "unread": coverage.unread.map(|(from, through)| json!({"from": from, "through": through})),
            "findings": report.findings,
            "unlisted": report.unlisted,
        }));
    }
    let unlisted = report.unlisted.count;
    for finding in &report.findings {
        let style = if finding.code.is_note() { Style::Warn } else { Style::Bad };
        let at = finding.seq.map(|seq| format!(" at event {seq}")).unwrap_or_default();
        out.painted(&[(style, &code_name(finding.code)), (Style::Plain, &format!("{at}: {}", finding.what))])?;
    }
    if unlisted > 0 {
        out.warn(&format!("and {unlisted} more findings, which are counted and not listed"));
    }
    let style = match verdict {
        Verdict::IntactAnchored => Style::Good,
        Verdict::IntactUnanchored => Style::Warn,
        _ => Style::Bad,
    };
    out.painted(&[(style, &verdict.to_string())])?;
    let id = report.ledger_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    out.line(&format!("ledger {id}, {} events checked with {}", report.events, level_words(level)))?;
    if let Some(head) = report.head {
        out.line(&format!("last event {} {}", head.seq, head.hash))?;
    }
    if let Some((from, through)) = coverage.unread {
        out.line(&format!("not read: events {from} to {through}, which stand in other segments"))?;
    }
    let begin = coverage.unread.map_or(0, |(_, through)| through.saturating_add(1));
    match coverage.unanchored {
        Some((from, through)) if coverage.anchored_events > begin => out.line(&format!(
            "anchored: events {begin} to {}; unanchored: events {from} to {through}",
            from.saturating_sub(1)
        )),
        Some((from, through)) => out.line(&format!("unanchored: events {from} to {through}")),
        None if report.head.is_some_and(|head| head.seq >= coverage.anchored_events) => {
            let behind = match level {
                "keys" => "the record of the checkpoint",
                _ => "one that is, by its header alone, the record of the checkpoint: only keys can tell",
            };
            let last = coverage.anchored_events.saturating_sub(1);
            out.line(&format!("anchored: events {begin} to {last}, and behind them {behind}"))
        }
        None if coverage.anchored_events > 0 && begin > 0 => {
            out.line(&format!("anchored: every event from {begin} on"))
        }
        None if coverage.anchored_events > 0 => out.line("anchored: every event"),
        None => Ok(()),
    }
}

fn level_words(level: &str) -> &'static str {
    match level {
        "keys" => "all keys",
        "public_key" => "anchors or a public key",
        _ => "no keys and no anchors",
    }
}

/// The stable name of a finding's code.
pub fn code_name(code: FindingCode) -> String {
    serde_json::to_value(code).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}
