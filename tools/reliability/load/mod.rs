//! The daemon under load, with everything going on that goes on, then under far more than it takes.

mod duties;
mod figures;
mod flood;
mod peers;
mod told;
mod wire;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use palyra_ledger::{Config, Ledger, LedgerId, NewSlot, Settings, limits};
use tokio::runtime::Runtime;

use crate::outcome::Outcome;
use crate::provider::Provider;
use crate::served::{Seat, Served};
use crate::workload::Dice;
use crate::{Fault, Run};
use duties::{Roster, Stage};
use figures::{Sample, Tally, course, courses, quantile, sample, watch};
use flood::{Seen, Shed, flood};
use peers::{Job, Kind, Peer, pair};

/// Requests a second that are due, of a program that was built to be used; a development build gets fewer.
const RATE: u64 = if cfg!(debug_assertions) { 200 } else { 2_000 };
/// From how long on the load has all its devices.
const LONG: Duration = Duration::from_mins(10);
/// Devices of a long load, and of a short one.
const DEVICES: (u64, u64) = (256, 24);
/// What memory may gain after the warm-up, in MiB: what caches and tables of the state hold at their bounds.
const MEMORY_BOUND: f64 =
    (limits::MEMTABLE_BYTES_MAX + limits::INDEX_CACHE_BYTES) as f64 / MIB + limits::SLED_CACHE_BYTES as f64 / MIB;
/// What it may gain in the second half of a long load, in MiB: by then most of them are full.
const LATE_BOUND: f64 = 32.0;
const MIB: f64 = 1_048_576.0;
/// What descriptors may gain after the warm-up.
const DESCRIPTORS_BOUND: f64 = 24.0;
/// What memory may gain while it is overloaded, in MiB: some 2,000 connections with their buffers.
const FLOOD_BOUND: f64 = 256.0;
/// Within which time after the overload answers must be as fast as before.
const CALM: Duration = Duration::from_secs(10);

/// What was measured of one run.
struct Results {
    devices: u64,
    steady: Duration,
    /// Seconds in which requests were due, and those until the last one was answered.
    asked_s: f64,
    due: u64,
    tally: Arc<Tally>,
    samples: Vec<Sample>,
    /// Revoked devices, and requests of theirs that were refused afterwards.
    revoked: (usize, u64),
    refreshes: u64,
    shed: Arc<Shed>,
    seen: Seen,
    flooded: Vec<Sample>,
    flood_s: f64,
    /// Seconds after the overload until answers were as fast as before, and the p99 then, in ms.
    calm: Option<(f64, f64)>,
    after: Option<Sample>,
    events: u64,
    planted: Vec<(String, bool)>,
}

