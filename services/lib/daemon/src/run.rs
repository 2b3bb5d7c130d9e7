//! The edge of a daemon: the log, the runtime, the signals, the exit code.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{error, info, warn};

use crate::{Shutdown, log};

/// How long threads that block in a system call may keep a finished process alive.
const LAST_THREADS: Duration = Duration::from_secs(2);

/// Runs `main` on a multi-threaded runtime until it returns, or until a second signal.
///
/// `main` gets the [`Shutdown`] that SIGTERM and SIGINT begin. Its error is printed once, with the
/// whole chain. The exit code is 0 when `main` returned `Ok`, else 1.
pub fn run<M, F>(name: &str, main: M) -> ExitCode
where
    M: FnOnce(Shutdown) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    match started(name, main) {
        Ok(code) => code,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn started<M, F>(name: &str, main: M) -> anyhow::Result<ExitCode>
where
    M: FnOnce(Shutdown) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    if let Err(error) = log::init(name) {
        fallback(name, &error);
        return Ok(ExitCode::FAILURE);
    }
    if let Err(error) = raise_files() {
        warn!("keeping the limit of open files: {error}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let code = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().context("listening for signals")?;
        tokio::select! {
            ended = main(shutdown.clone()) => {
                ended?;
                info!("stopped");
                Ok(ExitCode::SUCCESS)
            }
            () = shutdown.forced() => {
                warn!("stopped at once by a second signal");
                Ok(ExitCode::FAILURE)
            }
        }
    });
    runtime.shutdown_timeout(LAST_THREADS);
    code
}

/// Every connection is an open file: takes as many as the system lets us.
fn raise_files() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

/// There is no log yet to write to.
#[expect(clippy::print_stderr, reason = "the log could not be set up")]
fn fallback(name: &str, error: &anyhow::Error) {
    eprintln!("{name}: {error:#}");
}
