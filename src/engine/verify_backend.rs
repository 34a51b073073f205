//! Whether the backend holds what the log says: every envelope, and nothing else.

use std::collections::HashMap;

use crate::crypto::Hash;
use crate::inspect::{FindingCode, Report};
use crate::vault::{self, VaultError};

use super::core::Core;
use super::error::{Away, Error};

/// A version whose place holds another envelope.
struct Misfit {
    target: String,
    version: u32,
    seq: u64,
    found: Hash,
}

impl Core {
    /// Looks at the envelope of every version that was not shredded; what is wrong is a finding, not an error.
    pub(super) fn verify_backend(&self, report: &mut Report) -> Result<(), Error> {
        let state = self.backend_state()?;
        let backend = self.outside(state.kind)?;
        if let Some(backend) = &backend {
            // A backend that is locked or away has lost nothing.
            backend.probe()?;
        }
        let mut misfits = Vec::new();
        vault::each_version(&self.index, &mut |target, record| {
            if record.shredded.is_some() {
                return Ok(());
            }
            // Held: the backend is not switched while it is asked.
            let _table = self.table();
            match self.envelope(target, record) {
                Err(Error::Away { .. }) if self.shredded_meanwhile(target, record.version)? => {}
                Err(error @ Error::Away { what, .. }) => {
                    let code = match what {
                        Away::Lost => FindingCode::EnvelopeLost,
                        Away::Damaged => FindingCode::EnvelopeDamaged,
                        Away::Other => {
                            let found = backend.as_ref().map_or(Ok(None), |backend| backend.get(record.slot))?;
                            let found = vault::envelope_digest(&found.unwrap_or_default());
                            let (version, seq) = (record.version, record.seq);
                            misfits.push(Misfit { target: target.to_string(), version, seq, found });
                            return Ok(());
                        }
                    };
                    report.add(code, Some(record.seq), error.to_string());
                }
                // The walk over the log names damage of frames.
                Ok(_)
                | Err(Error::Journal(_) | Error::Sealed { .. } | Error::Codec { .. } | Error::Misplaced { .. }) => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        if !misfits.is_empty() {
            self.tell_misfits(&misfits, report)?;
        }
        if let Some(backend) = &backend {
            for slot in self.orphans(&**backend)? {
                let what = format!(
                    "object {slot} in backend `{}` belongs to no version; `palyra-ledger secrets migrate-backend {}` sweeps it",
                    state.kind, state.kind
                );
                report.add(FindingCode::EnvelopeOrphaned, None, what);
            }
        }
        if let Some(other) = state.other {
            let what = if state.switched {
                format!(
                    "what is left in backend `{other}` was not removed yet; `palyra-ledger secrets migrate-backend {}` goes on",
                    state.kind
                )
            } else {
                format!(
                    "envelopes are on their way to backend `{other}`; `palyra-ledger secrets migrate-backend {other}` goes on"
                )
            };
            report.add(FindingCode::MoveUnfinished, None, what);
        }
        Ok(())
    }

    /// Says whose envelopes stand in the wrong places: an older one of the same secret, another secret's, or
    /// one that the log does not know.
    fn tell_misfits(&self, misfits: &[Misfit], report: &mut Report) -> Result<(), Error> {
        let mut known: HashMap<[u8; 32], (String, u32)> = HashMap::new();
        vault::each_version(&self.index, &mut |target, record| {
            if let Ok(event) = self.put_event(target, record)
                && misfits.iter().any(|misfit| misfit.found == event.envelope_digest)
            {
                known.insert(event.envelope_digest.0, (target.to_string(), record.version));
            }
            Ok::<_, vault::ApplyFault>(())
        })
        .map_err(VaultError::from)?;
        for Misfit { target, version, seq, found } in misfits {
            let (code, whose) = match known.get(&found.0) {
                Some((other, number)) if other == target => {
                    (FindingCode::EnvelopeStale, format!("that of version {number}"))
                }
                Some((other, number)) => (FindingCode::EnvelopeSwapped, format!("that of version {number} of {other}")),
                None => (FindingCode::EnvelopeDamaged, "one that the log does not know".to_owned()),
            };
            let what = format!("in place of the envelope of version {version} of {target} stands {whose}");
            report.add(code, Some(*seq), what);
        }
        Ok(())
    }
}
