//! Canaries in every secret input, looked for in everything that is left behind: files, outputs, messages, bytes on
//! open sockets, the memory of the idle daemon. And comparisons of secrets by the clock.

mod canary;
mod dumps;
mod memory;
mod sockets;
mod timing;
mod usage;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::outcome::{Outcome, Table};
use crate::provider::Provider;
use crate::served::{Seat, Served};
use crate::workload::Dice;
use crate::{Fault, Run};
use canary::{Canary, Search};
use memory::Remains;
use sockets::Listener;
use timing::{BOUND, Timed};
use usage::Story;

/// How long the daemon is left alone before its memory is read: longer than its connections to endpoints idle.
const IDLE: Duration = Duration::from_secs(5);
/// Pairings whose proofs are timed, in a short run and in a long one.
const PROOFS: (usize, usize) = (2_000, 20_000);

/// What was counted over all rounds.
#[derive(Default)]
struct Figures {
    rounds: u64,
    canaries: usize,
    commands: usize,
    refused: usize,
    files: usize,
    file_bytes: u64,
    said_bytes: u64,
    socket_bytes: u64,
    memory: Vec<(String, u64)>,
    mappings: usize,
    memory_bytes: u64,
    places: Vec<String>,
    controls: Vec<(String, bool)>,
}

/// Goes through everything once for each count, or until the budget is used up.
///
/// # Errors
/// What stood in the way of trying.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let (mut figures, mut failures, mut not_tried) = (Figures::default(), Vec::new(), Vec::new());
    let proofs = if run.count.is_some() { PROOFS.0 } else { PROOFS.1 };
    let timed = timing::run(run.seed, proofs)?;
    failures.extend(judge_times(&timed));
    let over = |rounds| run.count.map_or_else(|| begun.elapsed() >= run.budget, |count| rounds >= count);
    while figures.rounds == 0 || !over(figures.rounds) {
        let round = figures.rounds;
        let seat = Seat::new(run, &format!("round-{round}"))?;
        let found = once(run, &seat, round, &mut figures, &mut not_tried)?;
        if round == 0 {
            failures.extend(dumped(run, &seat, &mut figures, &mut not_tried)?);
        }
        figures.rounds += 1;
        if found.is_empty() {
            std::fs::remove_dir_all(seat.dir())?;
        }
        failures.extend(found.into_iter().map(|what| format!("--seed {}, round {round}: {what}", run.seed)));
        if failures.len() > 20 {
            break;
        }
    }
    for (what, seen) in &figures.controls {
        if !seen {
            failures.push(format!("the search is blind: {what}"));
        }
    }
    Ok(outcome(run, &figures, &timed, failures, not_tried, begun.elapsed().as_secs_f64()))
}

fn judge_times(timed: &[Timed]) -> Vec<String> {
    let mut failures = Vec::new();
    for (number, one) in timed.iter().enumerate() {
        // The first leaks by itself; every other one has a plant in its own harness.
        let planted = if number == 0 { Some(one) } else { one.planted.as_deref() };
        if planted.is_none_or(|planted| !planted.differs()) {
            let ts = planted.map(|planted| told(&planted.ts)).unwrap_or_default();
            failures.push(format!("the clock is blind: {}: a leak was planted, and t is {ts}", one.what));
        }
        if number != 0 && one.differs() {
            let ts = told(&one.ts);
            failures.push(format!("{}: t is {ts} after {} measurements each", one.what, one.measurements));
        }
    }
    failures
}

/// The t of each measurement in a row.
fn told(ts: &[f64]) -> String {
    ts.iter().map(|t| format!("{t:.1}")).collect::<Vec<_>>().join(", ")
}

