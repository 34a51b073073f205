//! What an import would do with the CA and the devices of another store: new ones, and what became there of those
//! that came from it before.

use std::collections::{HashMap, HashSet};

use crate::base::{DeviceId, StateRead, limits};
use crate::crypto::Fingerprint;
use crate::event::identity::{Der, IssueCause, Subject};
use crate::identity::{self, AuthorityState, DeviceRecord, DeviceState};
use crate::import::{FoundDevice, Gathered, Verdict};

use super::core::Core;
use super::error::Error;
use super::import_plan::Plan;

/// A device that is to be written.
pub struct PlannedDevice {
    /// Its place in what was gathered.
    pub found: usize,
    /// Which of its certificates are not known here yet, by their places.
    pub certificates: Vec<usize>,
    /// Whether it is new here.
    pub new: bool,
}

/// What the CA of the source is to this ledger.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Signer {
    /// There is none, or it cannot be had.
    #[default]
    None,
    /// It is trusted, or will be.
    Trusted,
    /// It is known, and not trusted.
    Refused,
}

/// How a fingerprint is known here.
enum Known {
    Not,
    Trusted(crate::base::Serial, Subject),
    Revoked,
}

fn known(state: &dyn StateRead, fingerprint: &Fingerprint) -> Result<Known, Error> {
    let Some(serial) = identity::find_imported(state, fingerprint)? else { return Ok(Known::Not) };
    let Some(serial) = serial else { return Ok(Known::Revoked) };
    Ok(match identity::find_certificate(state, serial)? {
        Some(record) if record.revoked.is_none() => Known::Trusted(serial, record.subject),
        _ => Known::Revoked,
    })
}

/// Whether a fingerprint is known here as that of a revoked certificate.
pub fn is_revoked(state: &dyn StateRead, fingerprint: &Fingerprint) -> Result<bool, Error> {
    Ok(matches!(known(state, fingerprint)?, Known::Revoked))
}

