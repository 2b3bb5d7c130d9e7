//! Commits and their builds as the task sees them.

use std::sync::Arc;

use api::build::BuildEvent;
use api::revision::Revision;
use api::{Error, ErrorCode};
use time::OffsetDateTime;
use tracing::{info, warn};

use super::{Actor, Ask, Message, Reply};
use crate::builds::Build;
use crate::commit;
use crate::git::Author;
use crate::machine::Event;

/// Name and address of commits that are made here; whose they are is not known.
const AUTHOR: (&str, &str) = ("Inplace", "owner@inplace.invalid");

/// Who makes a commit now.
pub(super) fn author() -> Author {
    let (name, email) = AUTHOR;
    Author { name: name.to_owned(), email: email.to_owned(), time: OffsetDateTime::now_utc() }
}

impl Actor {
    /// Commits the folder; if nothing has changed, the newest commit that has no revision yet.
    pub(super) fn commit(&self, message: String, reply: Reply<Arc<Build>>) {
        if let Err(error) = self.machine.may_commit() {
            let _ = reply.send(Err(error)); // they may have gone away
            return;
        }
        let (source, shared) = (Arc::clone(&self.source), Arc::clone(&self.shared));
        let name = self.name.clone();
        self.work(async move {
            let work = move || -> Result<(String, String), Error> {
                let opened = source.open()?;
                let commit = match opened.git.commit(&message, &author())? {
                    Some(commit) => Some(commit),
                    None => opened.git.head()?,
                };
                let Some(head) = commit else { return Err(nothing_to_commit(None)) };
                let commit = head.to_string();
                let known = shared.store.revisions(&name)?;
                match known.iter().find(|it| it.commit == commit) {
                    // Git's own words: none were given, or it is a commit of before.
                    None => Ok((commit, opened.git.message(head)?)),
                    same => Err(nothing_to_commit(same)),
                }
            };
            Some(match crate::fault::blocking("committing a folder", work).await {
                Ok((commit, message)) => {
                    Message::Ask(Ask::Build { commit, message, reply: Some(reply) })
                }
                Err(error) => {
                    let _ = reply.send(Err(error)); // they may have gone away
                    return None;
                }
            })
        });
    }

    /// A branch moved: a commit made by any other git is built like one of ours.
    pub(super) fn branch_moved(&self) {
        let (source, shared) = (Arc::clone(&self.source), Arc::clone(&self.shared));
        let name = self.name.clone();
        self.work(async move {
            let work = move || -> Result<Option<(String, String)>, Error> {
                let opened = source.open()?;
                let Some(head) = opened.git.head()? else { return Ok(None) };
                let commit = head.to_string();
                let known = shared.store.revisions(&name)?.iter().any(|it| it.commit == commit);
                // One that failed is not tried again by itself.
                if known || shared.builds.of(&name, &commit).is_some() {
                    return Ok(None);
                }
                Ok(Some((commit, opened.git.message(head)?)))
            };
            match crate::fault::blocking("reading a branch", work).await {
                Ok(news) => {
                    let (commit, message) = news?;
                    Some(Message::Ask(Ask::Build { commit, message, reply: None }))
                }
                Err(error) => {
                    warn!("a branch was not read: {error}");
                    None
                }
            }
        });
    }

    pub(super) fn want_build(
        &mut self,
        commit: &str,
        message: &str,
        reply: Option<Reply<Arc<Build>>>,
    ) {
        let builds = &self.shared.builds;
        let running = builds.of(&self.name, commit).filter(|build| !build.is_over());
        let fresh = running.is_none();
        let build = match running.or_else(|| builds.open(&self.name, commit, message)) {
            Some(build) => Ok(build),
            None => Err(queue_is_full()),
        };
        let opened = build.is_ok();
        if let Some(reply) = reply {
            let _ = reply.send(build); // they may have gone away
        }
        if fresh && opened {
            self.apply(Event::BuildWanted { commit: commit.to_owned() });
        }
    }

    pub(super) fn build(&self, commit: &str) {
        let Some(build) = self.shared.builds.of(&self.name, commit) else { return };
        let shared = Arc::clone(&self.shared);
        let (record, source) = (self.record.clone(), Arc::clone(&self.source));
        // A roll-back does not begin during a build, but a build may during a roll-back.
        let used = self.rollback.as_ref().map(|it| it.number());
        info!(function = %self.name, commit, build = build.started.build, "build begins");
        self.task(async move {
            let result = commit::build(&shared, &record, &source, &build, used).await;
            // Of revisions that made room for it, or of one that broke off behind its image.
            shared.replicas.images.want_sweep();
            Some(Message::Built { build, result })
        });
    }

    pub(super) fn refuse_build(&self, commit: &str) {
        if let Some(build) = self.shared.builds.of(&self.name, commit) {
            build.tell(BuildEvent::Failed(queue_is_full()));
        }
    }

    pub(super) fn built(&mut self, build: &Build, result: Result<Revision, Error>) {
        let (function, commit) = (&self.name, &build.started.commit);
        match result {
            Ok(revision) => {
                let (number, image) = (revision.number, revision.image.clone());
                info!(%function, commit, revision = number, %image, "committed");
                self.record.revision = number;
                self.record.image.clone_from(&image);
                let name = self.name.clone();
                self.apply(Event::Built { image });
                self.check_dirty();
                let event = revision.clone();
                self.publish();
                self.shared.tell(api::event::Event::Committed { name, revision: event });
                build.tell(BuildEvent::Done(revision));
            }
            Err(error) => {
                info!(%function, commit, %error, "build failed");
                self.apply(Event::BuildFailed);
                build.tell(BuildEvent::Failed(error));
            }
        }
    }
}

fn nothing_to_commit(same: Option<&Revision>) -> Error {
    let why = same.map_or("the folder is empty".to_owned(), |revision| {
        format!("nothing has changed since revision {}", revision.number)
    });
    Error::new(ErrorCode::FailedPrecondition, format!("there is nothing to commit: {why}"))
        .hint("save a change first")
}

fn queue_is_full() -> Error {
    Error::new(ErrorCode::ResourceExhausted, "too many builds wait already")
        .hint("the commit is in git; commit again when some are done")
}
