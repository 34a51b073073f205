//! The identity store: the CA, devices, revocations.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::base::{DeviceId, DeviceName, Timestamp, limits};
use crate::crypto::{Fingerprint, Key};
use crate::event::identity::{ClientKind, Der};
use crate::event::import::OriginRevocation;
use crate::import::items::{FoundCertificate, FoundDevice, Gathered, Line, Verdict};
use crate::pki::{ForeignError, ForeignRoot, check_foreign_leaf, foreign_der, read_foreign_leaf, read_foreign_root};

use super::documents::{self, CaDoc, PairedDoc, RevokedDoc, StateDoc};
use super::folder::{CA, Folder, PAIRED, REVOKED, REVOKED_CERTIFICATES, STATE, key_file};
use super::sealed::open_identity;

/// What stands before the reason of a revocation that is shown is bounded by this many characters.
const REASON_MAX: usize = 256;

/// Reads the identity store; gives the CA's private key as its text stands there, which opens the vault.
pub fn read(folder: &mut Folder, key: Option<&Key>, gathered: &mut Gathered) -> Option<Zeroizing<String>> {
    let bundle: Found<StateDoc> = document(folder, STATE, key, gathered);
    let gone = matches!(bundle, Found::Gone);
    let mut state = bundle.whole().unwrap_or_default();
    // A bundle that is there is the newer word, an empty one too, and one that does not read is no reason to believe
    // what is older: devices that were revoked since would come back.
    let unknown = gone && !older_files(folder, key, gathered, &mut state);
    let ca: Option<CaDoc> = document(folder, CA, key, gathered).whole().or(state.ca.take());
    if unknown && ca.is_some() {
        let what = "it is not there, nor are older files in its place: who is paired and who is revoked is not known";
        gathered.lines.push(Line::new(format!("file {STATE}"), Verdict::Damaged, what));
    }
    let Some(ca) = ca else {
        let orphaned = state.paired_devices.len() + state.revoked_devices.len();
        if orphaned > 0 {
            let what = format!("the CA's state is not there: {orphaned} devices cannot be imported without it");
            gathered.lines.push(Line::new("ca", Verdict::Damaged, what));
        }
        return None;
    };
    match read_foreign_root(&ca.certificate_pem, &ca.private_key_pem) {
        Ok(root) => {
            devices(&state, &root, gathered);
            gathered.authority = Some(root);
        }
        Err(error) => {
            let verdict = match error {
                ForeignError::NotCa | ForeignError::KeyUsage | ForeignError::Key => Verdict::Unfit,
                _ => Verdict::Damaged,
            };
            let what = format!("{error}; its devices join anew with `palyra-ledger pairing join`");
            gathered.lines.push(Line::new("ca", verdict, what));
        }
    }
    Some(ca.private_key_pem)
}

/// Reads the files that older stores had in the place of the bundle; says whether any is there.
fn older_files(folder: &mut Folder, key: Option<&Key>, gathered: &mut Gathered, state: &mut StateDoc) -> bool {
    let paired = document(folder, PAIRED, key, gathered);
    let revoked = document(folder, REVOKED, key, gathered);
    let fingerprints = document(folder, REVOKED_CERTIFICATES, key, gathered);
    let gone = matches!((&paired, &revoked, &fingerprints), (Found::Gone, Found::Gone, Found::Gone));
    state.paired_devices = paired.whole().unwrap_or_default();
    state.revoked_devices = revoked.whole().unwrap_or_default();
    state.revoked_certificate_fingerprints = fingerprints.whole().unwrap_or_default();
    !gone
}

/// What became of a document.
enum Found<T> {
    Whole(T),
    Gone,
    /// It has its line.
    Damaged,
}

impl<T> Found<T> {
    fn whole(self) -> Option<T> {
        match self {
            Self::Whole(document) => Some(document),
            Self::Gone | Self::Damaged => None,
        }
    }
}

/// A document of the identity store; what is wrong with it is a line.
fn document<T: for<'de> Deserialize<'de>>(
    folder: &mut Folder,
    name: &str,
    key: Option<&Key>,
    gathered: &mut Gathered,
) -> Found<T> {
    let read = |folder: &mut Folder| -> Result<Option<T>, String> {
        // Older stores wrote the name as a path.
        let mut bytes = folder.read(&key_file(name), limits::IMPORT_STATE_MAX)?;
        if bytes.is_none() {
            bytes = folder.read(name, limits::IMPORT_STATE_MAX)?;
        }
        let Some(bytes) = bytes else { return Ok(None) };
        let plain = open_identity(&bytes, key).map_err(|error| error.to_string())?;
        documents::read(&plain).map(Some)
    };
    match read(folder) {
        Ok(Some(found)) => Found::Whole(found),
        Ok(None) => Found::Gone,
        Err(what) => {
            gathered.lines.push(Line::new(format!("file {name}"), Verdict::Damaged, what));
            Found::Damaged
        }
    }
}

