//! The part of the tour about devices: a daemon on loopback, pairing, mutual TLS, a CA roll, a revocation.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::base::{DeviceName, SystemClock};
use crate::cli::exit::{ExitCode, Failure};
use crate::device::join::Waiting;
use crate::device::{Client, ClientError, DeviceFiles, JoinOptions, join_ledger};
use crate::engine::{Ledger, MintOptions, PutOptions};
use crate::event::identity::ClientKind;
use crate::serve::{Daemon, ServeOptions};

use super::{TOKEN_VALUE, Tour, bytes, name, scope};

/// Serves the ledger, pairs two devices, and takes one of them through its life.
pub fn devices(tour: &mut Tour<'_>, ledger: &Arc<Ledger>) -> Result<(), Failure> {
    let broken = |error: std::io::Error| Failure::new(ExitCode::Internal, format!("no runtime: {error}"), "");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(broken)?;
    runtime.block_on(async {
        tour.step("Start the daemon")?;
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let options = ServeOptions { devices: any, pairing: any, ..ServeOptions::default() };
        let daemon = Daemon::start(Arc::clone(ledger), options).await?;
        let at = |place: Option<SocketAddr>| place.map(|place| place.to_string()).unwrap_or_default();
        let (devices, pairing) = (at(daemon.listening().devices), at(daemon.listening().pairing));
        tour.say(&format!("devices at {devices} over mutual TLS 1.3, pairing at {pairing}"))?;
        let walked = walk(tour, ledger, &pairing).await;
        let cut = daemon.stop().await;
        walked?;
        tour.check("the daemon stops without cutting anything off", cut == 0)
    })
}

async fn walk(tour: &mut Tour<'_>, ledger: &Arc<Ledger>, pairing: &str) -> Result<(), Failure> {
    tour.step("Pair two devices")?;
    let mut first = pair(tour, ledger, pairing, "laptop").await?;
    let mut second = pair(tour, ledger, pairing, "builder").await?;
    tour.check("two devices are paired", ledger.identity().devices()?.len() == 2)?;

    tour.step("Talk over mutual TLS")?;
    let own = scope(&format!("principal:{}", first.note().device))?;
    ledger.vault(own).put(&name("deploy_key")?, &bytes(TOKEN_VALUE), PutOptions::new())?;
    let read = first.get("/v1/secrets/deploy_key").await?;
    tour.check("a device reads its own secret", read == TOKEN_VALUE.as_bytes())?;
    refused(tour, "the other device's question for that secret", second.get("/v1/secrets/deploy_key").await)?;
    let global = second.get("/v1/scopes/global/secrets/openai_api_key").await;
    refused(tour, "a question for a secret of the global scope", global)?;

    tour.step("Renew, and roll the CA under running devices")?;
    let before = first.due(crate::cli::time::now())?.0;
    let renewed = first.renew().await?;
    tour.check("a fresh key, a fresh certificate", renewed.not_after >= before)?;
    let identity = ledger.identity();
    let generation = identity.prepare_ca()?;
    first.renew().await?;
    second.renew().await?;
    tour.say(&format!("generation {generation} is prepared, and both devices have its root"))?;
    let (_, slots) = identity.activate_ca(false)?;
    tour.say(&format!("it issues; {slots} secret keys were re-wrapped under a key derived from it"))?;
    let (mut first, mut second) = (again(&first).await?, again(&second).await?);
    first.renew().await?;
    second.renew().await?;
    identity.taint_ca()?;
    identity.revoke_ca(false)?;
    let (first, second) = (again(&first).await?, again(&second).await?);
    let read = first.get("/v1/secrets/deploy_key").await?;
    tour.check("the old root is revoked, and the device still reads its secret", read == TOKEN_VALUE.as_bytes())?;

    tour.step("Revoke a device")?;
    identity.revoke(first.note().device)?;
    refused(tour, "its next request", first.get("/v1/health").await)?;
    refused(tour, "its new connection", again(&first).await?.get("/v1/health").await)?;
    tour.check("the other one is served as before", second.get("/v1/health").await.is_ok())
}

fn refused<T>(tour: &mut Tour<'_>, what: &str, tried: Result<T, ClientError>) -> Result<(), Failure> {
    match tried {
        Ok(_) => tour.check(&format!("{what} was NOT refused"), false),
        Err(error) => tour.check(&format!("{what} is refused: {error}"), true),
    }
}

/// A device's next connection, with the certificate and roots that it holds now.
async fn again(client: &Client) -> Result<Client, Failure> {
    Ok(Client::new(client.files().clone(), None, Arc::new(SystemClock)).await?)
}

/// What runs on two machines in earnest: the device proves the code, a person compares the digits.
async fn pair(tour: &mut Tour<'_>, ledger: &Arc<Ledger>, pairing: &str, called: &str) -> Result<Client, Failure> {
    let failed = |what: &str| Failure::new(ExitCode::Internal, what.to_owned(), "");
    let minting = ledger.identity().mint(&MintOptions::default())?;
    let files = DeviceFiles::new(tour.home.with_file_name(called));
    let options = JoinOptions {
        address: pairing.to_owned(),
        code: minting.code,
        kind: ClientKind::Node,
        name: DeviceName::new(called).map_err(|error| failed(&error.to_string()))?,
        ca: None,
        wait_ms: 60_000,
    };
    let (told, asked) = oneshot::channel();
    let joining = async {
        let mut told = Some(told);
        let mut tell = move |_, waiting: &Waiting| {
            let _ = told.take().map(|told| told.send((waiting.request, waiting.sas.clone())));
        };
        // The closure goes with this block: nobody waits for a device that broke off.
        join_ledger(&files, options, &mut tell).await
    };
    let approving = async {
        let Ok((request, digits)) = asked.await else { return Ok(None) };
        let (ledger, shown) = (Arc::clone(ledger), digits.clone());
        let approved = tokio::task::spawn_blocking(move || ledger.identity().approve(request, Some(&digits)));
        approved.await.map_err(|_| failed("the approval broke off"))??;
        Ok::<_, Failure>(Some(shown))
    };
    let (joined, approved) = tokio::join!(joining, approving);
    joined?;
    if let Some(digits) = approved? {
        tour.say(&format!("{called}: both sides show {digits}; approved"))?;
    }
    Ok(Client::new(files, None, Arc::new(SystemClock)).await?)
}