/// Loads a daemon for the budget or for `count` seconds, overloads it, and looks at what is left.
///
/// # Errors
/// What stood in the way of trying.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let steady = run.count.map_or((run.budget * 4 / 5).max(Duration::from_secs(10)), Duration::from_secs);
    let devices = if steady >= LONG { DEVICES.0 } else { DEVICES.1 };
    flood::raise_descriptors();
    let seat = Seat::new(run, "load")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (ledger, paired) = prepare(&seat, devices)?;
    let provider = Provider::start(duties::PROFILES, run.seed)?;
    let mut served = Served::start(&seat, &[], |_| {})?;
    let tally = Arc::new(Tally::default());
    let roster = Roster::new(runtime.handle().clone(), Arc::clone(&tally));
    let mut peers = Vec::new();
    for device in paired.1 {
        peers.push(Arc::new(device.settle(&seat.path("devices"), ledger, &paired.0, served.devices)?));
    }
    let (first, rest) = peers.split_first().ok_or("no devices")?;
    let mut planted = blind(&runtime, first);
    for peer in rest {
        roster.add(Arc::clone(peer));
    }
    let stage = Stage {
        seat: &seat,
        pairing: served.pairing.to_string(),
        roster: &roster,
        revoked: Mutex::default(),
        provider: &provider,
        tally: Arc::clone(&tally),
        over: AtomicBool::new(false),
        chain: Mutex::default(),
    };
    stage.profiles()?;
    let (samples, due, asked_s) = busy(run, &stage, served.pid(), steady)?;
    let revoked = std::mem::take(&mut *stage.revoked.lock().map_err(|_| "a duty panicked")?);
    settle(&revoked, &tally);
    planted.push(("open connections that nobody closes, as descriptors that grow".to_owned(), leaking(&served)?));
    planted.push(("memory that gains 1 MiB a second".to_owned(), swelling(&samples)));
    let peers = roster.peers();
    let flood_time = Duration::from_secs((steady.as_secs() / 30).clamp(5, 30));
    let flood_begun = Instant::now();
    let (shed, seen, flooded) = overload(&runtime, &peers, &served, flood_time)?;
    let flood_s = flood_begun.elapsed().as_secs_f64();
    let calm = calm(&runtime, &peers, &tally);
    std::thread::sleep(Duration::from_secs(2));
    let mut results = Results {
        devices,
        steady,
        asked_s,
        due,
        revoked: (revoked.len(), revoked.iter().map(|peer| peer.refused.load(Ordering::SeqCst)).sum()),
        refreshes: provider.served(),
        after: sample(served.pid(), begun),
        tally,
        samples,
        shed,
        seen,
        flooded,
        flood_s,
        calm,
        events: 0,
        planted,
    };
    let mut failures = results.judge(&provider, &revoked);
    if !served.lives()? {
        failures.push("the daemon ended by itself".to_owned());
    }
    roster.end();
    runtime.shutdown_timeout(Duration::from_secs(5));
    match served.stop() {
        Ok(said) => failures.extend(said.lines().find(|line| line.contains("panicked")).map(str::to_owned)),
        Err(fault) => failures.push(fault.to_string()),
    }
    let chain = stage.chain.lock().map_err(|_| "a duty panicked")?;
    let files: Vec<_> = chain.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let verify: Vec<&str> = ["backup", "verify"].into_iter().chain(files.iter().map(String::as_str)).collect();
    for words in [&["log", "verify", "--state"][..], if files.is_empty() { &["log", "head"] } else { &verify }] {
        failures.extend(seat.ok(words, None).err().map(|fault| fault.to_string()));
    }
    let head = seat.json(&["log", "head"])?;
    results.events = head.get("seq").and_then(serde_json::Value::as_u64).unwrap_or(0);
    drop(chain);
    if failures.is_empty() {
        std::fs::remove_dir_all(seat.dir())?;
    }
    let failures = failures.into_iter().map(|what| format!("--seed {}: {what}", run.seed)).collect();
    Ok(results.outcome(run, failures, begun.elapsed().as_secs_f64()))
}

type Prepared = (Vec<palyra_ledger::event::identity::Der>, Vec<peers::Paired>);

/// A home with its devices, before a daemon serves it.
fn prepare(seat: &Seat, devices: u64) -> Result<(LedgerId, Prepared), Fault> {
    let mut settings = Settings::default();
    settings.serve.pairing_starts_per_minute = 1_000_000;
    let ledger = Ledger::init(Config::new(seat.path("home")).settings(settings), NewSlot::file("lab"))?;
    let paired = (0..devices).map(|number| pair(&ledger, number)).collect::<Result<_, _>>()?;
    let roots = ledger.identity().trust()?.roots().iter().map(|root| root.certificate.clone()).collect();
    let id = ledger.id();
    ledger.close()?;
    // Without a way in from elsewhere no backup is made.
    let words = seat.path("words").to_string_lossy().into_owned();
    seat.ok(&["keys", "add-slot", "recovery", "--out-file", &words], None)?;
    Ok((id, (roots, paired)))
}

