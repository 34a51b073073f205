//! Whole processes: how long one lives, and how much memory it takes.
//!
//! Memory is measured from small processes of this program's own: the kernel counts what was resident
//! before `exec` as the child's, so that a large parent would show in its children.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use palyra_ledger::{AuditReads, AuditSettings, Config, Ledger, Scope, Settings};
use serde::{Deserialize, Serialize};

use crate::homes::{self, VALUE_BYTES};
use crate::machine::peak_kib;
use crate::material::{Pool, name};
use crate::race::median;
use crate::report::{Section, figure};
use crate::{Fault, Plan};

const RUN: &str = "@run";
const HOLD: &str = "@hold";
const LOOKUP: &str = "secret-tool lookup";

/// What a child of this program measured.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    /// Milliseconds of each run.
    millis: Vec<f64>,
    /// Most that was resident, in KiB.
    peak_kib: u64,
}

/// Does a child's work, where this process is one.
pub fn child() -> Option<Result<(), Fault>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (first, rest) = arguments.split_first()?;
    let measured = match (first.as_str(), rest) {
        (RUN, [runs, program, arguments @ ..]) => run_many(runs, program, arguments),
        (HOLD, [home, secrets]) => hold(Path::new(home), secrets),
        _ => return None,
    };
    Some(measured.and_then(|measured| {
        println!("{}", serde_json::to_string(&measured)?);
        Ok(())
    }))
}

fn run_many(runs: &str, program: &str, arguments: &[String]) -> Result<Measured, Fault> {
    let mut millis = Vec::new();
    for _ in 0..runs.parse::<u32>()? {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let begin = Instant::now();
        let status = command.status()?;
        millis.push(begin.elapsed().as_secs_f64() * 1_000.0);
        if !status.success() {
            return Err(format!("{program} ended with {status}").into());
        }
    }
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    Ok(Measured { millis, peak_kib: u64::try_from(peak)? })
}

fn hold(home: &Path, secrets: &str) -> Result<Measured, Fault> {
    let secrets: u32 = secrets.parse()?;
    let begin = Instant::now();
    // Reads unrecorded: a reader's spool is bounded, and the ledger is to stay as it was loaded.
    let settings = Settings { audit: AuditSettings { reads: AuditReads::Off }, ..Settings::default() };
    let ledger = Ledger::open(Config::new(home).read_only().settings(settings))?;
    let opened = begin.elapsed().as_secs_f64() * 1_000.0;
    let vault = ledger.vault(Scope::global());
    let pool = Pool::new()?;
    for _ in 0..secrets.min(100_000) {
        vault.get(&name(pool.below(secrets))?)?;
    }
    Ok(Measured { millis: vec![opened], peak_kib: peak_kib().unwrap_or(0) })
}

