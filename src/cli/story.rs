//! What happened, as a person would tell it; and the same for a program.

mod backups;
mod imports;
mod secrets;

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::base::{Origin, Timestamp};
use crate::engine::Entry;
use crate::event::Event;
use crate::event::auth::UsageNote;
use crate::event::identity::{RefusalNote, SeenNote, Subject};
use crate::event::system::{ConflictCause, EpochCause, SlotNote, WitnessFault};

use super::time;

use secrets::{aside, numbered, put, read, resolved, target};

/// One sentence about an event, without its subject: the actor.
#[must_use]
pub fn summary(event: &Event) -> String {
    match event {
        Event::SecretPut(event) => put(event),
        Event::SecretDeleted(event) => format!("deleted {}", target(&event.scope, &event.name, event.versions)),
        Event::SecretUndeleted(event) => format!("brought back {}", target(&event.scope, &event.name, event.versions)),
        Event::SecretShredded(event) => {
            let numbers: Vec<u32> = event.versions.iter().map(|(version, _)| *version).collect();
            format!("destroyed {} of {}/{}", numbered(&numbers), event.scope, event.name)
        }
        Event::SecretDescribed(event) => {
            let mut text = format!("described {}/{}", event.scope, event.name);
            text.push_str(&aside(event.expires_at, event.description.as_deref(), event.labels.len()));
            text
        }
        Event::SecretsRead(event) => read(&event.reads),
        Event::ReferencesResolved(event) => resolved(&event.notes),
        Event::BackendMigrationStarted(event) => {
            format!("began to move sealed values from {} to {}", event.from, event.to)
        }
        Event::EnvelopesMoved(event) => {
            format!("brought {} back into the log", count(event.envelopes.len() as u64, "sealed value"))
        }
        Event::BackendSwitched(event) => {
            let held = count(event.envelopes, "sealed value");
            format!("keeps secrets in {} instead of {} from here on ({held}, each compared)", event.to, event.from)
        }
        Event::BackendMigrationFinished(event) => {
            format!("removed {} from {}", count(event.removed, "former object"), event.from)
        }
        Event::BackendMigrationAborted(event) => {
            format!("gave the move to {} up and removed {}", event.to, count(event.removed, "object"))
        }
        other => system(other),
    }
}

fn system(event: &Event) -> String {
    match event {
        Event::LedgerCreated(event) => {
            let slots: Vec<String> = event.slots.iter().map(slot).collect();
            format!("created ledger {} with {}", event.ledger_id, slots.join(", "))
        }
        Event::EpochStarted(event) => {
            let cause = match event.cause {
                EpochCause::Requested => "as asked",
                EpochCause::Age => "the last key had reached its age",
                EpochCause::RootRotated => "after the root key was replaced",
                EpochCause::Restored => "after the ledger was restored",
            };
            format!("started epoch {} with a new key ({cause})", event.epoch)
        }
        Event::KeySlotAdded(event) => format!("added {}", slot(&event.slot)),
        Event::KeySlotRemoved(event) => format!("removed {}", slot(&event.slot)),
        Event::KeySlotPinned(event) => {
            format!("opened with key slot {}, which now opens by default instead of {}", event.slot, event.previous)
        }
        Event::RootRotated(event) => {
            let dropped: Vec<String> = event.dropped.iter().map(ToString::to_string).collect();
            let dropped = dropped.join(", ");
            let dropped = if dropped.is_empty() { dropped } else { format!("; dropped key slots {dropped}") };
            let rewrapped = count(event.rewrapped, "secret key");
            format!("replaced the root key (generation {}) and re-wrapped {rewrapped}{dropped}", event.root_generation)
        }
        Event::CommandRefused(event) => {
            let about = event.target.as_ref().map(|target| format!(" of {target}")).unwrap_or_default();
            format!("was refused `{}`{about}: {}", event.command, event.what)
        }
        Event::CompromiseDeclared(event) => {
            let part =
                if event.parts > 1 { format!(" (part {} of {})", event.part + 1, event.parts) } else { String::new() };
            let items = count(event.items.len() as u64, "thing");
            format!(
                "declared {} compromised since {}: {items} to be done{part}",
                event.concern,
                time::second(event.since)
            )
        }
        Event::CompromiseClosed(event) => format!("did everything that the compromise of {} asked for", event.concern),
        other => recovery(other),
    }
}

