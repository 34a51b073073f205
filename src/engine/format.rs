//! Which format a home has: what its files say in the clear, without any key.

use std::collections::BTreeMap;
use std::path::Path;

use crate::event::{self, STEPS, Step, step_of};
use crate::inspect::verify_files_with;
use crate::log::frame;
use crate::projection;
use crate::store::Medium;

use super::config::Config;
use super::core::Layout;
use super::error::Error;
use super::fold::STATE_SCHEMA;

/// The format of a home, and that of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Events by kind and schema version.
    pub kinds: BTreeMap<(u16, u16), u64>,
    /// Format version and state schema of the index, as its manifest says; nothing where there is none.
    pub index: Option<(u16, u32)>,
}

impl Format {
    /// Reads the format of a home. Every event's header is looked at.
    ///
    /// # Errors
    /// [`Error::Store`] where the journal cannot be listed.
    pub fn of(config: &Config) -> Result<Self, Error> {
        Self::read(&*config.medium, &config.home)
    }

    fn read(medium: &dyn Medium, home: &Path) -> Result<Self, Error> {
        let mut kinds = BTreeMap::new();
        verify_files_with(medium, home, None, &mut |header, _| {
            *kinds.entry((header.kind, header.schema)).or_default() += 1;
        })?;
        let layout = Layout { home: home.to_owned() };
        Ok(Self { kinds, index: projection::stored_version(medium, &layout.index()) })
    }

    /// The version of frames and segments.
    #[must_use]
    pub const fn frames() -> u16 {
        frame::VERSION
    }

    /// The newest step of the format that the log holds something of; nothing where it holds nothing that is known.
    #[must_use]
    pub fn step(&self) -> Option<&'static Step> {
        self.kinds.keys().filter_map(|(kind, schema)| step_of(*kind, *schema)).max_by_key(|step| step.number)
    }

    /// The newest step that this program knows.
    #[must_use]
    pub const fn newest_step() -> Option<&'static Step> {
        STEPS.last()
    }

    /// Events that are written in an older schema version than this program's.
    #[must_use]
    pub fn older_events(&self) -> u64 {
        let older =
            |(kind, schema): &(u16, u16)| event::Kind::from_number(*kind).is_some_and(|kind| *schema < kind.schema());
        self.kinds.iter().filter(|(key, _)| older(key)).map(|(_, count)| count).sum()
    }

    /// Events that this program does not know.
    #[must_use]
    pub fn unknown_events(&self) -> u64 {
        let unknown = |(kind, schema): &(u16, u16)| event::check_known(*kind, *schema).is_err();
        self.kinds.iter().filter(|(key, _)| unknown(key)).map(|(_, count)| count).sum()
    }

    /// Whether the index is of another version than this program's: less where it is older.
    #[must_use]
    pub fn index_age(&self) -> Option<std::cmp::Ordering> {
        self.index.map(|found| found.cmp(&(projection::FORMAT_VERSION, STATE_SCHEMA)))
    }
}
