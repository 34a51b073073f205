//! Service credentials: choosing among profiles, reports of use, refreshes over loopback, the two documents.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use palyra_ledger::auth::documents::{self, Documents, Edit, Plan as Changes};
use palyra_ledger::auth::{self, Query};
use palyra_ledger::event::Event;
use palyra_ledger::event::auth::{CredentialSource, CredentialType, FailureKind, OauthSource, Profile, ProfileSet};
use palyra_ledger::oauth::{Refresher, TokenClient};
use palyra_ledger::{
    Auth, AuthFilter, AuthSettings, Delta, Hash, Ledger, ProfileId, PutOptions, ReplayPoint, Scope, SecretBytes,
    SecretName, StateError, StateRead, SystemClock, Timestamp, Visit,
};

use crate::endpoint::{Endpoint, first_token};
use crate::race::{Lane, median, race, rate, rate_of_many};
use crate::report::{Section, figure, ratio};
use crate::{Fault, Plan, homes, machine};

const CHOICES: usize = 1_000;
const REPORTS: usize = 100_000;
const AT_ONCE: u32 = 64;
const WINDOW_MS: u64 = 300_000;
const PROVIDERS: [&str; 7] = ["openai", "anthropic", "telegram", "slack", "discord", "webhook", "custom:corp"];

/// How many profiles the larger benches have.
const fn crowd(plan: &Plan) -> usize {
    if plan.quick { 256 } else { 2_048 }
}

fn id(number: usize) -> Result<ProfileId, Fault> {
    Ok(format!("profile-{number:04}").parse()?)
}

/// OAuth tokens of a grant at an endpoint.
fn tokens(number: usize, endpoint: &str) -> Result<CredentialSource, Fault> {
    let place = |what: &str| format!("global/auth-{number:04}-{what}").parse();
    Ok(CredentialSource::Oauth(Box::new(OauthSource {
        access: place("access")?,
        refresh: Some(place("refresh")?),
        client_secret: None,
        token_endpoint: endpoint.to_owned(),
        revocation_endpoint: None,
        client_id: "palyra-bench".to_owned(),
        scopes: vec!["read".to_owned(), "write".to_owned()],
    })))
}

/// Profiles of every provider, scope and kind; some are disabled, and some tokens end soon or have ended.
fn mixed(number: usize, now: Timestamp) -> Result<(Profile, Option<Timestamp>), Fault> {
    let oauth = number % 2 == 1;
    let scope = if number % 4 == 3 { format!("agent:a-{}", number % 5) } else { "global".to_owned() };
    let credential = if oauth {
        tokens(number, "https://auth.example/oauth/token")?
    } else {
        CredentialSource::ApiKey(format!("global/key-{number:04}").parse()?)
    };
    let ends_ms = match number % 6 {
        1 => 86_400_000,
        3 => 120_000,
        _ => 3_600_000,
    };
    // Every eleventh token has ended already.
    let end = if number.is_multiple_of(11) {
        Timestamp::from_millis(now.as_millis() - 1_000)
    } else {
        now.plus_millis(ends_ms)
    };
    let profile = Profile {
        id: id(number)?,
        provider: PROVIDERS.get(number % PROVIDERS.len()).ok_or("no provider")?.parse()?,
        name: format!("Profile {number} of \"bench\""),
        scope: scope.parse()?,
        enabled: number % 10 != 9,
        credential,
    };
    Ok((profile, oauth.then_some(end)))
}

/// Makes profiles, many in one batch.
fn fill(auth: &Auth, all: Vec<(Profile, Option<Timestamp>)>) -> Result<(), Fault> {
    let edits: Vec<_> = all.into_iter().map(|(profile, end)| Edit::Set(Box::new(profile), end)).collect();
    for edits in edits.chunks(1_024) {
        auth.apply(&Changes { rendered: None, edits: edits.to_vec() })?;
    }
    Ok(())
}

