//! placeholder
mod items;

pub use items::{FoundCertificate, FoundDevice, FoundSecret, Gathered, Line, Verdict};