/// One home with canaries of its own.
fn once(
    run: &Run,
    seat: &Seat,
    round: u64,
    figures: &mut Figures,
    not_tried: &mut Vec<String>,
) -> Result<Vec<String>, Fault> {
    let mut dice = Dice::of(run.seed, round);
    let control = Canary::fresh(&mut dice, "control");
    let logged = Canary::fresh(&mut dice, "a value that is logged");
    let provider = Provider::start(2, dice.number())?;
    let mut story = Story::new(seat, dice)?;
    story.alone()?;
    let served = Served::start(seat, &["--log", "json"], |command| {
        command.env("PALYRA_LEDGER_LOG", "trace");
    })?;
    let listener = Listener::new(served.pairing)?;
    story.served(&served, &listener, &provider)?;
    // A description is no secret: the daemon keeps it, and the search must find it there and in what is said.
    let words = ["secrets", "set", "global/control", "--stdin", "--description", &control.text()];
    seat.ok(&words, Some(b"control"))?;
    std::thread::sleep(IDLE);
    let tokens = provider.issued();
    for token in &tokens {
        // The part that is drawn.
        let (what, drawn) = token.rsplit_once('-').ok_or("a token of another kind")?;
        let what = format!("OAuth {} token", what.split('-').next().unwrap_or_default());
        story.canaries.push(Canary::of(&what, drawn));
    }
    let search = Search::new(story.canaries.clone());
    let controls = Search::new(vec![control.clone()]);
    let mut found: Vec<String> =
        search.blind().into_iter().map(|form| format!("the search is blind: {form}")).collect();
    if dumps::may_read(served.pid()) {
        let remains = memory::search(served.pid(), &search)?;
        let kept = memory::search(served.pid(), &controls)?.found.iter().any(|count| *count > 0);
        figures.control("a description in the memory of the daemon", kept);
        figures.control("a value that a shell keeps in its memory", memory::control(&controls, &control.bytes)?);
        found.extend(figures.remains(&search, &remains));
    } else if round == 0 {
        not_tried.push("The memory of the daemon: this user may not read it, which is as it should be.".to_owned());
    }
    let shown = seat.json(&["secrets", "get", "global/control"])?.to_string();
    figures.control("a description in an output", !controls.look(shown.as_bytes()).is_empty());
    let messages = served.messages.clone();
    served.stop()?;
    figures.control("the daemon's messages, which go down to traces", traces(&std::fs::read(&messages)?));
    figures.control("a value that is logged, in a copy of those messages", in_messages(seat, &messages, &logged)?);
    let planted = seat.path("home").join("planted");
    std::fs::write(&planted, &control.bytes)?;
    figures.control("a value in a file of the home", !files(seat, &controls, &mut Figures::default())?.is_empty());
    std::fs::remove_file(&planted)?;
    found.extend(files(seat, &search, figures)?);
    for (words, said) in &story.said {
        figures.said_bytes += said.len() as u64;
        found.extend(search.told(said).into_iter().map(|what| format!("{what} of what `{words}` said")));
    }
    let heard = listener.heard();
    figures.socket_bytes += heard.len() as u64;
    found.extend(search.told(&heard).into_iter().map(|what| format!("{what} of the pairing listener's bytes")));
    figures.commands += story.said.len();
    figures.refused += story.refused;
    figures.canaries += search.canaries().len();
    Ok(found)
}

impl Figures {
    fn control(&mut self, what: &str, seen: bool) {
        match self.controls.iter_mut().find(|(known, _)| known == what) {
            Some((_, all)) => *all &= seen,
            None => self.controls.push((what.to_owned(), seen)),
        }
    }

    /// Adds what was found in a memory; gives it as failures.
    fn remains(&mut self, search: &Search, remains: &Remains) -> Vec<String> {
        self.mappings += remains.mappings;
        self.memory_bytes += remains.bytes;
        let mut failures = Vec::new();
        for (canary, count) in search.canaries().iter().zip(&remains.found) {
            match self.memory.iter_mut().find(|(what, _)| *what == canary.what) {
                Some((_, all)) => *all += count,
                None => self.memory.push((canary.what.clone(), *count)),
            }
            if *count > 0 {
                failures.push(format!("{} in the memory of the idle daemon, {count} times", canary.what));
            }
        }
        self.places.extend(remains.places.iter().cloned());
        self.places.truncate(12);
        failures.extend(remains.places.iter().take(12).cloned());
        failures
    }
}