fn recovery(event: &Event) -> String {
    let kept = |name: &str| if name.is_empty() { String::new() } else { format!("; kept as quarantine/{name}") };
    match event {
        Event::TailDropped(event) => format!(
            "dropped {} at the journal's end that were never acknowledged{}",
            count(event.bytes, "torn byte"),
            kept(&event.saved_as)
        ),
        Event::WitnessSetAside(event) => {
            let why = match event.fault {
                WitnessFault::Failed => "it failed",
                WitnessFault::Panicked => "it broke down",
                WitnessFault::Differed => "it differed from the journal",
                WitnessFault::Ahead => "it held more than the journal",
                WitnessFault::Missing => "it was not there",
            };
            format!("set the second copy of the log aside: {why}{}", kept(&event.saved_as))
        }
        Event::WitnessRebuilt(event) => {
            format!("rebuilt the second copy of the log from the journal, through event {}", event.through)
        }
        Event::ClockStepped(event) => format!(
            "found the clock behind the log: it said {}, {} was recorded",
            time::second(event.observed),
            time::second(event.recorded)
        ),
        Event::JournalRestored(event) => format!(
            "restored events {} to {} of the journal from the second copy{}",
            event.first,
            event.last,
            kept(&event.saved_as)
        ),
        Event::HeadRestored(event) => {
            format!("took event {} as the log's end on a person's word and wrote the head file anew", event.seq)
        }
        Event::KeyTableRepaired(event) => {
            format!("repaired {} of the key table from their second copy", count(event.slots.len() as u64, "slot"))
        }
        Event::SpoolDropped(event) => {
            let kept = event.saved_as.as_deref().map(kept).unwrap_or_default();
            let bytes = count(event.bytes, "byte");
            format!("could not read {bytes} of the read spool: records of reads may be missing{kept}")
        }
        Event::CheckpointSigned(event) => {
            let state = if event.state_root.is_some() { ", with the state's root" } else { "" };
            format!("signed a checkpoint of {}{state}", count(event.size, "event"))
        }
        Event::AnchorPlaced(event) => {
            format!("put a checkpoint of {} to anchor {} for the first time", count(event.size, "event"), event.anchor)
        }
        Event::AnchorConflict(event) => {
            let what = match event.cause {
                ConflictCause::Lost => "knows of events that are not here",
                ConflictCause::Forked => "holds a checkpoint of another history",
                ConflictCause::OtherBranch => "knows of a branch of history that is not here",
                ConflictCause::Damaged => "holds no checkpoint that can be read",
                ConflictCause::Forged => "holds a checkpoint whose signature is wrong",
                ConflictCause::OtherKey => "holds a checkpoint by another key",
                ConflictCause::OtherLedger => "holds a checkpoint of another ledger",
            };
            format!("found that anchor {} {what}", event.anchor)
        }
        Event::BranchStarted(event) => {
            let lost = match event.lost_through {
                Some(last) => format!("events {} to {last} of the old one were given up", event.from),
                None => "nothing is known of what was given up".to_owned(),
            };
            format!("went on with an older copy that was put back: branch {} of history begins; {lost}", event.branch)
        }
        other => backups::summary(other).unwrap_or_else(|| trust(other)),
    }
}

