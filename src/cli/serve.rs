//! `serve`: the daemon as a process.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::{Args, ValueEnum};
use sd_notify::NotifyState;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::engine::Ledger;
use crate::oauth::TokenClient;
use crate::pki::ServerName;
use crate::serve::{Attend, Daemon, ServeError, ServeOptions};

use super::exit::{ExitCode, Failure};
use super::invocation::{Access, Invocation};
use super::remote::{Attendance, SOCKET, attend};

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where paired devices are served; `off` for nowhere. By default as in config.toml: 127.0.0.1:7343
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where pairing is offered; `off` for nowhere. By default as in config.toml: 127.0.0.1:7344
    #[arg(long, value_name = "ADDR:PORT")]
    pairing_listen: Option<String>,
    /// Where metrics are given to everybody who can connect. By default as in config.toml: off
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<String>,
    /// DNS name or address in the daemon's certificate; may be given again
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// How messages on the error output look; what is said is set by `PALYRA_LEDGER_LOG`
    #[arg(long, value_enum, default_value = "text")]
    log: LogFormat,
}

/// How messages look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object on a line.
    Json,
}

fn address(flag: &str, given: Option<&str>, setting: &str) -> Result<Option<SocketAddr>, Failure> {
    let text = given.unwrap_or(setting);
    if text == "off" {
        return Ok(None);
    }
    let bad = |_| Failure::usage(format!("{flag}: {text:?} is no address and port"), "give for example 0.0.0.0:7343");
    text.parse().map(Some).map_err(bad)
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Ledger(error) => error.into(),
            ServeError::Tls(error) => Self::new(ExitCode::Internal, error.to_string(), "report it"),
            ServeError::Listen { .. } => {
                Self::new(ExitCode::Io, error.to_string(), "choose another address, or end what listens there")
            }
        }
    }
}

