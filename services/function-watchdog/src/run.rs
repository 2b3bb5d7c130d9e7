//! From the checked configuration to the end: start, serve, stop in order.

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config, Mode};
use crate::fork::Fork;
use crate::live;
use crate::logs::Logs;
use crate::process::Processes;
use crate::proxy::{Proxy, Router};
use crate::server::{Function, Server, listen};
use crate::worker::{Code, Worker};

/// How long processes may take to end when the watchdog does.
const END_TIME: Duration = Duration::from_secs(5);

/// What the command line asks for. Flags are Go's: one dash or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// Serve until SIGTERM.
    Serve,
    /// Print the version.
    Version,
    /// Look for the lock file, for an exec probe.
    Healthcheck,
}

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        match arguments.next().as_deref().map(|flag| flag.trim_start_matches('-')) {
            None => Ok(Self::Serve),
            Some("version") => Ok(Self::Version),
            Some("run-healthcheck") => Ok(Self::Healthcheck),
            Some(other) => {
                bail!("unknown flag {other:?}: there are --version and --run-healthcheck")
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "the flag asks for it")]
pub(crate) fn print_version() {
    println!("{}", env!("CARGO_PKG_VERSION"));
}

/// Whether the lock file is there.
#[expect(clippy::print_stderr, reason = "an exec probe shows it")]
pub(crate) fn healthcheck() -> ExitCode {
    let lock = config::lock_path(std::env::var("TMPDIR").ok().as_deref());
    if lock.exists() {
        return ExitCode::SUCCESS;
    }
    eprintln!("there is no lock file {}", lock.display());
    ExitCode::FAILURE
}

/// Runs the watchdog. It fails when the function's only process has ended.
pub(crate) async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let logs = Logs::start().context("starting the log")?;
    let outcome = watch(Arc::new(config), &logs).await;
    if let Err(error) = &outcome {
        logs.say(format_args!("Error: {error:#}"));
    }
    logs.flush().await;
    Ok(outcome.unwrap_or(ExitCode::FAILURE))
}

async fn watch(config: Arc<Config>, logs: &Logs) -> anyhow::Result<ExitCode> {
    let processes = Processes::start()?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    greet(&config, logs);
    let listener = listen(config.port)?;
    let port = listener.local_addr().context("reading the port")?.port();
    logs.say(format_args!("Listening on port: {port}"));

    let (calls, connections) = (Arc::new(AtomicUsize::new(0)), TaskTracker::new());
    let parts = (&config, logs, &processes);
    let (function, lost) = begin(parts, &calls, &connections)?;
    let server = Arc::new(Server::new(Arc::clone(&config), function, logs.clone(), calls));
    let stop = CancellationToken::new();
    let accepting = Arc::clone(&server).serve(listener, stop.clone(), connections.clone());
    let accepting = tokio::spawn(accepting);
    server.mark_healthy()?;

    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        why = lost => Err(anyhow::Error::msg(why)),
    };
    server.mark_unhealthy();
    if outcome.is_ok() {
        drain(&config, &server, logs, stop, connections).await;
    }
    accepting.abort();
    let killed = processes.end_all(END_TIME).await;
    if killed > 0 {
        logs.say(format_args!("{killed} processes did not end in time and were killed"));
    }
    outcome
}

/// Goes on for whoever has not seen yet that the health is gone, then takes no new connection
/// and lets the calls end, within a limit.
async fn drain(
    config: &Config,
    server: &Server,
    logs: &Logs,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    // Our provider takes a replica out of the route table before it stops it: nobody comes.
    let default = if config.live.is_some() { Duration::ZERO } else { config.write_timeout };
    let wait = config.healthcheck_interval.unwrap_or(default);
    logs.say(format_args!("SIGTERM: no new connections in {wait:?}"));
    tokio::time::sleep(wait).await;
    logs.say(format_args!("No new connections allowed, draining: {} requests", server.calls()));
    stop.cancel();
    connections.close();
    let _ = tokio::time::timeout(config.write_timeout, connections.wait()).await;
    logs.say(format_args!("Exiting. Active connections: {}", connections.len()));
}

/// Why the watchdog cannot go on.
type Lost = Pin<Box<dyn Future<Output = String>>>;

/// Brings up whatever answers calls.
fn begin(
    (config, logs, processes): (&Arc<Config>, &Logs, &Processes),
    calls: &Arc<AtomicUsize>,
    connections: &TaskTracker,
) -> anyhow::Result<(Function, Lost)> {
    let Mode::Http(upstream) = &config.mode else {
        let fork = Fork::new(Arc::clone(config), logs.clone(), processes.clone());
        return Ok((Function::Fork(fork), Box::pin(std::future::pending())));
    };
    let router = Arc::new(Router::default());
    let lost: Lost = match &config.live {
        Some(folders) => {
            let switch = live::start(live::Parts {
                config: Arc::clone(config),
                upstream: upstream.clone(),
                folders: folders.clone(),
                processes: processes.clone(),
                router: Arc::clone(&router),
                logs: logs.clone(),
                calls: Arc::clone(calls),
            })?;
            Box::pin(async move {
                switch.await;
                "the live switch has ended".to_owned()
            })
        }
        None => {
            let (worker, ending, _) =
                Worker::start(config, processes, logs, Code::Fixed(upstream))?;
            router.set(Some(Arc::clone(&worker.upstream)));
            Box::pin(
                async move { format!("the function's process has ended: {}", ending.wait().await) },
            )
        }
    };
    let proxy = Proxy::new(Arc::clone(config), router, logs.clone(), connections.clone());
    Ok((Function::Http(proxy), lost))
}

fn greet(config: &Config, logs: &Logs) {
    logs.say(format_args!("Version: {}", env!("CARGO_PKG_VERSION")));
    for note in &config.notes {
        logs.say(format_args!("Warning: {note}"));
    }
    let mode = match config.mode {
        Mode::Classic => "classic",
        Mode::Serializing => "serializing",
        Mode::Streaming => "streaming",
        Mode::Http(_) => "http",
    };
    let process = config.process.join(" ");
    logs.say(format_args!("Watchdog mode: {mode}\tfprocess: {process:?}"));
    logs.say(format_args!(
        "Timeouts: read: {:?} write: {:?} hard: {:?}",
        config.read_timeout, config.write_timeout, config.exec_timeout
    ));
    match (&config.live, &config.mode) {
        (Some(live), Mode::Http(_)) => {
            logs.say(format_args!("Live switch: {}", live.run_dir.display()));
        }
        (Some(_), _) => logs.say(format_args!("Live switch: off, it needs mode=http")),
        (None, _) => {}
    }
}
