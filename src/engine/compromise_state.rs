//! Compromises that are open, in the state.
//!
//! | key | value |
//! |---|---|
//! | `05` kind of concern (1) name `00` part (4, big endian) | [`CompromiseDeclared`] |
//!
//! A closed compromise leaves nothing, and one that is declared again takes the place of the one before.

use std::ops::ControlFlow;

use crate::base::{Delta, StateRead, prefix_end};
use crate::event::codec;
use crate::event::compromise::{CompromiseClosed, CompromiseDeclared, Concern};

use super::fold::FoldError;

const COMPROMISES: u8 = 0x05;

fn prefix(concern: &Concern) -> Vec<u8> {
    let kind = match concern {
        Concern::Secret(_) => 0,
        Concern::Device(_) => 1,
        Concern::Profile(_) => 2,
    };
    let mut key = vec![COMPROMISES, kind];
    key.extend_from_slice(concern.name().as_bytes());
    key.push(0);
    key
}

fn gone(state: &dyn StateRead, concern: &Concern) -> Result<Delta, FoldError> {
    let from = prefix(concern);
    let mut delta = Vec::new();
    state.scan(&from, &prefix_end(&from), &mut |key, _| {
        delta.push((key.into(), None));
        ControlFlow::Continue(())
    })?;
    Ok(delta)
}

/// Folds a declaration.
pub fn declared(state: &dyn StateRead, event: &CompromiseDeclared) -> Result<Delta, FoldError> {
    let mut delta = if event.part == 0 { gone(state, &event.concern)? } else { Vec::new() };
    let mut key = prefix(&event.concern);
    key.extend_from_slice(&event.part.to_be_bytes());
    delta.push((key.into(), Some(codec::encode(event)?.into())));
    Ok(delta)
}

/// Folds a close.
pub fn closed(state: &dyn StateRead, event: &CompromiseClosed) -> Result<Delta, FoldError> {
    gone(state, &event.concern)
}

/// The parts of every open compromise, those of one together and in order.
pub fn open(state: &dyn StateRead) -> Result<Vec<CompromiseDeclared>, FoldError> {
    let (mut found, mut fault) = (Vec::new(), None);
    state.scan(&[COMPROMISES], &[COMPROMISES + 1], &mut |_, value| match codec::decode(value) {
        Ok(part) => {
            found.push(part);
            ControlFlow::Continue(())
        }
        Err(error) => {
            fault = Some(error.into());
            ControlFlow::Break(())
        }
    })?;
    fault.map_or(Ok(found), Err)
}

/// A part as somebody may see it: for comparing two states.
pub fn shown(key: &[u8], value: &[u8]) -> Option<(&'static str, String, serde_json::Value)> {
    if key.first() != Some(&COMPROMISES) {
        return None;
    }
    let part: CompromiseDeclared = codec::decode(value).ok()?;
    let fields = serde_json::json!({
        "since_ms": part.since.as_millis(),
        "until_ms": part.until.as_millis(),
        "plan": part.plan,
        "items": part.items.len(),
    });
    let subject = match part.part {
        0 => part.concern.to_string(),
        more => format!("{} (part {more})", part.concern),
    };
    Some(("compromise", subject, fields))
}
