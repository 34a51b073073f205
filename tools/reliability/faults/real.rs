//! Faults of a real file system: a limit on the size of a file, and a file system that is full.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use palyra_ledger::{ArgonCost, AuditReads, Config, Error, Ledger, NewSlot, PutOptions, SecretBytes};
use serde::{Deserialize, Serialize};

use crate::child::{Child, command};
use crate::outcome::Table;
use crate::workload::{Dice, LANES, Lane, Op, World, act, choose, find, settings, verify};
use crate::{Fault, Run};

/// What a process gets that writes beyond its limit; nix calls it SIGXFSZ. A handler turns it into EFBIG.
const SIGXFSZ: i32 = 25;
/// Operations after which a child gives up waiting for its fault.
const OPERATIONS_MAX: u64 = 2_000;
/// Size of the small file system, and of the file whose removal makes room.
const SMALL_MIB: u64 = 24;
const BALLAST: usize = 8 << 20;

/// What a child with a limit is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    home: PathBuf,
    seed: u64,
    limit: u64,
    before: bool,
}

/// What a child on a small file system is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Small {
    dir: PathBuf,
    seed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Trying(Lane, Op),
    Done(Lane, Op),
    /// The first error, and what a further write was answered where the writer is dead.
    Met {
        error: String,
        dead: bool,
    },
    /// Nothing failed.
    Through,
    /// All is well on the small file system again.
    Well,
    Wrong(String),
}

fn config(home: impl Into<PathBuf>) -> Config {
    Config::new(home).argon_cost(ArgonCost::for_tests()).settings(settings(AuditReads::Batched))
}

fn say(said: &Said) -> Result<(), Fault> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}

/// Works until something fails; says what, and whether the writer is dead then, as it must say itself.
fn work(ledger: &Ledger, world: &mut World, dice: &mut Dice, scratch: &Path) -> Result<bool, Fault> {
    for _ in 0..OPERATIONS_MAX {
        let lane = dice.pick(&LANES).copied().unwrap_or(Lane::Keys);
        let op = choose(world, lane, dice);
        if matches!(op, Op::Backup { .. }) {
            continue;
        }
        say(&Said::Trying(lane, op.clone()))?;
        if let Err(fault) = act(ledger, lane, &op, scratch) {
            let dead = ledger.alive().is_err();
            if dead {
                let vault = ledger.vault("global".parse()?);
                match vault.put(&"after".parse()?, &SecretBytes::from(b"x".as_slice()), PutOptions::new()) {
                    Err(Error::Dead { .. }) => {}
                    other => say(&Said::Wrong(format!("a dead writer answered {other:?}")))?,
                }
            }
            say(&Said::Met { error: super::sweep::chain(&fault), dead })?;
            return Ok(true);
        }
        world.apply(lane, &op)?;
        say(&Said::Done(lane, op))?;
    }
    say(&Said::Through)?;
    Ok(false)
}

/// A child whose files may grow to a limit.
///
/// # Errors
/// What stood in the way; what the ledger answered is said on the pipe.
pub fn limited(orders: &Orders) -> Result<(), Fault> {
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let limit = || -> Result<(), Fault> {
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE)?;
        Ok(setrlimit(Resource::RLIMIT_FSIZE, orders.limit, hard)?)
    };
    if orders.before {
        limit()?;
    }
    let opened = Ledger::open(config(&orders.home)).map_err(Fault::from);
    let opened = opened.and_then(|ledger| find(&ledger, false).map(|world| (ledger, world)));
    let (ledger, mut world) = match opened {
        Ok(opened) => opened,
        Err(fault) => return say(&Said::Met { error: super::sweep::chain(&fault), dead: false }),
    };
    limit()?;
    work(&ledger, &mut world, &mut Dice::new(orders.seed), Path::new("")).map(drop)
}

/// A child on a small file system: fills it, makes room and opens again.
///
/// # Errors
/// What stood in the way.
pub fn small(orders: &Small) -> Result<(), Fault> {
    let done = fill(orders);
    match &done {
        Ok(()) => say(&Said::Well),
        Err(fault) => say(&Said::Wrong(super::sweep::chain(fault))),
    }
}

fn fill(orders: &Small) -> Result<(), Fault> {
    let home = orders.dir.join("home");
    let ballast = orders.dir.join("ballast");
    File::create_new(&ballast)?.write_all(&vec![7; BALLAST])?;
    let ledger = Ledger::init(config(&home), NewSlot::file("machine"))?;
    let mut world = find(&ledger, false)?;
    let mut dice = Dice::new(orders.seed);
    let mut under_way = BTreeMap::new();
    // Large values fill it soon; the mixed workload goes on until something fails.
    let filler = orders.dir.join("filler");
    let mut room = File::create_new(&filler)?;
    let spare = dice.below(512 * 1024);
    while room.write_all(&[9; 4096]).is_ok() {}
    drop(room);
    let full = std::fs::metadata(&filler)?.len();
    File::options().write(true).open(&filler)?.set_len(full.saturating_sub(spare))?;
    let mut met = None;
    for _ in 0..OPERATIONS_MAX {
        let lane = dice.pick(&LANES).copied().unwrap_or(Lane::Keys);
        let op = choose(&world, lane, &mut dice);
        if matches!(op, Op::Backup { .. }) {
            continue;
        }
        if let Err(fault) = act(&ledger, lane, &op, Path::new("")) {
            under_way.insert(lane, op);
            met = Some(super::sweep::chain(&fault));
            break;
        }
        world.apply(lane, &op)?;
    }
    let error = met.ok_or("the small file system was never full")?;
    let dead = ledger.alive().is_err();
    say(&Said::Met { error, dead })?;
    let _ = ledger.close();
    drop(ledger);
    // Room again.
    std::fs::remove_file(&ballast)?;
    let ledger = Ledger::open(config(&home))?;
    world.settle(&find(&ledger, true)?, &under_way)?;
    verify(&ledger, true)?;
    for lane in LANES.into_iter().take(3) {
        let op = choose(&world, lane, &mut dice);
        act(&ledger, lane, &op, Path::new(""))?;
        world.apply(lane, &op)?;
    }
    world.settle(&find(&ledger, false)?, &BTreeMap::new())?;
    Ok(ledger.close()?)
}

