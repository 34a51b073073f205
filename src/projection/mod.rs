//! TEMP
#![allow(missing_docs)]
use crate::base::*;
use crate::crypto::Key;
use crate::log::Position;
use crate::store::{Medium, StoreError};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexMode {
    Read,
    Write,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RebuildReason {
    #[error("missing")]
    Missing,
    #[error("foreign")]
    Foreign,
}
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("rebuild {reason}")]
    Rebuild { reason: RebuildReason },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Random(#[from] RandomError),
}
#[derive(Debug)]
pub struct Index {
    map: RwLock<BTreeMap<Box<[u8]>, Box<[u8]>>>,
    position: Mutex<Option<Position>>,
}
impl Index {
    pub fn create(
        _: Arc<dyn Medium>,
        _: &Path,
        _: &Key,
        _: LedgerId,
        _: u32,
        _: &dyn Random,
    ) -> Result<Self, IndexError> {
        Ok(Self { map: RwLock::default(), position: Mutex::default() })
    }
    pub fn open(
        _: Arc<dyn Medium>,
        _: &Path,
        _: &Key,
        _: LedgerId,
        _: u32,
        _: IndexMode,
    ) -> Result<(Self, Option<Position>), IndexError> {
        Ok((Self { map: RwLock::default(), position: Mutex::default() }, None))
    }
    pub fn discard(_: &dyn Medium, _: &Path) -> Result<(), StoreError> {
        Ok(())
    }
    pub fn apply(&self, delta: Delta) {
        let mut map = self.map.write().unwrap();
        for (k, v) in delta {
            match v {
                Some(v) => {
                    map.insert(k, v);
                }
                None => {
                    map.remove(&k);
                }
            }
        }
    }
    pub fn freeze(&self, p: Position) {
        *self.position.lock().unwrap() = Some(p);
    }
    pub fn flush_frozen(&self) -> Result<(), IndexError> {
        Ok(())
    }
    pub fn should_flush(&self) -> bool {
        false
    }
    pub fn position(&self) -> Option<Position> {
        *self.position.lock().unwrap()
    }
}
impl StateRead for Index {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.map.read().unwrap().get(key).map(|v| v.to_vec()))
    }
    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        let all: Vec<_> = self
            .map
            .read()
            .unwrap()
            .iter()
            .filter(|(k, _)| &***k >= from && (end.is_empty() || &***k < end))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for (k, v) in all {
            if let ControlFlow::Break(()) = visit(&k, &v) {
                break;
            }
        }
        Ok(())
    }
}
