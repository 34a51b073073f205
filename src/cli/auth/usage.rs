//! `auth order`, `auth health`, `auth select` and `auth report`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::auth::{AuthError, Chosen, Health, Query, Skipped, TokenExpiry};
use crate::base::{AgentId, ProfileId, ProfileScope, Provider};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::cli::{story, time};
use crate::engine::{AuthFilter, Error};
use crate::event::auth::{CredentialType, FailureKind};

use super::{answer, ms, profile_json, stands};

/// What `auth order` does.
#[derive(Debug, Subcommand)]
pub enum OrderCommand {
    /// List the orders
    List,
    /// Set an order, the preferred profile first
    Set {
        /// The provider that it is for
        #[arg(long)]
        provider: Provider,
        /// Whom it is for: global, agent:ID
        #[arg(long, default_value = "global")]
        scope: ProfileScope,
        /// The profiles
        #[arg(required = true)]
        profiles: Vec<ProfileId>,
    },
    /// Remove an order
    Remove {
        /// The provider that it is for
        #[arg(long)]
        provider: Provider,
        /// Whom it is for: global, agent:ID
        #[arg(long, default_value = "global")]
        scope: ProfileScope,
    },
}

/// Arguments of `auth health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Exit with 21 where a profile is not healthy
    #[arg(long)]
    strict: bool,
}

/// A kind of credential, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// API keys.
    ApiKey,
    /// OAuth tokens.
    Oauth,
}

/// Arguments of `auth select`.
#[derive(Debug, Args)]
pub struct Select {
    /// Only this provider
    #[arg(long)]
    provider: Option<Provider>,
    /// For this agent, whose own profiles come first
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,
    /// Only credentials of these kinds
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KINDS")]
    allow: Vec<Kind>,
    /// Never these profiles
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    deny: Vec<ProfileId>,
    /// These first, in this order
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    order: Vec<ProfileId>,
    /// Say why every other candidate was passed over
    #[arg(long)]
    explain: bool,
}

/// What `auth report` takes.
#[derive(Debug, Subcommand)]
pub enum Report {
    /// It served
    Success {
        /// The profile
        id: ProfileId,
    },
    /// It failed
    Failure {
        /// The profile
        id: ProfileId,
        /// How: `auth_invalid`, `refresh_due`, `refresh_failed`, `quota`, `rate_limit`, `transient`, `config_missing`
        #[arg(long, value_parser = failure_kind)]
        kind: FailureKind,
        /// How long the provider asks to be left alone: 30s, 5m
        #[arg(long, value_name = "DURATION")]
        retry_after: Option<String>,
    },
}

fn failure_kind(text: &str) -> Result<FailureKind, String> {
    crate::auth::documents::failure_kind(text).ok_or_else(|| {
        let names: Vec<_> = FailureKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("it is one of {}", names.join(", "))
    })
}

