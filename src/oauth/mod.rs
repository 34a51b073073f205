//! The network side of service credentials: token endpoints, refresh, login, logout.
//!
//! | who | says |
//! |---|---|
//! | [`answer`] | what an endpoint's answer means, without any I/O |
//! | [`TokenClient`] | HTTPS to an endpoint: no redirects, no proxy unless named, bounded, addresses checked |
//! | [`Refresher`] | begins, sends, completes: one refresh a profile at a time, many profiles at once |
//! | [`login`] | authorization code with PKCE on a loopback listener, and device code |

pub mod answer;
mod client;
pub mod login;
mod refresher;

pub use client::{ClientFault, Lookup, TokenClient};
pub use refresher::{RefreshReport, Refresher, exchange, settle};
