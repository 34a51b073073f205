//! What goes on beside the requests: certificates, revocations, pairings, secrets, tokens, backups.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use palyra_ledger::device::{Client, DeviceFiles, JoinOptions, join_ledger};
use palyra_ledger::event::identity::ClientKind;
use palyra_ledger::{DeviceId, DeviceName, SystemClock, limits};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::figures::Tally;
use super::peers::{Job, Kind, Peer, value, work};
use crate::Fault;
use crate::provider::Provider;
use crate::served::{Seat, text};

/// OAuth profiles that the daemon keeps fresh.
pub const PROFILES: usize = 8;
/// Backups after which a full one begins anew.
const CHAIN: usize = 8;
/// Requests that a revoked device sends on.
const AFTER: usize = 4;

/// The devices that ask, each with the way to its task.
pub struct Roster {
    asking: Mutex<Vec<(Arc<Peer>, UnboundedSender<Job>)>>,
    handle: Handle,
    tally: Arc<Tally>,
}

impl Roster {
    /// Nobody yet; tasks run on this runtime.
    pub fn new(handle: Handle, tally: Arc<Tally>) -> Self {
        Self { asking: Mutex::default(), handle, tally }
    }

    fn all(&self) -> MutexGuard<'_, Vec<(Arc<Peer>, UnboundedSender<Job>)>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a device's task.
    pub fn add(&self, peer: Arc<Peer>) {
        let (send, receive) = unbounded_channel();
        self.handle.spawn(work(Arc::clone(&peer), receive, Arc::clone(&self.tally)));
        self.all().push((peer, send));
    }

    /// One of them, round and round.
    pub fn pick(&self, number: usize) -> Option<Arc<Peer>> {
        let all = self.all();
        all.get(number % all.len().max(1)).map(|(peer, _)| Arc::clone(peer))
    }

    /// All of them.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.all().iter().map(|(peer, _)| Arc::clone(peer)).collect()
    }

    /// Gives one of them, round and round, something to ask.
    pub fn send(&self, number: usize, job: Job) {
        let all = self.all();
        if let Some((_, send)) = all.get(number % all.len().max(1)) {
            // Its task ends with its sender alone.
            let _ = send.send(job);
        }
    }

    /// Takes one out: its task ends when what was sent to it is done.
    pub fn take(&self, peer: &Peer) -> Option<UnboundedSender<Job>> {
        let mut all = self.all();
        let at = all.iter().position(|(other, _)| other.id == peer.id)?;
        Some(all.swap_remove(at).1)
    }

    /// Takes everybody out.
    pub fn end(&self) {
        self.all().clear();
    }
}

/// What the duties share.
pub struct Stage<'a> {
    /// The home.
    pub seat: &'a Seat,
    /// Host and port of the pairing listener.
    pub pairing: String,
    /// The devices.
    pub roster: &'a Roster,
    /// Those that were revoked.
    pub revoked: Mutex<Vec<Arc<Peer>>>,
    /// The token endpoint.
    pub provider: &'a Provider,
    /// What is measured.
    pub tally: Arc<Tally>,
    /// Everything ends.
    pub over: AtomicBool,
    /// The last chain of backups.
    pub chain: Mutex<Vec<PathBuf>>,
}

