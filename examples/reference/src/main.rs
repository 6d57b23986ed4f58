#![doc = include_str!("../README.md")]

mod options;
mod app;
mod metrics;

mod routes;
mod sign_in;
mod live;
mod page;
mod errors;

mod control;
mod reports;
mod admin;
mod test_routes;
mod gates;
mod clock;
mod cluster;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::serve::ListenerExt;
use futures_util::FutureExt;
use steadfast::store::{Env, Store};
use steadfast::{Connect, SessionLayer};
use steadfast_core::conformance::faults::FaultyStore;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::app::App;
use crate::clock::OffsetClock;
use crate::control::Control;
use crate::options::{Options, Profile};

#[tokio::main]
async fn main() -> ExitCode {
    log_to_stderr();
    let ended = match Options::parse(arguments(), variable) {
        Ok(Some(options)) => run(options).await,
        Ok(None) => {
            announce(&options::usage());
            Ok(())
        }
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reference: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal ends it, then drains.
async fn run(options: Options) -> anyhow::Result<()> {
    let stop = stopped()?;
    let clock = OffsetClock::default();
    let metrics = metrics::collect()?;
    let (store, faults) = open(&options, &clock).await?;
    let app = Arc::new(App::new(&options, store, metrics));
    let mounts = app::mounts(&options, &app)?;
    let layers: Vec<_> = mounts.iter().map(|mount| mount.layer.clone()).collect();

    let listener = TcpListener::bind(&options.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", options.listen))?;
    let mut lines = format!("listening on http://{}", listener.local_addr()?);
    if let (Some(address), Some(faults)) = (&options.control, faults) {
        let control = Control { faults, clock, layers: layers.clone() };
        let router = control::router(Arc::clone(&app), control, Arc::clone(&mounts[0]));
        let bound = serve_control(address, router).await?;
        lines += &format!("\ncontrol on http://{bound}");
    }
    if options.profile == Profile::Host {
        eprintln!("{HINT}");
    }
    announce(&lines);

    let router = app::router(&app, &mounts, options.control.is_some());
    let closing = layers.clone();
    let stop = async move {
        stop.await;
        // Streams end by themselves now, or the server would wait for them.
        closing.iter().for_each(SessionLayer::close);
    };
    serve(listener, router, stop.shared(), options.shutdown).await?;
    for layer in &layers {
        layer.join().await;
    }
    app.drain().await.context("not every session is safe")?;
    Ok(())
}

/// The store; with a control port, it has injectable faults and a movable clock.
async fn open(
    options: &Options,
    clock: &OffsetClock,
) -> anyhow::Result<(Arc<dyn Store>, Option<FaultyStore>)> {
    let connect = Connect::new(&options.store).node(options.node.clone());
    if options.control.is_none() {
        return Ok((connect.open().await?, None));
    }
    let store = connect.env(Env::with_clock(clock.clone())).open().await?;
    let faults = FaultyStore::new(store);
    Ok((Arc::new(faults.clone()), Some(faults)))
}

/// Serves until the signal, and then for as long as responses under way may take.
async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Clone + Send + 'static,
    shutdown: Duration,
) -> anyhow::Result<()> {
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY; small responses may be delayed");
        }
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone());
    let patience = async {
        stop.await;
        tokio::time::sleep(shutdown).await;
    };
    tokio::select! {
        served = server => served?,
        () = patience => tracing::warn!("cut off requests that were still in progress"),
    }
    Ok(())
}

/// Serves the control port until the end of the process.
async fn serve_control(address: &str, router: Router) -> anyhow::Result<SocketAddr> {
    let cannot = || format!("cannot listen for control on {address}");
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host(address).await.with_context(cannot)?.collect();
    let is_loopback = addresses.iter().all(|address| address.ip().is_loopback());
    ensure!(is_loopback, "the control port {address} is not on loopback");
    let listener = TcpListener::bind(&*addresses).await.with_context(cannot)?;
    let bound = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(bound)
}

/// Resolves at SIGTERM or Ctrl-C.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned())
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// A closed standard output must not end the server.
fn announce(lines: &str) {
    let _ = writeln!(std::io::stdout(), "{lines}");
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

const HINT: &str = "hint: over plain http, browsers keep the session cookie on localhost only; \
    elsewhere put https in front, or use --profile dev";
