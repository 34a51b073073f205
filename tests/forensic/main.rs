//! The investigator's tool and the library under it: tampering, carving, and that evidence is never changed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod browser;
mod bundles;
mod carving;
mod forged;
mod keys;
mod log;
mod parts;
mod reading;
mod report;
mod speed;
mod tampering;
mod tool;
mod vectors;
mod windows;
