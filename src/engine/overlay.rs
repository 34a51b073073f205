//! Changes that are decided and not yet visible, on top of the state.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use crate::base::{Delta, StateError, StateRead, Visit};

/// The batch that made a change last, and the new value.
type Staged = (u64, Option<Box<[u8]>>);

/// Changes by key; each remembers the batch that made it last.
#[derive(Default)]
pub struct Overlay {
    entries: BTreeMap<Box<[u8]>, Staged>,
}

impl Overlay {
    /// Puts a batch's changes on top.
    pub fn stage(&mut self, no: u64, delta: &Delta) {
        for (key, value) in delta {
            self.entries.insert(key.clone(), (no, value.clone()));
        }
    }

    /// Takes a batch's changes off, except where a later batch changed the same key.
    pub fn settle(&mut self, no: u64, delta: &Delta) {
        for (key, _) in delta {
            if self.entries.get(key).is_some_and(|(last, _)| *last == no) {
                self.entries.remove(key);
            }
        }
    }

    /// Takes everything off.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The state with these changes on top.
    pub fn on<'a>(&'a self, base: &'a dyn StateRead) -> Layered<'a> {
        Layered { top: self, base }
    }
}

/// A state with changes on top.
pub struct Layered<'a> {
    top: &'a Overlay,
    base: &'a dyn StateRead,
}

impl StateRead for Layered<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.top.entries.get(key) {
            Some((_, value)) => Ok(value.as_deref().map(<[u8]>::to_vec)),
            None => self.base.get(key),
        }
    }

    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        if !end.is_empty() && from >= end {
            return Ok(());
        }
        let mut over = self.top.entries.range::<[u8], _>((Bound::Included(from), upper)).peekable();
        let mut stopped = false;
        self.base.scan(from, end, &mut |key, value| {
            while let Some((changed, (_, new))) = over.next_if(|(changed, _)| &***changed < key) {
                if let Some(new) = new
                    && visit(changed, new).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            let shown = match over.next_if(|(changed, _)| &***changed == key) {
                Some((_, (_, None))) => return ControlFlow::Continue(()),
                Some((_, (_, Some(new)))) => &**new,
                None => value,
            };
            let flow = visit(key, shown);
            stopped = flow.is_break();
            flow
        })?;
        if stopped {
            return Ok(());
        }
        for (changed, (_, new)) in over {
            if let Some(new) = new
                && visit(changed, new).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

    impl StateRead for Map {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
            Ok(self.0.get(key).cloned())
        }

        fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
            for (key, value) in self.0.range(from.to_vec()..) {
                if (!end.is_empty() && key.as_slice() >= end) || visit(key, value).is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    proptest::proptest! {
        #[test]
        fn a_layered_state_reads_as_if_the_changes_were_made(
            base in proptest::collection::btree_map(0_u8..12, 0_u8..9, 0..8),
            changes in proptest::collection::vec((0_u8..12, proptest::option::of(0_u8..9)), 0..10),
            from in 0_u8..12, end in 0_u8..14,
        ) {
            let base = Map(base.into_iter().map(|(key, value)| (vec![key], vec![value])).collect());
            let mut overlay = Overlay::default();
            let mut expected = base.0.clone();
            for (no, (key, value)) in (0..).zip(&changes) {
                overlay.stage(no, &vec![([*key].into(), value.map(|value| [value].into()))]);
                match value {
                    Some(value) => expected.insert(vec![*key], vec![*value]),
                    None => expected.remove(&vec![*key]),
                };
            }
            let end: &[u8] = if end == 13 { &[] } else { &[end] };
            let mut seen = Vec::new();
            overlay.on(&base).scan(&[from], end, &mut |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            }).unwrap();
            let wanted: Vec<_> = expected.iter()
                .filter(|(key, _)| key.as_slice() >= [from].as_slice() && (end.is_empty() || key.as_slice() < end))
                .map(|(key, value)| (key.clone(), value.clone())).collect();
            proptest::prop_assert_eq!(seen, wanted);
            for key in 0..12 {
                proptest::prop_assert_eq!(overlay.on(&base).get(&[key]).unwrap(), expected.get(&vec![key]).cloned());
            }
        }
    }
}
