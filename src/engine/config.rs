//! What a ledger is opened with: the caller's part, and the home's `config.toml`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{Actor, Caller, Clock, OsRandom, Random, SlotId, SystemClock, limits};
use crate::crypto::Key;
use crate::keys::{ArgonCost, Credential};
use crate::platform::{self, Keystore};
use crate::store::{Medium, RealMedium};

pub use super::resolve_settings::ResolveSettings;

/// Whether reads of secret values are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditReads {
    /// Not at all.
    Off,
    /// Gathered and committed together. Lost at a crash: at most the last second of an open ledger
    /// ([`limits::READS_WINDOW_MS`]); from a reading process whatever the system had not written back.
    #[default]
    Batched,
    /// Each read is durable before its value is returned.
    Strict,
}

/// The home's `config.toml`. Unknown keys are refused, so that a typing error is found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What is audited.
    pub audit: AuditSettings,
    /// Bounds.
    pub limits: LimitSettings,
    /// The log.
    pub log: LogSettings,
    /// Keys.
    pub keys: KeySettings,
    /// The daemon.
    pub serve: ServeSettings,
    /// `[auth]`.
    pub auth: AuthSettings,
    /// What references to secrets may reach.
    pub resolve: ResolveSettings,
    /// Checkpoints.
    pub checkpoints: CheckpointSettings,
    /// Anchors.
    pub anchors: AnchorSettings,
}

/// The `[checkpoints]` table: when one is signed without being asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointSettings {
    /// After so many events; 0: never by number.
    pub every_events: u64,
    /// After so many minutes in which there were events; 0: never by time.
    pub every_minutes: u64,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self { every_events: limits::CHECKPOINT_EVENTS, every_minutes: limits::CHECKPOINT_MINUTES }
    }
}

/// The `[anchors]` table: where checkpoints are kept outside the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnchorSettings {
    /// Files, on another disk or machine at best. They are compared at every opening.
    pub files: Vec<PathBuf>,
    /// Also the operating system's keystore: another place than this disk, where the user's session unlocks it.
    pub keystore: bool,
}

impl AnchorSettings {
    fn check(&self) -> Result<(), SettingsError> {
        let fits = |path: &PathBuf| {
            path.is_absolute()
                && path.file_name().is_some()
                && path
                    .to_str()
                    .is_some_and(|text| text.len() <= limits::ANCHOR_PATH_MAX && !text.chars().any(char::is_control))
        };
        match self
            .files
            .iter()
            .enumerate()
            .find(|(at, path)| !fits(path) || self.files.iter().take(*at).any(|other| other == *path))
        {
            Some((_, path)) => Err(SettingsError::Anchor(path.display().to_string())),
            None if self.files.len() > limits::ANCHOR_FILES_MAX => {
                let max = limits::ANCHOR_FILES_MAX as u64;
                Err(SettingsError::Range { key: "number of anchors.files", min: 0, max })
            }
            None => Ok(()),
        }
    }
}

/// The `[audit]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Whether reads are recorded.
    pub reads: AuditReads,
}

/// The `[limits]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Bound on a value in bytes.
    pub max_value_bytes: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { max_value_bytes: limits::VALUE_MAX_DEFAULT }
    }
}

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Bytes at which a journal segment is closed.
    pub segment_bytes: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { segment_bytes: limits::SEGMENT_BYTES_DEFAULT }
    }
}

/// The `[keys]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// Age in days at which the next opening for writing starts a new epoch; 0: never by age.
    pub epoch_max_age_days: u64,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self { epoch_max_age_days: 90 }
    }
}

/// The `[serve]` table: what `serve` does where its flags do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// Address and port for paired devices; `off` for none.
    pub listen: String,
    /// Address and port for pairing; `off` for none.
    pub pairing_listen: String,
    /// Address and port for metrics without authentication; `off` for none.
    pub metrics_listen: String,
    /// DNS names and addresses in the daemon's certificate, beside the ledger's own name.
    pub names: Vec<String>,
    /// Pairings that may be begun within a minute.
    pub pairing_starts_per_minute: u32,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7343".to_owned(),
            pairing_listen: "127.0.0.1:7344".to_owned(),
            metrics_listen: "off".to_owned(),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()],
            pairing_starts_per_minute: limits::PAIRING_STARTS_PER_MINUTE,
        }
    }
}

/// `[auth]` of `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// How long before its end a token is refreshed, in seconds.
    pub refresh_window_s: u64,
    /// How long nobody else refreshes a profile once somebody began to, in seconds. The token endpoint gets
    /// half of it to answer, and 30 seconds at most.
    pub refresh_lease_s: u64,
    /// Private networks that token endpoints may be in, as `ADDRESS/BITS`.
    pub allow_private: Vec<String>,
    /// File with root certificates in PEM that are trusted for token endpoints beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Proxy for token endpoints; none is used unless it is named here. It is then the proxy that connects,
    /// and whose word on addresses counts.
    pub proxy: Option<String>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        let refresh_window_s = limits::REFRESH_WINDOW_MS / 1000;
        let refresh_lease_s = limits::REFRESH_LEASE_MS / 1000;
        Self { refresh_window_s, refresh_lease_s, allow_private: Vec::new(), ca_file: None, proxy: None }
    }
}

