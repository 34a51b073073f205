//! The pairing listener: three routes and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Router, extract::rejection::BytesRejection};
use serde::de::DeserializeOwned;

use crate::base::{DeviceName, limits};
use crate::device::messages::{
    Base64, FinishMessage, GreetingMessage, HelloMessage, PollMessage, ReceiptMessage, StatusMessage,
};
use crate::engine::{Error, Hello};
use crate::event::identity::RefusalCause;
use crate::identity::IdentityError;

use super::answer::{self, Answer};
use super::routes::{self, Route, nothing};
use super::shared::Shared;

/// All that this listener offers.
pub const ROUTES: &[Route] = &[
    ("post", "/v1/pairing/hello", || post(hello)),
    ("post", "/v1/pairing/finish", || post(finish)),
    ("post", "/v1/pairing/poll", || post(poll)),
];

/// The routes.
pub fn router(shared: Arc<Shared>) -> Router {
    routes::router(ROUTES)
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .layer(DefaultBodyLimit::max(limits::REQUEST_BODY_MAX))
        .with_state(shared)
}

/// A request's JSON; what does not read is refused before it reaches the ledger.
///
/// # Errors
/// The answer that says so.
pub fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Answer> {
    let body = body.map_err(|rejection| {
        let large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
        let what = if large { "the body is larger than 64 KiB" } else { "the body did not arrive" };
        answer::failure(rejection.status(), RefusalCause::Malformed.name(), what)
    })?;
    serde_json::from_slice(&body).map_err(|error| answer::refused(RefusalCause::Malformed, &error.to_string()))
}

type Body = Result<Bytes, BytesRejection>;

async fn refuse(shared: &Arc<Shared>, cause: RefusalCause, peer: String, what: &str) -> Answer {
    shared.metrics.refused(cause);
    let recorded = shared.blocking(move |shared| shared.ledger.identity().refuse_pairing(cause, None, &peer)).await;
    recorded.err().unwrap_or_else(|| answer::refused(cause, what))
}

async fn parsed<T: DeserializeOwned>(shared: &Arc<Shared>, body: Body, peer: &SocketAddr) -> Result<T, Answer> {
    match read(body) {
        Ok(message) => Ok(message),
        Err(answer) => {
            let _ = refuse(shared, RefusalCause::Malformed, peer.to_string(), "").await;
            Err(answer)
        }
    }
}

async fn hello(State(shared): State<Arc<Shared>>, Extension(peer): Extension<SocketAddr>, body: Body) -> Answer {
    let message: HelloMessage = match parsed(&shared, body, &peer).await {
        Ok(message) => message,
        Err(answer) => return answer,
    };
    let Ok(name) = DeviceName::new(&message.name) else {
        let what = "the device's name is empty, longer than 128 bytes or holds a control character";
        return refuse(&shared, RefusalCause::Malformed, peer.to_string(), what).await;
    };
    // Before an attempt is counted: whoever is turned away here has spent nothing.
    if !shared.sessions.has_room() {
        return refuse(&shared, RefusalCause::TooMany, peer.to_string(), "too many pairings are under way").await;
    }
    let begun = shared
        .blocking(move |shared| {
            let hello = Hello {
                version: message.version,
                locator: &message.locator,
                device: message.device,
                kind: message.kind,
                name: &name,
                public_key: message.public_key.as_bytes(),
                proof: &message.proof.0,
            };
            shared.ledger.identity().begin_pairing(&hello, &peer.to_string())
        })
        .await;
    let (greeting, session) = match begun {
        Ok(begun) => begun,
        Err(answer) => return answer,
    };
    let Some(session) = shared.sessions.keep(&*shared.random, session, peer.ip().to_string()) else {
        return refuse(&shared, RefusalCause::TooMany, peer.to_string(), "too many pairings are under way").await;
    };
    let port = shared.device_port.load(Ordering::Relaxed);
    answer::json(&GreetingMessage {
        session,
        ledger: greeting.ledger,
        ca_certificate: greeting.ca_certificate,
        proof: Base64(greeting.proof),
        device_port: (port != 0).then_some(port),
    })
}

async fn finish(State(shared): State<Arc<Shared>>, Extension(peer): Extension<SocketAddr>, body: Body) -> Answer {
    let message: FinishMessage = match parsed(&shared, body, &peer).await {
        Ok(message) => message,
        Err(answer) => return answer,
    };
    let Some(session) = shared.sessions.take(&message.session, &peer.ip().to_string()) else {
        let what = "the session is over, was used, or is somebody else's";
        return refuse(&shared, RefusalCause::OutOfOrder, peer.to_string(), what).await;
    };
    let done = shared
        .blocking(move |shared| shared.ledger.identity().finish_pairing(session, &message.proof.0, &message.request.0))
        .await;
    match done {
        Ok(receipt) => {
            tracing::info!(request = %receipt.request, "a pairing request waits for a person");
            answer::json(&ReceiptMessage { receipt: Base64(receipt.sealed) })
        }
        Err(answer) => answer,
    }
}

async fn poll(State(shared): State<Arc<Shared>>, Extension(peer): Extension<SocketAddr>, body: Body) -> Answer {
    let message: PollMessage = match parsed(&shared, body, &peer).await {
        Ok(message) => message,
        Err(answer) => return answer,
    };
    let status = shared
        .blocking(move |shared| {
            let identity = shared.ledger.identity();
            let found = identity.poll_request(message.request);
            if matches!(found, Err(Error::Identity(IdentityError::NoRequest(_)))) {
                shared.metrics.refused(RefusalCause::OutOfOrder);
                identity.refuse_pairing(RefusalCause::OutOfOrder, None, &peer.to_string())?;
            }
            found
        })
        .await;
    match status {
        Ok(sealed) => answer::json(&StatusMessage { status: Base64(sealed) }),
        Err(answer) => answer,
    }
}
