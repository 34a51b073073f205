//! Which events are shown.

use clap::Args;

use crate::base::{DeviceId, Origin, ProfileId, SecretPath, Timestamp};
use crate::cli::exit::Failure;
use crate::cli::{story, time};
use crate::engine::Entry;
use crate::event::Kind;
use crate::log::Header;

/// Conditions that a command line gives; all of them must hold.
#[derive(Debug, Default, Args)]
pub struct FilterArgs {
    /// Only events of this kind, for example `secret_put`; may be given more than once
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// Only events about this secret
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<SecretPath>,
    /// Only events since then: RFC 3339, a date, or an age such as 2h
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// More conditions; all of them must hold.
#[derive(Debug, Default, Args)]
pub struct MoreArgs {
    /// Only events up to then
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only events about this device, or caused by it
    #[arg(long, value_name = "ID")]
    pub device: Option<DeviceId>,
    /// Only events about this profile
    #[arg(long, value_name = "ID")]
    pub profile: Option<ProfileId>,
    /// Only events whose sentence, reason or actor holds this text, large and small letters being one
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Only events that came this way
    #[arg(long, value_enum, value_name = "WAY")]
    pub origin: Option<Via>,
    /// Only refusals and failures
    #[arg(long)]
    pub refused: bool,
    /// Only events that this id ties together
    #[arg(long, value_name = "ID")]
    pub correlation: Option<crate::base::CorrelationId>,
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Via {
    /// The ledger itself.
    System,
    /// The command line.
    Cli,
    /// A program that embeds the library.
    Library,
    /// The local socket.
    Socket,
    /// A paired device.
    Device,
}

impl Via {
    const fn of(origin: &Origin) -> Self {
        match origin {
            Origin::System => Self::System,
            Origin::Cli { .. } => Self::Cli,
            Origin::Library => Self::Library,
            Origin::Socket { .. } => Self::Socket,
            Origin::Device { .. } => Self::Device,
        }
    }
}

/// Which events are shown: those that every given condition holds for.
#[derive(Debug, Default)]
pub struct Filter {
    kinds: Vec<u16>,
    reference: Option<String>,
    actor: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    device: Option<DeviceId>,
    profile: Option<ProfileId>,
    text: Option<String>,
    origin: Option<Via>,
    refused: bool,
    correlation: Option<crate::base::CorrelationId>,
}

/// A time as a flag names it.
pub fn moment(flag: &str, text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    text.map(|text| time::since(text, time::now())).transpose().map_err(|_| {
        Failure::usage(
            format!("{flag} is not understood"),
            format!("for example {flag} 2h, {flag} 2026-01-31 or an RFC 3339 time"),
        )
    })
}

impl Filter {
    /// A filter by kind names, secret, actor and time.
    pub fn new(args: &FilterArgs, actor: Option<String>) -> Result<Self, Failure> {
        let kinds = args.kind.iter().map(|name| {
            Kind::from_name(name).map(Kind::number).ok_or_else(|| {
                let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                Failure::usage(format!("`{name}` is no kind of event"), format!("the kinds are {}", known.join(", ")))
            })
        });
        Ok(Self {
            kinds: kinds.collect::<Result<_, _>>()?,
            reference: args.reference.as_ref().map(ToString::to_string),
            actor,
            since: moment("--since", args.since.as_deref())?,
            ..Self::default()
        })
    }

    /// The same with more conditions.
    pub fn and(mut self, more: &MoreArgs) -> Result<Self, Failure> {
        self.until = moment("--until", more.until.as_deref())?;
        self.device = more.device;
        self.profile.clone_from(&more.profile);
        self.text = more.text.as_ref().map(|text| text.to_lowercase());
        self.origin = more.origin;
        self.refused = more.refused;
        self.correlation = more.correlation;
        Ok(self)
    }

    /// Since when.
    pub const fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Until when.
    pub const fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Whether an event may be shown, by its header alone.
    pub fn may_want(&self, header: &Header) -> bool {
        self.in_time(header.time) && (self.kinds.is_empty() || self.kinds.contains(&header.kind))
    }

    fn in_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }

    /// Whether an event is shown.
    pub fn wants(&self, entry: &Entry) -> bool {
        self.in_time(entry.time)
            && (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && self.actor.as_ref().is_none_or(|actor| entry.caller.actor.as_str() == actor)
            && self.correlation.is_none_or(|id| entry.caller.correlation == Some(id))
            && self.origin.is_none_or(|origin| Via::of(&entry.caller.origin) == origin)
            && (!self.refused || entry.event.is_refusal())
            && self.reference.as_ref().is_none_or(|target| is_about(entry, target))
            && self.device.is_none_or(|device| is_of_device(entry, device))
            && self.profile.as_ref().is_none_or(|profile| entry.event.about().profiles.contains(profile))
            && self.text.as_ref().is_none_or(|text| says(entry, text))
    }
}

fn is_about(entry: &Entry, target: &str) -> bool {
    entry.event.secret_refs().iter().any(|found| found == target)
        || entry.event.about().named.iter().any(|found| found.to_string() == target)
}

fn is_of_device(entry: &Entry, device: DeviceId) -> bool {
    matches!(&entry.caller.origin, Origin::Device { device_id } if *device_id == device.to_string())
        || entry.event.about().devices.contains(&device)
}

fn says(entry: &Entry, text: &str) -> bool {
    let caller = &entry.caller;
    let holds = |found: &str| found.to_lowercase().contains(text);
    holds(&story::summary(&entry.event))
        || holds(caller.actor.as_str())
        || caller.reason.as_ref().is_some_and(|reason| holds(reason.as_str()))
        || entry.kind_name().contains(text)
}