impl AuthSettings {
    /// The private networks as address and number of bits.
    ///
    /// # Errors
    /// The text that is none.
    pub fn networks(&self) -> Result<Vec<(IpAddr, u8)>, String> {
        let network = |text: &String| {
            let (address, bits) = text.split_once('/').unwrap_or((text, ""));
            let address: IpAddr = address.parse().map_err(|_| text.clone())?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = if bits.is_empty() { most } else { bits.parse().map_err(|_| text.clone())? };
            if bits <= most { Ok((address, bits)) } else { Err(text.clone()) }
        };
        self.allow_private.iter().map(network).collect()
    }
}

/// Why `config.toml` was refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A network is none.
    #[error("`auth.allow_private`: {0:?} is no network of the form ADDRESS/BITS")]
    Network(String),
    /// The proxy is no URL, or holds a user or password: settings are shown, and are no place for a secret.
    #[error("`auth.proxy` must be a URL without user and password")]
    Proxy,
    /// A path is not absolute, or has empty, `.` or `..` parts.
    #[error("`{key}` takes absolute paths without empty, `.` or `..` parts")]
    Absolute {
        /// The key.
        key: &'static str,
    },
    /// A variable's name is none.
    #[error("`{key}` takes names of variables: letters, digits and _, no digit at first")]
    Variable {
        /// The key.
        key: &'static str,
    },
    /// An anchor is no file that can be named.
    #[error("`anchors.files`: {0:?} is not the absolute path of a file, or is there twice")]
    Anchor(String),
    /// An anchor's file lies in the home.
    #[error("`anchors.files`: {0:?} is in the home, and would be put back together with it: name a place outside")]
    AnchorInside(String),
    /// It does not parse.
    #[error("it does not parse: {0}")]
    Parse(#[from] Box<toml::de::Error>),
    /// It is not UTF-8.
    #[error("it is not UTF-8 text")]
    Utf8,
    /// A value is out of its bounds.
    #[error("`{key}` must lie between {min} and {max}")]
    Range {
        /// The key.
        key: &'static str,
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
    },
}

impl Settings {
    /// Reads the text of a `config.toml`.
    ///
    /// # Errors
    /// [`SettingsError`] where it does not parse or a value is out of bounds.
    ///
    /// ```
    /// use palyra_ledger::{AuditReads, Settings};
    /// let settings = Settings::parse("[audit]\nreads = \"strict\"\n")?;
    /// assert_eq!(settings.audit.reads, AuditReads::Strict);
    /// assert!(Settings::parse("[audit]\nread = \"strict\"\n").is_err());
    /// # Ok::<(), palyra_ledger::SettingsError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(Box::new)?;
        let range = |key, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(SettingsError::Range { key, min, max }) }
        };
        range("limits.max_value_bytes", settings.limits.max_value_bytes as u64, 1, limits::VALUE_MAX_CEILING as u64)?;
        range("log.segment_bytes", settings.log.segment_bytes, limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX)?;
        let starts = u64::from(settings.serve.pairing_starts_per_minute);
        range("auth.refresh_window_s", settings.auth.refresh_window_s, 1, 86_400)?;
        let open = |proxy: &String| {
            reqwest::Url::parse(proxy).is_ok_and(|url| url.username().is_empty() && url.password().is_none())
        };
        if !settings.auth.proxy.as_ref().is_none_or(open) {
            return Err(SettingsError::Proxy);
        }
        range("auth.refresh_lease_s", settings.auth.refresh_lease_s, 2, 600)?;
        settings.auth.networks().map_err(SettingsError::Network)?;
        settings.resolve.check()?;
        settings.anchors.check()?;
        range("checkpoints.every_minutes", settings.checkpoints.every_minutes, 0, 525_600)?;
        range("serve.pairing_starts_per_minute", starts, 1, limits::PAIRING_STARTS_CEILING)?;
        Ok(settings)
    }
}

