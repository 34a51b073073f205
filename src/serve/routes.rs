//! Every route in tables: the routers are made of them, and the `OpenAPI` document is held against them.

use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;

use super::answer::{self, Answer};
use super::shared::Shared;
#[cfg(test)]
use super::{device_routes, local_routes, pairing_routes};

/// A method, a path, and what answers.
pub type Route = (&'static str, &'static str, fn() -> MethodRouter<Arc<Shared>>);

/// The routes of every listener, by the tag that the document gives it.
#[cfg(test)]
const LISTENERS: [(&str, &[&[Route]]); 4] = [
    ("pairing", &[pairing_routes::ROUTES]),
    ("devices", &[device_routes::ROUTES, device_routes::IN_GRACE]),
    ("socket", &[local_routes::SOCKET]),
    ("metrics", &[local_routes::PUBLIC]),
];

/// A router of these routes.
pub fn router(routes: &[Route]) -> Router<Arc<Shared>> {
    routes.iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler()))
}

/// What is not there.
pub async fn nothing() -> Answer {
    answer::failure(axum::http::StatusCode::NOT_FOUND, "not_found", "there is nothing here")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_and_the_routers_tell_the_same() {
        let document: serde_json::Value = serde_json::from_str(crate::serve::OPENAPI).unwrap();
        let mut told = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                for tag in operation["tags"].as_array().unwrap() {
                    told.insert((tag.as_str().unwrap(), method.as_str(), path.clone()));
                }
            }
        }
        let mut served = BTreeSet::new();
        for (tag, tables) in LISTENERS {
            for (method, path, _) in tables.iter().copied().flatten() {
                served.insert((tag, *method, path.replace("{*", "{")));
            }
        }
        assert_eq!(told, served);
    }
}