fn trust(event: &Event) -> String {
    match event {
        Event::CaCertified(event) => format!("made the root certificate of CA generation {}", event.generation),
        Event::CaPrepared(event) => format!("prepared CA generation {}: its root is trusted", event.generation),
        Event::CaActivated(event) => format!(
            "let CA generation {} issue, and re-wrapped {} under a key derived from it",
            event.generation,
            count(event.rewrapped, "secret key")
        ),
        Event::CaTainted(event) => format!("tainted CA generation {}", event.generation),
        Event::CaRevoked(event) => format!("revoked CA generation {} and dropped its key", event.generation),
        Event::PairingMinted(event) => {
            format!(
                "made pairing code {}-... ({}), good until {}",
                event.locator,
                event.method,
                time::second(event.expires_at)
            )
        }
        Event::PairingAttempted(event) => {
            format!("answered attempt {} at pairing {} from {}", event.attempt, event.pairing, event.peer)
        }
        Event::PairingRequested(event) => format!(
            "took the request {} of device {} ({}, \"{}\") from {}, digits {}",
            event.request, event.device, event.kind, event.name, event.peer, event.sas
        ),
        Event::PairingApproved(event) => {
            let how = if event.sas_compared { "after comparing the digits" } else { "without comparing the digits" };
            format!("approved request {} {how}", event.request)
        }
        Event::PairingDenied(event) => format!("denied request {} of device {}", event.request, event.device),
        Event::RequestExpired(event) => {
            format!("ended request {} of device {}: nobody answered it in time", event.request, event.device)
        }
        Event::PairingEnded(event) => format!("ended pairing {}: {}", event.pairing, event.cause),
        Event::PairingRefused(event) => format!("refused a pairing from {}: {}", event.peer, event.cause),
        Event::DevicePaired(event) => {
            let replaced =
                if event.replaces { " in place of the one before, whose certificates are revoked" } else { "" };
            format!("paired device {} ({}, \"{}\"){replaced}", event.device, event.kind, event.name)
        }
        Event::CertificateIssued(event) => {
            let whom = match &event.subject {
                Subject::Device(device) => format!("device {device}"),
                Subject::Server(names) => format!("the daemon ({})", names.join(", ")),
            };
            let until = time::second(event.not_after);
            format!("issued certificate {} to {whom}, good until {until} ({})", event.serial, event.cause)
        }
        other => daily(other),
    }
}

fn daily(event: &Event) -> String {
    match event {
        Event::DeviceGranted(event) if event.granted => {
            format!("granted device {} the scope {}", event.device, event.scope)
        }
        Event::DeviceGranted(event) => format!("took the scope {} from device {}", event.scope, event.device),
        Event::DeviceRenamed(event) => format!("renamed device {} to \"{}\"", event.device, event.name),
        Event::DeviceRevoked(event) => {
            let held = |all: &Vec<_>| format!(" and {} that it held", count(all.len() as u64, "certificate"));
            format!("revoked device {}{}", event.device, event.certificates.as_ref().map(held).unwrap_or_default())
        }
        Event::DeviceCleared(event) => format!("cleared device {}: it may ask to be paired again", event.device),
        Event::DeviceRemoved(event) => format!("took device {} off the list", event.device),
        Event::CertificateRevoked(event) => format!("revoked certificate {}", event.serial),
        Event::CrlIssued(event) => {
            format!("signed revocation list {} with {}", event.number, count(event.entries, "certificate"))
        }
        Event::ConnectionsRefused(event) => {
            let each = |note: &RefusalNote| {
                let device = note.device.map(|id| format!(" of device {id}")).unwrap_or_default();
                format!("{}{device} from {}: {}", count(note.count, "attempt"), note.peer, note.cause)
            };
            format!("refused {}", event.refusals.iter().map(each).collect::<Vec<_>>().join("; "))
        }
        Event::DevicesSeen(event) => {
            let each = |note: &SeenNote| format!("{} at {}", note.device, note.peer);
            format!("saw {}", event.devices.iter().map(each).collect::<Vec<_>>().join(", "))
        }
        Event::DaemonStarted(event) => format!("began to serve: {}", event.listeners.join(", ")),
        Event::DaemonStopped(event) => format!("stopped serving, {} cut", count(event.cut.into(), "connection")),
        other => credentials(other),
    }
}

