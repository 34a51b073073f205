//! Logging in: authorization code with PKCE (RFC 6749, 7636, 8252), device code (RFC 8628); logging out
//! (RFC 7009); discovery (RFC 8414).

use std::sync::Arc;
use std::time::Duration;

use oauth2::basic::BasicClient;
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

use crate::auth::{Endpoint, EndpointError};
use crate::base::SecretBytes;
use crate::event::auth::OauthSource;

use super::answer::{Code, Refusal, Tokens};
use super::client::{ClientAuth, ClientFault, TokenClient};

const CALLBACK: &str = "/callback";
const HEAD_MAX: usize = 16 * 1024;
const CALLBACKS_AT_ONCE: usize = 32;
const PAGE: &str = "<!doctype html><title>Palyra Ledger</title><p>Done. You may close this page.";

/// What a provider says of its endpoints (RFC 8414; `OpenID` Connect Discovery).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Discovered {
    /// The issuer: it must be the one that was asked.
    pub issuer: String,
    /// Where a person is sent.
    pub authorization_endpoint: Option<String>,
    /// Where tokens are asked for.
    pub token_endpoint: Option<String>,
    /// Where a device code is asked for.
    pub device_authorization_endpoint: Option<String>,
    /// Where tokens are revoked.
    pub revocation_endpoint: Option<String>,
    /// Whether the way back from the page names the issuer (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// Asks an issuer for its endpoints.
///
/// # Errors
/// [`ClientFault`] where it does not answer, or answers for another issuer.
pub async fn discover(client: &TokenClient, issuer: &str) -> Result<Discovered, ClientFault> {
    let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let (status, body) = client.get(&place).await?;
    if status != 200 {
        return Err(Refusal::Status(status).into());
    }
    let found: Discovered =
        serde_json::from_slice(&body).map_err(|_| Refusal::Malformed("it is no discovery document"))?;
    if found.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
        return Err(Refusal::Malformed("it speaks for another issuer").into());
    }
    Ok(found)
}

/// A login by authorization code that waits for its person.
pub struct CodeLogin {
    listener: TcpListener,
    redirect: String,
    url: String,
    state: Zeroizing<String>,
    verifier: Zeroizing<String>,
    /// The issuer that the way back must name, and whether it must name one.
    issuer: Option<(String, bool)>,
}

impl std::fmt::Debug for CodeLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeLogin").field("redirect", &self.redirect).finish_non_exhaustive()
    }
}

impl CodeLogin {
    /// Listens on loopback (port 0: any) and makes the address that the person opens.
    ///
    /// # Errors
    /// [`ClientFault`] where the endpoint is refused or the port cannot be listened at.
    pub async fn begin(source: &OauthSource, authorization_endpoint: &str, port: u16) -> Result<Self, ClientFault> {
        Self::begin_with(source, authorization_endpoint, port, &[]).await
    }

    /// The same with more parameters for the provider's page: `OpenID` Connect asks for `prompt=consent` before
    /// it gives a refresh token, others want words of their own.
    ///
    /// # Errors
    /// As [`CodeLogin::begin`].
    pub async fn begin_with(
        source: &OauthSource,
        authorization_endpoint: &str,
        port: u16,
        more: &[(String, String)],
    ) -> Result<Self, ClientFault> {
        let endpoint = Endpoint::parse_page(authorization_endpoint)?;
        let listening = TcpListener::bind(("127.0.0.1", port)).await;
        let unable = |error: std::io::Error| ClientFault::Network {
            host: format!("127.0.0.1:{port}"),
            what: error.to_string(),
            sent: false,
        };
        let listener = listening.map_err(unable)?;
        let redirect = format!("http://127.0.0.1:{}{CALLBACK}", listener.local_addr().map_err(unable)?.port());
        let not_url = |_| ClientFault::Endpoint(EndpointError::NotUrl);
        let oauth = BasicClient::new(ClientId::new(source.client_id.clone()))
            .set_auth_uri(AuthUrl::new(endpoint.url().to_string()).map_err(not_url)?)
            .set_redirect_uri(RedirectUrl::new(redirect.clone()).map_err(not_url)?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let scopes = source.scopes.iter().cloned().map(Scope::new);
        let mut request = oauth.authorize_url(CsrfToken::new_random).add_scopes(scopes).set_pkce_challenge(challenge);
        for (name, value) in more {
            request = request.add_extra_param(name.as_str(), value.as_str());
        }
        let (url, state) = request.url();
        Ok(Self {
            listener,
            redirect,
            url: url.to_string(),
            state: Zeroizing::new(state.secret().clone()),
            verifier: Zeroizing::new(verifier.secret().clone()),
            issuer: None,
        })
    }

    /// Believes nobody but this issuer on the way back: another provider's code must not be taken for its own
    /// (RFC 9207). `named`: it promised to name itself.
    #[must_use]
    pub fn from_issuer(mut self, issuer: &str, named: bool) -> Self {
        self.issuer = Some((issuer.to_owned(), named));
        self
    }

    /// The address that the person opens. It holds no secret: the code verifier stays here.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the person to come back, and asks for the tokens.
    ///
    /// # Errors
    /// [`ClientFault`] where nobody comes in time, the person refused, or the provider does.
    pub async fn finish(
        self,
        client: &TokenClient,
        source: &OauthSource,
        secret: Option<&SecretBytes>,
        wait: Duration,
    ) -> Result<Tokens, ClientFault> {
        let this = Arc::new(self);
        let code = tokio::time::timeout(wait, Arc::clone(&this).code());
        let code = code.await.map_err(|_| ClientFault::Person("nobody came back from the login page in time"))??;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", this.redirect.as_str()),
            ("code_verifier", this.verifier.as_str()),
        ];
        client.tokens(&source.token_endpoint, ClientAuth { id: &source.client_id, secret }, &form).await
    }

