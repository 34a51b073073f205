//! The daemon: paired devices over mutual TLS, pairing beside it, and the local socket.
//!
//! Three listeners that share nothing but the ledger. Devices come in by [`crate::tls`] and are checked
//! again on every request; a change of device trust wakes every connection, and whoever is trusted no more
//! is cut. Pairing has a listener of its own, without authentication, that offers nothing else. The local
//! socket is for the ledger's owner.
//!
//! Everything from the network is bounded: connections, handshakes that are not finished, time and size of
//! heads and bodies, pairing sessions. What is refused is gathered and recorded with its cause.

#![allow(clippy::result_large_err)] // An answer is the error that a route gives: it is made once and sent.

mod answer;
mod connection;
mod daemon;
mod deadline;
mod device_routes;
mod local_routes;
mod metrics;
mod notes;
mod pairing_routes;
mod per_device;
mod refreshing;
mod registry;
mod renewal;
mod routes;
mod shared;
mod socket;
#[cfg(test)]
mod tests;

pub use daemon::{Daemon, Listening, ServeError, ServeOptions};
pub use metrics::Metrics;
pub use socket::{Attend, BUSY, SocketPeer};

/// The `OpenAPI` document of every route.
pub const OPENAPI: &str = include_str!("openapi.json");