fn credentials(event: &Event) -> String {
    let until =
        |end: &Option<Timestamp>| end.map(|end| format!(", good until {}", time::second(end))).unwrap_or_default();
    match event {
        Event::ProfileSet(event) => {
            let profile = &event.profile;
            let kind = profile.credential.kind();
            format!("set profile {} ({}, {}, {kind})", profile.id, profile.provider, profile.scope)
        }
        Event::ProfileEnabled(event) => {
            format!("{} profile {}", if event.enabled { "enabled" } else { "disabled" }, event.profile)
        }
        Event::ProfileDeleted(event) => format!("deleted profile {}", event.profile),
        Event::ProfileCleared(event) => format!("forgot the failures of profile {}", event.profile),
        Event::OrderSet(event) if event.profiles.is_empty() => {
            format!("removed the order of {} for {}", event.scope, event.provider)
        }
        Event::OrderSet(event) => {
            let names: Vec<_> = event.profiles.iter().map(ToString::to_string).collect();
            format!("set the order of {} for {}: {}", event.scope, event.provider, names.join(", "))
        }
        Event::RefreshStarted(event) => {
            format!("began refresh {} of profile {} ({})", event.generation, event.profile, event.cause)
        }
        Event::RefreshSucceeded(event) => {
            let rotated = if event.rotated { ", with a new refresh token" } else { "" };
            let took = event.took_ms.map(|millis| format!(", answered in {millis} ms")).unwrap_or_default();
            let lost = event.scopes_lost.as_ref().filter(|lost| !lost.is_empty());
            let lost = lost.map(|lost| format!(", without the scopes {}", lost.join(" "))).unwrap_or_default();
            format!("refreshed profile {}{rotated}{}{took}{lost}", event.profile, until(&event.expires_at))
        }
        Event::RefreshFailed(event) => {
            let next = match (event.terminal, event.retry_at) {
                (true, _) => "; a person must log in again".to_owned(),
                (false, Some(at)) => format!("; again at {}", time::second(at)),
                (false, None) => String::new(),
            };
            let lost = if event.unanswered { " (the answer may be lost)" } else { "" };
            format!("could not refresh profile {}: {}{lost}{next}", event.profile, event.what)
        }
        Event::ProfileLoggedIn(event) => {
            format!("logged in profile {} by {}{}", event.profile.id, event.flow, until(&event.expires_at))
        }
        Event::ProfileLoggedOut(event) => {
            let how = if event.revoked { ", and the provider revoked its tokens" } else { "" };
            format!("logged out profile {}{how}", event.profile)
        }
        Event::UsageReported(event) => {
            let each = |note: &UsageNote| {
                let bench =
                    note.cooldown_until.map(|end| format!(", benched until {}", time::second(end))).unwrap_or_default();
                format!("{} ({} served, {} failed{bench})", note.profile, note.successes, note.failures)
            };
            let shown: Vec<_> = event.notes.iter().take(3).map(each).collect();
            let more = event.notes.len() - shown.len();
            let more = if more == 0 { String::new() } else { format!(" and {}", count(more as u64, "other profile")) };
            format!("used {}{more}", shown.join(", "))
        }
        Event::FailedOver(event) => {
            format!(
                "used {} ({}) instead of {} ({}): {}",
                event.chosen, event.to, event.preferred, event.from, event.why
            )
        }
        other => imports::summary(other),
    }
}

fn slot(note: &SlotNote) -> String {
    format!("key slot {} ({}, \"{}\")", note.slot, note.kind, note.label)
}

/// A number and its noun: `1 event`, `2 events`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// An entry as one JSON object: header fields, kind, actor, origin, reason, and the event's fields.
#[must_use]
pub fn entry_json(entry: &Entry) -> Value {
    let caller = &entry.caller;
    let mut map = Map::new();
    map.insert("seq".to_owned(), entry.seq.into());
    map.insert("recorded_at_ms".to_owned(), entry.time.as_millis().into());
    map.insert("kind".to_owned(), entry.kind_name().into());
    map.insert("actor".to_owned(), caller.actor.as_str().into());
    map.insert("origin".to_owned(), origin(&caller.origin));
    map.insert("reason".to_owned(), json!(caller.reason.as_ref().map(crate::base::Reason::as_str)));
    if let Some(correlation) = caller.correlation {
        map.insert("correlation_id".to_owned(), json!(correlation));
    }
    map.insert("event".to_owned(), with_units(entry.fields()));
    map.insert("schema".to_owned(), entry.schema.into());
    map.insert("epoch".to_owned(), entry.epoch.into());
    map.insert("batch_index".to_owned(), entry.batch_index.into());
    map.insert("batch_len".to_owned(), entry.batch_len.into());
    map.insert("prev".to_owned(), json!(entry.prev));
    map.insert("hash".to_owned(), json!(entry.hash));
    Value::Object(map)
}