    async fn code(self: Arc<Self>) -> Result<Zeroizing<String>, ClientFault> {
        let mut open = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                // Whoever else connects to the port is answered and not believed; nobody holds others up.
                accepted = self.listener.accept(), if open.len() < CALLBACKS_AT_ONCE => match accepted {
                    Ok((stream, _)) => {
                        let this = Arc::clone(&self);
                        open.spawn(async move {
                            tokio::time::timeout(Duration::from_secs(10), this.receive(stream)).await.ok().flatten()
                        });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
                Some(done) = open.join_next() => {
                    if let Ok(Some(found)) = done {
                        return found;
                    }
                }
            }
        }
    }

    async fn receive(&self, mut stream: TcpStream) -> Option<Result<Zeroizing<String>, ClientFault>> {
        let mut head = Zeroizing::new(Vec::with_capacity(HEAD_MAX));
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if head.len() >= HEAD_MAX || stream.read(&mut byte).await.ok()? == 0 {
                return None;
            }
            head.extend_from_slice(&byte);
        }
        let line = std::str::from_utf8(&head).ok()?.lines().next()?.to_owned();
        let found = self.read_callback(&Zeroizing::new(line));
        let (status, page) = if found.is_some() { ("200 OK", PAGE) } else { ("404 Not Found", "") };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{page}",
            page.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        found
    }

    /// The code, or the person's refusal, out of a request line; none where it is something else or its
    /// `state` is not ours.
    fn read_callback(&self, line: &str) -> Option<Result<Zeroizing<String>, ClientFault>> {
        let target = line.strip_prefix("GET ")?.split(' ').next()?;
        // One way to write it: what another spelling would be normalised to is not asked.
        let query = target.strip_prefix(CALLBACK)?.strip_prefix('?')?;
        let mut url = reqwest::Url::parse("http://127.0.0.1").ok()?;
        url.set_query(Some(query));
        let count = |name: &str| url.query_pairs().filter(|(key, _)| key == name).count();
        if ["state", "code", "error", "iss"].into_iter().any(|name| count(name) > 1) {
            return None;
        }
        let one = |name: &str| {
            let found = url.query_pairs().find(|(key, _)| key == name);
            found.map(|(_, value)| Zeroizing::new(value.into_owned()))
        };
        let ours = one("state")?;
        if !bool::from(subtle::ConstantTimeEq::ct_eq(ours.as_bytes(), self.state.as_bytes())) {
            return None;
        }
        if let Some((issuer, named)) = &self.issuer {
            let same = |found: &str| found.trim_end_matches('/') == issuer.trim_end_matches('/');
            let fits = one("iss").map_or(!named, |found| same(&found));
            if !fits {
                return Some(Err(Refusal::Malformed("the way back speaks for another issuer").into()));
            }
        }
        match (one("code"), one("error")) {
            (Some(code), None) if !code.is_empty() => Some(Ok(code)),
            (None, Some(error)) if *error == "access_denied" => {
                Some(Err(ClientFault::Person("the login was refused on the provider's page")))
            }
            (None, Some(_)) => Some(Err(ClientFault::Person("the provider's page ended with an error"))),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: Zeroizing<String>,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// A login by device code that waits for its person.
pub struct DeviceLogin {
    code: Zeroizing<String>,
    /// What the person types.
    pub user_code: String,
    /// Where they type it.
    pub verification_uri: String,
    /// The same with the code in it, where the provider gives one.
    pub complete_uri: Option<String>,
    expires_in: Duration,
    interval: Duration,
}

impl std::fmt::Debug for DeviceLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceLogin").field("verification_uri", &self.verification_uri).finish_non_exhaustive()
    }
}

