//! Service credentials against endpoints and peers that mean harm, and against prying eyes.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod canaries;
mod endpoint;
mod hostile;