/// The steady load; gives samples, requests that were due, and the seconds until the last was answered.
fn busy(run: &Run, stage: &Stage<'_>, pid: u32, steady: Duration) -> Result<(Vec<Sample>, u64, f64), Fault> {
    // Over an hour there is time for everything; a short run must see each of it.
    let short = steady < LONG;
    let pace = |short_ms, long_ms| Duration::from_millis(if short { short_ms } else { long_ms });
    let watched = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(pid, &watched));
        let duties: Vec<std::thread::ScopedJoinHandle<'_, Result<(), Fault>>> = vec![
            scope.spawn(|| stage.certificates(pace(500, 1_000))),
            scope.spawn(|| stage.devices(pace(2_000, 5_000))),
            scope.spawn(|| stage.secrets(pace(250, 250))),
            scope.spawn(|| {
                stage.tokens(pace(1_500, 3_000));
                Ok(())
            }),
            scope.spawn(|| {
                stage.backups(pace(3_000, 60_000));
                Ok(())
            }),
        ];
        let begun = Instant::now();
        let due = ask(run, stage, begun, steady);
        stage.over.store(true, Ordering::Relaxed);
        for duty in duties {
            duty.join().map_err(|_| "a duty panicked")??;
        }
        // What is still under way is answered or has failed within a client's patience.
        let kinds = || stage.tally.kinds().into_iter().filter(|kind| kind.contains(" /v1/") && !kind.contains("renew"));
        let answered = || kinds().map(|kind| stage.tally.count(kind) as u64).sum::<u64>();
        let until = Instant::now() + wire::PATIENCE;
        let (mut last, mut still) = (answered(), Instant::now());
        while answered() < due && Instant::now() < until && still.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(20));
            if answered() != last {
                (last, still) = (answered(), Instant::now());
            }
        }
        let asked_s = begun.elapsed().as_secs_f64() - still.elapsed().as_secs_f64();
        watched.store(true, Ordering::Relaxed);
        let samples = watching.join().map_err(|_| "the watcher panicked")?;
        Ok((samples, due, asked_s))
    })
}

/// Sends requests out when they are due, whatever became of those before.
fn ask(run: &Run, stage: &Stage<'_>, begun: Instant, time: Duration) -> u64 {
    let mut dice = Dice::new(run.seed);
    let mut number = 0_u64;
    loop {
        let since = Duration::from_nanos(number * (1_000_000_000 / RATE));
        if since >= time {
            return number;
        }
        let due = begun + since;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let kind = match dice.below(100) {
            0..30 => Kind::Health,
            30..50 => Kind::Head,
            50..80 => Kind::Value,
            80..90 => Kind::List,
            90..94 => Kind::Crl,
            94..98 => Kind::Roots,
            98 => Kind::Checkpoint,
            _ => Kind::Denied,
        };
        stage.roster.send(usize::try_from(number).unwrap_or(0), Job { kind, due });
        number += 1;
    }
}

/// Lets revoked devices send what they still want to.
fn settle(revoked: &[Arc<Peer>], tally: &Tally) {
    let until = Instant::now() + Duration::from_secs(5);
    while revoked.iter().any(|peer| peer.refused.load(Ordering::SeqCst) < 5) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    for peer in revoked.iter().filter(|peer| peer.refused.load(Ordering::SeqCst) < 5) {
        tally.fault(format!("device {}: not every request after its revocation came to an end", peer.id));
    }
}

/// What the checks must see: a device that is revoked in name alone, a value that was never put, and an answer
/// that comes late because something else stood before it.
fn blind(runtime: &Runtime, peer: &Arc<Peer>) -> Vec<(String, bool)> {
    let silent = Tally::default();
    let one = |kind, due| runtime.block_on(peer.one(&mut None, Job { kind, due }, &silent));
    let late = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now);
    one(Kind::Head, late);
    let timed = quantile(&silent.sorted(Kind::Head.name()), 1000) >= 1_000_000;
    one(Kind::Value, Instant::now());
    let clean = silent.take_faults().is_empty();
    peer.acknowledged.store(7, Ordering::SeqCst);
    one(Kind::Value, Instant::now());
    let stale = clean && !silent.take_faults().is_empty();
    peer.revoked.store(true, Ordering::SeqCst);
    one(Kind::Health, Instant::now());
    vec![
        ("a request that was due a second ago, by its latency".to_owned(), timed),
        ("an older value than was acknowledged".to_owned(), stale),
        ("a device that is revoked in name alone, as accepted".to_owned(), peer.accepted.load(Ordering::SeqCst) == 1),
    ]
}

