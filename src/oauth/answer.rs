//! What a token endpoint's answer means (RFC 6749, sections 5.1 and 5.2; RFC 8628, section 3.5).
//!
//! Nothing that the endpoint wrote goes into an error or an event: only words of ours.

use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::auth::{AnswerNote, RefreshResult};
use crate::base::{SecretBytes, Timestamp, limits};
use crate::event::auth::FailureKind;

/// Tokens as an endpoint gave them.
#[derive(Debug)]
pub struct Tokens {
    /// The access token.
    pub access: SecretBytes,
    /// The refresh token, where there is a new one.
    pub refresh: Option<SecretBytes>,
    /// Life of the access token in seconds, where it was said.
    pub expires_in_s: Option<u64>,
    /// When they were asked for: a life is counted from then.
    pub asked_at: Timestamp,
    /// How long the answer took, in milliseconds, by the wall clock; nothing where it was read from elsewhere.
    pub took_ms: Option<u64>,
    /// What the provider says that it granted, where it says so.
    pub granted: Option<Granted>,
}

/// Scopes in a provider's own words. They are compared with those of a profile, and shown to nobody.
pub struct Granted(Vec<String>);

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Granted(..)")
    }
}

impl Granted {
    /// Scopes are divided by spaces (RFC 6749, section 3.3), by some providers with commas. None at all says nothing.
    fn read(text: &str) -> Option<Self> {
        let words: Vec<String> = text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        (!words.is_empty()).then_some(Self(words))
    }
}

impl Tokens {
    /// When the access token ends, where that was said: never later than the provider means.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_in_s.map(|seconds| self.asked_at.plus_millis(seconds.saturating_mul(1000)))
    }

    /// What is known of the answer to a request in the name of a grant with these scopes.
    #[must_use]
    pub fn note(&self, scopes: &[String]) -> AnswerNote {
        let lost = |granted: &Granted| scopes.iter().filter(|scope| !granted.0.contains(scope)).cloned().collect();
        AnswerNote { took_ms: self.took_ms, scopes_lost: self.granted.as_ref().map(lost) }
    }
}

/// Why there are no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The endpoint answered with an error of RFC 6749 or RFC 8628.
    Code(Code),
    /// Too many requests; wait so many milliseconds, where it was said.
    TooMany(Option<u64>),
    /// The endpoint failed for now; wait so many milliseconds, where it was said.
    Unavailable(Option<u64>),
    /// The endpoint sends elsewhere.
    Redirect,
    /// The answer does not read. The tokens may be spent.
    Malformed(&'static str),
    /// Another status.
    Status(u16),
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal,)*) => {
        /// Error codes that mean something here; whatever else an endpoint writes is [`Code::Other`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $code,)*
            /// Another one.
            Other,
        }

        impl Code {
            fn read(text: &str) -> Self {
                match text {
                    $($text => Self::$code,)*
                    // What others call a grant that is over: Slack, GitHub, and OpenAI's token endpoint.
                    "invalid_refresh_token" | "token_revoked" | "account_inactive" | "bad_refresh_token"
                    | "refresh_token_expired" | "refresh_token_reused" | "refresh_token_invalidated" => {
                        Self::InvalidGrant
                    }
                    _ => Self::Other,
                }
            }

            /// The code's name, in words of ours.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$code => $text,)*
                    Self::Other => "another error",
                }
            }
        }
    };
}

codes! {
    /// The refresh token, code or device code is not, or no longer, accepted.
    InvalidGrant = "invalid_grant",
    /// The client is not known, or its secret is wrong.
    InvalidClient = "invalid_client",
    /// The client may not ask this.
    UnauthorizedClient = "unauthorized_client",
    /// The endpoint does not do this.
    UnsupportedGrantType = "unsupported_grant_type",
    /// The scopes are refused.
    InvalidScope = "invalid_scope",
    /// The request is refused.
    InvalidRequest = "invalid_request",
    /// For now not.
    TemporarilyUnavailable = "temporarily_unavailable",
    /// A fault of theirs.
    ServerError = "server_error",
    /// The person has not answered yet.
    AuthorizationPending = "authorization_pending",
    /// The person has not answered yet, and it was asked too often.
    SlowDown = "slow_down",
    /// The person refused.
    AccessDenied = "access_denied",
    /// The person did not answer in time.
    ExpiredToken = "expired_token",
}

