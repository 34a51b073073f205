//! What is done in a step: the dice choose.

use palyra_ledger::identity::{DeviceState, IdentityError};
use palyra_ledger::pki::LeafKey;
use palyra_ledger::vault::{VaultError, VersionState};
use palyra_ledger::{Error, GetOptions, PutOptions, SecretBytes, Timestamp};

use super::episode::{Episode, Issued, Planted, said};
use crate::workload::{Lane, Op, act, choose, device_id, nonce, scope, secret_name, value};

const NAMES: u8 = 5;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Episode {
    /// One operation; gives what became of it, in words that follow from the seed alone.
    pub fn act(&mut self) -> Result<String, String> {
        if let Some(planted) = self.provoked
            && !self.dice.once_in(8)
        {
            return self.provoke(planted);
        }
        match self.dice.below(1_000) {
            0..470 => self.read(),
            470..690 => self.write(),
            690..750 => self.compare_and_set(),
            750..770 => self.device(),
            770..800 => self.pair(),
            800..920 => self.refresh(),
            920..945 => self.credential(),
            945..953 => self.keys(),
            953..985 => self.time(),
            985..990 => {
                self.plan_fault();
                Ok("fault planned".to_owned())
            }
            990..994 => {
                self.crash(None)?;
                Ok("power cut".to_owned())
            }
            994..996 => {
                let reader = self.dice.once_in(2);
                self.restart(reader)?;
                Ok("restart".to_owned())
            }
            996 => {
                self.verify_unless_wounded()?;
                Ok("verified".to_owned())
            }
            _ => self.revoked_device_renews(),
        }
    }

    /// What brings a planted fault out soonest.
    fn provoke(&mut self, planted: Planted) -> Result<String, String> {
        match (planted, self.dice.below(8)) {
            (Planted::NoSync, 0) => self.crash(None).map(|()| "power cut".to_owned()),
            (Planted::NoSync, _) | (Planted::NoCompare, 0..3) => self.write(),
            (Planted::NoCompare, _) => self.compare_and_set(),
            (Planted::NoLease, 0..2) => self.time(),
            (Planted::NoLease, 2) => self.credential(),
            (Planted::NoLease, _) => self.refresh(),
            (Planted::NoRevocation | Planted::NoLook | Planted::Resumed, 0..4) => self.pair(),
            (Planted::NoRevocation | Planted::NoLook | Planted::Resumed, _) => self.device(),
            (Planted::OtherScope, 0..4) => self.read(),
            (Planted::OldCopy, 0) => self.restart(false).map(|()| "restart".to_owned()),
            (Planted::SameRandom, 0) => self.crash(None).map(|()| "power cut".to_owned()),
            (Planted::OtherScope | Planted::OldCopy | Planted::SameRandom, _) => self.write(),
        }
    }

    fn verify_unless_wounded(&mut self) -> Result<(), String> {
        // A planned fault may meet the verification: the next opening verifies.
        let done = self.look(palyra_ledger::Ledger::flush_reads)?;
        match done {
            Some(Ok(())) => self.crash(None).and_then(|()| self.verify()),
            Some(Err(error)) => Err(format!("recording reads: {error}")),
            None => Ok(()),
        }
    }

    fn place(&mut self) -> (Lane, u8) {
        (Lane::Vault(self.dice.small(3)), self.dice.small(NAMES))
    }

    /// A reader: what it gets is what was last acknowledged, and nothing of another scope.
    fn read(&mut self) -> Result<String, String> {
        let (lane, name) = self.place();
        let known = self.world.secret(lane, name).map_or_else(Vec::new, |secret| secret.versions.clone());
        let version = self.dice.once_in(2).then(|| 1 + self.dice.below(known.len() as u64 + 1));
        let version = version.and_then(|version| u32::try_from(version).ok());
        // Where that is planted, the same name of the next scope is read.
        let read_in = match lane {
            Lane::Vault(at) if self.planted == Some(Planted::OtherScope) => Lane::Vault((at + 1) % 3),
            lane => lane,
        };
        let (own, name_of) = (scope(lane).map_err(said)?, secret_name(name).map_err(said)?);
        let scope = scope(read_in).map_err(said)?;
        let options = version.map_or_else(GetOptions::current, GetOptions::version);
        let Some(read) = self.look(|ledger| ledger.vault(scope).get_with(&name_of, options))? else {
            return Ok("reading met a fault".to_owned());
        };
        if let Ok(secret) = &read
            && secret.info.reference.scope != own
        {
            return Err(format!("{lane:?}, k{name}: a value of another scope was read: {:?}", secret.info));
        }
        let expected = match version {
            None => known.last().copied(),
            Some(version) => known.get(version as usize - 1).copied(),
        };
        let right = match (&read, expected) {
            (Ok(secret), Some((VersionState::Live, content))) => nonce(secret.value.expose()).ok() == content,
            (Err(Error::Vault(VaultError::NotFound { .. })), None) => known.is_empty(),
            (Err(Error::Vault(VaultError::NoVersion { .. })), None) => !known.is_empty(),
            (Err(Error::Vault(VaultError::Deleted { .. })), Some((VersionState::Deleted, _)))
            | (Err(Error::Vault(VaultError::Shredded { .. })), Some((VersionState::Shredded, _))) => true,
            _ => false,
        };
        if !right {
            let read = read.map(|secret| secret.info);
            return Err(format!("{lane:?}, k{name}, version {version:?}: read {read:?} where {expected:?} is"));
        }
        self.count(if read.is_ok() { "values read" } else { "reads refused" });
        Ok(format!("read {lane:?} {name} {version:?} {}", read.is_ok()))
    }

    fn done(&mut self, lane: Lane, op: &Op) -> Result<String, String> {
        let planted = self.planted == Some(Planted::NoRevocation) && matches!(op, Op::Revoke { .. });
        let scratch = std::path::Path::new("");
        let done = self.mutate(lane, op, |ledger| if planted { Ok(()) } else { act(ledger, lane, op, scratch) })?;
        self.count(match lane {
            Lane::Vault(_) => "changes of secrets",
            Lane::Devices => "changes of devices and the CA",
            Lane::Credentials => "changes of profiles",
            Lane::Keys => "rotations, slots and checkpoints",
        });
        Ok(format!("{op:?} {}", done.is_some()))
    }

    fn write(&mut self) -> Result<String, String> {
        let (lane, _) = self.place();
        let op = choose(&self.world, lane, &mut self.dice);
        self.done(lane, &op)
    }

    /// A client that looked at a secret and writes over what it saw: it wins only where nobody else wrote.
    fn compare_and_set(&mut self) -> Result<String, String> {
        let client = usize::try_from(self.dice.below(self.seen.len() as u64)).unwrap_or(0);
        let Some((lane, name, seen)) = self.seen.get(client).copied().flatten() else {
            let (lane, name) = self.place();
            let held = self.world.secret(lane, name).map_or(0, |secret| secret.versions.len());
            let name_of = secret_name(name).map_err(said)?;
            let scope = scope(lane).map_err(said)?;
            let Some(history) = self.look(|ledger| ledger.vault(scope).history(&name_of))? else {
                return Ok("looking met a fault".to_owned());
            };
            let found = history.map_or(0, |history| history.versions.len());
            if found != held {
                return Err(format!("{lane:?}, k{name}: {found} versions where {held} are"));
            }
            if let Some(slot) = self.seen.get_mut(client) {
                *slot = Some((lane, name, held));
            }
            return Ok(format!("saw {lane:?} {name} {held}"));
        };
        if let Some(slot) = self.seen.get_mut(client) {
            *slot = None;
        }
        let held = self.world.secret(lane, name).map_or(0, |secret| secret.versions.len());
        let content = self.dice.number();
        let op = Op::Put { name, nonce: content, expect: true };
        let (scope, name_of) = (scope(lane).map_err(said)?, secret_name(name).map_err(said)?);
        let mut options = PutOptions::new();
        if self.planted != Some(Planted::NoCompare) {
            options = options.if_version(u32::try_from(seen).map_err(said)?);
        }
        let mut conflict = false;
        let done = self.mutate(lane, &op, |ledger| {
            let put = ledger.vault(scope).put(&name_of, &SecretBytes::from(value(content).as_slice()), options);
            conflict = matches!(put, Err(Error::Vault(VaultError::Conflict { .. })));
            Ok(put?)
        });
        if conflict {
            self.count("compare-and-sets refused");
            let lost = format!("lost {lane:?} {name}");
            return if held == seen {
                Err(format!("{lane:?}, k{name}: a conflict where nobody wrote"))
            } else {
                Ok(lost)
            };
        }
        let Some(receipt) = done? else { return Ok("compare-and-set met a fault".to_owned()) };
        if held != seen || receipt.version as usize != seen + 1 {
            return Err(format!(
                "{lane:?}, k{name}: version {} written over {seen}, where {held} are",
                receipt.version
            ));
        }
        self.count("compare-and-sets won");
        Ok(format!("won {lane:?} {name}"))
    }

    fn device(&mut self) -> Result<String, String> {
        let op = choose(&self.world, Lane::Devices, &mut self.dice);
        // Devices pair one message at a time.
        if let Op::Pair { .. } = op {
            return self.pair();
        }
        // Whoever renews by a certificate that ended long ago may be refused.
        if let Op::Renew { device } = &op {
            let now = self.now()?;
            let newest = self.issued.iter().filter(|known| known.device == *device).map(|known| known.not_after).max();
            if newest.is_none_or(|end| now >= end) {
                return Ok("certificate ended".to_owned());
            }
        }
        let what = self.done(Lane::Devices, &op)?;
        if self.wound.is_none() {
            self.learn_certificates()?;
            // What was acknowledged is looked for in what the ledger holds, before any door is tried.
            if self.provoked == Some(Planted::NoRevocation) && matches!(op, Op::Revoke { .. }) {
                self.restart(false)?;
            }
        }
        Ok(what)
    }

    /// A device that was revoked asks for its next certificate.
    fn revoked_device_renews(&mut self) -> Result<String, String> {
        let revoked = self.issued.iter().filter(|known| known.revoked);
        let revoked: Vec<_> = revoked.map(|known| (known.device, known.serial)).collect();
        let Some((device, serial)) = self.dice.pick(&revoked).copied() else { return Ok("none revoked".to_owned()) };
        let request = LeafKey::generate().and_then(|key| key.request()).map_err(said)?;
        match self.look(|ledger| ledger.identity().renew(device_id(device), serial, &request))? {
            Some(Ok(_)) => Err(format!("device {device} was revoked, and certificate {serial} of it was renewed")),
            Some(Err(Error::Identity(error))) => {
                let state = self.world.device(device).map(|known| known.state);
                let now = self.now()?;
                let over = |known: &Issued| known.serial == serial && now >= known.not_after;
                let fits = match error {
                    IdentityError::GraceOver(_) => self.issued.iter().any(over),
                    IdentityError::DeviceRevoked(_) => state != Some(DeviceState::Paired),
                    IdentityError::CertificateRevoked(_) => true,
                    _ => false,
                };
                self.count("renewals of revoked devices refused");
                if fits { Ok("renewal refused".to_owned()) } else { Err(format!("renewing by {serial}: {error}")) }
            }
            Some(Err(error)) => Err(format!("renewing: {error}")),
            None => Ok("renewing met a fault".to_owned()),
        }
    }

    fn credential(&mut self) -> Result<String, String> {
        let op = choose(&self.world, Lane::Credentials, &mut self.dice);
        match &op {
            // Refreshes go their own way.
            Op::Begin { .. } | Op::Renewed { .. } | Op::NotRenewed { .. } => return self.refresh(),
            Op::Login { nonce, .. } => self.provider.logged_in(*nonce),
            _ => {}
        }
        let what = self.done(Lane::Credentials, &op)?;
        if self.wound.is_none() {
            self.learn_refreshes()?;
        }
        Ok(what)
    }

    fn keys(&mut self) -> Result<String, String> {
        let op = choose(&self.world, Lane::Keys, &mut self.dice);
        if let Op::Backup { .. } = op {
            let options = palyra_ledger::BackupOptions { with_key_file: true, ..Default::default() };
            let go_on = |_, _| std::ops::ControlFlow::Continue(());
            let made = self.look(|ledger| ledger.backup(&mut Vec::new(), &options, &mut || Ok(()), &go_on))?;
            self.count("backups");
            return match made {
                Some(Err(error)) => Err(format!("backup: {error}")),
                made => Ok(format!("backup {}", made.is_some())),
            };
        }
        self.done(Lane::Keys, &op)
    }

    /// The clock jumps, sometimes backwards; leases, codes and certificates end.
    #[allow(clippy::unnecessary_wraps, reason = "as every other step")]
    fn time(&mut self) -> Result<String, String> {
        use palyra_ledger::Clock as _;
        let now = self.clock.now().as_millis();
        let far = match self.dice.below(60) {
            0..30 => 40_000,
            30..50 => 600_000,
            50..55 => DAY_MS,
            55..59 => 40 * DAY_MS,
            // Longer than an epoch may last, mostly.
            _ => 400 * DAY_MS,
        };
        let by = self.dice.below(far);
        if self.dice.once_in(4) {
            self.clock.set(Timestamp::from_millis(now.saturating_sub(by.min(DAY_MS))));
            self.count("jumps of the clock backwards");
            return Ok(format!("back {by}"));
        }
        self.advance(by);
        self.count("jumps of the clock forwards");
        Ok(format!("forward {by}"))
    }
}