fn origin(origin: &Origin) -> Value {
    match origin {
        Origin::System => json!({"via": "system"}),
        Origin::Cli { uid } => json!({"via": "cli", "uid": uid}),
        Origin::Library => json!({"via": "library"}),
        Origin::Socket { uid, pid } => json!({"via": "socket", "uid": uid, "pid": pid}),
        Origin::Device { device_id } => json!({"via": "device", "device_id": device_id}),
    }
}

/// Times get the name that every time in JSON has: `.._at_ms`; public keys are hexadecimal.
fn with_units(mut fields: Value) -> Value {
    let Some(map) = fields.as_object_mut() else { return fields };
    rename(
        map,
        &[
            ("expires_at", "expires_at_ms"),
            ("since", "since_ms"),
            ("until", "until_ms"),
            ("observed", "observed_at_ms"),
            ("recorded", "recorded_at_ms"),
        ],
    );
    for gathered in ["reads", "notes"] {
        if let Some(Value::Array(notes)) = map.get_mut(gathered) {
            for note in notes.iter_mut().filter_map(Value::as_object_mut) {
                rename(note, &[("first", "first_at_ms"), ("last", "last_at_ms")]);
            }
        }
    }
    if let Some(Value::Array(bytes)) = map.get_mut("ca_public_key") {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes.iter().filter_map(Value::as_u64) {
            let _ = write!(text, "{byte:02x}");
        }
        map.insert("ca_public_key".to_owned(), text.into());
    }
    fields
}

fn rename(map: &mut Map<String, Value>, names: &[(&str, &str)]) {
    for (old, new) in names {
        if let Some(value) = map.remove(*old) {
            map.insert((*new).to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::system::CommandRefused;
    use crate::event::vault::{ReadNote, SecretShredded, SecretsRead};

    #[test]
    fn events_read_as_sentences() {
        let scope = crate::base::Scope::global();
        let name = "key".parse::<crate::base::SecretName>().unwrap();
        let note = |count| ReadNote {
            scope: scope.clone(),
            name: name.clone(),
            version: 2,
            count,
            first: Timestamp::from_millis(0),
            last: Timestamp::from_millis(1),
        };
        let read = Event::SecretsRead(SecretsRead { reads: vec![note(1), note(3), note(1), note(1)] });
        assert_eq!(
            summary(&read),
            "read version 2 of global/key, version 2 of global/key 3 times, version 2 of global/key and 1 other secret"
        );
        let versions = (1..=6).map(|version| (version, u64::from(version))).collect();
        let shred = Event::SecretShredded(SecretShredded { scope, name, versions });
        assert_eq!(summary(&shred), "destroyed 6 versions (1 to 6) of global/key");
        let refused = Event::CommandRefused(CommandRefused {
            command: "secrets set".to_owned(),
            target: Some("global/key".to_owned()),
            code: "conflict".to_owned(),
            what: "global/key is at version 2, not at version 1".to_owned(),
        });
        assert_eq!(
            summary(&refused),
            "was refused `secrets set` of global/key: global/key is at version 2, not at version 1"
        );
    }

    #[test]
    fn times_in_json_say_their_unit() {
        let fields = json!({"expires_at": 5, "reads": [{"first": 1, "last": 2}], "ca_public_key": [1, 255]});
        assert_eq!(
            with_units(fields),
            json!({"expires_at_ms": 5, "reads": [{"first_at_ms": 1, "last_at_ms": 2}], "ca_public_key": "01ff"})
        );
        assert_eq!(with_units(json!({"first": 1, "last": 2})), json!({"first": 1, "last": 2}), "sequence numbers stay");
    }
}