/// A ledger with mixed profiles: an order is set, and every eighth is benched.
fn crowded(plan: &Plan, count: usize) -> Result<(tempfile::TempDir, Ledger), Fault> {
    let dir = tempfile::Builder::new().prefix("credentials-").tempdir_in(&plan.dir)?;
    let ledger = homes::new(&dir.path().join("home"))?;
    let auth = ledger.auth();
    let now = auth.now();
    fill(&auth, (0..count).map(|number| mixed(number, now)).collect::<Result<_, _>>()?)?;
    let openai = (0..count).step_by(PROVIDERS.len());
    let preferred = openai.clone().rev().take(16).map(id).collect::<Result<Vec<_>, _>>()?;
    auth.set_order("global".parse()?, "openai".parse()?, preferred)?;
    for number in (0..count).filter(|number| number % 8 == 5) {
        auth.report_failure(&id(number)?, FailureKind::Quota, None)?;
    }
    auth.flush_usage()?;
    Ok((dir, ledger))
}

/// Repeats an operation for a time; operations a second of this thread's processor time: a core's rate, whoever
/// else is on the machine.
fn core_rate(slice: Duration, mut operation: impl FnMut() -> Result<(), Fault>) -> Result<f64, Fault> {
    let before = machine::thread_seconds().ok_or("no processor time")?;
    let mut count = 0_u64;
    rate(slice, || {
        count += 1;
        operation()
    })?;
    let used = machine::thread_seconds().ok_or("no processor time")? - before;
    Ok(count as f64 / used)
}

/// Choosing among a thousand profiles, and among ten.
pub fn select(plan: &Plan) -> Result<Section, Fault> {
    let (_many_dir, many) = crowded(plan, CHOICES)?;
    let (_few_dir, few) = crowded(plan, 10)?;
    let (many, few) = (many.auth(), few.auth());
    let of_one = Query { provider: Some("openai".parse()?), agent: Some("a-1".parse()?), ..Query::default() };
    let of_all = Query {
        agent: Some("a-1".parse()?),
        allow: vec![CredentialType::ApiKey, CredentialType::Oauth],
        deny: vec![id(4)?],
        ..Query::default()
    };
    let lane = |name: &str, auth: &Auth, query: &Query, explain: bool| {
        let (auth, query) = (auth.clone(), query.clone());
        Lane::new(name, move |slice| core_rate(slice, || auth.select(&query, explain).map(drop).map_err(Into::into)))
    };
    let rates = race(
        &mut [
            lane("1,000 profiles, of one provider", &many, &of_one, false),
            lane("1,000 profiles, of one provider, explained", &many, &of_one, true),
            lane("1,000 profiles, of any", &many, &of_all, false),
            lane("1,000 profiles, of any, explained", &many, &of_all, true),
            lane("10 profiles, of any", &few, &of_all, false),
            lane("10 profiles, of any, explained", &few, &of_all, true),
        ],
        plan.rounds,
        plan.slice,
    )?;
    let note = "Profiles of seven providers, global and of five agents, API keys and OAuth; one in ten disabled, one in eight \
                benched, tokens that end soon or have ended, an order of 16. One thread; what is chosen is noted as used, \
                and recorded in the background. A second is one of the thread's processor time. Explained: every profile that was passed over with its reason.";
    let mut section =
        Section::new("Choosing a profile", note, &["", "choices/s a core (median)", "by 10 profiles", "us each"]);
    let [one, one_explained, any, any_explained, few, few_explained] = rates.as_slice() else {
        return Err("six lanes".into());
    };
    for lane in &rates {
        let base = if lane.name.ends_with("explained") { few_explained } else { few };
        let each = format!("{:.2}", 1e6 / lane.median());
        section.row(&[lane.name.clone(), figure(lane.median()), ratio(lane.ratio(base)), each]);
    }
    section.at_least("choices/s a core among 1,000 profiles of one provider", 20_000.0, one.median());
    section.at_least(
        "choices/s a core among 1,000 profiles of one provider, explained",
        20_000.0,
        one_explained.median(),
    );
    section.at_least("choices/s a core among 1,000 profiles of any provider", 20_000.0, any.median());
    section.at_least(
        "choices/s a core among 1,000 profiles of any provider, explained",
        20_000.0,
        any_explained.median(),
    );
    Ok(section)
}

