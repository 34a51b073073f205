//! From the text of the documents to what they say.

use std::collections::HashSet;
use std::ops::Range;

use crate::base::{ProfileId, ProfileScope, Provider, SecretPath, Timestamp, limits};
use crate::event::auth::{CredentialSource, CredentialType, OauthSource, Profile};

use super::super::AuthError;
use super::super::decide::check;
use super::plan::{Problem, Wanted};
use super::shape::{CredentialDoc, OrderDoc, ProfileDoc, ProfilesDoc, RuntimeDoc, VERSION};
use super::{PROFILES_FILE, RUNTIME_FILE};

/// Reads a registry alone: its profiles with the end of their tokens.
pub(super) fn read_profiles(text: &str, problems: &mut Vec<Problem>) -> Option<Vec<Wanted>> {
    let document: ProfilesDoc = parse(PROFILES_FILE, text, problems)?;
    let before = problems.len();
    known_version(PROFILES_FILE, text, document.version, problems);
    let lines = headers(text, "[[profiles]]");
    let mut seen = HashSet::new();
    let mut found = Vec::with_capacity(document.profiles.len());
    for (index, mut entry) in document.profiles.into_iter().enumerate() {
        let line = lines.get(index).copied().unwrap_or(1);
        let expires_at = entry.credential.expires_at_unix_ms.map(Timestamp::from_millis);
        let refresh = entry.credential.refresh_state.take();
        let is_key = entry.credential.kind == CredentialType::ApiKey.name();
        match read_profile(entry) {
            Ok(_) if is_key && refresh.is_some() => {
                let what = "an api_key has api_key_vault_ref and nothing else".to_owned();
                problems.push(Problem { file: PROFILES_FILE, line, what });
            }
            Ok(profile) if !seen.insert(profile.id.clone()) => {
                let what = "a profile of this id stands before it already".to_owned();
                problems.push(Problem { file: PROFILES_FILE, line, what });
            }
            Ok(profile) => found.push(Wanted { profile, expires_at, refresh, line }),
            Err(what) => problems.push(Problem { file: PROFILES_FILE, line, what }),
        }
    }
    (problems.len() == before).then_some(found)
}

pub(super) fn read_runtime(text: &str, problems: &mut Vec<Problem>) -> Option<RuntimeDoc> {
    let document: RuntimeDoc = parse(RUNTIME_FILE, text, problems)?;
    known_version(RUNTIME_FILE, text, document.version, problems).then_some(document)
}

pub(super) fn known_version(file: &'static str, text: &str, version: u32, problems: &mut Vec<Problem>) -> bool {
    if version != VERSION {
        let what = format!("version {version} is not known; it must be {VERSION}");
        let line = headers(text, "version").first().copied().unwrap_or(1);
        problems.push(Problem { file, line, what });
    }
    version == VERSION
}

pub(super) fn read_profile(entry: ProfileDoc) -> Result<Profile, String> {
    let id: ProfileId = entry.profile_id.parse().map_err(|error| format!("profile_id: {error}"))?;
    let provider = match (entry.provider.kind.as_str(), entry.provider.custom_name) {
        ("custom", Some(name)) => format!("custom:{name}"),
        ("custom", None) => return Err("a custom provider needs custom_name".to_owned()),
        (_, Some(_)) => return Err("custom_name is for a custom provider alone".to_owned()),
        (kind, None) => kind.to_owned(),
    };
    let scope = match (entry.scope.kind.as_str(), entry.scope.agent_id) {
        ("agent", Some(agent)) => format!("agent:{agent}"),
        ("agent", None) => return Err("an agent's scope needs agent_id".to_owned()),
        (_, Some(_)) => return Err("agent_id is for an agent's scope alone".to_owned()),
        (kind, None) => kind.to_owned(),
    };
    let profile = Profile {
        id,
        provider: provider.parse().map_err(|error: crate::base::ProfileError| error.to_string())?,
        name: entry.profile_name,
        scope: scope.parse().map_err(|error: crate::base::ProfileError| error.to_string())?,
        enabled: entry.enabled,
        credential: read_credential(entry.credential)?,
    };
    // The line says which profile it is; its id may be anything that somebody pasted.
    check(&profile).map_err(|error| match error {
        AuthError::Field { field, why, .. } => format!("{field} is refused: {why}"),
        other => other.to_string(),
    })?;
    Ok(profile)
}

