//! `linux_secret_service` and `macos_keychain`: an item of the system's keystore for each envelope.

use std::sync::Arc;

use crate::base::{BackendKind, LedgerId};
use crate::platform::Keystore;

use super::{BackendError, BlobBackend};

/// Envelopes in a keystore, under `LEDGER/envelopes/SLOT`.
#[derive(Debug)]
pub struct KeystoreBackend {
    keystore: Arc<dyn Keystore>,
    kind: BackendKind,
    group: String,
}

impl KeystoreBackend {
    /// The items of a ledger in a keystore.
    #[must_use]
    pub fn new(keystore: Arc<dyn Keystore>, kind: BackendKind, ledger: LedgerId) -> Self {
        Self { keystore, kind, group: format!("{ledger}/envelopes") }
    }

    fn account(&self, slot: u64) -> String {
        format!("{}/{slot}", self.group)
    }
}

impl BlobBackend for KeystoreBackend {
    fn kind(&self) -> BackendKind {
        self.kind
    }

    fn probe(&self) -> Result<(), BackendError> {
        Ok(self.keystore.probe()?)
    }

    fn put(&self, slot: u64, envelope: &[u8]) -> Result<(), BackendError> {
        Ok(self.keystore.put(&self.account(slot), envelope)?)
    }

    fn get(&self, slot: u64) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.keystore.get(&self.account(slot))?.map(|bytes| bytes.to_vec()))
    }

    fn delete(&self, slot: u64) -> Result<(), BackendError> {
        Ok(self.keystore.delete(&self.account(slot))?)
    }

    fn list(&self) -> Result<Option<Vec<u64>>, BackendError> {
        let Some(names) = self.keystore.list(&self.group)? else { return Ok(None) };
        // A name that is no slot's is not ours to judge.
        let mut slots: Vec<u64> =
            names.iter().filter_map(|name| name.parse::<u64>().ok().filter(|slot| slot.to_string() == *name)).collect();
        slots.sort_unstable();
        Ok(Some(slots))
    }
}
