//! One session with the Secret Service: its items carry `service`, `group` and `name` as attributes.
//!
//! The session negotiates a key, so that nobody who listens on the bus sees what is kept. Nothing here ever
//! unlocks: that is a prompt, and a prompt is a person's.

use std::collections::HashMap;

use ::secret_service::{Collection, EncryptionType, Error, SecretService};
use zeroize::Zeroizing;

use super::secret_service::{Answer, Request};
use super::{Absence, KeystoreError, SERVICE, split};

const CONTENT_TYPE: &str = "application/octet-stream";

/// A connection, made at first use and anew after a fault of it.
#[derive(Default)]
pub(super) struct Session(Option<SecretService<'static>>);

impl Session {
    /// Does one thing; where the connection turns out to be stale (the service was restarted), once more on a
    /// new one. Every request may be repeated.
    pub(super) async fn serve(&mut self, request: &Request) -> Result<Answer, KeystoreError> {
        if let Some(service) = &self.0 {
            match carry_out(service, request).await {
                Err(error) if is_stale(&error) => self.0 = None,
                other => return other.map_err(explain),
            }
        }
        let connection = zbus::Connection::session().await.map_err(|_| KeystoreError::Absent(Absence::Bus))?;
        let opened = SecretService::connect_with_existing(EncryptionType::Dh, connection).await.map_err(explain)?;
        let service = self.0.insert(opened);
        carry_out(service, request).await.map_err(explain)
    }
}

fn attributes<'a>(group: &'a str, name: Option<&'a str>) -> HashMap<&'a str, &'a str> {
    let mut attributes = HashMap::from([("service", SERVICE), ("group", group)]);
    attributes.extend(name.map(|name| ("name", name)));
    attributes
}

async fn open_collection<'a>(service: &'a SecretService<'_>) -> Result<Collection<'a>, Error> {
    let collection = service.get_default_collection().await?;
    collection.ensure_unlocked().await?;
    Ok(collection)
}

async fn carry_out(service: &SecretService<'_>, request: &Request) -> Result<Answer, Error> {
    match request {
        Request::Probe => open_collection(service).await.map(|_| Answer::Done),
        Request::Put(account, bytes) => {
            let (group, name) = split(account);
            let collection = open_collection(service).await?;
            let label = format!("{SERVICE} {account}");
            collection.create_item(&label, attributes(group, Some(name)), bytes, true, CONTENT_TYPE).await?;
            Ok(Answer::Done)
        }
        Request::Get(_) | Request::Foreign(..) => {
            let found = match request {
                Request::Foreign(owner, key) => {
                    service.search_items(HashMap::from([("service", owner.as_str()), ("key", key.as_str())])).await?
                }
                Request::Get(account) => {
                    let (group, name) = split(account);
                    service.search_items(attributes(group, Some(name))).await?
                }
                _ => return Ok(Answer::Done),
            };
            if let Some(item) = found.unlocked.first() {
                return Ok(Answer::Bytes(Some(Zeroizing::new(item.get_secret().await?))));
            }
            if !found.locked.is_empty() {
                return Err(Error::Locked);
            }
            // A locked collection need not say what it holds.
            open_collection(service).await?;
            Ok(Answer::Bytes(None))
        }
        Request::Delete(account) => {
            let (group, name) = split(account);
            let found = service.search_items(attributes(group, Some(name))).await?;
            if !found.locked.is_empty() {
                return Err(Error::Locked);
            }
            for item in found.unlocked {
                item.delete().await?;
            }
            open_collection(service).await?;
            Ok(Answer::Done)
        }
        Request::List(group) => {
            let found = service.search_items(attributes(group, None)).await?;
            if !found.locked.is_empty() {
                return Err(Error::Locked);
            }
            let mut names = Vec::with_capacity(found.unlocked.len());
            for item in found.unlocked {
                names.extend(item.get_attributes().await?.remove("name"));
            }
            open_collection(service).await?;
            names.sort();
            names.dedup();
            Ok(Answer::Names(names))
        }
    }
}

/// The error's name on the bus, where it has one.
fn bus_name(error: &Error) -> Option<String> {
    match error {
        Error::Zbus(zbus::Error::MethodError(name, ..)) => Some(name.to_string()),
        Error::Zbus(zbus::Error::FDO(error)) => Some(zbus::DBusError::name(&**error).to_string()),
        Error::ZbusFdo(error) => Some(zbus::DBusError::name(error).to_string()),
        _ => None,
    }
}

/// Whether the connection, or the session on it, is no longer the service's.
fn is_stale(error: &Error) -> bool {
    let gone = ["NoSession", "ServiceUnknown", "NameHasNoOwner", "NoReply", "UnknownObject", "Disconnected"];
    match error {
        Error::Zbus(zbus::Error::InputOutput(_)) | Error::Crypto(_) | Error::PromptDisconnected => true,
        other => bus_name(other).is_some_and(|name| gone.iter().any(|gone| name.ends_with(gone))),
    }
}

fn explain(error: Error) -> KeystoreError {
    match &error {
        Error::Locked | Error::Prompt | Error::PromptDisconnected => return KeystoreError::Locked,
        Error::NoResult => return KeystoreError::Absent(Absence::Collection),
        Error::Unavailable => return KeystoreError::Absent(Absence::Service),
        _ => {}
    }
    let name = bus_name(&error).unwrap_or_default();
    if name.ends_with("IsLocked") {
        return KeystoreError::Locked;
    }
    let absent = ["ServiceUnknown", "NameHasNoOwner", "Spawn."];
    if absent.iter().any(|word| name.contains(word)) {
        return KeystoreError::Absent(Absence::Service);
    }
    KeystoreError::Failed(error.to_string())
}
