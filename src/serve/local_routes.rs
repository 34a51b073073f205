//! What the local socket and the metrics listener offer over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;

use super::answer::{self, Answer};
use super::device_routes::{head, health};
use super::routes::{self, Route, nothing};
use super::shared::Shared;

/// What the local socket offers.
pub const SOCKET: &[Route] = &[
    ("get", "/v1/health", || get(health)),
    ("get", "/v1/head", || get(head)),
    ("get", "/metrics", || get(metrics)),
    ("get", "/openapi.json", || get(openapi)),
];
/// What the metrics listener offers.
pub const PUBLIC: &[Route] = &[("get", "/metrics", || get(metrics))];

/// The routes of the local socket.
pub fn socket(shared: Arc<Shared>) -> Router {
    routes::router(SOCKET).fallback(nothing).method_not_allowed_fallback(nothing).with_state(shared)
}

/// The routes of the metrics listener.
pub fn public(shared: Arc<Shared>) -> Router {
    routes::router(PUBLIC).fallback(nothing).method_not_allowed_fallback(nothing).with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Answer {
    match shared.blocking(|shared| Ok(shared.gauges())).await {
        Ok(gauges) => answer::bytes("text/plain; version=0.0.4; charset=utf-8", shared.metrics.text(gauges)),
        Err(answer) => answer,
    }
}

async fn openapi() -> Answer {
    answer::bytes("application/json", super::OPENAPI)
}