fn ask(arguments: &[&str]) -> Result<Measured, Fault> {
    let output = Command::new(std::env::current_exe()?).args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("measuring {} failed", arguments.join(" ")).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One whole process for each read of a secret.
pub fn whole_process(plan: &Plan) -> Result<Section, Fault> {
    let mut section = Section::new(
        "One secret by a whole process",
        "From the start of the process to its end; the file cache is warm. The floor is what a process costs that does \
         nothing, measured in the same way.",
        &["command", "ms (median)", "least", "MiB resident"],
    );
    if !plan.program.is_file() {
        section.row(&[format!("skipped: {} is not there", plan.program.display()), String::new()]);
        return Ok(section);
    }
    let program = plan.program.to_str().ok_or("the program's path is not UTF-8")?;
    let mut commands = vec![("/bin/true: the floor".to_owned(), words(&["/bin/true"]))];
    let mut offer = |label: String, words: Vec<String>| match answer(&words) {
        Some(bytes) if bytes >= VALUE_BYTES => commands.push((label, words)),
        Some(_) => section.row(&[format!("{label}: skipped, it does not print the secret"), String::new()]),
        None => section.row(&[format!("{label}: skipped, it is not installed or does not answer"), String::new()]),
    };
    let mut promises = Vec::new();
    for (secrets, millis, mib) in [(plan.few, 10.0, None), (plan.many, 60.0, Some(64.0))] {
        let home = homes::loaded(plan, secrets)?;
        let home = home.to_str().ok_or("the home's path is not UTF-8")?;
        let target = format!("global/{}", name(secrets / 2)?);
        let label = format!("palyra-ledger secrets get --reveal, {} secrets", figure(f64::from(secrets)));
        promises.push((label.clone(), millis, mib));
        offer(label, words(&[program, "--home", home, "secrets", "get", &target, "--reveal"]));
    }
    offer(LOOKUP.to_owned(), words(&["secret-tool", "lookup", "bench", "key"]));
    offer("pass show".to_owned(), words(&["pass", "show", "bench/key"]));
    let mut times = vec![(Vec::new(), 0); commands.len()];
    for round in 0..plan.rounds {
        for turn in 0..commands.len() {
            let at = (round + turn) % commands.len();
            let (Some((_, words)), Some((millis, peak))) = (commands.get(at), times.get_mut(at)) else { continue };
            let mut arguments = vec![RUN, "10"];
            arguments.extend(words.iter().map(String::as_str));
            let measured = ask(&arguments)?;
            millis.extend(measured.millis);
            *peak = measured.peak_kib.max(*peak);
        }
    }
    let lookup = commands.iter().position(|(label, _)| label == LOOKUP).and_then(|at| times.get(at));
    let lookup = lookup.map(|(millis, _)| median(millis.clone()));
    for ((label, _), (millis, peak)) in commands.iter().zip(times) {
        let least = millis.iter().copied().fold(f64::INFINITY, f64::min);
        let (middle, mib) = (median(millis), peak as f64 / 1_024.0);
        section.row(&[label.clone(), figure(middle), figure(least), figure(mib)]);
        for (promised, millis, most) in promises.iter().filter(|(promised, ..)| promised == label) {
            section.at_most(format!("{promised}, ms"), *millis, middle);
            if let (Some(lookup), None) = (lookup, most) {
                section.at_most(format!("{promised}, by {LOOKUP}"), 1.25, middle / lookup);
            }
            if let Some(most) = most {
                section.at_most(format!("{promised}, MiB resident"), *most, mib);
            }
        }
    }
    Ok(section)
}

/// A program that is given a secret, beside the same program alone.
pub fn starting(plan: &Plan) -> Result<Section, Fault> {
    let mut section = Section::new(
        "Starting a program",
        "From the start of the process to its end; the file cache is warm. `run` resolves one reference, closes the ledger \
         and lets the program take its place; with a mask or a mounted file it stays beside it.",
        &["command", "ms (median)", "ms more"],
    );
    if !plan.program.is_file() {
        section.row(&[format!("skipped: {} is not there", plan.program.display()), String::new(), String::new()]);
        return Ok(section);
    }
    let program = plan.program.to_str().ok_or("the program's path is not UTF-8")?;
    let home = homes::loaded(plan, plan.few)?;
    let home = home.to_str().ok_or("the home's path is not UTF-8")?;
    let secret = format!("SECRET=global/{}", name(plan.few / 2)?);
    let run = |more: &[&str]| {
        let mut all = words(&[program, "--home", home, "run"]);
        all.extend(words(more));
        all.extend(words(&["--", "/bin/true"]));
        all
    };
    let commands = [
        ("/bin/true: the floor", words(&["/bin/true"])),
        ("run --env", run(&["--env", &secret])),
        ("run --fd", run(&["--fd", &secret])),
        ("run --env --mask", run(&["--env", &secret, "--mask"])),
        ("run --mount", run(&["--mount", &secret])),
    ];
    let mut times = vec![Vec::new(); commands.len()];
    for round in 0..plan.rounds {
        for turn in 0..commands.len() {
            let at = (round + turn) % commands.len();
            let (Some((_, words)), Some(millis)) = (commands.get(at), times.get_mut(at)) else { continue };
            let mut arguments = vec![RUN, "10"];
            arguments.extend(words.iter().map(String::as_str));
            millis.extend(ask(&arguments)?.millis);
        }
    }
    let mut floor = None;
    for ((label, _), millis) in commands.iter().zip(times) {
        let middle = median(millis);
        let more = middle - *floor.get_or_insert(middle);
        section.row(&[(*label).to_owned(), figure(middle), figure(more)]);
        if *label == "run --env" {
            section.at_most(format!("run -- true at {} secrets, ms more than true", plan.few), 15.0, more);
        }
    }
    Ok(section)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Length of what a command prints, if it runs.
fn answer(words: &[String]) -> Option<usize> {
    let (program, arguments) = words.split_first()?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then_some(output.stdout.len())
}

/// Memory of a program that embeds the library and reads.
pub fn memory(plan: &Plan) -> Result<Section, Fault> {
    let mut section = Section::new(
        "Memory of a program that embeds the library",
        "A new process opens the ledger for reading and gets up to 100,000 secrets at random. Reads are not recorded. 1 MiB of it is the bench's own.",
        &["secrets", "MiB resident, at most"],
    );
    for secrets in [plan.few, plan.many] {
        let home = homes::loaded(plan, secrets)?;
        let home = home.to_str().ok_or("the home's path is not UTF-8")?;
        let measured = ask(&[HOLD, home, &secrets.to_string()])?;
        section.row(&[figure(f64::from(secrets)), figure(measured.peak_kib as f64 / 1_024.0)]);
    }
    Ok(section)
}