impl Stage<'_> {
    /// Does something again and again, so long after it began last, until everything ends.
    fn every(&self, period: Duration, what: &'static str, mut act: impl FnMut(usize) -> Result<(), Fault>) {
        let mut next = Instant::now() + period;
        for number in 0.. {
            while Instant::now() < next {
                if self.over.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            next = Instant::now() + period;
            if let Err(fault) = act(number) {
                self.tally.fault(format!("{what}: {fault}"));
            }
        }
    }

    /// Runs a command, which must succeed, and notes how long it took.
    fn command(&self, kind: &'static str, words: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
        let begun = Instant::now();
        let said = self.seat.ok(words, input)?;
        self.tally.took(kind, begun.elapsed());
        Ok(said)
    }

    /// Devices renew their certificates, and the daemon its own.
    pub fn certificates(&self, period: Duration) -> Result<(), Fault> {
        let runtime = runtime()?;
        let mut renewals: HashMap<DeviceId, u32> = HashMap::new();
        self.every(period, "renewing a certificate", |number| {
            if number % 16 == 15 {
                self.command("certs rotate (command)", &["certs", "rotate"], None)?;
            }
            let Some(peer) = self.roster.pick(number) else { return Ok(()) };
            let _busy = runtime.block_on(peer.busy.lock());
            // A device may renew so often within an hour, and is refused beyond that.
            let renewed = renewals.entry(peer.id).or_default();
            if peer.doomed.load(Ordering::SeqCst) || *renewed + 4 >= limits::RENEWALS_PER_HOUR {
                return Ok(());
            }
            *renewed += 1;
            let begun = Instant::now();
            runtime.block_on(async {
                let mut client = Client::new(peer.files.clone(), None, Arc::new(SystemClock)).await?;
                client.renew().await
            })?;
            self.tally.took("POST /v1/renew, connecting anew", begun.elapsed());
            peer.renewed()
        });
        Ok(())
    }

    /// Devices are revoked, and others are paired, so that their number stays.
    pub fn devices(&self, period: Duration) -> Result<(), Fault> {
        let runtime = runtime()?;
        self.every(period, "a device", |number| {
            if number % 2 == 0 {
                if let Some(peer) = self.roster.pick(7 * number) {
                    self.revoke(&runtime, &peer)?;
                }
                return Ok(());
            }
            let begun = Instant::now();
            let peer = self.join(&runtime, number)?;
            self.tally.took("a pairing, with its person", begun.elapsed());
            self.roster.add(peer);
            Ok(())
        });
        Ok(())
    }

    fn revoke(&self, runtime: &Runtime, peer: &Arc<Peer>) -> Result<(), Fault> {
        let _busy = runtime.block_on(peer.busy.lock());
        let Some(send) = self.roster.take(peer) else { return Ok(()) };
        peer.doomed.store(true, Ordering::SeqCst);
        let id = peer.id.to_string();
        self.command("devices revoke (command)", &["devices", "revoke", &id, "--yes"], None)?;
        peer.revoked.store(true, Ordering::SeqCst);
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(peer));
        // On its standing connection and on new ones.
        for _ in 0..AFTER {
            let _ = send.send(Job { kind: Kind::Health, due: Instant::now() });
        }
        // At once, beside whatever its task is busy with.
        let silent = Tally::default();
        runtime.block_on(peer.one(&mut None, Job { kind: Kind::Value, due: Instant::now() }, &silent));
        Ok(())
    }

    /// A device joins over the wire: a code by the command line, digits compared, approved by the command line.
    fn join(&self, runtime: &Runtime, number: usize) -> Result<Arc<Peer>, Fault> {
        let minted = self.seat.json(&["pairing", "mint"])?;
        let options = JoinOptions {
            address: self.pairing.clone(),
            code: text(&minted, "code")?.parse()?,
            kind: ClientKind::Node,
            name: DeviceName::new(&format!("later-{number}"))?,
            ca: None,
            wait_ms: 30_000,
        };
        let files = DeviceFiles::new(self.seat.path("devices").join(format!("later-{number}")));
        let mut approved = Ok(Vec::new());
        let mut approve = |_: DeviceId, waiting: &palyra_ledger::device::join::Waiting| {
            let request = waiting.request.to_string();
            approved = self.seat.ok(&["pairing", "approve", &request, "--sas", &waiting.sas], None);
        };
        let note = runtime.block_on(join_ledger(&files, options, &mut approve))?;
        approved?;
        let reference = format!("principal:{}/api", note.device);
        self.seat.ok(&["secrets", "set", &reference, "--stdin"], Some(value(note.device, 1).as_bytes()))?;
        Ok(Arc::new(Peer::new(files, note.address.parse()?, 1)?))
    }

    /// Secrets get new versions, and now and then the log a new key.
    pub fn secrets(&self, period: Duration) -> Result<(), Fault> {
        let runtime = runtime()?;
        self.every(period, "writing a secret", |number| {
            if number % 64 == 63 {
                self.command("keys rotate (command)", &["keys", "rotate"], None)?;
            }
            let Some(peer) = self.roster.pick(3 * number) else { return Ok(()) };
            let _busy = runtime.block_on(peer.busy.lock());
            if peer.doomed.load(Ordering::SeqCst) {
                return Ok(());
            }
            let version = peer.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let reference = format!("principal:{}/api", peer.id);
            let value = value(peer.id, version);
            let words = ["secrets", "set", &reference, "--stdin"];
            self.command("secrets set (command)", &words, Some(value.as_bytes()))?;
            peer.acknowledged.store(version, Ordering::SeqCst);
            Ok(())
        });
        Ok(())
    }

    /// Makes the profiles: each due at once, again and again.
    pub fn profiles(&self) -> Result<(), Fault> {
        for number in 0..PROFILES {
            let id = format!("p-{number}");
            let reference = format!("global/auth/{id}/refresh_token");
            let token = self.provider.good(number)?;
            self.seat.ok(&["secrets", "set", &reference, "--stdin"], Some(token.as_bytes()))?;
            let url = self.provider.url();
            let words = ["auth", "profiles", "set", &id, "--provider", "custom:lab", "--token-endpoint", &url];
            let more = ["--client-id", "lab", "--expires-at", "2020-01-01T00:00:00Z"];
            self.seat.ok(&[&words[..], &more].concat(), None)?;
        }
        Ok(())
    }

    /// Somebody refreshes by hand what the daemon refreshes as well.
    pub fn tokens(&self, period: Duration) {
        self.every(period, "refreshing a token", |number| {
            let id = format!("p-{}", number % PROFILES);
            let begun = Instant::now();
            let output = self.seat.run(&["auth", "refresh", "--profile", &id, "--force"], None)?;
            // 19: the daemon is at it.
            if output.status.success() || output.status.code() == Some(19) {
                self.tally.took("auth refresh (command)", begun.elapsed());
                return Ok(());
            }
            Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into())
        });
    }

    /// Backups through the daemon: a full one and its increments, then from the start.
    pub fn backups(&self, period: Duration) {
        self.every(period, "a backup", |number| {
            let file = self.seat.path(&format!("backup-{number}.plb"));
            let name = file.to_string_lossy().into_owned();
            let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
            if chain.len() >= CHAIN {
                chain.drain(..).try_for_each(std::fs::remove_file)?;
            }
            let after = chain.last().map(|last| last.to_string_lossy().into_owned());
            let mut words = vec!["backup", "create", &name];
            words.extend(after.iter().flat_map(|after| ["--after", after.as_str()]));
            let kind = if after.is_none() { "backup create (command)" } else { "backup create --after (command)" };
            self.command(kind, &words, None)?;
            chain.push(file);
            Ok(())
        });
    }
}

fn runtime() -> Result<Runtime, Fault> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