/// Whether somebody paired a device here, rather than that it came from another store alone.
fn was_paired_here(core: &Core, device: DeviceId) -> Result<bool, Error> {
    for serial in identity::certificates_of(&core.index, device)? {
        let record = identity::find_certificate(&core.index, serial)?;
        if record.is_some_and(|record| record.cause == IssueCause::Paired) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Plan {
    pub(super) fn authority(&mut self, core: &Core, gathered: &Gathered) -> Result<(), Error> {
        let Some(root) = &gathered.authority else { return Ok(()) };
        let certificate = Der::new(root.certificate.clone());
        let item = format!("ca {}", crate::pki::fingerprint(&root.certificate));
        let all = identity::authorities(&core.index)?;
        if let Some(known) = all.0.iter().find(|record| record.certificate == certificate) {
            self.generation = known.generation;
            if known.state == AuthorityState::Revoked {
                self.signer = Signer::Refused;
                self.line(item, Verdict::Conflict, "this ledger revoked it: its devices must be paired anew");
            } else {
                self.signer = Signer::Trusted;
                self.line(item, Verdict::Same, "");
            }
            return Ok(());
        }
        if all.rolling() {
            let what = "a CA roll is under way, or another imported CA is still trusted: finish it with `palyra-ledger ca roll` first";
            self.signer = Signer::Refused;
            self.line(item, Verdict::Conflict, what);
            return Ok(());
        }
        if all.0.len() + 1 >= limits::CA_GENERATIONS_MAX {
            self.line(item, Verdict::Unfit, "this ledger keeps as many CA generations as it can");
            return Ok(());
        }
        // The ledger's own root is made in the same batch where there is none yet.
        self.generation = all.0.iter().map(|record| record.generation).max().unwrap_or(1) + 1;
        self.new_authority = true;
        self.signer = Signer::Trusted;
        self.line(item, Verdict::Imported, format!("its root is trusted as CA generation {}", self.generation));
        Ok(())
    }

    pub(super) fn devices(&mut self, core: &Core, gathered: &Gathered) -> Result<(), Error> {
        let mut keys: HashSet<&Der> = HashSet::new();
        for (at, found) in gathered.devices.iter().enumerate() {
            let (verdict, what) = match identity::find_device(&core.index, found.device)? {
                Some(record) => self.known_device(core, (at, found), &record, &mut keys)?,
                None => self.new_device(core, (at, found), &mut keys)?,
            };
            self.line(format!("device {}", found.device), verdict, what);
        }
        self.loose(core, gathered)
    }

    fn new_device<'a>(
        &mut self,
        core: &Core,
        (at, found): (usize, &'a FoundDevice),
        keys: &mut HashSet<&'a Der>,
    ) -> Result<(Verdict, String), Error> {
        match self.signer {
            Signer::Trusted => {}
            Signer::None => return Ok((Verdict::Unfit, "the CA that signed for it cannot be imported".to_owned())),
            Signer::Refused => return Ok((Verdict::Conflict, "the CA that signed for it is not trusted".to_owned())),
        }
        let newest = found.certificates.last().filter(|_| found.revoked.is_none());
        if let Some(newest) = newest
            && identity::find_imported(&core.index, &newest.fingerprint)?.flatten().is_some()
        {
            return Ok((Verdict::Same, "this ledger took it off its list, and it stays so".to_owned()));
        }
        if found.revoked.is_none() && key_is_taken(core, found, keys)? {
            return Ok((Verdict::Conflict, "its public key belongs to another device".to_owned()));
        }
        let certificates = (0..found.certificates.len()).collect();
        self.devices.push(PlannedDevice { found: at, certificates, new: true });
        let what = if found.revoked.is_some() { "revoked, and stays so" } else { "" };
        Ok((Verdict::Imported, what.to_owned()))
    }

    /// A device that is here: what its store did with it since goes on here, unless this ledger went its own way.
    fn known_device<'a>(
        &mut self,
        core: &Core,
        (at, found): (usize, &'a FoundDevice),
        record: &DeviceRecord,
        keys: &mut HashSet<&'a Der>,
    ) -> Result<(Verdict, String), Error> {
        let said = |verdict, what: &str| Ok((verdict, what.to_owned()));
        match (&found.revoked, record.state) {
            (Some(_), DeviceState::Revoked | DeviceState::Cleared) => return said(Verdict::Same, ""),
            (None, DeviceState::Revoked) => return said(Verdict::Same, "this ledger revoked it, and it stays so"),
            (None, DeviceState::Cleared) => {
                return said(Verdict::Same, "this ledger revoked it, and it stays so until it is paired here");
            }
            (_, DeviceState::Paired) => {}
        }
        if identity::device_origin(&core.index, found.device)?.is_none() {
            return said(Verdict::Conflict, "a device of this id was paired here, and did not come from that store");
        }
        let (mut missing, mut revoked) = (Vec::new(), Vec::new());
        for (place, certificate) in found.certificates.iter().enumerate() {
            match known(&core.index, &certificate.fingerprint)? {
                Known::Not => missing.push(place),
                Known::Trusted(_, subject) if subject != Subject::Device(found.device) => {
                    return said(Verdict::Conflict, "one of its certificates is another device's here");
                }
                Known::Trusted(serial, _) if certificate.revoked => revoked.push(serial),
                Known::Trusted(..) | Known::Revoked => {}
            }
        }
        if was_paired_here(core, found.device)? {
            return match &found.revoked {
                Some(there) if there.time > record.since => said(
                    Verdict::Conflict,
                    "it was paired here anew, and revoked there since: `palyra-ledger devices revoke` if that is meant",
                ),
                _ if missing.is_empty() || found.revoked.is_some() => {
                    said(Verdict::Same, "it was paired here anew since")
                }
                _ => {
                    said(Verdict::Conflict, "it was paired here anew: what that store issued to it since is not taken")
                }
            };
        }
        if self.signer != Signer::Trusted {
            missing.clear();
        }
        if found.revoked.is_some() {
            self.revoked_devices.push(found.device);
            if self.signer == Signer::Trusted {
                self.devices.push(PlannedDevice { found: at, certificates: missing, new: false });
            }
            return said(Verdict::Imported, "revoked there since it came: revoked here too");
        }
        let (more, fewer) = (missing.len(), revoked.len());
        if more > 0 {
            if key_is_taken(core, found, keys)? {
                return said(Verdict::Conflict, "its public key belongs to another device");
            }
            self.devices.push(PlannedDevice { found: at, certificates: missing, new: false });
        }
        self.revoked_certificates.extend(revoked);
        Ok(match (more, fewer) {
            (0, 0) => (Verdict::Same, String::new()),
            (0, _) => (Verdict::Imported, format!("{fewer} of its certificates revoked there since it came")),
            (_, 0) => (Verdict::Imported, format!("{more} certificates issued there since it came")),
            _ => (Verdict::Imported, format!("{more} certificates issued and {fewer} revoked there since it came")),
        })
    }

    /// Revoked fingerprints that the source ties to no device: here they may well be some device's.
    fn loose(&mut self, core: &Core, gathered: &Gathered) -> Result<(), Error> {
        for fingerprint in &gathered.revoked {
            let item = format!("certificate {fingerprint}");
            match known(&core.index, fingerprint)? {
                Known::Not => {
                    self.revoked.push(*fingerprint);
                    self.line(item, Verdict::Imported, "revoked, and stays so");
                }
                Known::Revoked => self.line(item, Verdict::Same, ""),
                Known::Trusted(serial, subject) => {
                    let with_device =
                        matches!(subject, Subject::Device(device) if self.revoked_devices.contains(&device));
                    if !with_device {
                        self.revoked_certificates.push(serial);
                    }
                    self.line(item, Verdict::Imported, "revoked there since it came: revoked here too");
                }
            }
        }
        Ok(())
    }

    /// Whether every device stands as the plan found it.
    pub(super) fn devices_hold(&self, state: &dyn StateRead, gathered: &Gathered) -> Result<bool, Error> {
        let mut known: HashMap<DeviceId, bool> = HashMap::new();
        for planned in &self.devices {
            let Some(found) = gathered.devices.get(planned.found) else { continue };
            known.insert(found.device, planned.new);
        }
        known.extend(self.revoked_devices.iter().map(|device| (*device, false)));
        for (device, new) in known {
            let paired = identity::find_device(state, device)?.map(|record| record.state == DeviceState::Paired);
            if paired != (!new).then_some(true) {
                return Ok(false);
            }
        }
        for serial in &self.revoked_certificates {
            if identity::find_certificate(state, *serial)?.is_none_or(|record| record.revoked.is_some()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a device's key is another one's, here or in the source.
fn key_is_taken<'a>(core: &Core, found: &'a FoundDevice, keys: &mut HashSet<&'a Der>) -> Result<bool, Error> {
    let Some(key) = &found.public_key else { return Ok(false) };
    let holder = identity::find_key_holder(&core.index, key)?;
    Ok(holder.is_some_and(|holder| holder != found.device) || !keys.insert(key))
}