/// Reports of use, and what recording them adds.
pub fn reports(plan: &Plan) -> Result<Section, Fault> {
    let (_dir, ledger) = crowded(plan, CHOICES)?;
    let auth = ledger.auth();
    let ids: Vec<_> = (0..CHOICES).map(id).collect::<Result<_, _>>()?;
    let before = ledger.log().head()?.events;
    let (mut walls, mut processor, mut flushes) = (Vec::new(), 0.0, Vec::new());
    for _ in 0..plan.rounds {
        let (cpu, begun) = (machine::cpu_seconds(), Instant::now());
        for (number, id) in ids.iter().cycle().take(REPORTS).enumerate() {
            if number % 10 == 9 {
                auth.report_failure(id, FailureKind::RateLimit, None)?;
            } else {
                auth.report_success(id)?;
            }
        }
        let reported = begun.elapsed();
        auth.flush_usage()?;
        let wall = begun.elapsed();
        walls.push(wall.as_secs_f64() * 1e6 / REPORTS as f64);
        flushes.push(wall.saturating_sub(reported).as_secs_f64() * 1e3);
        processor += machine::cpu_seconds().zip(cpu).map_or(f64::NAN, |(after, before)| after - before);
    }
    let events = ledger.log().head()?.events - before;
    let processor = processor * 1e6 / (plan.rounds * REPORTS) as f64;
    let (wall, flush) = (median(walls), median(flushes));
    let note = format!(
        "{} rounds of {REPORTS} reports over 1,000 profiles, one in ten a failure, and then the recording of what waits; the \
         background records meanwhile. One thread reports; processor time is that of the whole process.",
        plan.rounds
    );
    let mut section = Section::new("Reports of use", note, &["", "median"]);
    section.row(&["a report with its recording, us of wall time".to_owned(), format!("{wall:.3}")]);
    section.row(&["a report with its recording, us of processor time".to_owned(), format!("{processor:.3}")]);
    section.row(&["recording what waits of 1,000 profiles, ms".to_owned(), format!("{flush:.2}")]);
    section.row(&["events in the log, a round".to_owned(), figure(events as f64 / plan.rounds as f64)]);
    section.at_most("a report with its recording, us of wall time", 5.0, wall);
    section.at_most("a report with its recording, us of processor time", 5.0, processor);
    Ok(section)
}

/// What a round of refreshes came to.
#[derive(Debug, Default)]
struct Tally {
    renewed: AtomicUsize,
    threads: AtomicUsize,
    events: AtomicU64,
}

/// Threads of this process.
fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Runs something and notes the most threads that were there meanwhile.
fn watched<T>(most: &AtomicUsize, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Itself it does not count.
                most.fetch_max(threads().saturating_sub(1), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    })
}

/// A ledger whose profiles all have a grant at the endpoint and no access token yet.
fn granted(plan: &Plan, endpoint: &Endpoint) -> Result<(tempfile::TempDir, Ledger), Fault> {
    let dir = tempfile::Builder::new().prefix("refreshes-").tempdir_in(&plan.dir)?;
    let ledger = homes::new(&dir.path().join("home"))?;
    let profile = |number: usize| {
        let credential = tokens(number, &endpoint.url())?;
        Ok((Profile { credential, enabled: true, ..mixed(number, ledger.auth().now())?.0 }, None))
    };
    fill(&ledger.auth(), (0..crowd(plan)).map(profile).collect::<Result<_, Fault>>()?)?;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<(), Fault> {
                    let vault = ledger.vault(Scope::global());
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= crowd(plan) {
                            return Ok(());
                        }
                        let name: SecretName = format!("auth-{number:04}-refresh").parse()?;
                        vault.put(&name, &SecretBytes::from(first_token(number).as_bytes()), PutOptions::new())?;
                    }
                })
            })
            .collect();
        handles.into_iter().try_for_each(|handle| handle.join().map_err(|_| "a writer panicked")?)
    })?;
    Ok((dir, ledger))
}

