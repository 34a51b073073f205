//! A small OAuth provider on loopback for the tour: HTTP/1.1, authorization code with PKCE, refresh tokens that
//! rotate, revocation, and an outage at will.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The one client that it knows.
pub const CLIENT: &str = "palyra-tour";
/// How long it asks to be left alone during an outage, in seconds.
pub const RETRY_AFTER_S: u64 = 1;

/// A code that was given to a browser and not to a client yet.
struct Code {
    challenge: String,
    redirect: String,
}

/// What one person allowed.
struct Grant {
    alive: bool,
    access: String,
    refresh: String,
    spent: Vec<String>,
}

struct Books {
    codes: HashMap<String, Code>,
    grants: Vec<Grant>,
    /// Every token that was ever given.
    issued: Vec<String>,
    life_s: u64,
    down: bool,
    requests: usize,
}

type Shared = Arc<Mutex<Books>>;

/// A running provider; it stops when it is dropped.
pub struct Provider {
    address: SocketAddr,
    books: Shared,
    task: JoinHandle<()>,
}

impl Provider {
    /// Starts on any port. Its access tokens live for so many seconds.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start(life_s: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (codes, grants, issued) = (HashMap::new(), Vec::new(), Vec::new());
        let books = Arc::new(Mutex::new(Books { codes, grants, issued, life_s, down: false, requests: 0 }));
        let routes = Router::new()
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .with_state(Arc::clone(&books));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(routes.clone());
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, books, task })
    }

    /// One of its URLs.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Begins or ends an outage.
    pub fn set_down(&self, down: bool) {
        books(&self.books).down = down;
    }

    /// How long access tokens live from here on, in seconds.
    pub fn set_life(&self, life_s: u64) {
        books(&self.books).life_s = life_s;
    }

    /// Requests for tokens that arrived.
    pub fn requests(&self) -> usize {
        books(&self.books).requests
    }

    /// Every token that it ever gave.
    pub fn issued(&self) -> Vec<String> {
        books(&self.books).issued.clone()
    }

    /// The tokens of the last grant, access token first, and whether it is alive.
    pub fn last(&self) -> Option<(String, String, bool)> {
        let books = books(&self.books);
        books.grants.last().map(|grant| (grant.access.clone(), grant.refresh.clone(), grant.alive))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn books(shared: &Shared) -> MutexGuard<'_, Books> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(form: &str) -> HashMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://127.0.0.1/?{form}"));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

/// What nobody guesses.
fn random() -> Option<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).ok()?;
    Some(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

fn refused(code: &str) -> Response {
    let body = format!(r#"{{"error":"{code}"}}"#);
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The page on which a person would say yes: it says so at once.
async fn authorize(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let asked = read(&query.unwrap_or_default());
    let field = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let redirect = field("redirect_uri");
    let pkce = field("code_challenge_method") == "S256" && !field("code_challenge").is_empty();
    let known = field("response_type") == "code" && field("client_id") == CLIENT;
    let (true, true, Some(code), Ok(mut back)) =
        (pkce && known, redirect.starts_with("http://127.0.0.1:"), random(), reqwest::Url::parse(&redirect))
    else {
        return refused("invalid_request");
    };
    back.query_pairs_mut().append_pair("code", &code).append_pair("state", &field("state"));
    books(&shared).codes.insert(code, Code { challenge: field("code_challenge"), redirect });
    (StatusCode::FOUND, [(header::LOCATION, back.to_string())]).into_response()
}

async fn token(State(shared): State<Shared>, body: String) -> Response {
    let form = read(&body);
    let mut books = books(&shared);
    books.requests += 1;
    if books.down {
        let wait = [(header::RETRY_AFTER, RETRY_AFTER_S.to_string())];
        return (StatusCode::SERVICE_UNAVAILABLE, wait, "down for maintenance").into_response();
    }
    if form.get("client_id").is_none_or(|id| id != CLIENT) {
        return refused("invalid_client");
    }
    let given = match form.get("grant_type").map(String::as_str) {
        Some("authorization_code") => redeem(&mut books, &form),
        Some("refresh_token") => renew(&mut books, &form),
        _ => return refused("unsupported_grant_type"),
    };
    given.unwrap_or_else(|| refused("invalid_grant"))
}

/// A code for tokens, if whoever brings it made the challenge (RFC 7636, section 4.6).
fn redeem(books: &mut Books, form: &HashMap<String, String>) -> Option<Response> {
    let code = books.codes.get(form.get("code")?)?;
    let made = Sha256::digest(form.get("code_verifier")?);
    let made = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(made);
    if made != code.challenge || form.get("redirect_uri") != Some(&code.redirect) {
        return None;
    }
    books.codes.remove(form.get("code")?);
    let (access, refresh) = pair(books)?;
    books.grants.push(Grant { alive: true, access: access.clone(), refresh: refresh.clone(), spent: Vec::new() });
    Some(tokens(&access, &refresh, books.life_s))
}

/// A refresh token for new tokens, once. One that comes again is in two hands: its grant ends (RFC 9700, section
/// 4.14.2).
fn renew(books: &mut Books, form: &HashMap<String, String>) -> Option<Response> {
    let shown = form.get("refresh_token")?;
    if let Some(grant) = books.grants.iter_mut().find(|grant| grant.spent.contains(shown)) {
        grant.alive = false;
        return None;
    }
    let at = books.grants.iter().position(|grant| grant.alive && grant.refresh == *shown)?;
    let (access, refresh) = pair(books)?;
    let grant = books.grants.get_mut(at)?;
    let before = std::mem::replace(&mut grant.refresh, refresh.clone());
    grant.spent.push(before);
    grant.access.clone_from(&access);
    Some(tokens(&access, &refresh, books.life_s))
}

fn pair(books: &mut Books) -> Option<(String, String)> {
    let (access, refresh) = (format!("tour-access-{}", random()?), format!("tour-refresh-{}", random()?));
    books.issued.extend([access.clone(), refresh.clone()]);
    Some((access, refresh))
}

fn tokens(access: &str, refresh: &str, life_s: u64) -> Response {
    let body = format!(
        r#"{{"access_token":"{access}","token_type":"Bearer","expires_in":{life_s},"refresh_token":"{refresh}"}}"#
    );
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// Ends the grant of either token (RFC 7009).
async fn revoke(State(shared): State<Shared>, body: String) -> StatusCode {
    let form = read(&body);
    let mut books = books(&shared);
    if let Some(shown) = form.get("token")
        && let Some(grant) = books.grants.iter_mut().find(|grant| grant.refresh == *shown || grant.access == *shown)
    {
        grant.alive = false;
    }
    StatusCode::OK
}