/// What a provider wrote and a terminal shows: visible characters alone, and not too many.
fn showable(text: String) -> Result<String, ClientFault> {
    let fine = |letter: char| letter.is_ascii_graphic() || letter == ' ';
    let fine = !text.is_empty() && text.len() <= 2048 && text.chars().all(fine);
    if fine { Ok(text) } else { Err(Refusal::Malformed("what it wants shown is no text to show").into()) }
}

impl DeviceLogin {
    /// Asks for a device code.
    ///
    /// # Errors
    /// [`ClientFault`].
    pub async fn begin(
        client: &TokenClient,
        source: &OauthSource,
        secret: Option<&SecretBytes>,
        device_endpoint: &str,
    ) -> Result<Self, ClientFault> {
        let scope = source.scopes.join(" ");
        let form: &[(&str, &str)] = if scope.is_empty() { &[] } else { &[("scope", scope.as_str())] };
        let auth = ClientAuth { id: &source.client_id, secret };
        // RFC 8628, section 3.1: a confidential client authenticates here, too, and names itself in the form.
        let named = [&[("client_id", source.client_id.as_str())], form].concat();
        let form = if secret.is_some() { &named } else { form };
        let (status, _, body) = client.post(device_endpoint, auth, form).await?;
        if status != 200 {
            return Err(Refusal::Status(status).into());
        }
        let answer: DeviceAnswer =
            serde_json::from_slice(&body).map_err(|_| Refusal::Malformed("it is no device code answer"))?;
        Ok(Self {
            code: answer.device_code,
            user_code: showable(answer.user_code)?,
            verification_uri: showable(answer.verification_uri)?,
            complete_uri: answer.verification_uri_complete.map(showable).transpose()?,
            expires_in: Duration::from_secs(answer.expires_in.min(3600)),
            interval: Duration::from_secs(answer.interval.unwrap_or(5).clamp(1, 60)),
        })
    }

    /// Asks until the person has answered.
    ///
    /// # Errors
    /// [`ClientFault`] where they refused, did not answer in time, or the provider failed for good.
    pub async fn finish(
        self,
        client: &TokenClient,
        source: &OauthSource,
        secret: Option<&SecretBytes>,
    ) -> Result<Tokens, ClientFault> {
        let end = tokio::time::Instant::now() + self.expires_in;
        let mut interval = self.interval;
        let form =
            [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", self.code.as_str())];
        loop {
            tokio::time::sleep(interval).await;
            let auth = ClientAuth { id: &source.client_id, secret };
            match client.tokens(&source.token_endpoint, auth, &form).await {
                Ok(tokens) => return Ok(tokens),
                Err(ClientFault::Refused(Refusal::Code(Code::AuthorizationPending))) => {}
                // RFC 8628, section 3.5: five seconds more, from here on.
                Err(ClientFault::Refused(Refusal::Code(Code::SlowDown) | Refusal::TooMany(_))) => {
                    interval += Duration::from_secs(5);
                }
                Err(ClientFault::Refused(Refusal::Code(Code::AccessDenied))) => {
                    return Err(ClientFault::Person("the login was refused on the provider's page"));
                }
                Err(ClientFault::Refused(Refusal::Code(Code::ExpiredToken))) => {
                    return Err(ClientFault::Person("nobody answered on the provider's page in time"));
                }
                // RFC 8628, section 3.5: after a lost connection, ask less often.
                Err(ClientFault::Network { .. } | ClientFault::Refused(Refusal::Unavailable(_))) => {
                    interval = (interval * 2).min(Duration::from_mins(1));
                }
                Err(fault) => return Err(fault),
            }
            if tokio::time::Instant::now() + interval > end {
                return Err(ClientFault::Person("nobody answered on the provider's page in time"));
            }
        }
    }
}

/// Revokes tokens at the provider, the one that decides first: its refresh token, where there is one. True
/// where it confirmed that one; some revoke no access tokens (RFC 7009, section 2.2.1), which end by themselves.
///
/// # Errors
/// [`ClientFault`] where the first one is not revoked.
pub async fn revoke(
    client: &TokenClient,
    source: &OauthSource,
    secret: Option<&SecretBytes>,
    tokens: &[SecretBytes],
) -> Result<bool, ClientFault> {
    let Some(endpoint) = &source.revocation_endpoint else { return Ok(false) };
    for (place, token) in tokens.iter().enumerate() {
        let Ok(token) = std::str::from_utf8(token.expose()) else { return Ok(false) };
        let auth = ClientAuth { id: &source.client_id, secret };
        let (status, _, _) = client.post(endpoint, auth, &[("token", token)]).await?;
        if status != 200 && place == 0 {
            return Err(Refusal::Status(status).into());
        }
    }
    Ok(!tokens.is_empty())
}
