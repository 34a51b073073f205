//! What a paired device may ask for.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::routing::{get, post};
use serde_json::json;

use crate::base::{Scope, SecretBytes, SecretName, limits};
use crate::checkpoint::Fit;
use crate::device::messages::{Base64, CheckpointMessage, RenewMessage, RenewedMessage, SeenMessage};
use crate::engine::{AnchorStatus, GetOptions, ListOptions, Vault};
use crate::event::identity::{Der, RefusalCause};
use crate::pki::pem;

use super::answer::{self, Answer};
use super::connection::DevicePeer;
use super::pairing_routes::read;
use super::per_device::Given;
use super::routes::{self, Route, nothing};
use super::shared::{MadeList, Shared};

/// For a certificate that is good.
pub const ROUTES: &[Route] = &[
    ("get", "/v1/health", || get(health)),
    ("get", "/v1/head", || get(head)),
    ("post", "/v1/checkpoint", || post(checkpoint)),
    ("get", "/v1/ca", || get(ca)),
    ("get", "/v1/crl", || get(crl)),
    ("get", "/v1/crl/{generation}", || get(crl_of)),
    ("get", "/v1/secrets", || get(list)),
    ("get", "/v1/secrets/{*name}", || get(secret)),
    ("get", "/v1/scopes/{scope}/secrets", || get(list_of_scope)),
    ("get", "/v1/scopes/{scope}/secrets/{*name}", || get(secret_of_scope)),
];
/// For one that has ended and is in its grace, too.
pub const IN_GRACE: &[Route] = &[("post", "/v1/renew", || post(renew))];

/// The routes.
pub fn router(shared: Arc<Shared>) -> Router {
    routes::router(ROUTES)
        .layer(middleware::from_fn(not_in_grace))
        .merge(routes::router(IN_GRACE))
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .layer(DefaultBodyLimit::max(limits::REQUEST_BODY_MAX))
        .with_state(shared)
}

/// A certificate that has ended is good for renewing alone.
async fn not_in_grace(Extension(peer): Extension<DevicePeer>, request: Request, next: Next) -> Answer {
    if peer.shown.in_grace {
        return answer::refused(RefusalCause::Expired, "the certificate has ended: renew it first");
    }
    next.run(request).await
}

/// Whether the ledger takes writes and answers.
pub async fn health(State(shared): State<Arc<Shared>>) -> Answer {
    // A head that can still be read says nothing of revocations that can no longer be written.
    match shared.blocking(|shared| shared.ledger.alive().and_then(|()| shared.ledger.log().head())).await {
        Ok(head) => answer::json(&json!({"status": "ok", "ledger": shared.ledger.id(), "seq": head.seq})),
        Err(answer) => answer,
    }
}

/// The log's last event: a device that keeps it notices a rolled back ledger.
pub async fn head(State(shared): State<Arc<Shared>>) -> Answer {
    match shared.blocking(|shared| shared.ledger.log().head()).await {
        Ok(head) => answer::json(&json!({
            "ledger": shared.ledger.id(), "seq": head.seq, "hash": head.hash, "time": head.time.to_string(),
        })),
        Err(answer) => answer,
    }
}

/// A device shows the last checkpoint that it saw, and takes the ledger's: it is an anchor. What does not fit is
/// recorded under its name.
async fn checkpoint(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<DevicePeer>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let message: SeenMessage = match read(body) {
        Ok(message) => message,
        Err(answer) => {
            shared.refuse(RefusalCause::Malformed, Some(peer.shown.device), peer.address);
            return answer;
        }
    };
    let anchor = format!("device:{}", peer.shown.device);
    let exchanged = shared.blocking(move |shared| {
        let ledger = &shared.ledger;
        let fit = match &message.note {
            Some(note) => Some(fit_word(&ledger.compare_note(&anchor, note.as_bytes())?)),
            None => None,
        };
        let note = match ledger.last_checkpoint()? {
            Some(last) => last.note,
            None => ledger.checkpoint()?.signed.note().to_owned(),
        };
        let size = ledger.last_checkpoint()?.map_or(0, |last| last.size);
        ledger.record_anchor(&anchor, size)?;
        Ok(CheckpointMessage { note, fit: fit.map(str::to_owned) })
    });
    match exchanged.await {
        Ok(message) => answer::json(&message),
        Err(answer) => answer,
    }
}

