//! From a save to a version that answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::switch::millis;
use api::{Error, ErrorCode};
use tracing::{debug, info, warn};

use super::{Actor, Message};
use crate::machine::{Event, ReplicaId};
use crate::replica::Outcome;
use crate::versions::Outcome as MakeOutcome;

/// How long a `git` that works in the folder is waited for, before a version is made of what is
/// there: it would be half a checkout.
const GIT_PATIENCE: Duration = Duration::from_secs(10);

/// So many of the newest versions stay in any case: that one of them answers calls may not be known
/// yet when a newer one was refused.
const RECENT: usize = 8;

impl Actor {
    pub(super) fn make(&mut self) {
        self.making = self.saved.take();
        let (source, versions) = (Arc::clone(&self.source), Arc::clone(&self.versions));
        let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
        // Versions count upwards in the order in which they are made.
        let newest = self.newest;
        let number = self.next_version.take().filter(|&number| Some(number) > newest);
        let make = move || {
            let opened = source.open()?;
            if opened.git.is_locked()
                && let Err(error) = opened.git.wait_unlocked(GIT_PATIENCE)
            {
                warn!(function = %name, "a version is made beside a git that works: {error}");
            }
            let begin = Instant::now();
            let number = match number {
                Some(number) => number,
                None => shared.store.next_version(&name)?,
            };
            let outcome = versions.make(&opened.folder, number)?;
            let took = begin.elapsed();
            Ok(match outcome {
                MakeOutcome::Same(version) => Message::Made { version, took, unused: Some(number) },
                MakeOutcome::Made(made) => {
                    let (version, changed) = (made.id, made.changed);
                    debug!(function = %name, version, changed, bytes = made.bytes, "version made");
                    if !made.skipped.is_empty() {
                        warn!(function = %name, skipped = ?made.skipped, "no plain files: left out");
                    }
                    Message::Made { version, took, unused: None }
                }
            })
        };
        self.disk("making a version", make, |error| Event::MakeFailed { error });
    }

    pub(super) fn made(&mut self, version: u64, took: Duration, unused: Option<u64>) {
        let saved = self.making.take();
        if unused.is_none() {
            let measure = self.measure(version);
            measure.saved = saved;
            measure.parts.version_ms = millis(took);
        }
        self.newest = self.newest.max(Some(version));
        self.next_version = unused;
        self.apply(Event::Made { version });
        if unused.is_some() {
            self.check_dirty();
        }
    }

    pub(super) fn sync(&self, version: u64) {
        let versions = Arc::clone(&self.versions);
        let sync = move || {
            let begin = Instant::now();
            versions.sync(version)?;
            Ok(Message::Synced { version, took: begin.elapsed() })
        };
        self.disk("bringing a version to the disk", sync, move |error| Event::SyncFailed {
            version,
            error,
        });
    }

    pub(super) fn switch(&self, replica: ReplicaId, version: u64) {
        let Some(member) = self.members.get(&replica) else { return };
        let control = member.control.clone();
        let config = &self.shared.config;
        let (ready, spare) = (config.ready_limit(), config.spare());
        self.task(async move {
            Some(match control.switch(version, ready, spare).await {
                Ok(Outcome::Switched(times)) => Message::Switched { replica, version, times },
                Ok(Outcome::Refused(reason, lines)) => {
                    let error = Error::new(ErrorCode::StartFailed, reason).lines(lines);
                    Message::Event(Event::Refused { replica, version, error })
                }
                Ok(Outcome::Superseded) => return None,
                Err(error) => {
                    warn!(%replica, version, "no usable answer to a switch: {error}");
                    let message = format!("version {version} was not switched to: {error}");
                    let error = Error::new(ErrorCode::StartFailed, message);
                    Message::Event(Event::SwitchBroken { replica, version, error })
                }
            })
        });
    }

    /// Stores which version every start uses; after a roll-back with its revision and image.
    pub(super) fn record(&self, version: u64, rollback: Option<(u64, String)>) {
        let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
        let write = move || {
            shared.store.update::<Error>(&name, |record| {
                record.good = Some(version);
                record.newest = Some(version);
                if let Some((revision, image)) = rollback {
                    (record.revision, record.image) = (revision, image);
                }
                Ok(())
            })
        };
        self.work(async move {
            Some(Message::Event(
                match crate::fault::blocking("storing a good version", write).await {
                    Ok(record) => {
                        return Some(Message::Recorded { version, record: Box::new(record) });
                    }
                    Err(error) => Event::RecordFailed { error },
                },
            ))
        });
    }

    pub(super) fn tell_live(&mut self, version: u64) {
        let measure = self.measure(version);
        measure.took = measure.saved.map(|saved| saved.elapsed()).unwrap_or_default();
        let (took_ms, parts) = (millis(measure.took), measure.parts);
        info!(function = %self.name, version, took_ms, ?parts, "live");
        let name = self.name.clone();
        self.publish();
        self.shared.tell(api::event::Event::Live { name, version, took_ms });
        // Now that nobody waits for the disk any more.
        self.check_dirty();
    }

    pub(super) fn tell_refused(&mut self, version: u64, error: Error) {
        info!(function = %self.name, version, %error, "refused");
        self.publish();
        self.shared.tell(api::event::Event::Refused { name: self.name.clone(), version, error });
        self.check_dirty();
    }

    pub(super) fn prune(&mut self) {
        let mut keep: BTreeSet<u64> = self.machine.versions_in_use().into_iter().collect();
        keep.extend(self.measures.keys().rev().take(RECENT));
        self.measures.retain(|version, _| keep.contains(version));
        let (versions, name) = (Arc::clone(&self.versions), self.name.clone());
        let (shared, number) = (Arc::clone(&self.shared), self.next_version.is_none());
        self.work(async move {
            let done = crate::fault::blocking("removing old versions", move || {
                versions.prune(&keep)?;
                versions.prepare()?;
                let next = if number { Some(shared.store.next_version(&name)?) } else { None };
                Ok::<_, Error>(next)
            });
            Some(Message::NextVersion(done.await.ok()??))
        });
    }

    pub(super) fn drop_spare(&self, replica: &ReplicaId) {
        let Some(member) = self.members.get(replica) else { return };
        let (control, replica) = (member.control.clone(), replica.clone());
        self.task(async move {
            if let Err(error) = control.drop_spare().await {
                debug!(%replica, "the spare was not given up: {error}");
            }
            None
        });
    }
}
