//! Replicas as the task sees them: started, taken over, stopped, ended.

use std::sync::Arc;
use std::time::Duration;

use api::{Error, ErrorCode};
use time::OffsetDateTime;
use tracing::{info, warn};

use super::{Actor, Member, Message};
use crate::machine::{Event, ReplicaId, Start};
use crate::replica::{FoundReplica, Launch, Running};

impl Actor {
    pub(super) fn engine_back(&mut self, found: Vec<FoundReplica>) {
        self.found = found.into_iter().map(|it| (it.replica.clone(), it)).collect();
        let mut ids: Vec<ReplicaId> = self.found.keys().cloned().collect();
        ids.sort();
        self.apply(Event::EngineBack { found: ids });
    }

    pub(super) fn start(&self, start: Start) {
        let Start { replica, image, version, spare } = start;
        let config = &self.shared.config;
        let launch = Launch {
            replica,
            function: self.name.clone(),
            image,
            source: self.record.source.clone(),
            env: self.record.env.clone(),
            version,
            spare: if spare { config.spare() } else { Duration::ZERO },
        };
        let replicas = Arc::clone(&self.shared.replicas);
        self.task(async move {
            let result = replicas.start(&launch).await;
            Some(came_up(launch.replica, version, result))
        });
    }

    pub(super) fn attach(&self, replica: ReplicaId) {
        let (found, good) = (self.found.get(&replica).cloned(), self.versions.newest());
        let (Some(found), Some(version)) = (found, self.record.good.or(good)) else {
            return;
        };
        let replicas = Arc::clone(&self.shared.replicas);
        self.task(async move {
            let result = replicas.adopt(&found, version).await;
            if let Err(error) = &result {
                warn!(function = %found.function, %replica, "a replica is replaced: {error}");
                replicas.stop(&replica, found.address).await;
            }
            Some(came_up(replica, version, result))
        });
    }

    pub(super) fn up(&mut self, replica: ReplicaId, version: u64, running: Running) {
        let Running { address, control, exit, since, log } = running;
        self.members.insert(replica.clone(), Member { address, control, since, log });
        self.measure(version).answering = Some(OffsetDateTime::now_utc());
        let name = replica.clone();
        self.task(async move {
            let status = exit.await.ok().map(|it| it.status);
            Some(Message::Exited { replica: name, status })
        });
        self.apply(Event::Up { replica, version });
    }

    pub(super) fn exited(&mut self, replica: ReplicaId, status: Option<u32>) {
        // One that was stopped is not a member any more.
        let Some(member) = self.members.remove(&replica) else { return };
        let ran = member.since.elapsed();
        let error = self.shared.replicas.ended(&self.name, status, member.log);
        info!(function = %self.name, %replica, ?status, ran_s = ran.as_secs(), "replica ended");
        self.clear(replica.clone(), *member.address.ip(), None);
        self.apply(Event::Exited { replica, error, ran });
    }

    pub(super) fn stop(&mut self, replica: ReplicaId) {
        let found = self.found.remove(&replica).map(|it| it.address);
        let address = self.members.remove(&replica).map(|it| *it.address.ip()).or(found);
        // One that is still being started has no address yet: it is stopped when it is up.
        let Some(address) = address else {
            self.drains.remove(&replica);
            return;
        };
        self.clear(replica, address, Some(self.shared.config.drain_limit()));
    }

    /// Removes a replica, after its calls when it has some.
    fn clear(&mut self, replica: ReplicaId, address: std::net::Ipv4Addr, drain: Option<Duration>) {
        let drained = self.drains.remove(&replica);
        if self.stopping.insert(replica.clone(), address).is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.task(async move {
            if let Some(limit) = drain {
                if let Some(drained) = drained {
                    drained.wait(limit).await;
                }
                shared.replicas.stop(&replica, address).await;
            } else {
                shared.replicas.remove(&replica, address).await;
            }
            Some(Message::Stopped { replica })
        });
    }
}

fn came_up(replica: ReplicaId, version: u64, result: Result<Running, Error>) -> Message {
    match result {
        Ok(running) => Message::Up { replica, version, running: Box::new(running) },
        Err(error) => {
            if error.code != ErrorCode::StartFailed {
                warn!(%replica, "a replica was not started: {error}");
            }
            Message::Event(Event::NotUp { replica, error })
        }
    }
}