/// Whether messages were written, in JSON, and down to traces.
fn traces(messages: &[u8]) -> bool {
    let text = String::from_utf8_lossy(messages);
    text.lines().any(|line| line.starts_with('{') && line.to_ascii_lowercase().contains("\"trace\""))
}

/// Whether a value is found that stands in the middle of a copy of the daemon's messages, as a careless line would have
/// it; nothing else knows the value.
fn in_messages(seat: &Seat, messages: &Path, logged: &Canary) -> Result<bool, Fault> {
    let search = Search::new(vec![logged.clone()]);
    let found = |what| -> Result<bool, Fault> {
        Ok(files(seat, &search, &mut Figures::default())?.iter().any(|found| found.contains(what)))
    };
    let (name, said) = ("planted-messages", std::fs::read_to_string(messages)?);
    let copy = seat.path("home").join(name);
    let half = said.lines().count() / 2;
    let line = serde_json::json!({ "level": "TRACE", "message": format!("request with value {}", logged.text()) });
    let lines = said.lines().map(str::to_owned);
    let planted: Vec<String> = lines.clone().take(half).chain([line.to_string()]).chain(lines.skip(half)).collect();
    std::fs::write(&copy, said.as_bytes())?;
    let without = found("")?;
    std::fs::write(&copy, planted.join("\n"))?;
    let with = found(name)?;
    std::fs::remove_file(&copy)?;
    Ok(with && !without)
}

/// Looks into every file that was left behind, and at its name; what the user keeps in `given` is his.
fn files(seat: &Seat, search: &Search, figures: &mut Figures) -> Result<Vec<String>, Fault> {
    let (mut found, mut pending) = (Vec::new(), vec![seat.dir().to_owned()]);
    let short = |path: &Path| path.strip_prefix(seat.dir()).unwrap_or(path).display().to_string();
    while let Some(path) = pending.pop() {
        if path == seat.path("given") {
            continue;
        }
        let meta = std::fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            let entries: Result<Vec<PathBuf>, _> = std::fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect();
            pending.extend(entries.map_err(|error: std::io::Error| error)?);
        } else if meta.is_file() {
            figures.files += 1;
            figures.file_bytes += meta.len();
            for bytes in [std::fs::read(&path)?, short(&path).into_bytes()] {
                found.extend(search.told(&bytes).into_iter().map(|what| format!("{what} of {}", short(&path))));
            }
        }
    }
    Ok(found)
}

/// Core files, and other processes of the same user.
fn dumped(run: &Run, seat: &Seat, figures: &mut Figures, not_tried: &mut Vec<String>) -> Result<Vec<String>, Fault> {
    let mut failures = Vec::new();
    let served = Served::start(seat, &[], |_| {})?;
    if !dumps::forbids_core(served.pid())? {
        failures.push("the daemon's limit on core files is not 0, for good".to_owned());
    }
    served.stop()?;
    let deaths = dumps::deaths(seat)?;
    if deaths.daemon {
        failures.push("a daemon that died of SIGABRT left a core file".to_owned());
    }
    if deaths.shell {
        figures.control("a shell that dies of SIGABRT leaves a core file (the daemon does not)", true);
    } else {
        not_tried.push("A core file of a daemon that dies: no process leaves one here.".to_owned());
    }
    match dumps::looks(&run.programs.join("palyra-ledger"))? {
        Some(looks) => {
            figures.control("another process of the user reads a shell's environment", looks.shell);
            if looks.environment || looks.memory {
                failures.push("another process of the same user may read the daemon's memory".to_owned());
            }
        }
        None => not_tried.push("Another process of the daemon's user: root cannot become another here.".to_owned()),
    }
    Ok(failures)
}