/// The same requests by reqwest alone, as many at once.
async fn bare(client: reqwest::Client, url: String, held: Arc<Vec<tokio::sync::Mutex<String>>>) -> Result<(), Fault> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, url, held, next) = (client.clone(), url.clone(), Arc::clone(&held), Arc::clone(&next));
        running.spawn(async move {
            while let Some(token) = held.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut token = token.lock().await;
                let form =
                    [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("client_id", "palyra-bench")];
                let answer = client.post(&url).form(&form).send().await?.error_for_status()?;
                let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await?)?;
                let fresh = answer.get("refresh_token").and_then(serde_json::Value::as_str).ok_or("no token")?;
                fresh.clone_into(&mut token);
            }
            Ok::<_, Fault>(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

/// Every due profile in one run, beside the requests alone and the durable batches alone.
pub fn refreshes(plan: &Plan) -> Result<Section, Fault> {
    let count = crowd(plan);
    let endpoint = Endpoint::start(2 * count)?;
    let (_dir, ledger) = granted(plan, &endpoint)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let client = TokenClient::new(&AuthSettings::default(), Arc::new(SystemClock))?;
    let refresher = Refresher::new(&ledger, client);
    let peer = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let held =
        Arc::new((count..2 * count).map(|grant| tokio::sync::Mutex::new(first_token(grant))).collect::<Vec<_>>());
    let (tally, vault) = (Tally::default(), ledger.vault(Scope::global()));
    let rounds = plan.rounds.min(5);
    let rates = race(
        &mut [
            Lane::new("refreshes of due profiles", |_| {
                // Not measured: made anew over the same secrets, and due at once.
                let auth = ledger.auth();
                let mut edits = Vec::with_capacity(2 * count);
                for (record, _) in auth.profiles(&AuthFilter::default())?.profiles {
                    edits.push(Edit::Delete(record.profile.id.clone()));
                    edits.push(Edit::Set(Box::new(record.profile), Some(auth.now().plus_millis(60_000))));
                }
                auth.apply(&Changes { rendered: None, edits })?;
                let before = ledger.log().head()?.events;
                let begun = Instant::now();
                let reports = watched(&tally.threads, || runtime.block_on(refresher.run_due()))?;
                let took = begun.elapsed();
                let renewed = reports.iter().filter(|report| report.is_renewed()).count();
                if renewed != count {
                    let other = reports.iter().find(|report| !report.is_renewed());
                    return Err(format!("{renewed} of {count} were renewed; {other:?}").into());
                }
                tally.renewed.fetch_add(renewed, Ordering::Relaxed);
                tally.events.fetch_add(ledger.log().head()?.events - before, Ordering::Relaxed);
                Ok(count as f64 / took.as_secs_f64())
            }),
            Lane::new("the requests alone, by bare reqwest", |_| {
                let begun = Instant::now();
                runtime.block_on(bare(peer.clone(), endpoint.url(), Arc::clone(&held)))?;
                Ok(count as f64 / begun.elapsed().as_secs_f64())
            }),
            Lane::new("two durable puts each, by 64 threads", |slice| {
                let puts = rate_of_many(slice, AT_ONCE, |thread| {
                    let name: SecretName = format!("durable-{thread}").parse()?;
                    vault.put(&name, &SecretBytes::from(&[7; 64][..]), PutOptions::new())?;
                    Ok(())
                })?;
                Ok(puts / 2.0)
            }),
        ],
        rounds,
        plan.slice,
    )?;
    let note = format!(
        "{count} profiles whose tokens are due, against an HTTP/1.1 endpoint on loopback in this process that rotates refresh \
         tokens, at most {AT_ONCE} at once. Each refresh is a durable event, a request, and a durable batch of three; its \
         peers are the same requests by reqwest with nothing recorded, and two puts in place of the two batches."
    );
    let title = "Refreshing every due profile in one run";
    let mut section = Section::new(title, note, &["", "a second (median)", "by bare reqwest", "range", "all, ms"]);
    let [_, alone, _] = rates.as_slice() else { return Err("three lanes".into()) };
    for lane in &rates {
        let (least, most) = lane.ratio_range(alone);
        section.row(&[
            lane.name.clone(),
            figure(lane.median()),
            ratio(lane.ratio(alone)),
            format!("{} to {}", ratio(least), ratio(most)),
            figure(count as f64 * 1e3 / lane.median()),
        ]);
    }
    let most = tally.threads.load(Ordering::Relaxed);
    let runs = rounds + 1;
    let blank = String::new;
    section.row(&["threads of the process, most".to_owned(), most.to_string(), blank(), blank(), blank()]);
    let events = tally.events.load(Ordering::Relaxed) / runs as u64;
    section.row(&["events in the log, a run".to_owned(), figure(events as f64), blank(), blank(), blank()]);
    let renewed = tally.renewed.load(Ordering::Relaxed) / runs;
    section.at_least(format!("renewed of {count} due profiles in one run"), count as f64, renewed as f64);
    section.at_most("threads of the process meanwhile, its endpoint included", 32.0, most as f64);
    section.at_most("refresh tokens sent twice", 0.0, endpoint.reused() as f64);
    Ok(section)
}

/// A state in memory.
#[derive(Debug, Default)]
struct Memory(BTreeMap<Vec<u8>, Vec<u8>>);

impl Memory {
    fn fold(&mut self, delta: Delta) {
        for (key, value) in delta {
            match value {
                Some(value) => self.0.insert(key.into(), value.into()),
                None => self.0.remove(&*key),
            };
        }
    }
}

impl StateRead for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        for (key, value) in self.0.range(from.to_vec()..) {
            if (!end.is_empty() && key.as_slice() >= end) || matches!(visit(key, value), ControlFlow::Break(())) {
                break;
            }
        }
        Ok(())
    }
}

