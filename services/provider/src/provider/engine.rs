//! Watches containerd: when it is lost, when it is back, and what runs then.

use std::collections::HashSet;
use std::time::Duration;

use api::{Error, ErrorCode};
use containerd::events::Event;
use tracing::{error, info, warn};

use super::Provider;
use crate::actor::{Message, View};
use crate::replica::FoundReplica;

/// How often containerd is asked whether it is there; its events say nothing of its absence.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long a request waits for containerd: longer than a restart of it takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

impl Provider {
    /// Whether containerd answers, as far as is known.
    #[must_use]
    pub fn is_engine_up(&self) -> bool {
        *self.engine.borrow()
    }

    /// Waits, within a limit, until containerd answers.
    pub(super) async fn engine_answers(&self) -> Result<(), Error> {
        let mut engine = self.engine.subscribe();
        match tokio::time::timeout(ANSWER_LIMIT, engine.wait_for(|up| *up)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::new(ErrorCode::Unavailable, "containerd does not answer")
                .hint("it is started again by itself; try again in a moment")),
        }
    }
}

/// Runs until it is dropped.
pub(super) async fn watch(provider: Provider) {
    let mut events = provider.shared.replicas.client.events(&["^/tasks/"]);
    let mut tick = tokio::time::interval(ASK_EVERY);
    let mut first = true;
    loop {
        tokio::select! {
            event = events.next() => if event == Event::Connected {
                match provider.shared.replicas.list().await {
                    Ok(found) => {
                        back(&provider, found, first).await;
                        first = false;
                    }
                    // It is gone again; the next connection comes here again.
                    Err(error) => warn!("containerd's replicas were not listed: {error:#}"),
                }
            },
            _ = tick.tick() => ask(&provider).await,
        }
    }
}

async fn ask(provider: &Provider) {
    if *provider.engine.borrow()
        && let Err(error) = provider.shared.replicas.client.version().await
    {
        lost(provider, &error).await;
    }
}

async fn lost(provider: &Provider, cause: &containerd::Error) {
    error!("containerd does not answer; functions that run go on: {cause:#}");
    provider.engine.send_replace(false);
    for handle in provider.list() {
        handle.send(Message::Engine(None)).await;
    }
}

async fn back(provider: &Provider, found: Vec<FoundReplica>, first: bool) {
    info!(replicas = found.len(), "containerd answers");
    for replica in &found {
        provider.shared.replicas.network.reserve(replica.address);
    }
    if first {
        remove_strays(provider, &found);
    }
    // From here on new functions are told by whoever makes them.
    provider.engine.send_replace(true);
    provider.shared.replicas.images.want_sweep();
    let handles = provider.list();
    let mut waiting = Vec::new();
    for handle in &handles {
        let name = handle.view().function.name;
        let ours = found.iter().filter(|it| it.runs && it.function == name).cloned();
        handle.send(Message::Engine(Some(ours.collect()))).await;
        if found.iter().any(|it| it.runs && it.function == name) {
            waiting.push(handle.views());
        }
    }
    if first {
        // The gateway's own table is the better one until all that ran is in ours.
        let adopted = waiting.iter_mut().map(|views| async move {
            let settled =
                |view: &View| view.function.live.is_some() || view.function.last_error.is_some();
            // Its task may have ended, which is an answer too.
            let _ = views.wait_for(settled).await.map(drop);
        });
        let limit = provider.shared.config.ready_limit();
        if tokio::time::timeout(limit, futures::future::join_all(adopted)).await.is_err() {
            warn!("not all replicas were taken over in time");
        }
        provider.shared.routes.set_complete();
    }
}

/// Removes what a crash left: replicas that do not run or whose function is gone, files of replicas
/// that containerd does not know, and logs of functions that are gone.
fn remove_strays(provider: &Provider, found: &[FoundReplica]) {
    let names: HashSet<_> = provider.list().iter().map(|it| it.view().function.name).collect();
    let known = found.iter().map(|it| it.replica.clone()).collect();
    if let Err(error) = provider.shared.replicas.remove_strays(&known) {
        warn!("what earlier replicas left was not removed: {error:#}");
    }
    if let Err(error) = provider.shared.replicas.logs.remove_strays(&names) {
        warn!("logs of functions that are gone were not removed: {error}");
    }
    for stray in found.iter().filter(|it| !it.runs || !names.contains(&it.function)).cloned() {
        info!(function = %stray.function, replica = %stray.replica, "a stray replica is removed");
        let replicas = provider.shared.replicas.clone();
        tokio::spawn(async move { replicas.remove(&stray.replica, stray.address).await });
    }
}
