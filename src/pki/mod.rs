//! X.509 (RFC 5280): the device CA's root, leaf certificates, certificate requests and revocation lists.
//!
//! Pure functions around rcgen and x509-parser: time and serial numbers come as parameters, Ed25519
//! signatures have no randomness, so the same call always gives the same bytes. Of a certificate request
//! nothing is used but its public key, and that only after the request's own signature proved that the
//! device holds the private half.

mod authority;
mod csr;
mod foreign;
mod pem;
mod read;

pub use crate::crypto::Fingerprint;
pub use authority::{Authority, ServerName, SignError, cross, root, root_end};
pub use csr::{CsrError, LeafKey, PublicKey, public_key_from_csr};
pub use foreign::{
    ForeignError, ForeignLeaf, ForeignRoot, check_foreign_leaf, foreign_der, read_foreign_leaf, read_foreign_root,
};
pub use pem::{certificates_from_pem, key_from_pem, pem};
pub use read::{LeafFacts, ReadError, fingerprint, read_leaf};

/// What stands before a device's id in its certificate's URI name.
pub const DEVICE_URI: &str = "urn:palyra:device:";
