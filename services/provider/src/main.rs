//! The provider's process: reads its configuration, serves its socket, and stops in order.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use daemon::{Limits, Listener, Shutdown, Stage};
use provider::config::Config;
use provider::http;
use provider::provider::Provider;
use tokio_util::sync::CancellationToken;

/// How long all functions together may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let config = Config::parse();
    daemon::run("provider", |shutdown| run(config, shutdown))
}

async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    let (socket, stop_functions) = (config.run.join("api.sock"), config.stop_functions_at_exit);
    let stop = CancellationToken::new();
    let provider = Provider::open(config, stop.clone()).await?;
    let listener = Listener::unix(&socket, 0o660)?;
    let router = http::router(provider.clone(), shutdown.token());
    daemon::notify::ready("answering")?;
    daemon::serve(listener, router, Limits::default(), shutdown.token()).await?;
    let mut stages = Vec::new();
    if stop_functions {
        let stopping = async move { provider.stop_all().await };
        stages.push(Stage::new("functions", STOP_LIMIT, stopping));
    }
    let drained = daemon::drain(stages).await;
    // What still runs is ended, but not the functions.
    stop.cancel();
    Ok(drained?)
}
