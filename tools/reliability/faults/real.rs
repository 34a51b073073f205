//! Faults of a real file system: a limit on the size of a file, and a file system that is full.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use palyra_ledger::{ArgonCost, AuditReads, Config, Error, Ledger, NewSlot, PutOptions, SecretBytes};
use serde::{Deserialize, Serialize};

use crate::child::{Child, Heard, Running, command};
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
/// How long a child may take: one that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(3);

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
                    Err(error @ Error::Dead { .. }) if error.to_string().contains("open it again") => {}
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

/// What was counted of one kind.
#[derive(Debug, Default)]
struct Counted {
    cases: u64,
    refused: u64,
    dead: u64,
}

/// How many of each kind are wanted, and until when they may take; one of each is made whatever the time is.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub limited: u64,
    pub small: u64,
    pub until: Option<Instant>,
}

impl Share {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Half of the time that is left.
    fn half(self) -> Self {
        let now = Instant::now();
        Self { until: self.until.map(|until| now + until.saturating_duration_since(now) / 2), ..self }
    }
}

/// Both; gives their figures, and how many cases they were.
pub fn run(
    run: &Run,
    share: Share,
    failures: &mut Vec<String>,
    not_tried: &mut Vec<String>,
) -> Result<(Table, u64), Fault> {
    let mut table = Table::new(
        "On a real file system",
        &["fault", "cases", "refused with its cause", "writer dead until reopened", "met nothing that mattered"],
    );
    let limited = limits(run, share.half(), failures)?;
    let small = fill_up(run, share, failures, not_tried)?;
    let kinds = [
        ("RLIMIT_FSIZE of 2 KiB to 600 KiB: EFBIG, after a short write".to_owned(), &limited, share.limited),
        (format!("tmpfs of {SMALL_MIB} MiB that is full: ENOSPC"), &small, share.small),
    ];
    for (name, Counted { cases, refused, dead }, wanted) in kinds {
        table.row(&[
            name.clone(),
            cases.to_string(),
            refused.to_string(),
            dead.to_string(),
            (cases - refused).to_string(),
        ]);
        if *cases > 0 && *cases < wanted && failures.is_empty() {
            not_tried.push(format!("{name}: {cases} of {wanted} cases, then the time was over."));
        }
    }
    Ok((table, limited.cases + small.cases))
}

/// Children with a limit on the size of a file, on one home after the other's.
fn limits(run: &Run, share: Share, failures: &mut Vec<String>) -> Result<Counted, Fault> {
    let home = run.dir.join("limited");
    Ledger::init(config(&home), NewSlot::file("machine"))?.close()?;
    let (mut world, mut dice, mut counted) = (World::new(), Dice::new(run.seed), Counted::default());
    while counted.cases < share.limited && (counted.cases == 0 || !share.is_over()) {
        counted.cases += 1;
        let most = if dice.once_in(2) { 80_000 } else { 600_000 };
        let limit = 2_048 + dice.below(most);
        let orders = Orders { home: home.clone(), seed: dice.number(), limit, before: dice.once_in(3) };
        let heard = Running::start(command(&Child::Limited(orders))?)?.finish(PATIENCE)?;
        match limited_case(&home, &mut world, heard) {
            Ok((met, died)) => {
                counted.refused += u64::from(met);
                counted.dead += u64::from(died);
            }
            Err(fault) => {
                let case = counted.cases;
                failures.push(format!("--seed {}: limit of {limit} bytes, case {case}: {fault}", run.seed));
                break;
            }
        }
    }
    Ok(counted)
}

fn limited_case(home: &Path, world: &mut World, heard: Heard<Said>) -> Result<(bool, bool), Fault> {
    let mut under_way = BTreeMap::new();
    let (mut met, mut died, mut through) = (false, false, false);
    for said in heard.said {
        match said {
            Said::Trying(lane, op) => drop(under_way.insert(lane, op)),
            Said::Done(lane, op) => {
                under_way.remove(&lane);
                world.apply(lane, &op)?;
            }
            Said::Met { error, dead } => {
                if !error.contains("File too large") {
                    return Err(format!("the error does not name its cause: {error}").into());
                }
                (met, died) = (true, dead);
            }
            Said::Through | Said::Well => through = true,
            Said::Wrong(what) => return Err(what.into()),
        }
    }
    heard.ended?;
    if !met && !through {
        return Err("the child ended without a word about it".into());
    }
    let ledger = Ledger::open(config(home)).map_err(|error| format!("opening again: {error}"))?;
    world.settle(&find(&ledger, false)?, &under_way)?;
    verify(&ledger, true)?;
    ledger.close()?;
    Ok((met, died))
}

/// A shell in a namespace of its own with a small file system at its first argument, where this user may have that;
/// then it becomes its second.
fn with_small(dir: &Path, then: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg(format!("mount -t tmpfs -o size={SMALL_MIB}m,mode=700 tmpfs \"$0\" && {then}"));
    command.arg(dir);
    command
}

/// Small file systems.
fn fill_up(run: &Run, share: Share, failures: &mut Vec<String>, not_tried: &mut Vec<String>) -> Result<Counted, Fault> {
    let dir = run.dir.join("small");
    std::fs::create_dir_all(&dir)?;
    let mut counted = Counted::default();
    // Whether this user may mount one is asked by itself: a child that says nothing is a failure.
    let asked = with_small(&dir, "true").stdin(std::process::Stdio::null()).output();
    if let Some(why) = match asked {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    } {
        not_tried.push(format!("A small file system of its own: this user may not mount one here ({why})."));
        return Ok(counted);
    }
    while counted.cases < share.small && (counted.cases == 0 || !share.is_over()) {
        let case = counted.cases;
        counted.cases += 1;
        let orders = Small { dir: dir.clone(), seed: run.seed.wrapping_add(case) };
        let inner = command(&Child::Small(orders))?;
        let mut outer = with_small(&dir, "exec \"$1\"");
        outer.arg(inner.get_program());
        outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        match small_case(Running::start(outer)?.finish(PATIENCE)?) {
            Ok(died) => {
                counted.refused += 1;
                counted.dead += u64::from(died);
            }
            Err(fault) => failures.push(format!("--seed {}: tmpfs, case {case}: {fault}", run.seed)),
        }
    }
    Ok(counted)
}

/// Whether the writer died when the file system was full.
fn small_case(heard: Heard<Said>) -> Result<bool, Fault> {
    let (mut died, mut met, mut well) = (false, false, false);
    for said in heard.said {
        match said {
            Said::Met { error, .. } if !error.contains("No space left on device") => {
                return Err(format!("the error does not name its cause: {error}").into());
            }
            Said::Met { dead, .. } => (met, died) = (true, dead),
            Said::Wrong(what) => return Err(what.into()),
            Said::Well => well = true,
            _ => {}
        }
    }
    heard.ended?;
    if met && well { Ok(died) } else { Err("the child ended without saying that all is well".into()) }
}
