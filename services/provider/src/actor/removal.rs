//! The end of a function: all that runs is stopped, and what it left goes to the trash.

use std::time::Duration;

use api::{Error, ErrorCode};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

use super::rollback::Intent;
use super::{Actor, Message, Reply};
use crate::machine::{Event, ReplicaId};
use crate::trash;

/// How long calls may go on while their function is removed.
const DRAIN: Duration = Duration::from_secs(5);
/// How long work that is being ended may take.
const END_LIMIT: Duration = Duration::from_secs(30);

impl Actor {
    /// Ends the task. What arrives meanwhile is about things that are being taken away.
    pub(super) async fn take_away(
        mut self,
        to_trash: bool,
        reply: Reply<()>,
        messages: mpsc::Receiver<Message>,
    ) {
        drop(messages);
        self.machine.apply(Event::Remove);
        let shared = self.shared.clone();
        let gone = format!("function `{}` was removed or stopped", self.name);
        shared.builds.end(&self.name, &Error::new(ErrorCode::FailedPrecondition, gone));
        let drains: Vec<_> = self.members.keys().map(|it| shared.routes.drain(it)).collect();
        shared.routes.set(&self.name, None);
        self.stop.cancel();
        self.tasks.close();
        if timeout(END_LIMIT, self.tasks.wait()).await.is_err() {
            warn!(function = %self.name, "work goes on while its function is removed");
        }
        futures::future::join_all(drains.into_iter().map(|it| it.wait(DRAIN))).await;
        let result = self.finish(to_trash).await;
        if let Err(error) = &result {
            warn!(function = %self.name, "not removed: {error}");
        }
        let _ = reply.send(result); // they may have gone away
    }

    async fn finish(&self, to_trash: bool) -> Result<(), Error> {
        let (shared, name) = (&self.shared, &self.name);
        // containerd knows also those that were half started.
        let doing = format!("stopping function `{name}`");
        let all = shared.replicas.list().await;
        let all = all.map_err(|error| crate::fault::containerd(&doing, error))?;
        let ours = all.into_iter().filter(|it| it.function == *name);
        let stopped = ours.map(|it| async move {
            let replica: ReplicaId = it.replica;
            shared.replicas.stop(&replica, it.address).await;
        });
        futures::future::join_all(stopped).await;
        for (replica, address) in &self.stopping {
            shared.replicas.remove(replica, *address).await;
        }
        if !to_trash {
            return Ok(());
        }
        let (shared, name) = (shared.clone(), name.clone());
        let id = crate::fault::blocking("moving a function to the trash", {
            let name = name.clone();
            move || trash::put(&shared.store, &shared.config.state, &name)
        })
        .await?;
        self.shared.replicas.logs.remove(&name);
        // Of a roll-back that the removal broke off.
        Intent::remove(&self.shared.config.state, &name);
        info!(function = %name, trash = id, "removed");
        self.shared.tell(api::event::Event::Removed { name });
        Ok(())
    }
}
