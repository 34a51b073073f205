//! Answers and errors as the wire carries them.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::device::messages::{ErrorBody, ErrorMessage};
use crate::engine::Error;
use crate::event::identity::RefusalCause;
use crate::identity::IdentityError;
use crate::identity::pake::PakeError;
use crate::vault::VaultError;

/// An answer.
pub type Answer = Response<Body>;

/// An answer of one content type.
pub fn bytes(kind: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // Nothing here is anybody else's to keep.
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// JSON.
pub fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => bytes("application/json", text),
        Err(_) => failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer could not be written"),
    }
}

/// An error in JSON.
pub fn failure(status: StatusCode, kind: &str, what: &str) -> Answer {
    let message = ErrorMessage { error: ErrorBody { kind: kind.to_owned(), what: what.to_owned() } };
    let mut answer = bytes("application/json", serde_json::to_vec(&message).unwrap_or_default());
    *answer.status_mut() = status;
    answer
}

/// A refusal by cause.
pub fn refused(cause: RefusalCause, what: &str) -> Answer {
    let status = match cause {
        RefusalCause::TooMany => StatusCode::TOO_MANY_REQUESTS,
        RefusalCause::Malformed | RefusalCause::BadRequest | RefusalCause::Version => StatusCode::BAD_REQUEST,
        RefusalCause::UnknownCode => StatusCode::NOT_FOUND,
        RefusalCause::CodeExpired | RefusalCause::CodeSpent | RefusalCause::OutOfOrder => StatusCode::GONE,
        _ => StatusCode::FORBIDDEN,
    };
    failure(status, cause.name(), what)
}

/// An error of the ledger: what a peer did is told, what is the ledger's own is not.
pub fn error(error: &Error) -> Answer {
    let what = error.to_string();
    match error {
        Error::Identity(inner) if inner.cause().is_some() => {
            refused(inner.cause().unwrap_or(RefusalCause::BadRequest), &what)
        }
        Error::Csr(_) => refused(RefusalCause::BadRequest, &what),
        Error::Pake(PakeError::WrongCode) => refused(RefusalCause::WrongCode, &what),
        Error::Pake(PakeError::Malformed) => refused(RefusalCause::Malformed, &what),
        Error::Pake(PakeError::Sealed) => refused(RefusalCause::OutOfOrder, &what),
        Error::Identity(IdentityError::NoRequest(_) | IdentityError::NoCertificate(_))
        | Error::Vault(VaultError::NotFound { .. } | VaultError::Deleted { .. } | VaultError::Shredded { .. }) => {
            failure(StatusCode::NOT_FOUND, "not_found", &what)
        }
        Error::Dead { .. } | Error::Closed => {
            failure(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the ledger takes no writes at this moment")
        }
        _ => {
            tracing::error!(error = %what, "a request failed");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the ledger could not do this; its log says why")
        }
    }
}