fn outcome(
    run: &Run,
    figures: &Figures,
    timed: &[Timed],
    failures: Vec<String>,
    mut not_tried: Vec<String>,
    seconds: f64,
) -> Outcome {
    let mut table = Table::new("Leaks", &["what", "number"]);
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / 1_048_576.0);
    let rows = [
        ("canaries, each in up to 13 forms", figures.canaries.to_string()),
        ("commands whose outputs were searched", figures.commands.to_string()),
        ("of them errors that were provoked", figures.refused.to_string()),
        ("MiB of outputs", mib(figures.said_bytes)),
        ("files left behind", figures.files.to_string()),
        ("MiB of files, with the messages of a daemon that traces everything", mib(figures.file_bytes)),
        (
            "KiB over the pairing listener, the one socket that is not encrypted",
            (figures.socket_bytes / 1024).to_string(),
        ),
        ("mappings of idle daemons", figures.mappings.to_string()),
        ("MiB of them", mib(figures.memory_bytes)),
    ];
    for (what, number) in rows {
        table.row(&[what.to_owned(), number]);
    }
    for (what, seen) in &figures.controls {
        table.row(&[format!("control: {what}"), if *seen { "seen" } else { "NOT SEEN" }.to_owned()]);
    }
    let mut memory = Table::new("Left in the memory of the idle daemon", &["canary", "times"]);
    for (what, count) in &figures.memory {
        memory.row(&[what.clone(), count.to_string()]);
    }
    let header = [
        "comparison",
        "measurements",
        "t",
        "median ns, nothing right",
        "all but the last byte right",
        "a planted leak in the same harness: its t",
        "its ns",
    ];
    let title = format!(
        "Comparisons by the clock (Welch's t, the largest of four croppings; {BOUND} in three measurements in a row tells \
         the classes apart)"
    );
    let mut clock = Table::new(&title, &header);
    for one in timed {
        clock.row(&[
            one.what.to_owned(),
            one.measurements.to_string(),
            told(&one.ts),
            one.medians.0.to_string(),
            one.medians.1.to_string(),
            one.planted.as_ref().map_or_else(String::new, |planted| told(&planted.ts)),
            one.planted
                .as_ref()
                .map_or_else(String::new, |planted| planted.medians.1.saturating_sub(planted.medians.0).to_string()),
        ]);
    }
    not_tried.extend([
        "Swapped pages, and what a medium keeps of files that were removed. Registers and kernel buffers.".to_owned(),
        "Keystores of a desktop session as slots and backends.".to_owned(),
        "The bytes of the local socket's command protocol: values cross it as descriptors, not as bytes.".to_owned(),
    ]);
    Outcome {
        title: "Leaks".to_owned(),
        what: "Secrets that stand nowhere else go into every input that takes one: values by the standard input, by a file, \
               by imported env and JSON files; passphrases and recovery words of slots, right and wrong; API keys, client \
               secrets, access and refresh tokens; pairing codes; values that programs and templates are given. The real \
               command line does it, first alone, then with a daemon that traces everything; errors are provoked on the \
               way. Then every canary is looked for raw, in hex, in UTF-16, percent-encoded, as JSON, as a list of \
               numbers and in base64 at every alignment, its head and its end each on its own, in every file left behind \
               but those that the user made or asked for, in every output, in the bytes of the listener that is not \
               encrypted, and in the memory of the daemon after use. A daemon that dies leaves no core file, and no other \
               process of its user reads its memory. Comparisons of secrets are timed with guesses of two classes, in \
               random order, each also with a comparison beside it that ends early: that must be seen."
            .to_owned(),
        command: format!("tools/lab leaks --count {} --seed {}", figures.rounds, run.seed),
        tried: (figures.canaries as u64, "canaries".to_owned()),
        seconds,
        failures,
        tables: vec![table, memory, clock],
        not_tried,
    }
}