/// Holds connections open, and looks whether the check of descriptors sees them.
fn leaking(served: &Served) -> Result<bool, Fault> {
    let since = Instant::now();
    let mut held = Vec::new();
    let mut samples = Vec::new();
    for _ in 0..10 {
        samples.extend(sample(served.pid(), since));
        for _ in 0..8 {
            held.push(TcpStream::connect_timeout(&served.pairing, Duration::from_secs(5))?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let (_, descriptors, _) = courses(&samples);
    // Where nobody may count them nothing is seen, and the outcome says so.
    Ok(descriptors.is_none_or(|course| course.grew(DESCRIPTORS_BOUND)))
}

/// The samples of the run with a ramp on them.
fn swelling(samples: &[Sample]) -> bool {
    let spread = (MEMORY_BOUND * 2.0 / samples.len().max(1) as f64).max(1.0);
    let ramp = (0_u32..)
        .zip(samples)
        .map(|(number, sample)| (sample.at, sample.rss_kib as f64 / 1024.0 + spread * f64::from(number)));
    course(&ramp.collect::<Vec<_>>()).is_some_and(|course| course.grew(MEMORY_BOUND))
}

fn overload(
    runtime: &Runtime,
    peers: &[Arc<Peer>],
    served: &Served,
    time: Duration,
) -> Result<(Arc<Shed>, Seen, Vec<Sample>), Fault> {
    let watched = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (pid, watched) = (served.pid(), &watched);
        let watching = scope.spawn(move || watch(pid, watched));
        let done = flood(runtime, peers, served, time);
        watched.store(true, Ordering::Relaxed);
        let flooded = watching.join().map_err(|_| "the watcher panicked")?;
        let (shed, seen) = done;
        Ok((shed, seen, flooded))
    })
}

/// Asks as devices ordinarily do, until a second's answers are as fast as under load; gives when that was, and
/// the p99 in milliseconds.
fn calm(runtime: &Runtime, peers: &[Arc<Peer>], tally: &Tally) -> Option<(f64, f64)> {
    let begun = Instant::now();
    let bound = normal(tally);
    let some: Vec<_> = peers.iter().take(8).collect();
    let mut wires: Vec<_> = some.iter().map(|_| None).collect();
    while begun.elapsed() < CALM {
        let (second, silent) = (Instant::now(), Tally::default());
        while second.elapsed() < Duration::from_secs(1) {
            for (peer, wire) in some.iter().zip(&mut wires) {
                for kind in [Kind::Health, Kind::Head, Kind::List] {
                    runtime.block_on(peer.one(wire, Job { kind, due: Instant::now() }, &silent));
                }
            }
        }
        let faults = silent.take_faults();
        let mut all: Vec<u32> = silent
            .kinds()
            .into_iter()
            .filter(|kind| kind.contains("/v1/"))
            .flat_map(|kind| silent.sorted(kind))
            .collect();
        all.sort_unstable();
        let p99 = f64::from(quantile(&all, 990)) / 1000.0;
        if faults.is_empty() && all.len() >= 24 && p99 <= bound {
            return Some((begun.elapsed().as_secs_f64(), p99));
        }
    }
    None
}

/// What is an ordinary p99 of `GET /v1/health`, in milliseconds: that under load, and never below 25 ms.
fn normal(tally: &Tally) -> f64 {
    (f64::from(quantile(&tally.sorted(Kind::Health.name()), 990)) / 1000.0).max(25.0)
}
