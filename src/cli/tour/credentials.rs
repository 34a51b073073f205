//! The part of the tour about service credentials: a provider on loopback, login, refresh with rotation, an
//! outage, selection, the documents, logout.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{AuthError, Health, Query, RefreshResult, Skip, standing};
use crate::base::{ProfileId, ProfileScope, SecretPath, SystemClock};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::time;
use crate::engine::{Auth, AuthSettings, Error, GetOptions, Ledger, NewTokens, PutOptions, ReplayPoint};
use crate::event::auth::{CredentialSource, FailureKind, LoginFlow, OauthSource, Profile};
use crate::oauth::login::{CodeLogin, revoke};
use crate::oauth::{ClientFault, RefreshReport, Refresher, TokenClient};
use crate::vault::VaultError;

use super::provider::{CLIENT, Provider};
use super::{SPARE_KEY, Tour, bytes, name, scope};

/// Life of the provider's tokens in seconds: shorter than the window before the end in which they are refreshed.
const SHORT_S: u64 = 60;
const LONG_S: u64 = 3600;

/// What this part needs along its way.
struct Stage<'a> {
    ledger: &'a Ledger,
    auth: Auth,
    client: TokenClient,
    refresher: Refresher,
    provider: Provider,
    /// The profile that logs in, and the one with an API key beside it.
    main: ProfileId,
    spare: ProfileId,
    source: OauthSource,
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(ExitCode::Internal, error.to_string(), "")
}

/// Logs in at a provider and takes the profile through its life.
pub fn services(tour: &mut Tour<'_>, ledger: &Ledger) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let mut given = Vec::new();
    let walked = runtime.map_err(internal)?.block_on(async {
        let stage = Stage::start(ledger).await?;
        let walked = stage.walk(tour).await;
        given = stage.provider.issued();
        walked
    });
    tour.canaries.extend(given);
    walked
}

fn profile(id: &ProfileId, credential: CredentialSource) -> Result<Profile, Failure> {
    let provider = "custom:corp".parse().map_err(internal)?;
    let scope = ProfileScope::Global;
    Ok(Profile { id: id.clone(), provider, name: format!("{id} of the tour"), scope, enabled: true, credential })
}

fn query() -> Result<Query, Failure> {
    Ok(Query { provider: Some("custom:corp".parse().map_err(internal)?), ..Query::default() })
}

impl<'a> Stage<'a> {
    async fn start(ledger: &'a Ledger) -> Result<Self, Failure> {
        let provider = Provider::start(SHORT_S).await.map_err(internal)?;
        let client = TokenClient::new(&AuthSettings::default(), Arc::new(SystemClock)).map_err(internal)?;
        let place = |text: &str| text.parse::<SecretPath>().map_err(internal);
        let source = OauthSource {
            access: place("global/corp_access")?,
            refresh: Some(place("global/corp_refresh")?),
            client_secret: None,
            token_endpoint: provider.url("token"),
            revocation_endpoint: Some(provider.url("revoke")),
            client_id: CLIENT.to_owned(),
            scopes: vec!["mail.read".to_owned()],
        };
        let id = |text: &str| text.parse::<ProfileId>().map_err(internal);
        let refresher = Refresher::new(ledger, client.clone());
        let (main, spare) = (id("corp-main")?, id("corp-spare")?);
        Ok(Self { ledger, auth: ledger.auth(), client, refresher, provider, main, spare, source })
    }

    async fn walk(&self, tour: &mut Tour<'_>) -> Result<(), Failure> {
        self.login(tour).await?;
        self.refresh(tour).await?;
        self.outage(tour).await?;
        self.replayed(tour).await?;
        self.documents(tour)?;
        self.logout(tour).await
    }

    /// The value of one of the profile's tokens in the vault.
    fn held(&self, place: &SecretPath) -> Result<String, Error> {
        let read = self.ledger.vault(place.scope.clone()).get_with(&place.name, GetOptions::current())?;
        Ok(String::from_utf8_lossy(read.value.expose()).into_owned())
    }

    /// Whether the vault holds what the provider gave last.
    fn in_step(&self) -> bool {
        let Some((access, refresh, alive)) = self.provider.last() else { return false };
        let held = self.source.refresh.as_ref().map(|place| self.held(place));
        alive
            && self.held(&self.source.access).is_ok_and(|held| held == access)
            && matches!(held, Some(Ok(held)) if held == refresh)
    }

