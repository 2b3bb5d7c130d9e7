//! The way back to a revision as the task sees it: the folder, and the answer to whoever asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::revision::{Revision, RolledBack};
use api::{Error, ErrorCode, FunctionName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::{info, warn};

use super::builds::author;
use super::{Actor, Message, Reply};
use crate::fault;
use crate::git::CommitId;
use crate::machine::Event;
use crate::source::Source;
use crate::store::FunctionRecord;

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

impl Running {
    /// The revision that it goes to.
    pub(super) fn number(&self) -> u64 {
        self.revision.number
    }
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
        let (state, newest) = (self.shared.config.state.clone(), self.newest);
        let store = Arc::clone(&self.shared.store);
        let restore = move || {
            // From now on it is kept; a commit may have taken its place since it was looked up.
            store.revision(&name, number)?;
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
            if let Some(before) = before {
                Intent { before: before.to_string(), newest }.write(&state, &name)?;
            }
            if let Err(error) = git.restore(&opened.folder, commit) {
                if let Some(before) = before
                    && let Err(error) = git.restore(&opened.folder, before)
                {
                    warn!(function = %name, number, "the folder was not put back: {error}");
                }
                Intent::remove(&state, &name);
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
        Intent::remove(&self.shared.config.state, &self.name);
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

/// What a roll-back leaves on the disk while it changes the folder: after a crash the folder is put
/// back, unless the outcome was stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    /// The commit that the folder was like.
    before: String,
    /// The newest version of before. The outcome is stored together with a newer good one; this one
    /// may still become good meanwhile, and that says nothing.
    newest: Option<u64>,
}

impl Intent {
    fn path(state: &Path, name: &FunctionName) -> PathBuf {
        state.join("provider").join(format!("{name}.rollback"))
    }

    fn write(&self, state: &Path, name: &FunctionName) -> Result<(), Error> {
        let text = serde_json::to_vec(self).expect("it is plain data");
        daemon::file::replace(&Self::path(state, name), 0o600, &text)
            .map_err(|error| fault::internal("beginning a roll-back", &error.into()))
    }

    pub(super) fn remove(state: &Path, name: &FunctionName) {
        match fs_err::remove_file(Self::path(state, name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!(function = %name, "what a roll-back began with is left: {error}");
            }
            _ => {}
        }
    }
}

/// Puts a folder back whose roll-back was interrupted. Called before anything runs.
///
/// # Errors
/// When it cannot be put back; what was in it is in git.
pub(crate) fn undo_interrupted(state: &Path, record: &FunctionRecord) -> Result<(), Error> {
    let name = &record.name;
    let text = match fs_err::read(Intent::path(state, name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|error| fault::internal("reading a roll-back", &error.into()))?,
    };
    let intent: Intent = serde_json::from_slice(&text)
        .map_err(|error| fault::internal("reading a roll-back", &error.into()))?;
    if record.good <= intent.newest {
        let opened = Source::new(state, name).open_or_create()?;
        opened.git.restore(&opened.folder, intent.before.parse()?)?;
        info!(function = %name, "a roll-back was interrupted: the folder is as it was before");
    }
    Intent::remove(state, name);
    Ok(())
}

/// Says whose code it was that did not start.
fn refused(number: u64, error: Error) -> Error {
    if error.code != ErrorCode::StartFailed {
        return error;
    }
    let message = format!("revision {number} does not start: {}", error.message);
    Error { message, ..error }.hint("source and image are as they were before")
}