const fn fit_word(status: &AnchorStatus) -> &'static str {
    match status.fit {
        Some(Fit::Holds) => "holds",
        Some(Fit::Lost { .. }) => "lost",
        Some(Fit::Forked) => "forked",
        Some(Fit::OtherBranch) => "other_branch",
        Some(Fit::Superseded { .. }) => "superseded",
        None => "unusable",
    }
}

async fn ca(State(shared): State<Arc<Shared>>) -> Answer {
    let roots = shared.tls.verifier().trust().roots();
    let text: String = roots.iter().map(|root| pem("CERTIFICATE", root.certificate.as_bytes()).to_string()).collect();
    answer::bytes("application/x-pem-file", text)
}

/// The revocation list of the generation that issues.
async fn crl(State(shared): State<Arc<Shared>>) -> Answer {
    match shared.tls.verifier().trust().roots().first() {
        Some(root) => list_of(&shared, root.generation).await,
        None => nothing().await,
    }
}

/// A list speaks for one issuer: in the middle of a roll, certificates of two are about.
async fn crl_of(State(shared): State<Arc<Shared>>, Path(generation): Path<u32>) -> Answer {
    if shared.tls.verifier().trust().roots().iter().any(|root| root.generation == generation) {
        list_of(&shared, generation).await
    } else {
        answer::failure(StatusCode::NOT_FOUND, "not_found", "this generation of the CA is not trusted")
    }
}

/// A revocation list, made anew when trust changed or half of its life is over.
async fn list_of(shared: &Arc<Shared>, generation: u32) -> Answer {
    let mut held = shared.lists.lock().await;
    let version = *shared.tls.verifier().trust().watch().borrow();
    let now = shared.clock.now().as_millis();
    held.retain(|_, made| made.version == version && now < made.stale_at);
    let der = match held.get(&generation) {
        Some(made) => made.der.clone(),
        None => {
            let made =
                shared.blocking(move |shared| shared.ledger.identity().revocation_list_of(Some(generation))).await;
            match made {
                Ok((_, der)) => {
                    let made = MadeList { der: der.clone(), version, stale_at: now + limits::CRL_LIFE_MS / 2 };
                    held.insert(generation, made);
                    der
                }
                Err(answer) => return answer,
            }
        }
    };
    answer::bytes("application/pkix-crl", der.as_bytes().to_vec())
}

/// The scope that a device always may read: its own.
fn own(shared: &Shared, peer: &DevicePeer) -> Result<Vault, Answer> {
    let scope: Scope = format!("principal:{}", peer.shown.device)
        .parse()
        .map_err(|_| answer::refused(RefusalCause::NotGranted, "this device has no scope"))?;
    Ok(shared.ledger.vault(scope).for_caller(Shared::device_caller(peer.shown.device)))
}

async fn list(State(shared): State<Arc<Shared>>, Extension(peer): Extension<DevicePeer>) -> Answer {
    match own(&shared, &peer) {
        Ok(vault) => names(&shared, vault).await,
        Err(answer) => answer,
    }
}

async fn names(shared: &Arc<Shared>, vault: Vault) -> Answer {
    match shared.blocking(move |_| vault.list(&ListOptions::new())).await {
        Ok(found) => {
            let names: Vec<_> =
                found.iter().map(|info| json!({"name": info.reference.name, "version": info.version})).collect();
            answer::json(&json!({"secrets": names}))
        }
        Err(answer) => answer,
    }
}

async fn secret(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<DevicePeer>,
    Path(name): Path<String>,
) -> Answer {
    match own(&shared, &peer) {
        Ok(vault) => value(&shared, vault, &name).await,
        Err(answer) => answer,
    }
}

async fn value(shared: &Arc<Shared>, vault: Vault, name: &str) -> Answer {
    let Ok(name) = name.parse::<SecretName>() else {
        return answer::failure(StatusCode::NOT_FOUND, "not_found", "this is no name of a secret");
    };
    // The value itself, as it was put: no copy in base64 that nobody would wipe.
    match shared.blocking(move |_| vault.get_with(&name, GetOptions::default())).await {
        Ok(secret) => answer::bytes("application/octet-stream", Bytes::from_owner(Value(secret.value))),
        Err(answer) => answer,
    }
}