    /// What `auth login` does; the tour plays the browser.
    async fn log_in(&self, tour: &mut Tour<'_>, stolen: bool) -> Result<(), Failure> {
        let begun = CodeLogin::begin(&self.source, &self.provider.url("authorize"), 0).await.map_err(internal)?;
        let address = begun.url().to_owned();
        let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let browser = browser.build().map_err(internal)?;
        let page = browser.get(&address).send().await.map_err(internal)?;
        let back = page.headers().get(reqwest::header::LOCATION).and_then(|place| place.to_str().ok());
        let back = back.ok_or_else(|| internal("the provider's page sends nobody back"))?.to_owned();
        if stolen {
            let challenged = address.contains("code_challenge_method=S256") && !address.contains("verifier");
            tour.check("the address holds a challenge and no secret", challenged)?;
            let refused = self.steal(&browser, &back).await?;
            tour.check("the code in other hands, without its verifier, is refused", refused)?;
        }
        let wait = Duration::from_secs(10);
        let visit = async { browser.get(&back).send().await.map(|page| page.status().as_u16()) };
        let (page, tokens) = tokio::join!(visit, begun.finish(&self.client, &self.source, None, wait));
        let tokens = tokens.map_err(internal)?;
        let (expires_at, answer) = (tokens.expires_at(), tokens.note(&self.source.scopes));
        let tokens = NewTokens { access: tokens.access, refresh: tokens.refresh, expires_at, answer };
        let profile = profile(&self.main, CredentialSource::Oauth(Box::new(self.source.clone())))?;
        self.auth.logged_in(&profile, LoginFlow::Code, &tokens)?;
        tour.check("logged in, and the browser shows that it is done", page.is_ok_and(|status| status == 200))
    }