/// Runs `auth order`.
pub fn order(invocation: &Invocation, command: OrderCommand) -> Result<(), Failure> {
    let (scope, provider, profiles) = match command {
        OrderCommand::List => {
            let ledger = invocation.open(Access::Read)?;
            let orders = ledger.auth().orders()?;
            invocation.close(&ledger);
            let names = |ids: &[ProfileId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
            if invocation.out.is_json() {
                let all: Vec<_> = orders
                    .iter()
                    .map(|order| json!({"scope": order.scope, "provider": order.provider, "profiles": order.profiles}))
                    .collect();
                return invocation.out.json(&json!({"orders": all}));
            }
            let row = |order: &crate::auth::Order| {
                vec![order.scope.to_string(), order.provider.to_string(), names(&order.profiles).join(", ")]
            };
            let rows: Vec<_> = orders.iter().map(row).collect();
            return invocation.out.table(&["SCOPE", "PROVIDER", "PROFILES"], &rows);
        }
        OrderCommand::Set { provider, scope, profiles } => (scope, provider, profiles),
        OrderCommand::Remove { provider, scope } => (scope, provider, Vec::new()),
    };
    let ledger = invocation.open(Access::Write)?;
    ledger.auth().set_order(scope.clone(), provider.clone(), profiles.clone())?;
    invocation.close(&ledger);
    let done = if profiles.is_empty() { "removed" } else { "set" };
    let shown = json!({"scope": scope, "provider": provider, "profiles": profiles, "result": done});
    answer(invocation, &shown, &format!("the order of {scope} for {provider} is {done}"))
}

/// Runs `auth health`.
pub fn health(invocation: &Invocation, args: &HealthArgs) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let auth = ledger.auth();
    let page = auth.profiles(&AuthFilter::default())?;
    invocation.close(&ledger);
    let now = auth.now();
    let all: Vec<_> = page
        .profiles
        .iter()
        .map(|(record, runtime)| (&record.profile, runtime, stands(&auth, &record.profile, runtime)))
        .collect();
    let with = |health| all.iter().filter(|(.., stands)| stands.health == health).count();
    let (healthy, degraded, failed) = (with(Health::Healthy), with(Health::Degraded), with(Health::Failed));
    let spread: Vec<(&str, usize)> = TokenExpiry::ALL
        .iter()
        .map(|token| (token.name(), all.iter().filter(|(.., stands)| stands.token == *token).count()))
        .collect();
    // When the tokens that are good now will end.
    let ahead = [("within an hour", 3_600_000), ("within a day", 86_400_000), ("within a week", 7 * 86_400_000)];
    let ends: Vec<u64> = all
        .iter()
        .filter_map(|(_, runtime, _)| runtime.expires_at)
        .filter_map(|end| end.as_millis().checked_sub(now.as_millis()))
        .collect();
    let mut from = 0;
    let mut ending: Vec<(&str, usize)> = Vec::new();
    for (name, to) in ahead {
        ending.push((name, ends.iter().filter(|left| (from..to).contains(*left)).count()));
        from = to;
    }
    ending.push(("later", ends.iter().filter(|left| **left >= from).count()));
    let out = &invocation.out;
    if out.is_json() {
        let profiles: Vec<_> = all
            .iter()
            .map(|(profile, runtime, stands)| {
                json!({
                    "profile": profile.id, "provider": profile.provider, "health": stands.health.name(),
                    "eligibility": stands.eligibility.name(), "token": stands.token.name(),
                    "expires_at_ms": ms(runtime.expires_at), "until_ms": ms(stands.until),
                    "in_doubt": stands.in_doubt, "reasons": stands.reasons, "next": stands.next,
                })
            })
            .collect();
        let counts = |counts: &[(&str, usize)]| -> Value {
            counts
                .iter()
                .map(|(name, count)| ((*name).replace(' ', "_"), json!(count)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        out.json(&json!({
            "healthy": healthy, "degraded": degraded, "failed": failed, "profiles": profiles,
            "tokens": counts(&spread), "ending": counts(&ending),
        }))?;
    } else {
        let rows: Vec<_> = all
            .iter()
            .filter(|(.., stands)| stands.health != Health::Healthy)
            .map(|(profile, _, stands)| {
                let reasons = stands.reasons.join(", ");
                vec![profile.id.to_string(), stands.health.name().to_owned(), reasons, stands.next.clone()]
            })
            .collect();
        if !rows.is_empty() {
            out.table(&["PROFILE", "HEALTH", "WHY", "NEXT"], &rows)?;
        }
        out.line(&format!("{healthy} healthy, {degraded} degraded, {failed} failed"))?;
        draw(invocation, "tokens", &spread)?;
        draw(invocation, "tokens that end", &ending)?;
    }
    if args.strict && degraded + failed > 0 {
        let what = format!("{} not healthy", story::count((degraded + failed) as u64, "profile"));
        return Err(Failure::new(ExitCode::DoctorFindings, what, "do what stands beside them"));
    }
    Ok(())
}

/// A distribution as bars, the longest 40 characters.
fn draw(invocation: &Invocation, title: &str, counts: &[(&str, usize)]) -> Result<(), Failure> {
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    invocation.out.line(title)?;
    for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
        let bar = "█".repeat((count * 40).div_ceil(most));
        invocation.out.line(&format!("  {name:<16}{bar} {count}"))?;
    }
    Ok(())
}

fn skipped_json(skipped: &[Skipped]) -> Vec<Value> {
    let each = |skipped: &Skipped| json!({"profile": skipped.profile, "why": skipped.why.name(), "until_ms": ms(skipped.until)});
    skipped.iter().map(each).collect()
}

/// Runs `auth select`.
pub fn select(invocation: &Invocation, args: Select) -> Result<(), Failure> {
    let kind = |kind: &Kind| if *kind == Kind::ApiKey { CredentialType::ApiKey } else { CredentialType::Oauth };
    let query = Query {
        provider: args.provider,
        agent: args.agent,
        allow: args.allow.iter().map(kind).collect(),
        deny: args.deny,
        order: args.order,
    };
    let ledger = invocation.open(Access::Write)?;
    let chosen = ledger.auth().select(&query, args.explain);
    invocation.close(&ledger);
    let chosen = match chosen {
        Err(Error::Auth(AuthError::NoCandidate(skipped))) if args.explain => {
            if invocation.out.is_json() {
                let skipped = skipped_json(&skipped);
                invocation
                    .out
                    .json(&json!({"profile": null, "probe": false, "instead_of": null, "skipped": skipped}))?;
            } else {
                explain(invocation, &skipped)?;
            }
            return Err(Error::from(AuthError::NoCandidate(skipped)).into());
        }
        other => other?,
    };
    let Chosen { profile, probe, instead_of, skipped } = &chosen;
    let out = &invocation.out;
    if out.is_json() {
        let instead = instead_of.as_ref().map(std::slice::from_ref).map(skipped_json).unwrap_or_default().pop();
        return out.json(&json!({
            "profile": profile_json(profile), "probe": probe, "instead_of": instead,
            "skipped": if args.explain { Some(skipped_json(skipped)) } else { None },
        }));
    }
    out.line(profile.id.as_str())?;
    if *probe {
        out.note("it was benched and is tried now: report how it goes");
    }
    if let Some(skipped) = instead_of {
        out.note(&format!("instead of {}, which is {}", skipped.profile, skipped.why.name()));
    }
    if args.explain { explain(invocation, skipped) } else { Ok(()) }
}

fn explain(invocation: &Invocation, skipped: &[Skipped]) -> Result<(), Failure> {
    let row = |skipped: &Skipped| {
        let until = skipped.until.map(time::second).unwrap_or_default();
        vec![skipped.profile.to_string(), skipped.why.name().to_owned(), until]
    };
    invocation.out.table(&["PASSED OVER", "WHY", "UNTIL"], &skipped.iter().map(row).collect::<Vec<_>>())
}

/// Runs `auth report`.
pub fn report(invocation: &Invocation, report: Report) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Write)?;
    let auth = ledger.auth();
    let id = match report {
        Report::Success { id } => {
            auth.report_success(&id)?;
            id
        }
        Report::Failure { id, kind, retry_after } => {
            let bad = |_| Failure::usage("--retry-after is no duration", "give for example 30s");
            let wait = retry_after.map(|text| time::duration_ms(&text).map_err(bad)).transpose()?;
            auth.report_failure(&id, kind, wait)?;
            id
        }
    };
    auth.flush_usage()?;
    let runtime = match auth.profile(&id) {
        Ok((_, runtime)) => runtime,
        Err(Error::Auth(AuthError::NoProfile(_))) => crate::auth::Runtime::default(),
        Err(error) => return Err(error.into()),
    };
    invocation.close(&ledger);
    let until = runtime.cooldown_until.filter(|until| auth.now() < *until);
    let shown = json!({"profile": id, "failure_count": runtime.failure_count, "cooldown_until_ms": ms(until)});
    let text = match until {
        Some(until) => format!("profile {id} is benched until {}", time::second(until)),
        None => format!("recorded for profile {id}"),
    };
    answer(invocation, &shown, &text)
}