/// A secret's value as a body: wiped when it was sent.
struct Value(SecretBytes);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// A scope by its name: the device's own, or one that it is granted at this moment. Any other is refused and
/// recorded, whether it exists or not.
async fn of_scope(shared: &Arc<Shared>, peer: &DevicePeer, scope: &str) -> Result<Vault, Answer> {
    let device = peer.shown.device;
    if let Ok(scope) = scope.parse::<Scope>() {
        if scope.to_string() == format!("principal:{device}") {
            return own(shared, peer);
        }
        let wanted = scope.clone();
        let granted = shared
            .blocking(move |shared| Ok(shared.ledger.identity().device(device)?.grants.contains(&wanted)))
            .await?;
        if granted {
            return Ok(shared.ledger.vault(scope).for_caller(Shared::device_caller(device)));
        }
    }
    shared.refuse(RefusalCause::NotGranted, Some(device), peer.address);
    Err(answer::refused(RefusalCause::NotGranted, "this device is not granted this scope"))
}

async fn list_of_scope(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<DevicePeer>,
    Path(scope): Path<String>,
) -> Answer {
    match of_scope(&shared, &peer, &scope).await {
        Ok(vault) => names(&shared, vault).await,
        Err(answer) => answer,
    }
}

async fn secret_of_scope(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<DevicePeer>,
    Path((scope, name)): Path<(String, String)>,
) -> Answer {
    match of_scope(&shared, &peer, &scope).await {
        Ok(vault) => value(&shared, vault, &name).await,
        Err(answer) => answer,
    }
}

fn roots(shared: &Shared) -> Vec<Der> {
    shared.tls.verifier().trust().roots().iter().map(|root| root.certificate.clone()).collect()
}

async fn renew(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<DevicePeer>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let message: RenewMessage = match read(body) {
        Ok(message) => message,
        Err(answer) => {
            shared.refuse(RefusalCause::Malformed, Some(peer.shown.device), peer.address);
            return answer;
        }
    };
    let (device, address, serial) = (peer.shown.device, peer.address, peer.shown.facts.serial);
    let Base64(request) = message.request;
    // The answer to the last renewal may have been lost: the same key gets the same certificate.
    let generation = shared.tls.verifier().trust().roots().first().map_or(0, |root| root.generation);
    let key = crate::pki::public_key_from_csr(&request).ok().map(|key| Der::new(key.der()));
    let given = key.as_ref().and_then(|key| shared.devices.given(device, key, generation, shared.clock.now()));
    let still = |certificate: &Der| {
        shared.tls.peer(&[rustls::pki_types::CertificateDer::from(certificate.as_bytes().to_vec())]).is_ok()
    };
    if let Some(certificate) = given.filter(still) {
        return answer::json(&RenewedMessage { certificate, roots: roots(&shared) });
    }
    if !shared.devices.renew(device) {
        shared.refuse(RefusalCause::TooMany, Some(device), address);
        return answer::refused(RefusalCause::TooMany, "this device renewed too often within the hour");
    }
    let renewed = shared
        .blocking(move |shared| {
            let identity = shared.ledger.identity().for_caller(Shared::device_caller(device));
            let renewed = identity.renew(device, serial, &request);
            if let Err(error) = &renewed {
                let cause = match error {
                    crate::engine::Error::Identity(error) => error.cause(),
                    crate::engine::Error::Csr(_) => Some(RefusalCause::BadRequest),
                    _ => None,
                };
                if let Some(cause) = cause {
                    shared.refuse(cause, Some(device), address);
                }
            }
            renewed
        })
        .await;
    match renewed {
        Ok((serial, certificate)) => {
            tracing::info!(%device, %serial, "a device renewed its certificate");
            if let Some(public_key) = key {
                let half = shared.clock.now().plus_millis(limits::LEAF_LIFE_MS / 2);
                shared.devices.give(device, Given { public_key, generation, certificate: certificate.clone(), half });
            }
            answer::json(&RenewedMessage { certificate, roots: roots(&shared) })
        }
        Err(answer) => answer,
    }
}
