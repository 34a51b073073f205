//! What the library under the forensic tool says of a ledger, with no key, with the public key and an anchor, and with
//! all keys; and whether that names what was altered.

use std::path::{Path, PathBuf};

use palyra_ledger::checkpoint::VerifierKey;
use palyra_ledger::examine::{self, Asked, Keys};
use palyra_ledger::inspect::{Course, Finding, FindingCode, Kept, Reason, Verdict, read_notes};
use palyra_ledger::store::Medium;
use palyra_ledger::{Credential, KeysError};

use super::corpus::Corpus;
use super::files::Files;

/// What the examiner has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The files alone.
    NoKey,
    /// The public key, and a checkpoint that was kept elsewhere.
    Public,
    /// The keys, as they lie in the evidence, and no anchor.
    AllKeys,
}

impl Level {
    /// Every one, in the order of the columns.
    pub const ALL: [Self; 3] = [Self::NoKey, Self::Public, Self::AllKeys];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoKey => "no key",
            Self::Public => "public key and anchor",
            Self::AllKeys => "all keys",
        }
    }
}

/// What a level must say of an alteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// It is told, and the log itself is called intact.
    Told,
    /// The verdict is that something is wrong.
    Wrong,
}

/// What an examination found.
#[derive(Debug, Clone)]
pub struct State {
    /// The verdict.
    pub verdict: Verdict,
    /// Findings that are listed.
    pub findings: Vec<Finding>,
    /// Ranges of events that findings name which are counted alone.
    pub unlisted: Vec<(u64, u64)>,
}

impl Default for State {
    fn default() -> Self {
        Self { verdict: Verdict::Unverifiable(Reason::NoLog), findings: Vec::new(), unlisted: Vec::new() }
    }
}

/// One place that was altered: a range of events, a file, or either.
#[derive(Debug, Clone, Default)]
pub struct Spot {
    /// From this event to that one.
    pub events: Option<(u64, u64)>,
    /// The file.
    pub file: Option<PathBuf>,
}

impl Spot {
    /// One event.
    pub fn event(event: usize) -> Self {
        Self::events(event, event)
    }

    /// One of these events.
    pub fn events(from: usize, through: usize) -> Self {
        Self { events: Some((from as u64, through as u64)), file: None }
    }

    /// A file.
    pub fn file(path: &Path) -> Self {
        Self { events: None, file: Some(path.to_owned()) }
    }

    /// Or this file.
    pub fn or_file(self, path: &Path) -> Self {
        Self { file: Some(path.to_owned()), ..self }
    }

    fn is_named(&self, state: &State, clean: &State) -> bool {
        let meets = |from: u64, through: u64| self.events.is_some_and(|(low, high)| from <= high && low <= through);
        state.unlisted.iter().any(|(from, through)| meets(*from, *through))
            || state.findings.iter().filter(|finding| !clean.findings.contains(finding)).any(|finding| {
                let named = finding.seq.is_some_and(|seq| meets(seq, finding.through.unwrap_or(seq)));
                named || self.file.as_ref().is_some_and(|path| names_file(finding, path))
            })
    }
}

/// Whether a finding is about a file. Findings about keys name what they are about and not where it lies.
fn names_file(finding: &Finding, path: &Path) -> bool {
    let text = path.display().to_string();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let by_code = match name {
        "keyring" => finding.code == FindingCode::KeyringDiffers || finding.what.contains("key ring"),
        name if name.starts_with("root-") => finding.code == FindingCode::KeyringDiffers,
        name if name.starts_with("table-") => finding.what.contains("key table") || finding.what.contains("key slot"),
        _ => false,
    };
    by_code || finding.file.as_deref() == Some(&text) || finding.what.contains(&text)
}

impl State {
    /// Examines files as `palyra-forensic verify` does; another anchor may be shown than the corpus's own.
    pub fn of(corpus: &Corpus, files: &Files, level: Level, anchor: Option<&[u8]>) -> Self {
        let dir = Path::new("keys");
        let mut against = Vec::new();
        let opened = (level == Level::AllKeys).then(|| Keys::open(files, dir, None, &Credential::None));
        let keys = match opened {
            Some(Ok(keys)) => Some(keys),
            Some(Err(error)) => {
                against.push(Finding::new(FindingCode::KeyringDiffers, None, unopened(&error)));
                None
            }
            None => None,
        };
        let Ok(course) = Course::of_home(files, Path::new("")) else { return Self::default() };
        let public: Option<&VerifierKey> = (level == Level::Public).then_some(&corpus.public);
        let mut anchors = Vec::new();
        if level == Level::Public {
            // An anchor is read with the key that is known: what it did not sign is refused.
            let shown = anchor.unwrap_or_else(|| corpus.anchor.note().as_bytes());
            match read_notes("anchor", Kept::Elsewhere, shown, public) {
                Ok(read) if read.is_empty() => {
                    against.push(Finding::new(FindingCode::AnchorUnusable, None, "it holds no checkpoint".to_owned()));
                }
                Ok(read) => anchors = read,
                Err(error) => against.push(Finding::new(FindingCode::AnchorUnusable, None, error.to_string())),
            }
        }
        let asked = Asked {
            anchors: &anchors,
            public_key: public,
            keys: keys.as_ref(),
            keys_from: Some((files as &dyn Medium, dir)),
            live: false,
        };
        let mut assessment = examine::verify(files, &course, &asked, &mut |_, _| {});
        for finding in against {
            assessment.add(finding);
        }
        let (verdict, report) = (assessment.verdict(), assessment.walked.report);
        Self { verdict, findings: report.findings, unlisted: report.unlisted.ranges }
    }

    /// How much of an alteration it shows.
    pub fn seen(&self, clean: &Self) -> Seen {
        match self.verdict {
            Verdict::IntactAnchored | Verdict::IntactUnanchored => {
                let told = self.findings.iter().any(|finding| !clean.findings.contains(finding));
                if told || self.verdict != clean.verdict { Seen::Told } else { Seen::Nothing }
            }
            _ => Seen::Wrong,
        }
    }

    /// Whether each place is named.
    pub fn locates(&self, spots: &[Spot], clean: &Self) -> bool {
        spots.iter().all(|spot| spot.is_named(self, clean))
    }
}

/// The tool gives no verdict where keys do not open, and says why: never that all is well.
fn unopened(error: &KeysError) -> String {
    format!("the keys in the evidence do not open: {error}")
}
