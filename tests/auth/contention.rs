//! One refresh a profile at a time, across threads and processes, and over the death of either.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use palyra_ledger::auth::RefreshResult;
use palyra_ledger::oauth::{TokenClient, exchange, settle};
use palyra_ledger::{Config, Error, Ledger, ProfileId, SystemClock};

use super::oidc::Oidc;
use super::{Home, wait};

const CHILD: &str = "PALYRA_TEST_REFRESH_HOME";
const WANTED: &str = "PALYRA_TEST_REFRESHES";
const THREADS: usize = 8;

fn open(home: &Path) -> Ledger {
    Ledger::open(Config::new(home).lock_wait(Duration::from_mins(1))).unwrap()
}

fn ids(home: &Path) -> Vec<ProfileId> {
    let ledger = open(home);
    let page = ledger.auth().profiles(&palyra_ledger::AuthFilter::default()).unwrap();
    ledger.close().unwrap();
    page.profiles.into_iter().map(|(record, _)| record.profile.id).collect()
}

fn child(home: &Path, wanted: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "contention::child_that_refreshes", "--nocapture", "--test-threads=1"])
        .env(CHILD, home)
        .env(WANTED, wanted.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Not a test by itself: what the children of the tests below do. In each round eight threads ask for the same
/// profiles; what they were given is sent with the ledger let go, and recorded after it was opened again.
#[test]
fn child_that_refreshes() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let (home, wanted) = (Path::new(&home), std::env::var(WANTED).unwrap().parse::<u64>().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let settings = palyra_ledger::Settings::default().auth;
    let client = TokenClient::new(&settings, Arc::new(SystemClock)).unwrap();
    let ids = ids(home);
    let mut done = 0;
    while done < wanted {
        let ledger = open(home);
        let tickets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let (auth, id) = (ledger.auth(), &ids[number % ids.len()]);
                    scope.spawn(move || match auth.begin_refresh(id, true) {
                        Ok(ticket) => Some(ticket),
                        Err(Error::Auth(palyra_ledger::auth::AuthError::Busy { .. })) => None,
                        Err(error) => panic!("{error}"),
                    })
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        ledger.close().unwrap();
        drop(ledger);
        if tickets.is_empty() {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        let answers = runtime.block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for ticket in tickets {
                let client = client.clone();
                running.spawn(async move {
                    let answer = exchange(&client, &ticket).await;
                    (ticket, answer)
                });
            }
            running.join_all().await
        });
        let ledger = open(home);
        std::thread::scope(|scope| {
            for (ticket, answer) in answers {
                let auth = ledger.auth();
                scope.spawn(move || match settle(&auth, &ticket.started, answer).unwrap() {
                    RefreshResult::Renewed { rotated, .. } => assert!(rotated),
                    other => panic!("{other:?}"),
                });
                done += 1;
            }
        });
        ledger.close().unwrap();
    }
}

#[test]
fn five_hundred_refreshes_by_threads_and_processes_spend_no_token_twice() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    for id in ["one", "two", "three"] {
        provider.profile(&home, id);
    }
    let mut children: Vec<_> = (0..2).map(|_| child(&home.path(), 250)).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let (refreshed, reused, revoked) = provider.stats();
    assert!(
        refreshed >= 500 && (reused, revoked) == (0, 0),
        "{refreshed} refreshed, {reused} reused, {revoked} revoked"
    );
    let shown: u64 =
        ["one", "two", "three"].iter().map(|id| home.show(id)["refresh_generation"].as_u64().unwrap()).sum();
    assert_eq!(shown, refreshed, "every refresh is in the log, and none is there twice");
    // Every grant lives.
    for id in ["one", "two", "three"] {
        home.ok(&["auth", "refresh", "--profile", id, "--force"]);
        assert_eq!(home.show(id)["health"], "healthy");
    }
    home.ok(&["log", "verify", "--state"]);
}