fn messages(format: LogFormat) {
    let filter = EnvFilter::try_from_env("PALYRA_LEDGER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A message that cannot be written is lost; saying so on the same descriptor would end the thread.
    let builder = builder.log_internal_errors(false);
    // A second subscriber in one process is a test's; the first one stays.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// As many descriptors as the system allows: connections are bounded by the daemon itself.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Keys and values stay in this process until its end: they belong into no core file, whatever the shell or the
/// service manager allows, and no other process of this user may look for them. Root may.
fn keep_to_itself() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Runs `serve`.
pub fn run(invocation: &Invocation, args: &ServeArgs) -> Result<(), Failure> {
    keep_to_itself();
    messages(args.log);
    raise_descriptors();
    let ledger = Arc::new(invocation.open(Access::Write)?);
    let settings = ledger.status()?.settings.serve;
    let names = if args.names.is_empty() { &settings.names } else { &args.names };
    let names = names.iter().map(|name| name.parse::<ServerName>()).collect::<Result<Vec<_>, _>>();
    let home = invocation.home()?;
    let daemon: Arc<OnceLock<Daemon>> = Arc::default();
    let options = ServeOptions {
        devices: address("--listen", args.listen.as_deref(), &settings.listen)?,
        pairing: address("--pairing-listen", args.pairing_listen.as_deref(), &settings.pairing_listen)?,
        metrics: address("--metrics-listen", args.metrics_listen.as_deref(), &settings.metrics_listen)?,
        socket: Some(home.join(SOCKET)),
        names: names.map_err(|error| Failure::usage(error.to_string(), "give DNS names and addresses with --name"))?,
        tokens: tokens(invocation, &ledger)?,
        attend: Some(attendant(&ledger, &home, &daemon)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(ExitCode::Internal, format!("cannot start: {error}"), "run the command again"))?;
    let done = runtime.block_on(serve(invocation, Arc::clone(&ledger), options, &daemon));
    // A client that still types holds a thread; it gets none of the daemon's time.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if ledger.alive().is_ok() {
        invocation.close(&ledger);
        return done;
    }
    // Storage that failed may hang as well: the process ends all the same, and the next opening mends the rest.
    let closing = Arc::clone(&ledger);
    let (closed, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = closed.send(closing.close().is_ok());
    });
    let _ = end.recv_timeout(Duration::from_secs(3));
    std::mem::forget(ledger);
    done
}

/// With what tokens are refreshed. A machine without root certificates serves all the same, and says so.
fn tokens(invocation: &Invocation, ledger: &Ledger) -> Result<Option<TokenClient>, Failure> {
    let settings = ledger.status()?.settings.auth;
    match TokenClient::new(&settings, ledger.identity().clock()) {
        Ok(client) => Ok(Some(client)),
        Err(fault) => {
            invocation.out.warn(&format!("no token is refreshed: {fault}"));
            Ok(None)
        }
    }
}

fn attendant(ledger: &Arc<Ledger>, home: &std::path::Path, daemon: &Arc<OnceLock<Daemon>>) -> Attend {
    let (ledger, home, daemon) = (Arc::clone(ledger), home.to_owned(), Arc::clone(daemon));
    Arc::new(move |stream, peer| {
        let daemon = Arc::clone(&daemon);
        let pairing = daemon.get().and_then(|daemon| daemon.listening().pairing);
        let renew = Arc::new(move || match daemon.get() {
            Some(daemon) => daemon.renew_blocking(),
            None => Err("the daemon starts only now".to_owned()),
        });
        let (ledger, home) = (Arc::clone(&ledger), home.clone());
        attend(stream, Attendance { ledger, home, uid: peer.uid, pid: peer.pid, renew, pairing });
    })
}

async fn serve(
    invocation: &Invocation,
    ledger: Arc<Ledger>,
    options: ServeOptions,
    held: &Arc<OnceLock<Daemon>>,
) -> Result<(), Failure> {
    let no_signals = |error| Failure::new(ExitCode::Internal, format!("cannot wait for signals: {error}"), "");
    let mut end = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut reload = signal(SignalKind::hangup()).map_err(no_signals)?;
    let started = Daemon::start(ledger, options).await?;
    let daemon = held.get_or_init(|| started);
    announce(invocation, daemon)?;
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let watchdog = sd_notify::watchdog_enabled().map_or(Duration::from_hours(1), |every| every / 2);
    let mut watchdog = tokio::time::interval(watchdog.max(Duration::from_millis(100)));
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
            _ = reload.recv() => {
                // Addresses are bound for life; what is taken anew is the certificate.
                if let Ok(since) = NotifyState::monotonic_usec_now() {
                    let _ = sd_notify::notify(&[NotifyState::Reloading, since]);
                }
                // What failed is in the messages; the old certificate is good for hours.
                let _ = daemon.renew().await;
                let _ = sd_notify::notify(&[NotifyState::Ready]);
            }
            // Whoever holds a ledger that takes no writes is not well, whatever else still turns.
            _ = watchdog.tick(), if daemon.alive().is_ok() => {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
            () = daemon.ended() => break,
        }
    }
    let alive = daemon.alive();
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let cut = daemon.stop().await;
    tracing::info!(cut, "stopped");
    Ok(alive?)
}

/// Says where it listens: the ports may be the system's choice.
fn announce(invocation: &Invocation, daemon: &Daemon) -> Result<(), Failure> {
    let listening = daemon.listening();
    let out = &invocation.out;
    if out.is_json() {
        out.json(&json!({"listening": listening}))?;
    } else {
        let places = [("devices", listening.devices), ("pairing", listening.pairing), ("metrics", listening.metrics)];
        for (name, at) in places {
            if let Some(at) = at {
                out.line(&format!("{name:<9}{at}"))?;
            }
        }
        if let Some(path) = &listening.socket {
            out.line(&format!("{:<9}{}", "socket", path.display()))?;
        }
    }
    out.flush()
}