/// Runs a child and gives what it said.
fn heard(mut command: Command) -> Result<Vec<Said>, Fault> {
    let mut process = command.spawn()?;
    let out = process.stdout.take().ok_or("no pipe")?;
    let mut said = Vec::new();
    for line in BufReader::new(out).lines() {
        said.push(serde_json::from_str(&line?)?);
    }
    process.wait()?;
    Ok(said)
}

/// Both; gives their figures, and how many cases they were.
pub fn run(run: &Run, failures: &mut Vec<String>, not_tried: &mut Vec<String>) -> Result<(Table, u64), Fault> {
    let mut table = Table::new(
        "On a real file system",
        &["fault", "cases", "refused with its cause", "writer dead until reopened", "met nothing that mattered"],
    );
    let wanted = run.count.map_or(40, |count| (count / 20).clamp(2, 40));
    let (mut cases, mut refused, mut dead, mut passed) = (0, 0, 0, 0);
    let home = run.dir.join("limited");
    Ledger::init(config(&home), NewSlot::file("machine"))?.close()?;
    let (mut world, mut dice) = (World::new(), Dice::new(run.seed));
    while cases < wanted {
        cases += 1;
        let most = if dice.once_in(2) { 80_000 } else { 600_000 };
        let limit = 2_048 + dice.below(most);
        let orders = Orders { home: home.clone(), seed: dice.number(), limit, before: dice.once_in(3) };
        let said = heard(command(&Child::Limited(orders))?)?;
        let done = limited_case(&home, &mut world, &said);
        match done {
            Ok((met, died)) => {
                refused += u64::from(met);
                passed += u64::from(!met);
                dead += u64::from(died);
            }
            Err(fault) => {
                failures.push(format!("--seed {}: limit of {limit} bytes, case {cases}: {fault}", run.seed));
                break;
            }
        }
    }
    table.row(&[
        "RLIMIT_FSIZE of 2 KiB to 600 KiB: EFBIG, after a short write".to_owned(),
        cases.to_string(),
        refused.to_string(),
        dead.to_string(),
        passed.to_string(),
    ]);
    let (full, died) = fill_up(run, wanted / 4 + 1, failures, not_tried)?;
    if full > 0 {
        let name = format!("tmpfs of {SMALL_MIB} MiB that is full: ENOSPC");
        table.row(&[name, full.to_string(), full.to_string(), died.to_string(), "0".to_owned()]);
    }
    Ok((table, cases + full))
}

fn limited_case(home: &Path, world: &mut World, said: &[Said]) -> Result<(bool, bool), Fault> {
    let mut under_way = BTreeMap::new();
    let (mut met, mut died) = (false, false);
    for said in said {
        match said {
            Said::Trying(lane, op) => drop(under_way.insert(*lane, op.clone())),
            Said::Done(lane, op) => {
                under_way.remove(lane);
                world.apply(*lane, op)?;
            }
            Said::Met { error, dead } => {
                if !error.contains("File too large") {
                    return Err(format!("the error does not name its cause: {error}").into());
                }
                (met, died) = (true, *dead);
            }
            Said::Through | Said::Well => {}
            Said::Wrong(what) => return Err(what.clone().into()),
        }
    }
    let ledger = Ledger::open(config(home)).map_err(|error| format!("opening again: {error}"))?;
    world.settle(&find(&ledger, false)?, &under_way)?;
    verify(&ledger, true)?;
    ledger.close()?;
    Ok((met, died))
}

/// Small file systems, mounted in a namespace of their own where this user may.
fn fill_up(
    run: &Run,
    cases: u64,
    failures: &mut Vec<String>,
    not_tried: &mut Vec<String>,
) -> Result<(u64, u64), Fault> {
    let (mut full, mut dead) = (0, 0);
    for case in 0..cases {
        let dir = run.dir.join("small");
        std::fs::create_dir_all(&dir)?;
        let orders = Small { dir: dir.clone(), seed: run.seed.wrapping_add(case) };
        let inner = command(&Child::Small(orders))?;
        let mut outer = Command::new("unshare");
        outer.args(["--mount", "sh", "-c"]);
        outer.arg(format!("mount -t tmpfs -o size={SMALL_MIB}m,mode=700 tmpfs \"$0\" && exec \"$1\""));
        outer.arg(&dir).arg(inner.get_program());
        outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        outer.stderr(std::process::Stdio::null());
        let said = heard(outer).unwrap_or_default();
        if said.is_empty() {
            not_tried.push("A small file system of its own: this user may not mount one here.".to_owned());
            break;
        }
        let fail = |what: &str| format!("--seed {}: tmpfs, case {case}: {what}", run.seed);
        let mut well = false;
        for said in &said {
            match said {
                Said::Met { error, .. } if !error.contains("No space left on device") => {
                    failures.push(fail(&format!("the error does not name its cause: {error}")));
                }
                Said::Met { dead: true, .. } => dead += 1,
                Said::Wrong(what) => failures.push(fail(what)),
                Said::Well => well = true,
                _ => {}
            }
        }
        if !well && failures.is_empty() {
            failures.push(fail("the child ended early"));
        }
        full += 1;
    }
    Ok((full, dead))
}
