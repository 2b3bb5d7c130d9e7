//! Signals, and an ordered stop with a limit for every stage.

use std::fmt;
use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Says when to stop: begun by the first SIGTERM or SIGINT, forced by the second.
///
/// Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    begun: CancellationToken,
    forced: CancellationToken,
}

impl Shutdown {
    /// One that no signal reaches; for a part of a process, and for tests.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that SIGTERM and SIGINT begin, and a second of either forces.
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::new();
        let told = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                info!(signal, "asked to stop");
                if told.begun.is_cancelled() {
                    return told.forced.cancel();
                }
                told.begin();
            }
        });
        Ok(shutdown)
    }

    /// The token that is cancelled when the stop begins; to hand to parts and child tokens.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.begun.clone()
    }

    /// Begins the stop, as the first signal does.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Waits until the stop has begun.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Waits until nobody is willing to wait any longer.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }
}

/// One step of an ordered stop: a name for the log, how long it may take, and its work.
pub struct Stage {
    name: &'static str,
    limit: Duration,
    work: BoxFuture<'static, anyhow::Result<()>>,
}

impl Stage {
    /// A step that may take `limit`.
    pub fn new(
        name: &'static str,
        limit: Duration,
        work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> Self {
        Self { name, limit, work: Box::pin(work) }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("name", &self.name).field("limit", &self.limit).finish()
    }
}

/// Runs every stage in order, each to its end or its limit, whatever became of those before.
///
/// # Errors
/// All that went wrong, by stage, once the last has ended.
pub async fn drain(stages: impl IntoIterator<Item = Stage>) -> Result<(), DrainError> {
    let mut failed = Vec::new();
    for Stage { name, limit, work } in stages {
        let start = Instant::now();
        let error = match timeout(limit, work).await {
            Ok(Ok(())) => {
                info!(stage = name, took_ms = ms(start.elapsed()), "drained");
                continue;
            }
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("not done within {limit:?}"),
        };
        error!(stage = name, took_ms = ms(start.elapsed()), "not drained: {error:#}");
        failed.push((name, error));
    }
    if failed.is_empty() { Ok(()) } else { Err(DrainError { failed }) }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Stages of a stop that failed or did not end in time, each with its error.
#[derive(Debug, thiserror::Error)]
#[error("stopped in disorder: {}", list(.failed))]
pub struct DrainError {
    /// Name and error, in the order of the stages.
    pub failed: Vec<(&'static str, anyhow::Error)>,
}

fn list(failed: &[(&'static str, anyhow::Error)]) -> String {
    let parts: Vec<String> = failed.iter().map(|(name, it)| format!("{name}: {it:#}")).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use anyhow::anyhow;

    use super::*;

    #[tokio::test]
    async fn a_drain_runs_every_stage_in_order_and_tells_all_errors() {
        let ran = Arc::new(Mutex::new(Vec::new()));
        let stage = |name: &'static str, result: anyhow::Result<()>| {
            let ran = Arc::clone(&ran);
            Stage::new(name, Duration::from_secs(60), async move {
                ran.lock().unwrap().push(name);
                result
            })
        };
        let hangs = Stage::new("calls", Duration::from_millis(1), std::future::pending());
        let error = drain([
            stage("doors", Err(anyhow!("port in use").context("closing"))),
            hangs,
            stage("state", Ok(())),
        ])
        .await
        .unwrap_err();
        assert_eq!(*ran.lock().unwrap(), ["doors", "state"]);
        assert_eq!(
            error.to_string(),
            "stopped in disorder: doors: closing: port in use; calls: not done within 1ms"
        );
    }

    #[tokio::test]
    async fn the_first_signal_begins_the_stop_and_the_second_forces_it() {
        let shutdown = Shutdown::on_signals().unwrap();
        let kill = || {
            let pid = std::process::id().to_string();
            std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        };
        assert!(!shutdown.token().is_cancelled());
        kill();
        shutdown.begun().await;
        assert!(!shutdown.forced.is_cancelled());
        kill();
        shutdown.forced().await;
    }
}