pub(super) fn read_credential(entry: CredentialDoc) -> Result<CredentialSource, String> {
    let reference = |field: &str, text: String| -> Result<SecretPath, String> {
        // What was pasted where a reference belongs may be the secret itself: it is not repeated.
        text.parse().map_err(|_| format!("{field} is no reference of the form <scope>/<name>"))
    };
    match entry.kind.as_str() {
        "api_key" => {
            let stray = entry.access_token_vault_ref.is_some()
                || entry.refresh_token_vault_ref.is_some()
                || entry.client_secret_vault_ref.is_some()
                || entry.token_endpoint.is_some()
                || entry.revocation_endpoint.is_some()
                || entry.client_id.is_some()
                || !entry.scopes.is_empty()
                || entry.expires_at_unix_ms.is_some();
            if stray {
                return Err("an api_key has api_key_vault_ref and nothing else".to_owned());
            }
            let key = entry.api_key_vault_ref.ok_or("an api_key needs api_key_vault_ref")?;
            Ok(CredentialSource::ApiKey(reference("api_key_vault_ref", key)?))
        }
        "oauth" => {
            if entry.api_key_vault_ref.is_some() {
                return Err("api_key_vault_ref is for an api_key alone".to_owned());
            }
            let access = entry.access_token_vault_ref.ok_or("oauth needs access_token_vault_ref")?;
            let optional = |field: &str, text: Option<String>| text.map(|text| reference(field, text)).transpose();
            Ok(CredentialSource::Oauth(Box::new(OauthSource {
                access: reference("access_token_vault_ref", access)?,
                refresh: optional("refresh_token_vault_ref", entry.refresh_token_vault_ref)?,
                client_secret: optional("client_secret_vault_ref", entry.client_secret_vault_ref)?,
                token_endpoint: entry.token_endpoint.ok_or("oauth needs token_endpoint")?,
                revocation_endpoint: entry.revocation_endpoint,
                client_id: entry.client_id.ok_or("oauth needs client_id")?,
                scopes: entry.scopes,
            })))
        }
        _ => Err("a credential's type is api_key or oauth".to_owned()),
    }
}

pub(super) fn read_order(order: &OrderDoc) -> Result<(ProfileScope, Provider, Vec<ProfileId>), String> {
    let bad = |error: crate::base::ProfileError| error.to_string();
    let profiles = order.profile_ids.iter().map(|id| id.parse().map_err(bad)).collect::<Result<_, _>>()?;
    Ok((order.scope.parse().map_err(bad)?, order.provider.parse().map_err(bad)?, profiles))
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(
    file: &'static str,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    if text.len() as u64 > limits::DOCUMENT_MAX {
        problems.push(Problem { file, line: 1, what: "it is larger than 32 MiB".to_owned() });
        return None;
    }
    match toml::from_str(text) {
        Ok(document) => Some(document),
        Err(error) => {
            let line = error
                .span()
                .map_or(1, |Range { start, .. }| 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count());
            // The message alone: toml's own rendering repeats the line, which may hold a pasted secret.
            problems.push(Problem { file, line, what: without_input(error.message()) });
            None
        }
    }
}

/// A parser's message without what stood in the text: a value may be a pasted secret, and so may a key. A short
/// key is a typing error, which people want to see.
pub(super) fn without_input(message: &str) -> String {
    const KEY_SHOWN_MAX: usize = 23;
    let message = message.lines().next().unwrap_or_default();
    for before in ["unknown field `", "duplicate field `"] {
        if let Some(rest) = message.strip_prefix(before) {
            let (key, after) = rest.rsplit_once("`, expected").unwrap_or((rest, ""));
            let key = key.trim_end_matches('`');
            let after = if after.is_empty() { String::new() } else { format!(", expected{after}") };
            let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let known = before.starts_with("duplicate") && plain && key.len() <= 32;
            let shown = if known || (plain && key.len() <= KEY_SHOWN_MAX) { key } else { "..." };
            return format!("{before}{shown}`{after}");
        }
    }
    let bounds = |mark: char| Some((message.find(mark)?, message.rfind(mark)?));
    let quoted = bounds('"').filter(|(from, to)| from < to);
    match quoted.and_then(|(from, to)| Some((message.get(..from)?, message.get(to + 1..)?))) {
        Some((before, after)) => format!("{before}...{after}"),
        None if message.len() > 160 => "it does not parse".to_owned(),
        None => message.to_owned(),
    }
}

/// The lines, from 1, at which a document's tables of a name begin.
pub(super) fn headers(text: &str, header: &str) -> Vec<usize> {
    let begins = |line: &str| line.chars().filter(|letter| !letter.is_whitespace()).collect::<String>();
    let likely = |line: &&str| line.trim_start().starts_with(header.get(..1).unwrap_or_default());
    let lines = text.lines().enumerate().filter(|(_, line)| likely(line));
    lines.filter(|(_, line)| begins(line).starts_with(header)).map(|(place, _)| place + 1).collect()
}