    /// Tries the code with a verifier of one's own.
    async fn steal(&self, browser: &reqwest::Client, back: &str) -> Result<bool, Failure> {
        let back = reqwest::Url::parse(back).map_err(internal)?;
        let code = back.query_pairs().find(|(name, _)| name == "code").map(|(_, code)| code.into_owned());
        let mut redirect = back.clone();
        redirect.set_query(None);
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT),
            ("code", &code.unwrap_or_default()),
            ("redirect_uri", redirect.as_str()),
            ("code_verifier", "a-verifier-that-somebody-else-made-up-0123456789"),
        ];
        let answer = browser.post(self.provider.url("token")).form(&form).send().await.map_err(internal)?;
        Ok(answer.status().as_u16() == 400)
    }

    async fn login(&self, tour: &mut Tour<'_>) -> Result<(), Failure> {
        tour.step("Log in at a provider: authorization code with PKCE")?;
        tour.say(&format!("a provider of the tour's own at {}", self.provider.url("")))?;
        self.log_in(tour, true).await?;
        tour.check("both tokens lie in the vault, and the profile only names them", self.in_step())?;
        let key = name("corp_api_key")?;
        self.ledger.vault(scope("global")?).put(&key, &bytes(SPARE_KEY), PutOptions::new())?;
        let key: SecretPath = "global/corp_api_key".parse().map_err(internal)?;
        self.auth.set(profile(&self.spare, CredentialSource::ApiKey(key))?, None)?;
        self.prefer()?;
        let chosen = self.auth.select(&query()?, true)?;
        let outranked =
            chosen.skipped.iter().any(|skipped| skipped.profile == self.spare && skipped.why == Skip::Outranked);
        tour.check(
            "of two profiles the preferred one is chosen, and why not the other is said",
            outranked && chosen.profile.id == self.main,
        )
    }

    fn prefer(&self) -> Result<(), Failure> {
        let provider = "custom:corp".parse().map_err(internal)?;
        let order = vec![self.main.clone(), self.spare.clone()];
        Ok(self.auth.set_order(ProfileScope::Global, provider, order)?)
    }

    async fn run_due(&self) -> Result<Vec<RefreshReport>, Failure> {
        Ok(self.refresher.run_due().await?)
    }

    async fn refresh(&self, tour: &mut Tour<'_>) -> Result<(), Failure> {
        tour.step("Refresh: single-use tokens rotate")?;
        tour.check("neither a fresh token nor an API key is due", self.auth.due()?.is_empty())?;
        let before = self.provider.last().map(|(_, refresh, _)| refresh);
        let asked = self.provider.requests();
        let both = tokio::join!(
            self.refresher.refresh(self.main.clone(), true),
            self.refresher.refresh(self.main.clone(), true)
        );
        let renewed = usize::from(both.0.is_renewed()) + usize::from(both.1.is_renewed());
        let late = [both.0, both.1].into_iter().find_map(|report| report.outcome.err());
        if let Some(error) = late {
            tour.say(&format!("the second of two at once: {error}"))?;
        }
        let sent = self.provider.requests() - asked;
        tour.check("two refreshes at the same moment never send one token twice", sent == renewed && renewed >= 1)?;
        let rotated = self.provider.last().map(|(_, refresh, _)| refresh) != before;
        tour.check(
            "the new refresh token is in the vault, in one batch with the access token",
            rotated && self.in_step(),
        )
    }

    async fn outage(&self, tour: &mut Tour<'_>) -> Result<(), Failure> {
        tour.step("The provider goes down")?;
        // Made anew over the same secrets, with a token that is known to end soon.
        self.auth.delete(&self.main)?;
        let again = profile(&self.main, CredentialSource::Oauth(Box::new(self.source.clone())))?;
        self.auth.set(again, Some(self.auth.now().plus_millis(SHORT_S * 1000)))?;
        self.prefer()?;
        tour.check(&format!("a token that ends in {SHORT_S} s is due"), self.auth.due()? == [self.main.clone()])?;
        self.provider.set_down(true);
        let (asked, before) = (self.provider.requests(), self.provider.last());
        let reports = self.run_due().await?;
        let failed = |report: &RefreshReport| {
            matches!(report.outcome, Ok(RefreshResult::Failed { retry_after_ms: Some(1000), .. }))
        };
        tour.check(
            "a refresh meets status 503 and is told to wait",
            matches!(reports.as_slice(), [one] if failed(one)),
        )?;
        let (_, runtime) = self.auth.profile(&self.main)?;
        let again = runtime.retry_at.unwrap_or_default();
        let quiet = self.run_due().await?.is_empty() && self.provider.requests() == asked + 1;
        tour.check("until then nothing is sent", quiet)?;
        tour.refused("a refresh before that", self.auth.begin_refresh(&self.main, false), |error| {
            matches!(error, Error::Auth(AuthError::CoolingDown { .. }))
        })?;
        tour.check("no token was spent", self.provider.last() == before && self.in_step())?;
        self.fail_over(tour)?;
        self.provider.set_down(false);
        let wait = again.as_millis().saturating_sub(self.auth.now().as_millis()).min(1_500) + 10;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        self.provider.set_life(LONG_S);
        let reports = self.run_due().await?;
        let renewed = matches!(reports.as_slice(), [one] if one.is_renewed());
        tour.check(
            &format!("{wait} ms later it is up, and the refresh goes through by itself"),
            renewed && self.in_step(),
        )?;
        let chosen = self.auth.select(&query()?, false)?;
        tour.check("with a fresh token the preferred profile is back", chosen.profile.id == self.main)?;
        self.auth.report_success(&self.main)?;
        tour.check("nothing is due any more", self.auth.due()?.is_empty())
    }

    /// The service turns the profile away: another one takes its place.
    fn fail_over(&self, tour: &mut Tour<'_>) -> Result<(), Failure> {
        self.auth.report_failure(&self.main, FailureKind::RefreshFailed, None)?;
        let chosen = self.auth.select(&query()?, true)?;
        for skipped in &chosen.skipped {
            let until = skipped.until.map(|end| format!(" until {}", time::second(end))).unwrap_or_default();
            tour.say(&format!("chosen {}; {} is {}{until}", chosen.profile.id, skipped.profile, skipped.why.name()))?;
        }
        let benched = chosen.instead_of.as_ref().is_some_and(|skipped| {
            skipped.profile == self.main && skipped.why == Skip::CoolingDown && skipped.until.is_some()
        });
        tour.check("the failed profile is benched, and its spare serves", benched && chosen.profile.id == self.spare)?;
        self.auth.report_success(&self.spare)?;
        self.auth.flush_usage()?;
        Ok(())
    }

    /// Somebody copied a refresh token and tries it.
    async fn replayed(&self, tour: &mut Tour<'_>) -> Result<(), Failure> {
        tour.step("Somebody replays a spent refresh token")?;
        let spent = self.provider.issued().into_iter().find(|token| token.starts_with("tour-refresh-"));
        let form =
            [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", &spent.unwrap_or_default())];
        let thief = reqwest::Client::builder().no_proxy().build().map_err(internal)?;
        let answer = thief.post(self.provider.url("token")).form(&form).send().await.map_err(internal)?;
        let dead = answer.status().as_u16() == 400 && self.provider.last().is_some_and(|(.., alive)| !alive);
        tour.check("the provider sees it come twice, and ends the grant", dead)?;
        let report = self.refresher.refresh(self.main.clone(), true).await;
        let terminal = matches!(report.outcome, Ok(RefreshResult::Refused { failure: FailureKind::AuthInvalid, .. }));
        let (record, runtime) = self.auth.profile(&self.main)?;
        let stands = standing(&record.profile, &runtime, self.auth.now(), self.auth.refresh_window_ms());
        tour.check(
            "the next refresh is refused for good, and is not tried again",
            terminal && self.auth.due()?.is_empty(),
        )?;
        tour.say(&format!("what to do: {}", stands.next))?;
        tour.check(
            "the profile says so, and what to do",
            stands.health == Health::Failed && stands.next.contains("auth login"),
        )?;
        self.log_in(tour, false).await?;
        let mended = self.auth.profile(&self.main)?.1.terminal.is_none();
        tour.check("logged in again, it is mended", mended && self.in_step())
    }

    fn documents(&self, tour: &mut Tour<'_>) -> Result<(), Failure> {
        tour.step("The two documents, for people and other programs")?;
        self.auth.flush_usage()?;
        // None while the background records something: then once more.
        let rendered = (0..50).find_map(|_| match self.auth.documents() {
            Ok(None) => {
                std::thread::sleep(Duration::from_millis(2));
                None
            }
            other => Some(other),
        });
        let made = rendered.transpose()?.flatten().ok_or_else(|| internal("the ledger is never at rest"))?;
        let both = format!("{}{}", made.profiles, made.runtime);
        tour.say(&format!("{} and {} bytes", made.profiles.len(), made.runtime.len()))?;
        let named = [self.main.as_str(), self.spare.as_str(), "global/corp_refresh", "token_expiry_state"];
        tour.check(
            "they name the profiles, their references and how they stand",
            named.iter().all(|text| both.contains(text)),
        )?;
        let clean = !self.provider.issued().iter().any(|token| both.contains(token)) && !both.contains(SPARE_KEY);
        tour.check("no token and no key stands in them", clean)?;
        let at = crate::auth::documents::rendered_at(&made.profiles).map_or(ReplayPoint::Head, ReplayPoint::Seq);
        let again = self.ledger.replay(at)?.auth_documents(self.auth.refresh_window_ms())?;
        tour.check("replayed from the log, they are the same bytes", again == made)
    }

    async fn logout(&self, tour: &mut Tour<'_>) -> Result<(), Failure> {
        tour.step("Log out: revoke there, destroy here")?;
        let (tokens, secret) = self.auth.tokens(&self.main)?;
        let revoked = revoke(&self.client, &self.source, secret.as_ref(), &tokens).await;
        let revoked = revoked.map_err(|fault: ClientFault| internal(fault))?;
        self.auth.logged_out(&self.main, revoked)?;
        let dead = self.provider.last().is_some_and(|(.., alive)| !alive);
        tour.check("the provider confirms that the tokens are revoked", revoked && dead)?;
        let shredded = |error: &Error| matches!(error, Error::Vault(VaultError::Shredded { .. }));
        tour.refused("reading the access token", self.held(&self.source.access), shredded)?;
        if let Some(place) = &self.source.refresh {
            tour.refused("reading the refresh token", self.held(place), shredded)?;
        }
        let chosen = self.auth.select(&query()?, true)?;
        let why = chosen.instead_of.as_ref().map(|skipped| skipped.why);
        tour.check(
            "the spare serves; the other one needs a person",
            chosen.profile.id == self.spare && why == Some(Skip::NeedsPerson),
        )?;
        self.auth.flush_usage()?;
        Ok(())
    }
}
