//! Device trust: the CA, pairing codes, devices, certificates, decided and folded without any I/O.
//!
//! `decide_*` turns a command into events or a refusal; [`apply`] folds an event into the state. Both are
//! pure. What stands here decides who is trusted; how certificates are signed and how a code is proved
//! over the wire stands beside it.

mod code;
mod decide;
mod fault;
mod imported;
mod pairing;
pub mod pake;
mod shown;
mod state;
#[cfg(test)]
mod tests;
mod trust;

pub use code::{Code, CodeError};
pub use decide::{
    Approval, Approve, Asked, Issue, Minted, Renewal, Sign, bounded, decide_approve, decide_attempt, decide_clear,
    decide_crl, decide_deny, decide_end, decide_grant, decide_issue, decide_mint, decide_remove, decide_rename,
    decide_request, decide_revoke, decide_revoke_certificate, decide_sweep, plan_crl, replaced_by,
};
pub use fault::{ApplyFault, IdentityError};
pub use imported::{DeviceOrigin, device_origin, find_imported};
pub use pairing::{PairingRecord, PairingState, RequestRecord, RequestState};
pub use shown::shown;
pub use state::{
    Authorities, AuthorityRecord, AuthorityState, CertificateRecord, Counters, DeviceRecord, DeviceState, Revocation,
    apply, authorities, certificates_of, counters, expiring, find_certificate, find_device, find_pairing, find_request,
    key_holder as find_key_holder, last_seen, list_devices, list_pairings, list_requests, locate_pairing, revocations,
};
pub use trust::{Known, Root, Trust};