#[derive(Deserialize)]
struct Good {
    access_token: Option<Zeroizing<String>>,
    refresh_token: Option<Zeroizing<String>>,
    expires_in: Option<Loose>,
    scope: Option<Loose>,
    error: Option<Loose>,
}

#[derive(Deserialize)]
struct Bad {
    error: Option<Loose>,
}

/// What providers write in more than one way.
#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    Whole(u64),
    Broken(f64),
    Text(String),
    /// An error with its code inside.
    Inside {
        code: String,
    },
    Anything(serde::de::IgnoredAny),
}

impl Loose {
    /// Seconds as a number or, as some write them, a text; ten years at most. What is none says nothing: a
    /// token that is good must not be thrown away for what stands beside it.
    fn seconds(&self) -> Option<u64> {
        let seconds = match self {
            Self::Whole(seconds) => *seconds,
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Self::Broken(seconds) if *seconds >= 0.0 => seconds.floor() as u64,
            Self::Text(text) => text.trim().parse().ok()?,
            Self::Broken(_) | Self::Inside { .. } | Self::Anything(_) => return None,
        };
        Some(seconds.min(limits::TOKEN_LIFE_MAX_S))
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Whole(_) | Self::Broken(_) | Self::Inside { .. } | Self::Anything(_) => None,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Text(code) | Self::Inside { code } => Code::read(code),
            Self::Whole(_) | Self::Broken(_) | Self::Anything(_) => Code::Other,
        }
    }
}

/// Whether what an answer means stands in its body; for the other statuses the head says it, and a body that
/// never ends must not hide it.
#[must_use]
pub const fn has_body(status: u16) -> bool {
    !matches!(status, 300..=399 | 408 | 429 | 500..=599)
}

/// Reads an answer to a token request. `retry_after` is that header, `now_s` the Unix time in seconds.
///
/// # Errors
/// [`Refusal`].
pub fn read(status: u16, retry_after: Option<&str>, body: &[u8], now_s: u64) -> Result<Tokens, Refusal> {
    let wait = || retry_after.and_then(|text| read_retry_after(text, now_s));
    match status {
        200 | 201 => read_tokens(body, Timestamp::from_millis(now_s.saturating_mul(1000))),
        300..=399 => Err(Refusal::Redirect),
        429 => Err(Refusal::TooMany(wait())),
        408 | 500..=599 => Err(Refusal::Unavailable(wait())),
        400..=499 => {
            let code = serde_json::from_slice::<Bad>(body).ok().and_then(|bad| bad.error);
            match code.as_ref().map(Loose::code) {
                Some(Code::TemporarilyUnavailable | Code::ServerError) => Err(Refusal::Unavailable(wait())),
                Some(code) => Err(Refusal::Code(code)),
                None => Err(Refusal::Status(status)),
            }
        }
        _ => Err(Refusal::Status(status)),
    }
}

fn read_tokens(body: &[u8], asked_at: Timestamp) -> Result<Tokens, Refusal> {
    let good: Good = serde_json::from_slice(body).map_err(|_| Refusal::Malformed("it is no JSON of a token answer"))?;
    if let Some(error) = good.error {
        return Err(Refusal::Code(error.code()));
    }
    let access = good.access_token.and_then(token).ok_or(Refusal::Malformed("it holds no access token"))?;
    let refresh = match good.refresh_token {
        Some(text) if text.is_empty() => None,
        Some(text) => Some(token(text).ok_or(Refusal::Malformed("the refresh token is no token"))?),
        None => None,
    };
    let expires_in_s = good.expires_in.as_ref().and_then(Loose::seconds);
    let granted = good.scope.as_ref().and_then(Loose::text).and_then(Granted::read);
    Ok(Tokens { access, refresh, expires_in_s, asked_at, took_ms: None, granted })
}

/// A token is visible ASCII (RFC 6749, appendix A.12): it goes into a header as it is.
fn token(mut text: Zeroizing<String>) -> Option<SecretBytes> {
    let fine = !text.is_empty() && text.bytes().all(|byte| (0x20..0x7F).contains(&byte));
    let value = fine.then(|| SecretBytes::from(text.as_bytes()));
    text.zeroize();
    value
}

