//! Service credentials against models: selection, breaker, refreshes, documents.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod breaker;
mod common;
mod documents;
mod refresh;
mod selection;