/// How to open a ledger.
///
/// ```
/// use palyra_ledger::{Actor, Config};
/// use std::time::Duration;
/// let config = Config::new("/var/lib/agent/palyra")
///     .actor(Actor::new("agent-runtime")?)
///     .lock_wait(Duration::from_secs(1));
/// assert_eq!(config.home().to_str(), Some("/var/lib/agent/palyra"));
/// # Ok::<(), palyra_ledger::ActorError>(())
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) home: PathBuf,
    pub(crate) caller: Caller,
    pub(crate) lock_wait: Duration,
    pub(crate) slot: Option<SlotId>,
    pub(crate) credential: Credential,
    /// The root key and the slot that it came from, where a restored ledger is opened for the first time.
    pub(crate) root: Option<(Arc<Key>, SlotId)>,
    pub(crate) read_only: bool,
    pub(crate) known_part: bool,
    pub(crate) settings: Option<Settings>,
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) keystore: Arc<dyn Keystore>,
    pub(crate) lock: bool,
    pub(crate) witness: bool,
    pub(crate) background: bool,
    pub(crate) accept_head: bool,
    pub(crate) accept_rollback: bool,
    pub(crate) rollback_note: Option<Vec<u8>>,
    pub(crate) rebuild_index: bool,
    pub(crate) argon_cost: ArgonCost,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("home", &self.home).field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Config {
    /// The defaults for a home.
    #[must_use]
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            caller: Caller::system(),
            lock_wait: Duration::from_millis(limits::LOCK_WAIT_MS_DEFAULT),
            slot: None,
            credential: Credential::None,
            root: None,
            read_only: false,
            known_part: false,
            settings: None,
            medium: Arc::new(RealMedium),
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
            keystore: platform::system(),
            lock: true,
            witness: true,
            background: true,
            accept_head: false,
            accept_rollback: false,
            rollback_note: None,
            rebuild_index: false,
            argon_cost: ArgonCost::default(),
        }
    }

    /// The home.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Who acts through this handle, as a program that embeds the library.
    #[must_use]
    pub fn actor(mut self, actor: Actor) -> Self {
        self.caller = Caller::library(actor);
        self
    }

    /// Who acts through this handle.
    #[must_use]
    pub fn caller(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    /// How long to wait for another process that has the ledger open.
    #[must_use]
    pub const fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// Which key slot to open with, instead of the pinned one.
    #[must_use]
    pub const fn slot(mut self, slot: SlotId) -> Self {
        self.slot = Some(slot);
        self
    }

    /// What opens the key slot.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    /// Open for reading only: other readers may do so at the same time. Reads are still recorded,
    /// as the home's settings say, in a spool that the next writer folds into the log.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Open for reading only, and where a newer program wrote events that this one does not know, only up to the
    /// first of them: the state is that before it. Nothing is changed.
    #[must_use]
    pub const fn known_part(mut self) -> Self {
        self.read_only = true;
        self.known_part = true;
        self
    }

    /// Settings instead of those in the home's `config.toml`.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Where the current time comes from.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where randomness comes from. Anything but [`OsRandom`] is for tests.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Where files live. Anything but [`RealMedium`] goes without a lock and without the sled copy,
    /// which do their own I/O.
    #[must_use]
    pub fn medium(mut self, medium: Arc<dyn Medium>) -> Self {
        self.medium = medium;
        self.lock = false;
        self.witness = false;
        self
    }

    /// Which keystore holds what is kept there, instead of the system's: for tests.
    #[must_use]
    pub fn keystore(mut self, keystore: Arc<dyn Keystore>) -> Self {
        self.keystore = keystore;
        self
    }

    /// Without the sled copy: for tests and for machines where the journal alone is to be kept.
    #[must_use]
    pub const fn without_witness(mut self) -> Self {
        self.witness = false;
        self
    }

    /// Without background threads: their work is done when the ledger is closed. For tests that
    /// need every operation in a fixed order.
    #[must_use]
    pub const fn without_background(mut self) -> Self {
        self.background = false;
        self
    }

    /// Takes the journal's end as the truth where the head file is missing or lies beyond it, and
    /// records that. For a person who has looked at the evidence.
    #[must_use]
    pub const fn accept_head(mut self) -> Self {
        self.accept_head = true;
        self
    }

    /// Takes the ledger as it lies there although anchors or the head file know of more, and begins a new branch
    /// of history with an event that says so. For an older copy that was put back on purpose.
    #[must_use]
    pub const fn accept_rollback(mut self) -> Self {
        self.accept_rollback = true;
        self.accept_head = true;
        self
    }

    /// A signed checkpoint at hand that knows more than the copy that [`Config::accept_rollback`] goes on with: the
    /// branch says so.
    #[must_use]
    pub fn rollback_note(mut self, note: Vec<u8>) -> Self {
        self.rollback_note = Some(note);
        self
    }

    /// Makes the index anew from the log, whatever it says. It is what opening does by itself where the
    /// index is damaged.
    #[must_use]
    pub const fn rebuild_index(mut self) -> Self {
        self.rebuild_index = true;
        self
    }

    /// Cost of Argon2id for new passphrase slots.
    #[must_use]
    pub const fn argon_cost(mut self, cost: ArgonCost) -> Self {
        self.argon_cost = cost;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_names_a_place_and_holds_no_secret() {
        let of = |proxy: &str| Settings::parse(&format!("[auth]\nproxy = \"{proxy}\"\n"));
        assert_eq!(of("http://proxy.example:3128").unwrap().auth.proxy.as_deref(), Some("http://proxy.example:3128"));
        for bad in
            ["", "proxy", "http://ana@proxy.example", "http://ana:CANARY@proxy.example", "http://:CANARY@p.example"]
        {
            let error = of(bad).unwrap_err();
            assert!(matches!(error, SettingsError::Proxy) && !format!("{error} {error:?}").contains("CANARY"), "{bad}");
        }
    }
}