#[test]
fn eight_clients_of_one_daemon_spend_no_token_twice() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    provider.profile(&home, "main");
    let mut daemon = home.command(&super::SERVE).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let socket = home.path().join("serve.sock");
    assert!(wait(|| socket.exists()));
    let outcomes: Vec<i32> = std::thread::scope(|scope| {
        let home = &home;
        let client = move || {
            let words = ["auth", "refresh", "--profile", "main", "--force"];
            (0..8).map(|_| home.command(&words).output().unwrap().status.code().unwrap()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(client)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // 19: somebody else refreshes it at this moment.
    assert!(outcomes.iter().all(|code| [0, 19].contains(code)), "{outcomes:?}");
    let renewed = outcomes.iter().filter(|code| **code == 0).count() as u64;
    let (refreshed, reused, revoked) = provider.stats();
    assert!(
        renewed > 0 && refreshed >= renewed && (reused, revoked) == (0, 0),
        "{renewed} {refreshed} {reused} {revoked}"
    );
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    home.ok(&["auth", "refresh", "--profile", "main", "--force"]);
    home.ok(&["log", "verify", "--state"]);
}

fn random(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    u64::from_le_bytes(bytes) % bound
}

/// Kills the program at random points of the pipeline. The grant lives afterwards, or the profile says that an
/// answer was lost, and that a person must log in.
#[test]
fn after_a_kill_the_grant_lives_or_the_profile_says_why_not() {
    let Some(provider) = Oidc::start() else { return };
    let rounds: u32 = std::env::var("PALYRA_REFRESH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(40) / 8;
    let home = Home::new();
    home.settings("[auth]\nrefresh_lease_s = 2\n");
    let ids: Vec<String> = (0..8).map(|number| format!("p{number}")).collect();
    for id in &ids {
        provider.profile(&home, id);
    }
    provider.delay(50);
    let generation = |id: &str| home.show(id)["refresh_generation"].as_u64().unwrap();
    let (mut whole, mut doubted, mut lost) = (0, 0, 0);
    for _ in 0..rounds {
        let before: Vec<u64> = ids.iter().map(|id| generation(id)).collect();
        std::thread::scope(|scope| {
            for id in &ids {
                scope.spawn(|| kill_refresh(&home, id));
            }
        });
        home.ok(&["log", "verify", "--state"]);
        let mut in_doubt = Vec::new();
        for (id, before) in ids.iter().zip(before) {
            let shown = home.show(id);
            if shown["refresh_generation"] == before {
                continue;
            }
            if shown["refreshing_until_ms"].is_null() {
                // It was recorded before the kill: token, rotated token, end and health together.
                assert_eq!((&shown["health"], &shown["token"]), (&"healthy".into(), &"valid".into()));
                whole += 1;
            } else {
                in_doubt.push(id);
            }
        }
        if let Some(id) = in_doubt.last() {
            // Whoever comes before the lease is over is told so, and the provider is not asked.
            let asked = provider.stats();
            assert!(home.run(&["auth", "refresh", "--profile", id, "--force"], 19).1.contains("is being refreshed"));
            assert_eq!(provider.stats(), asked);
        }
        for id in in_doubt {
            assert!(wait(|| home.show(id)["in_doubt"] == true), "the doubt is visible");
            doubted += 1;
            lost += u64::from(!recovers(&provider, &home, id));
        }
    }
    let (_, reused, _) = provider.stats();
    assert!(reused <= lost, "{reused} tokens were used twice, and {lost} profiles said so");
    assert!(whole + doubted > 0, "no kill met a refresh");
    provider.delay(0);
    for id in &ids {
        home.ok(&["auth", "refresh", "--profile", id, "--force"]);
    }
    home.ok(&["log", "verify", "--state"]);
}

fn kill_refresh(home: &Home, id: &str) {
    let words = ["auth", "refresh", "--profile", id, "--force"];
    let mut killed = home.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros((3_000 + random(3_000)) << random(8)));
    killed.kill().unwrap();
    killed.wait().unwrap();
}

/// Tries a refresh in doubt once more. True where the grant lives; otherwise the profile must say why not, and
/// nobody tries again before a person has logged in.
fn recovers(provider: &Oidc, home: &Home, id: &str) -> bool {
    let output = home.command(&["auth", "refresh", "--profile", id]).output().unwrap();
    match output.status.code() {
        Some(0) => {
            assert_eq!(home.show(id)["in_doubt"], false);
            true
        }
        Some(20) => {
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("an earlier answer was lost") && said.contains("auth login"), "{said}");
            let shown = home.show(id);
            assert_eq!(shown["health"], "failed");
            assert!(shown["next"].as_str().unwrap().contains("auth login"));
            let asked = provider.stats();
            home.run(&["auth", "refresh", "--profile", id], 20);
            assert_eq!(provider.stats(), asked, "nobody asks again by himself");
            home.set_secret(&format!("global/auth/{id}/refresh_token"), &provider.mint());
            home.ok(&["auth", "profiles", "clear", id]);
            false
        }
        other => panic!("{other:?} {}", String::from_utf8_lossy(&output.stderr)),
    }
}
