//! HTTPS to token endpoints.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use zeroize::Zeroizing;

use crate::auth::{Endpoint, EndpointError, RefreshResult};
use crate::base::{Clock, SecretBytes, limits};
use crate::engine::AuthSettings;
use crate::event::auth::FailureKind;

use super::answer::{self, Refusal, Tokens};

/// Finds the addresses of a name: the system's resolver, or a test's.
pub type Lookup =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>> + Send + Sync>;

/// Why a request to an endpoint gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    /// The client could not be set up from `config.toml`.
    #[error("[auth] in config.toml: {0}")]
    Settings(String),
    /// The endpoint is refused.
    #[error("the endpoint is refused: {0}")]
    Endpoint(#[from] EndpointError),
    /// The network or TLS failed.
    #[error("{host}: {what}")]
    Network {
        /// The endpoint's host.
        host: String,
        /// What failed.
        what: String,
        /// Whether the request may have arrived.
        sent: bool,
    },
    /// The endpoint refused.
    #[error("the provider gave no tokens: {0}")]
    Refused(Refusal),
    /// Nothing was sent: the lease would be over before the endpoint's time is.
    #[error("nothing was sent: too much of the lease had gone by")]
    Late,
    /// The person who was to answer did not, or refused.
    #[error("{0}")]
    Person(&'static str),
}

impl From<Refusal> for ClientFault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl ClientFault {
    /// What a fault means for a refresh.
    #[must_use]
    pub fn of_refresh(&self) -> RefreshResult {
        match self {
            Self::Refused(refusal) => refusal.clone().of_refresh(),
            Self::Network { what, sent, .. } => RefreshResult::Failed {
                failure: FailureKind::Transient,
                what: what.clone(),
                retry_after_ms: None,
                unanswered: *sent,
            },
            Self::Late => RefreshResult::Failed {
                failure: FailureKind::Transient,
                what: self.to_string(),
                retry_after_ms: Some(0),
                unanswered: false,
            },
            Self::Endpoint(_) | Self::Settings(_) | Self::Person(_) => RefreshResult::Failed {
                failure: FailureKind::ConfigMissing,
                what: self.to_string(),
                retry_after_ms: None,
                unanswered: false,
            },
        }
    }
}

/// What only the resolver knows of a failed connection; reqwest passes it on as a cause.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Withheld(EndpointError);

/// Resolves, and gives out only addresses that a token may be sent to: what is connected to is what was
/// checked, however often the name's addresses change.
struct Guard {
    lookup: Lookup,
    /// The configured proxy's name: whoever named it may have it anywhere.
    proxy: Option<String>,
    allowed: Arc<Vec<(IpAddr, u8)>>,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, allowed) = ((self.lookup)(name.as_str().to_owned()), Arc::clone(&self.allowed));
        // What a name may stand for depends on the name alone: `localhost` is this machine, all others are not.
        let rules = Endpoint::parse(&format!("https://{}/", name.as_str()));
        let is_proxy = self.proxy.as_deref().is_some_and(|proxy| proxy.eq_ignore_ascii_case(name.as_str()));
        Box::pin(async move {
            if is_proxy {
                let found: Vec<_> = found.await?.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let rules = rules.map_err(Withheld)?;
            let mut refused = None;
            let mut good = Vec::new();
            for address in found.await? {
                match rules.admits(address, &allowed) {
                    Ok(()) => good.push(SocketAddr::new(address, 0)),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                // One bad address taints a name: it is not chosen among, it is refused.
                Some(error) => Err(Withheld(error).into()),
                None if good.is_empty() => Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
                None => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

fn proxy_host(settings: &AuthSettings) -> Option<String> {
    let url = reqwest::Url::parse(settings.proxy.as_deref()?).ok()?;
    url.host_str().map(str::to_owned)
}

fn system_lookup() -> Lookup {
    Arc::new(|name: String| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// A client of token endpoints.
#[derive(Clone)]
pub struct TokenClient {
    http: reqwest::Client,
    limit_ms: u64,
    allowed: Arc<Vec<(IpAddr, u8)>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenClient(..)")
    }
}

/// Who asks: a client id, and a secret where the client has one (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy)]
pub struct ClientAuth<'a> {
    /// The id.
    pub id: &'a str,
    /// The secret.
    pub secret: Option<&'a SecretBytes>,
}

impl TokenClient {
    /// A client as `config.toml` says, with the system's resolver.
    ///
    /// # Errors
    /// [`ClientFault::Settings`] where a network, the file of roots or the proxy is none.
    pub fn new(settings: &AuthSettings, clock: Arc<dyn Clock>) -> Result<Self, ClientFault> {
        let limit_ms = (settings.refresh_lease_s * 500).min(limits::TOKEN_REQUEST_MS);
        Self::with_lookup(settings, clock, system_lookup(), limit_ms)
    }

    /// The same with another resolver and another time limit in milliseconds.
    ///
    /// # Errors
    /// As [`TokenClient::new`].
    pub fn with_lookup(
        settings: &AuthSettings,
        clock: Arc<dyn Clock>,
        lookup: Lookup,
        limit_ms: u64,
    ) -> Result<Self, ClientFault> {
        let bad = |what: String| ClientFault::Settings(what);
        let allowed = Arc::new(settings.networks().map_err(|text| bad(format!("{text:?} is no network")))?);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("palyra-ledger/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(Duration::from_millis(limit_ms / 2))
            .timeout(Duration::from_millis(limit_ms))
            .pool_idle_timeout(Duration::from_millis(limits::TOKEN_IDLE_MS))
            .dns_resolver(Arc::new(Guard { lookup, proxy: proxy_host(settings), allowed: Arc::clone(&allowed) }));
        builder = match &settings.proxy {
            Some(proxy) => {
                let proxy = reqwest::Proxy::all(proxy).map_err(|_| bad("proxy is no URL".to_owned()))?;
                // What is for this machine, perhaps in the clear, never leaves it.
                let here = reqwest::NoProxy::from_string("localhost,127.0.0.0/8,::1,::ffff:127.0.0.0/104");
                builder.proxy(proxy.no_proxy(here))
            }
            None => builder.no_proxy(),
        };
        if let Some(path) = &settings.ca_file {
            let named = |what: &dyn std::fmt::Display| bad(format!("ca_file {}: {what}", path.display()));
            let text = std::fs::read(path).map_err(|error| named(&error))?;
            let roots = reqwest::Certificate::from_pem_bundle(&text).map_err(|_| named(&"it holds no certificates"))?;
            if roots.is_empty() {
                return Err(named(&"it holds no certificates"));
            }
            for root in roots {
                builder = builder.add_root_certificate(root);
            }
        }
        let http = builder.build().map_err(|error| bad(cause(&error)))?;
        Ok(Self { http, limit_ms, allowed, clock })
    }

    /// The client's clock.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// How long an endpoint may take altogether, in milliseconds.
    #[must_use]
    pub const fn limit_ms(&self) -> u64 {
        self.limit_ms
    }

    /// Asks for tokens.
    ///
    /// # Errors
    /// [`ClientFault`].
    pub async fn tokens(
        &self,
        endpoint: &str,
        client: ClientAuth<'_>,
        form: &[(&str, &str)],
    ) -> Result<Tokens, ClientFault> {
        // A token's life is counted from before it was asked for: it never ends earlier than believed.
        let asked = self.clock.now().as_millis();
        let (status, retry_after, body) = self.post(endpoint, client, form).await?;
        let took = self.clock.now().as_millis().saturating_sub(asked);
        let tokens = answer::read(status, retry_after.as_deref(), &body, asked / 1000)?;
        Ok(Tokens { took_ms: Some(took), ..tokens })
    }

    /// Posts a form; gives status, `Retry-After` and a bounded body.
    ///
    /// # Errors
    /// [`ClientFault`].
    pub async fn post(
        &self,
        endpoint: &str,
        client: ClientAuth<'_>,
        form: &[(&str, &str)],
    ) -> Result<(u16, Option<String>, Zeroizing<Vec<u8>>), ClientFault> {
        let endpoint = self.checked(endpoint)?;
        let mut fields: Vec<(&str, &str)> = form.to_vec();
        let mut request = self.http.post(endpoint.url().clone());
        match client.secret {
            Some(secret) => request = request.header(reqwest::header::AUTHORIZATION, basic(client.id, secret)),
            None => fields.push(("client_id", client.id)),
        }
        self.send(&endpoint, request.form(&fields)).await
    }

    /// Gets a document.
    ///
    /// # Errors
    /// [`ClientFault`].
    pub async fn get(&self, endpoint: &str) -> Result<(u16, Zeroizing<Vec<u8>>), ClientFault> {
        let endpoint = self.checked(endpoint)?;
        let request = self.http.get(endpoint.url().clone());
        self.send(&endpoint, request).await.map(|(status, _, body)| (status, body))
    }

    fn checked(&self, endpoint: &str) -> Result<Endpoint, ClientFault> {
        let endpoint = Endpoint::parse(endpoint)?;
        // A name is checked when it is resolved; an address never is resolved.
        if let Some(address) = endpoint.literal() {
            endpoint.admits(address, &self.allowed)?;
        }
        Ok(endpoint)
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        request: reqwest::RequestBuilder,
    ) -> Result<(u16, Option<String>, Zeroizing<Vec<u8>>), ClientFault> {
        let host = || endpoint.url().host_str().unwrap_or_default().to_owned();
        let failed = |error: &reqwest::Error, sent| ClientFault::Network { host: host(), what: cause(error), sent };
        let sent = request.header(reqwest::header::ACCEPT, "application/json").send().await;
        let mut response = sent.map_err(|error| match withheld(&error) {
            Some(refused) => ClientFault::Endpoint(refused),
            None => failed(&error, !(error.is_connect() || error.is_builder())),
        })?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(reqwest::header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
        // Room for all of it from the start: a vector that grows leaves copies behind.
        let mut body = Zeroizing::new(Vec::with_capacity(limits::TOKEN_ANSWER_MAX));
        if !answer::has_body(status) {
            return Ok((status, retry_after, body));
        }
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error, true))? {
            if body.len() + chunk.len() > limits::TOKEN_ANSWER_MAX {
                return Err(Refusal::Malformed("it is longer than 64 KiB").into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, retry_after, body))
    }
}

/// `Authorization: Basic` of a client (RFC 6749, section 2.3.1: both parts are form-encoded first).
fn basic(id: &str, secret: &SecretBytes) -> reqwest::header::HeaderValue {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| -> Zeroizing<String> {
        let mut out = Zeroizing::new(String::with_capacity(3 * bytes.len()));
        for byte in bytes {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(*byte)),
                b' ' => out.push('+'),
                _ => {
                    out.push('%');
                    for half in [byte >> 4, byte & 15] {
                        out.push(char::from_digit(half.into(), 16).unwrap_or('0').to_ascii_uppercase());
                    }
                }
            }
        }
        out
    };
    let both = Zeroizing::new(format!("{}:{}", *encode(id.as_bytes()), *encode(secret.expose())));
    let text = Zeroizing::new(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(both.as_bytes())));
    // Base64 is always a header's value.
    let mut value =
        reqwest::header::HeaderValue::from_str(&text).unwrap_or_else(|_| reqwest::header::HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}

fn withheld(error: &reqwest::Error) -> Option<EndpointError> {
    causes(error).find_map(|cause| cause.downcast_ref::<Withheld>()).map(|refused| refused.0.clone())
}

/// The innermost cause, without the URL: it says most and is shortest.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    if let Some(tls) = causes(error).find_map(tls_fault) {
        return tls_words(tls).to_owned();
    }
    causes(error).last().map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

/// The TLS engine's error: I/O errors carry it, one within the other, and do not name it as their source.
fn tls_fault<'a>(mut cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    loop {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        cause = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
    }
}

/// Words of ours: the engine's own repeat what the server's certificate says.
const fn tls_words(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "its certificate is for another name"
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => "its certificate has ended",
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "its certificate is not valid yet"
        }
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => "nobody who is trusted signed its certificate",
        rustls::Error::InvalidCertificate(_) => "its certificate is refused",
        rustls::Error::InvalidMessage(_) => "it does not speak TLS",
        _ => "TLS failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_s_name_and_secret_are_encoded_before_they_are_joined() {
        use base64::Engine as _;
        let value = basic("a:b c", &SecretBytes::from("p%/é".as_bytes()));
        let text = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        let plain = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        assert_eq!(plain, b"a%3Ab+c:p%25%2F%C3%A9");
        assert!(value.is_sensitive());
    }
}
