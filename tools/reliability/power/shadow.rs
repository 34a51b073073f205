//! What a ledger must hold after what its program said, and what it does hold.

use std::collections::BTreeMap;

use palyra_ledger::vault::VersionState;
use palyra_ledger::{GetOptions, Ledger, ListOptions, ScopePrefix, SecretPath};

use crate::Fault;

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// Readable, with its value.
    Live(Vec<u8>),
    /// Hidden.
    Deleted(Vec<u8>),
    /// Destroyed.
    Shredded,
}

/// Every secret with its versions, from the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shadow {
    /// By reference.
    pub secrets: BTreeMap<String, Vec<Version>>,
    /// Whether there is a ledger at all.
    pub there: bool,
}

/// The value of a version of a secret.
pub fn value(reference: &str, version: usize, len: usize) -> Vec<u8> {
    format!("{reference} {version} ").into_bytes().into_iter().cycle().take(len).collect()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

impl Shadow {
    /// Carries out a command: its words as the program said them.
    pub fn apply(&mut self, command: &str) -> Result<(), Fault> {
        let words: Vec<&str> = command.split(' ').collect();
        let change = |version: &mut Version, to: &str| match (std::mem::replace(version, Version::Shredded), to) {
            (Version::Live(value), "delete") => *version = Version::Deleted(value),
            (Version::Deleted(value), "undelete") => *version = Version::Live(value),
            _ => {}
        };
        match words.as_slice() {
            ["init"] => self.there = true,
            ["root" | "epoch" | "slot" | "checkpoint" | "open"] => {}
            ["put", reference, len] => {
                let versions = self.secrets.entry((*reference).to_owned()).or_default();
                versions.push(Version::Live(value(reference, versions.len() + 1, len.parse()?)));
            }
            [what @ ("delete" | "undelete" | "shred"), reference, version] => {
                let at = version.parse::<usize>()?.checked_sub(1).ok_or("no version")?;
                let versions = self.secrets.get_mut(*reference).ok_or("no such secret")?;
                change(versions.get_mut(at).ok_or("no such version")?, what);
            }
            ["live", reference, bytes] => {
                let versions = self.secrets.entry((*reference).to_owned()).or_default();
                versions.push(Version::Live(hex(bytes).ok_or("no hexadecimal")?));
            }
            ["shredded", reference] => {
                self.secrets.entry((*reference).to_owned()).or_default().push(Version::Shredded);
            }
            ["hidden", reference] => {
                self.secrets.entry((*reference).to_owned()).or_default().push(Version::Deleted(Vec::new()));
            }
            ["import"] => {
                let text = std::fs::read_to_string("migrations/importer-fixtures/EXPECTED-secrets.txt")?;
                for line in text.lines() {
                    let (reference, bytes) = line.split_once(' ').ok_or("a line without a value")?;
                    self.apply(&format!("live {reference} {bytes}"))?;
                }
            }
            _ => return Err(format!("a command that is none: {command}").into()),
        }
        Ok(())
    }

    /// What it is, as commands: for a store that was made elsewhere.
    pub fn commands(&self) -> Vec<String> {
        let one = |reference: &String, version: &Version| match version {
            Version::Live(value) => format!("live {reference} {}", to_hex(value)),
            Version::Deleted(_) => format!("hidden {reference}"),
            Version::Shredded => format!("shredded {reference}"),
        };
        let all = |(reference, versions): (&String, &Vec<Version>)| {
            versions.iter().map(|version| one(reference, version)).collect::<Vec<_>>()
        };
        self.there.then(|| "init".to_owned()).into_iter().chain(self.secrets.iter().flat_map(all)).collect()
    }

    /// What may be there after what was said: with and without each command that was begun and not acknowledged.
    /// Lines are `try THREAD COMMAND` and `ack THREAD COMMAND`. What was acknowledged alone comes first.
    pub fn allowed(said: &[String]) -> Result<Vec<Self>, Fault> {
        let mut acknowledged = Self::default();
        let mut open: BTreeMap<&str, &str> = BTreeMap::new();
        for line in said {
            let mut parts = line.splitn(3, ' ');
            match (parts.next(), parts.next(), parts.next()) {
                (Some("try"), Some(thread), Some(command)) => {
                    open.insert(thread, command);
                }
                (Some("ack"), Some(thread), Some(command)) => {
                    open.remove(thread);
                    acknowledged.apply(command)?;
                }
                _ => return Err(format!("the program said: {line}").into()),
            }
        }
        let mut allowed = vec![acknowledged];
        for command in open.into_values() {
            for mut with in allowed.clone() {
                with.apply(command)?;
                allowed.push(with);
            }
        }
        Ok(allowed)
    }

    /// What an open ledger holds. Values of hidden versions are not read.
    pub fn of(ledger: &Ledger) -> Result<Self, Fault> {
        let mut found = Self { secrets: BTreeMap::new(), there: true };
        for info in ledger.list(&ScopePrefix::all(), &ListOptions::new().including_deleted().limit(10_000))? {
            let SecretPath { scope, name } = &info.reference;
            let vault = ledger.vault(scope.clone());
            let mut versions = Vec::new();
            for record in vault.history(name)?.versions {
                versions.push(match record.state {
                    VersionState::Live => {
                        let secret = vault.get_with(name, GetOptions::version(record.version))?;
                        Version::Live(secret.value.expose().to_vec())
                    }
                    VersionState::Deleted => Version::Deleted(Vec::new()),
                    VersionState::Shredded => Version::Shredded,
                });
            }
            found.secrets.insert(info.reference.to_string(), versions);
        }
        Ok(found)
    }

    /// Whether what was found is this. Values of hidden versions do not count.
    pub fn fits(&self, found: &Self) -> bool {
        let hidden = |versions: &Vec<Version>| -> Vec<Version> {
            let one = |version: &Version| match version {
                Version::Deleted(_) => Version::Deleted(Vec::new()),
                other => other.clone(),
            };
            versions.iter().map(one).collect()
        };
        self.there == found.there
            && self.secrets.len() == found.secrets.len()
            && self.secrets.iter().zip(&found.secrets).all(|(own, other)| own.0 == other.0 && hidden(own.1) == *other.1)
    }

    /// How what was found is less than this, if it is.
    pub fn lacks(&self, found: &Self) -> Option<String> {
        self.secrets.iter().find_map(|(reference, versions)| {
            let there = found.secrets.get(reference).map_or(&[][..], Vec::as_slice);
            let at = versions.iter().enumerate().position(|(at, version)| match (version, there.get(at)) {
                (Version::Deleted(_), Some(Version::Deleted(_))) => false,
                (version, found) => found != Some(version),
            })?;
            let found = there.get(at).map_or("is not there", |version| match version {
                Version::Live(_) => "is another one or not shredded or hidden",
                Version::Deleted(_) => "is hidden",
                Version::Shredded => "is shredded",
            });
            Some(format!("version {} of {reference} {found}", at + 1))
        })
    }
}