fn devices(state: &StateDoc, root: &ForeignRoot, gathered: &mut Gathered) {
    let mut revoked: BTreeSet<Fingerprint> = BTreeSet::new();
    for text in &state.revoked_certificate_fingerprints {
        match text.to_ascii_lowercase().parse() {
            Ok(fingerprint) => drop(revoked.insert(fingerprint)),
            Err(_) => {
                let what = "a fingerprint in the list of revoked ones is no SHA-256 in hexadecimal";
                gathered.lines.push(Line::new(format!("file {STATE}"), Verdict::Damaged, what));
            }
        }
    }
    let mut found: BTreeMap<DeviceId, FoundDevice> = BTreeMap::new();
    let mut seen: BTreeSet<Fingerprint> = BTreeSet::new();
    for (id, paired) in &state.paired_devices {
        match device(id, paired, root, &revoked) {
            Ok(device) => {
                let fresh = device.certificates.iter().all(|one| seen.insert(one.fingerprint));
                if fresh && !found.contains_key(&device.device) {
                    found.insert(device.device, device);
                } else {
                    let what = "it, or one of its certificates, stands there twice";
                    gathered.lines.push(Line::new(format!("device {}", shown(id)), Verdict::Damaged, what));
                }
            }
            Err(what) => gathered.lines.push(Line::new(format!("device {}", shown(id)), Verdict::Damaged, what)),
        }
    }
    for (id, entry) in &state.revoked_devices {
        match revocation(id, entry) {
            Ok((device, name, revoked)) => {
                let known = found.entry(device).or_insert_with(|| FoundDevice {
                    device,
                    kind: None,
                    name,
                    public_key: None,
                    issued: None,
                    revoked: None,
                    certificates: Vec::new(),
                });
                known.certificates.iter_mut().for_each(|one| one.revoked = true);
                known.revoked = Some(revoked);
            }
            Err(what) => gathered.lines.push(Line::new(format!("device {}", shown(id)), Verdict::Damaged, what)),
        }
    }
    gathered.devices = found.into_values().collect();
    gathered.revoked = revoked.into_iter().filter(|one| !seen.contains(one)).collect();
}

/// An id as a report may show it.
fn shown(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(32).collect()
}

fn device(
    id: &str,
    paired: &PairedDoc,
    root: &ForeignRoot,
    revoked: &BTreeSet<Fingerprint>,
) -> Result<FoundDevice, String> {
    let device = DeviceId::from_ulid(id)
        .filter(|_| paired.device_id == id)
        .ok_or("its id is no ULID, or another stands in it")?;
    let kind = match paired.client_kind.to_ascii_lowercase().as_str() {
        "cli" => ClientKind::Cli,
        "desktop" => ClientKind::Desktop,
        "node" => ClientKind::Node,
        _ => return Err("it is of a kind that is not known".to_owned()),
    };
    let leaf = foreign_der(&paired.current_certificate.certificate_pem)
        .map_err(|error| format!("its certificate: {error}"))?;
    let key =
        check_foreign_leaf(&leaf, &root.certificate, device).map_err(|error| format!("its certificate: {error}"))?;
    let facts = read_foreign_leaf(&leaf).map_err(|error| format!("its certificate: {error}"))?;
    if paired.certificate_fingerprints.len() > limits::IMPORT_CERTIFICATES_MAX {
        return Err(format!("it has more than {} certificates", limits::IMPORT_CERTIFICATES_MAX));
    }
    let mut certificates = Vec::new();
    for text in &paired.certificate_fingerprints {
        let fingerprint: Fingerprint =
            text.to_ascii_lowercase().parse().map_err(|_| "a fingerprint of it is no SHA-256 in hexadecimal")?;
        if fingerprint == facts.fingerprint
            || certificates.iter().any(|one: &FoundCertificate| one.fingerprint == fingerprint)
        {
            continue;
        }
        let (not_before, not_after) = (Timestamp::from_millis(0), root.not_after);
        certificates.push(FoundCertificate {
            fingerprint,
            certificate: None,
            not_before,
            not_after,
            revoked: revoked.contains(&fingerprint),
        });
    }
    certificates.push(FoundCertificate {
        fingerprint: facts.fingerprint,
        certificate: Some(Der::new(leaf)),
        not_before: facts.not_before,
        not_after: facts.not_after,
        revoked: revoked.contains(&facts.fingerprint),
    });
    Ok(FoundDevice {
        device,
        kind: Some(kind),
        name: name(id)?,
        public_key: Some(Der::new(key.der())),
        issued: paired.current_certificate.issued_at_unix_ms.map(Timestamp::from_millis),
        revoked: None,
        certificates,
    })
}

fn name(id: &str) -> Result<DeviceName, String> {
    DeviceName::new(&format!("imported {id}")).map_err(|error| error.to_string())
}

fn revocation(id: &str, entry: &RevokedDoc) -> Result<(DeviceId, DeviceName, OriginRevocation), String> {
    let device = DeviceId::from_ulid(id)
        .filter(|_| entry.device_id == id)
        .ok_or("its id is no ULID, or another stands in it")?;
    let reason = entry.reason.chars().filter(|one| !one.is_control()).take(REASON_MAX).collect();
    let time = Timestamp::from_millis(entry.revoked_at_unix_ms);
    Ok((device, name(id)?, OriginRevocation { time, reason }))
}

/// Reads state and CA documents from arbitrary bytes: every device is one of the state, every line names one.
pub(super) fn fuzz(bytes: &[u8]) {
    let mut gathered = Gathered::new(crate::event::import::SourceForm::Palyra, "fuzz");
    if let Ok(ca) = documents::read::<CaDoc>(bytes)
        && let Ok(root) = read_foreign_root(&ca.certificate_pem, &ca.private_key_pem)
        && let Ok(state) = documents::read::<StateDoc>(bytes)
    {
        devices(&state, &root, &mut gathered);
    }
    if let Ok(state) = documents::read::<StateDoc>(bytes) {
        let root = ForeignRoot {
            certificate: Vec::new(),
            not_after: Timestamp::from_millis(0),
            key: Zeroizing::new(Vec::new()),
        };
        devices(&state, &root, &mut gathered);
        assert!(gathered.devices.iter().all(|one| one.certificates.is_empty()), "nothing is signed by no CA");
    }
}
