//! The forensic tool as whole processes over the large ledger.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::homes;
use crate::race::median;
use crate::report::{Section, figure};
use crate::{Fault, Plan};

/// What a run took.
#[derive(Debug, Clone, Copy)]
struct Took {
    seconds: f64,
    /// Of processor time, over all cores.
    processor: f64,
}

/// Runs a command whose exit code says sound or unanchored.
fn run(program: &Path, words: &[&str]) -> Result<Took, Fault> {
    let spent = || -> Result<f64, Fault> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
    };
    let (begin, before) = (Instant::now(), spent()?);
    let status = Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let took = Took { seconds: begin.elapsed().as_secs_f64(), processor: spent()? - before };
    match status.code() {
        Some(0 | 17) => Ok(took),
        _ => Err(format!("{} {} ended with {status}", program.display(), words.join(" ")).into()),
    }
}

fn middle(all: &[Took], of: fn(&Took) -> f64) -> f64 {
    median(all.iter().map(of).collect())
}

fn bytes_below(path: &Path) -> Result<u64, Fault> {
    let facts = path.symlink_metadata()?;
    if !facts.is_dir() {
        return Ok(facts.len());
    }
    std::fs::read_dir(path)?.try_fold(0, |sum, entry| Ok(sum + bytes_below(&entry?.path())?))
}

/// Verification, timeline, carving and the report.
pub fn tool(plan: &Plan) -> Result<Section, Fault> {
    let mut section = Section::new(
        "The forensic tool",
        "Whole processes over the journal and the home of the large ledger, without keys; each reads every file three \
         times, because what is examined is hashed before and after; with `--no-hash` only what is verified is read. \
         `sha256sum` over the same files is the yardstick.",
        &["command", "seconds (median)", "processor seconds", "events/s", "MB/s"],
    );
    let program = plan.program.with_file_name("palyra-forensic");
    if !program.is_file() {
        section.row(&[format!("skipped: {} is not there", program.display())]);
        return Ok(section);
    }
    let home = homes::loaded(plan, plan.many)?;
    let ledger = homes::open(&home)?;
    let events = (ledger.log().head()?.seq + 1) as f64;
    ledger.close()?;
    drop(ledger);
    let scratch = tempfile::tempdir_in(&plan.dir)?;
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("a path is not UTF-8");
    let (whole, journal) = (text(&home)?, text(&home.join("journal"))?);
    let (carved, page) = (text(&scratch.path().join("carved"))?, text(&scratch.path().join("page.html"))?);
    let sum = format!("sha256sum {journal}/*");
    let commands: [(&str, &Path, Vec<&str>, &str); 7] = [
        ("sha256sum of the journal", Path::new("sh"), vec!["-c", &sum], &journal),
        ("verify --no-hash", &program, vec!["--no-hash", "verify", &whole], &whole),
        ("verify", &program, vec!["verify", &whole], &whole),
        ("timeline", &program, vec!["--format", "jsonl", "timeline", &whole], &whole),
        ("carve the journal", &program, vec!["carve", &journal, "-o", &carved], &journal),
        ("carve the home", &program, vec!["carve", &whole, "-o", &carved], &whole),
        ("report", &program, vec!["report", &whole, "-o", &page], &whole),
    ];
    for (label, program, words, over) in commands {
        let (mut all, mut page_bytes) = (Vec::new(), 0);
        for _ in 0..plan.rounds.min(3) {
            all.push(run(program, &words)?);
            if Path::new(&carved).exists() {
                std::fs::remove_dir_all(&carved)?;
            }
            if let Ok(facts) = std::fs::metadata(&page) {
                page_bytes = facts.len();
                std::fs::remove_file(&page)?;
            }
        }
        let (seconds, processor) = (middle(&all, |took| took.seconds), middle(&all, |took| took.processor));
        let megabytes = bytes_below(Path::new(over))? as f64 / 1e6;
        let (rate, speed) = (events / seconds, megabytes / seconds);
        section.row(&[label.to_owned(), figure(seconds), figure(processor), figure(rate), figure(speed)]);
        match label {
            "verify --no-hash" => {
                section.at_least("verify, events by processor second", 500_000.0, events / processor);
                section.at_least("verify, processor seconds by second", 1.5, processor / seconds);
            }
            "timeline" => section.at_least("timeline, events/s", 300_000.0, rate),
            "carve the journal" => section.at_least("carve, MB/s", 300.0, speed),
            "report" => {
                section.at_most("report, seconds", 5.0, seconds);
                section.at_most("report, MB", 3.0, page_bytes as f64 / 1e6);
            }
            _ => {}
        }
    }
    Ok(section)
}