/// Milliseconds of time and of processor time of something whose result is dropped outside them.
fn timed<T>(times: &mut (Vec<f64>, Vec<f64>), work: impl FnOnce() -> Result<T, Fault>) -> Result<(), Fault> {
    let (begun, before) = (Instant::now(), machine::thread_seconds());
    let done = work()?;
    let used = machine::thread_seconds().zip(before).map_or(f64::NAN, |(after, before)| after - before);
    times.0.push(begun.elapsed().as_secs_f64() * 1e3);
    times.1.push(used * 1e3);
    drop(done);
    Ok(())
}

/// The kernel counts a running thread's time at its ticks: single figures are coarse, their mean is not.
fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len() as f64
}

/// The two documents of two thousand profiles.
pub fn rendering(plan: &Plan) -> Result<Section, Fault> {
    let count = crowd(plan);
    let (_dir, ledger) = crowded(plan, count)?;
    let auth = ledger.auth();
    let now = auth.now();
    let mut memory = Memory::default();
    for number in 0..count {
        let (profile, expires_at) = mixed(number, now)?;
        let set = Event::ProfileSet(ProfileSet { profile, expires_at });
        let delta = auth::apply(&memory, now, &set)?;
        memory.fold(delta);
    }
    let replay = ledger.replay(ReplayPoint::Head)?;
    let whole = auth.documents()?.ok_or("the ledger changed meanwhile")?;
    if whole != replay.auth_documents(auth.refresh_window_ms())? {
        return Err("the live documents are not the replayed ones".into());
    }
    let Documents { profiles, runtime } = &whole;
    let tables: (toml::Table, toml::Table) = (toml::from_str(profiles)?, toml::from_str(runtime)?);
    let mut times: [(Vec<f64>, Vec<f64>); 4] = Default::default();
    let [live, replayed, alone, peer] = &mut times;
    for _ in 0..plan.rounds.max(5) * 4 {
        timed(live, || Ok(auth.documents()?))?;
        timed(replayed, || Ok(replay.auth_documents(auth.refresh_window_ms())?))?;
        timed(alone, || Ok(documents::render(&memory, 1, now, Hash([7; 32]), WINDOW_MS)?))?;
        timed(peer, || Ok([toml::to_string_pretty(&tables.0)?, toml::to_string_pretty(&tables.1)?]))?;
    }
    let note = format!(
        "{count} profiles, the two documents of {} and {} KiB. From the ledger: the state root over the whole state, every \
         record read and decoded, both documents written. The peer is the toml crate over the parsed documents, read by nobody.",
        profiles.len() / 1024,
        runtime.len() / 1024
    );
    let mut section = Section::new("Rendering the documents", note, &["", "ms (median)", "of processor time (mean)"]);
    let [live, replayed, alone, peer] = times.map(|(wall, processor)| (median(wall), mean(&processor)));
    for (what, took) in [
        ("from the live ledger", live),
        ("from a replayed one", replayed),
        ("from a map in memory, without the state root", alone),
        ("the toml crate alone", peer),
    ] {
        section.row(&[what.to_owned(), format!("{:.2}", took.0), format!("{:.2}", took.1)]);
    }
    section.at_most(format!("documents of {count} profiles from the live ledger, ms"), 20.0, live.0);
    section.at_most(format!("documents of {count} profiles from a map in memory, ms"), 20.0, alone.0);
    Ok(section)
}
