//! Gives back what was kept for long enough: the trash, and images that nothing names any more.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::{Provider, Shared};
use crate::{fault, trash};

const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// Runs until it is dropped.
pub(super) async fn watch(provider: Provider) {
    let shared = &provider.shared;
    let mut tick = tokio::time::interval(TIDY_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => tidy_trash(shared).await,
            () = shared.replicas.images.sweep_wanted() => {}
        }
        // While containerd is away there is nothing to sweep; a sweep is asked for when it is back.
        if !*provider.engine.borrow() {
            continue;
        }
        let replicas = &shared.replicas;
        if let Err(error) = replicas.images.sweep(&replicas.client, &shared.store).await {
            warn!("images that nothing needs are left for now: {error:#}");
        }
    }
}

async fn tidy_trash(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    let tidy = move || {
        let config = &shared.config;
        trash::tidy(&shared.store, &config.state, config.trash_kept())
    };
    if let Err(error) = fault::blocking("tidying the trash", tidy).await {
        warn!("the trash was not tidied: {error}");
    }
}
