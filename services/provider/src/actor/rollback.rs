//! The way back to a revision as the task sees it: the folder, and the answer to whoever asked.

use std::sync::Arc;

use api::revision::{Revision, RolledBack};
use api::{Error, ErrorCode};
use time::OffsetDateTime;
use tracing::{info, warn};

use super::builds::author;
use super::{Actor, Message, Reply};
use crate::git::CommitId;
use crate::machine::Event;

/// A roll-back that is under way.
#[derive(Debug)]
pub(super) struct Running {
    revision: Revision,
    reply: Reply<RolledBack>,
    /// Git reference of what was not committed.
    kept: Option<String>,
    /// The commit that the folder was like.
    before: Option<String>,
}

impl Actor {
    pub(super) fn roll_back(&mut self, revision: Revision, reply: Reply<RolledBack>) {
        if let Err(error) = self.machine.may_roll_back() {
            let _ = reply.send(Err(error)); // they may have gone away
            return;
        }
        let (number, image) = (revision.number, revision.image.clone());
        info!(function = %self.name, revision = number, %image, "roll-back begins");
        self.rollback = Some(Running { revision, reply, kept: None, before: None });
        self.apply(Event::RollBack { revision: number, image });
    }

    /// Keeps what is not committed, and puts the revision's files into the folder.
    pub(super) fn restore(&self, number: u64) {
        let Some(rollback) = &self.rollback else { return };
        let commit = rollback.revision.commit.clone();
        let (source, name) = (Arc::clone(&self.source), self.name.clone());
        let restore = move || {
            let commit: CommitId = commit.parse()?;
            let opened = source.open_or_create()?;
            let git = &opened.git;
            // The reference's number only has to be a new one.
            let seconds = OffsetDateTime::now_utc().unix_timestamp().unsigned_abs();
            let kept = git.keep_uncommitted(seconds, &author())?;
            let before = match &kept {
                Some((_, commit)) => Some(*commit),
                None => git.head()?,
            };
            if let Err(error) = git.restore(&opened.folder, commit) {
                if let Some(before) = before
                    && let Err(error) = git.restore(&opened.folder, before)
                {
                    warn!(function = %name, number, "the folder was not put back: {error}");
                }
                return Err(error.into());
            }
            let kept = kept.map(|(reference, _)| reference);
            Ok(Message::Restored { kept, before: before.map(|it| it.to_string()) })
        };
        self.disk("restoring a folder", restore, |error| Event::RestoreFailed { error });
    }

    pub(super) fn restored(&mut self, kept: Option<String>, before: Option<String>) {
        if let Some(rollback) = &mut self.rollback {
            (rollback.kept, rollback.before) = (kept, before);
        }
        self.apply(Event::Restored);
    }

    /// Puts back what was in the folder before.
    pub(super) fn undo(&self) {
        let before = self.rollback.as_ref().and_then(|it| it.before.clone());
        let (source, name) = (Arc::clone(&self.source), self.name.clone());
        let undo = move || -> Result<Message, Error> {
            if let Some(before) = before {
                let opened = source.open()?;
                opened.git.restore(&opened.folder, before.parse()?)?;
            }
            Ok(Message::Event(Event::Undone))
        };
        self.disk("putting a folder back", undo, move |error| {
            warn!(function = %name, "a folder was not put back after a roll-back: {error}");
            Event::Undone
        });
    }

    pub(super) fn rolled_back(&mut self, result: Result<(), Error>) {
        let Some(Running { revision, reply, kept, .. }) = self.rollback.take() else { return };
        let number = revision.number;
        let answer = match result {
            Ok(()) => {
                info!(function = %self.name, revision = number, ?kept, "rolled back");
                Ok(RolledBack { revision, kept })
            }
            Err(error) => {
                info!(function = %self.name, revision = number, %error, "not rolled back");
                Err(refused(number, error))
            }
        };
        self.publish();
        let _ = reply.send(answer); // they may have gone away
    }
}

/// Says whose code it was that did not start.
fn refused(number: u64, error: Error) -> Error {
    if error.code != ErrorCode::StartFailed {
        return error;
    }
    let message = format!("revision {number} does not start: {}", error.message);
    Error { message, ..error }.hint("source and image are as they were before")
}