/// Seconds, or an HTTP date (RFC 9110, section 10.2.3), as milliseconds from now.
fn read_retry_after(text: &str, now_s: u64) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second();
    Some(u64::try_from(at).ok()?.saturating_sub(now_s).saturating_mul(1000))
}

impl Refusal {
    /// What a refusal means for a refresh.
    #[must_use]
    pub fn of_refresh(self) -> RefreshResult {
        let refused = |failure, what: &str| RefreshResult::Refused { failure, what: what.to_owned() };
        let failed = |failure, what: String, retry_after_ms, unanswered| RefreshResult::Failed {
            failure,
            what,
            retry_after_ms,
            unanswered,
        };
        match self {
            Self::Code(Code::InvalidGrant | Code::ExpiredToken | Code::AccessDenied) => {
                refused(FailureKind::AuthInvalid, "the provider no longer accepts the refresh token (invalid_grant)")
            }
            Self::Code(Code::InvalidClient) => refused(
                FailureKind::AuthInvalid,
                "the provider does not accept the client id or its secret (invalid_client)",
            ),
            Self::Code(
                code @ (Code::UnauthorizedClient
                | Code::UnsupportedGrantType
                | Code::InvalidScope
                | Code::InvalidRequest),
            ) => refused(FailureKind::ConfigMissing, &format!("the provider refuses such requests ({})", code.name())),
            Self::Code(code) => {
                failed(FailureKind::RefreshFailed, format!("the provider answered {}", code.name()), None, false)
            }
            Self::TooMany(wait) => {
                failed(FailureKind::RateLimit, "the provider answered status 429".to_owned(), wait, false)
            }
            // It may have rotated the token before it failed, or a gateway may have lost the answer.
            Self::Unavailable(wait) => {
                failed(FailureKind::Transient, "the provider failed for now".to_owned(), wait, true)
            }
            Self::Redirect => {
                failed(FailureKind::RefreshFailed, "the endpoint redirects: name its last URL".to_owned(), None, false)
            }
            Self::Malformed(what) => {
                failed(FailureKind::RefreshFailed, format!("the answer does not read: {what}"), None, true)
            }
            Self::Status(status) => {
                // Whoever does not refuse may have done what was asked, and have spent the token.
                let spent = !(400..500).contains(&status);
                failed(FailureKind::RefreshFailed, format!("the provider answered status {status}"), None, spent)
            }
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "it answered {}", code.name()),
            Self::TooMany(_) => f.write_str("it answered that there are too many requests"),
            Self::Unavailable(_) => f.write_str("it failed for now"),
            Self::Redirect => f.write_str("it redirects: name its last URL"),
            Self::Malformed(what) => write!(f, "its answer does not read: {what}"),
            Self::Status(status) => write!(f, "it answered status {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(body: &str) -> Tokens {
        read(200, None, body.as_bytes(), 0).unwrap()
    }

    #[test]
    fn scopes_that_the_provider_left_out_are_named_in_the_words_of_the_profile() {
        let asked = ["read".to_owned(), "chat:write".to_owned()];
        for (scope, lost) in [
            ("", None),
            (r#","scope":null"#, None),
            (r#","scope":"""#, None),
            (r#","scope":7"#, None),
            (r#","scope":"chat:write read""#, Some(vec![])),
            (r#","scope":"read,chat:write""#, Some(vec![])),
            (r#","scope":"read CANARY""#, Some(vec!["chat:write"])),
            (r#","scope":"CANARY""#, Some(vec!["read", "chat:write"])),
        ] {
            let tokens = ok(&format!(r#"{{"access_token":"a"{scope}}}"#));
            let note = tokens.note(&asked);
            assert_eq!(
                note.scopes_lost.as_ref().map(|lost| lost.iter().map(String::as_str).collect()),
                lost,
                "{scope}"
            );
            assert!(!format!("{tokens:?}{note:?}").contains("CANARY"), "{scope}");
        }
    }

    #[test]
    fn answers_as_providers_write_them() {
        let tokens = ok(r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","x":{}}"#);
        assert_eq!((tokens.access.expose(), tokens.expires_in_s), (b"a".as_slice(), Some(3600)));
        assert_eq!(tokens.refresh.unwrap().expose(), b"r");
        assert_eq!(ok(r#"{"access_token":"a","expires_in":"60"}"#).expires_in_s, Some(60));
        assert_eq!(ok(r#"{"access_token":"a","expires_in":59.9}"#).expires_in_s, Some(59));
        assert_eq!(ok(r#"{"access_token":"a","refresh_token":""}"#).expires_in_s, None);
        // What stands beside a good token is no reason to lose it.
        for beside in ["-1", "\"soon\"", "[]", "{}", "null", "true", "1e400"] {
            let body = format!(r#"{{"access_token":"a","expires_in":{beside},"token_type":"bot"}}"#);
            match read(200, None, body.as_bytes(), 0) {
                Ok(tokens) => assert_eq!(tokens.expires_in_s, None, "{beside}"),
                // No number of JSON.
                Err(refusal) => assert_eq!((beside, matches!(refusal, Refusal::Malformed(_))), ("1e400", true)),
            }
        }
        assert_eq!(ok(r#"{"access_token":"a","expires_in":99999999999}"#).expires_in_s, Some(limits::TOKEN_LIFE_MAX_S));
        let tokens = read(201, None, br#"{"access_token":"a","expires_in":60}"#, 5).unwrap();
        assert_eq!(tokens.expires_at(), Some(Timestamp::from_millis(65_000)));
    }

    #[test]
    fn a_grant_that_is_over_is_known_by_whatever_name_its_provider_has_for_it() {
        for (status, body) in [
            (400, r#"{"error":"invalid_grant"}"#),
            (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#),
            (200, r#"{"error":"bad_refresh_token"}"#),
            (401, r#"{"error":{"message":"used","code":"refresh_token_reused"}}"#),
        ] {
            let refusal = read(status, None, body.as_bytes(), 0).unwrap_err();
            assert_eq!(refusal, Refusal::Code(Code::InvalidGrant), "{body}");
        }
    }

    #[test]
    fn answers_that_are_none_are_refused_without_a_word_of_theirs() {
        for body in [
            "",
            "[]",
            "null",
            "{",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":7}"#,
            r#"{"access_token":"a\n"}"#,
            r#"{"access_token":"a","refresh_token":"\u0000"}"#,
        ] {
            assert!(matches!(read(200, None, body.as_bytes(), 0), Err(Refusal::Malformed(_))), "{body}");
        }
        let canary = r#"{"error":"CANARY","error_description":"CANARY"}"#;
        for status in [200, 400, 401] {
            let refusal = read(status, None, canary.as_bytes(), 0).unwrap_err();
            assert_eq!(refusal, Refusal::Code(Code::Other));
            assert!(!format!("{refusal} {:?}", refusal.clone().of_refresh()).contains("CANARY"));
        }
    }

    #[test]
    fn what_ends_a_grant_is_terminal_and_what_passes_is_not() {
        let of = |status, body: &str| read(status, Some("7"), body.as_bytes(), 0).unwrap_err().of_refresh();
        for code in ["invalid_grant", "invalid_client", "invalid_scope"] {
            let body = format!(r#"{{"error":"{code}"}}"#);
            assert!(matches!(of(400, &body), RefreshResult::Refused { .. }), "{code}");
        }
        assert!(matches!(
            of(429, ""),
            RefreshResult::Failed {
                failure: FailureKind::RateLimit,
                retry_after_ms: Some(7000),
                unanswered: false,
                ..
            }
        ));
        for status in [500, 502, 503, 504, 408] {
            assert!(
                matches!(of(status, ""), RefreshResult::Failed { failure: FailureKind::Transient, .. }),
                "{status}"
            );
        }
        assert!(matches!(of(302, ""), RefreshResult::Failed { .. }));
        assert!(matches!(of(404, "<html>"), RefreshResult::Failed { .. }));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(read_retry_after("120", 0), Some(120_000));
        assert_eq!(read_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_770), Some(7000));
        assert_eq!(read_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_999), Some(0));
        assert_eq!(read_retry_after("soon", 0), None);
    }
}
