//! The state machine of one function, without I/O: `apply(event)` gives the actions to carry out.
//!
//! What must hold whatever the order of events: a version answers calls only after it became ready;
//! every start uses the *good* version, which was on the disk before it was called good; a newer
//! save supersedes an older one that still starts; a roll-back changes source and image together
//! or not at all; the loss of containerd stops nothing.

use std::collections::{BTreeSet, VecDeque};

use api::function::State;
use api::{Error, ErrorCode};

mod back_off;
mod replicas;
mod rollback;
mod settle;
#[cfg(test)]
mod tests;
mod words;

use back_off::BackOff;
use rollback::Rollback;
pub use words::{Action, Event, ReplicaId, Start};

/// So many commits of one function may wait for their build.
const BUILDS: usize = 8;

/// Where one function stands.
#[derive(Debug)]
pub struct Machine {
    /// Replica ids begin with it, so that no two are ever the same.
    seed: u64,
    started: u64,
    /// What every start uses.
    image: String,
    good: Option<u64>,
    /// containerd answers, and its replicas of before are known.
    engine: bool,
    /// Why the folder cannot be used; it matters more than any other error.
    folder: Option<Error>,
    /// The folder may differ from the newest version.
    stale: bool,
    making: bool,
    /// The newest attempt at a version failed.
    unmade: bool,
    trial: Option<Trial>,
    refused: Option<u64>,
    /// Versions whose files are on the disk for sure.
    synced: BTreeSet<u64>,
    syncing: BTreeSet<u64>,
    /// The newest attempt at bringing a version to the disk failed.
    unsynced: bool,
    recording: Option<u64>,
    /// The store refused; it is asked again after a while.
    blocked: bool,
    serving: Option<Serving>,
    next: Option<Next>,
    back_off: BackOff,
    waiting: bool,
    rollback: Option<Rollback>,
    /// Commits to build; the first one is being built.
    builds: VecDeque<String>,
    removing: bool,
    error: Option<Error>,
}

/// The newest version while it is not known whether it is good.
#[derive(Debug)]
struct Trial {
    version: u64,
    sent: bool,
    /// A replica gave no usable answer to it.
    broke: bool,
}

/// The replica that takes calls.
#[derive(Debug)]
struct Serving {
    replica: ReplicaId,
    version: u64,
}

/// A replica that was asked for and does not answer yet.
#[derive(Debug)]
struct Next {
    replica: ReplicaId,
    version: Option<u64>,
    /// It takes the place of the one that serves, for a roll-back.
    replaces: bool,
}

impl Machine {
    /// A function that is not started: `image` and `good` as the store has them (`good` is none
    /// while it is being created). `seed` must differ for each machine that ever was.
    #[must_use]
    pub fn new(seed: u64, image: String, good: Option<u64>) -> Self {
        Self {
            seed,
            started: 0,
            image,
            good,
            engine: false,
            folder: None,
            stale: true,
            making: false,
            unmade: false,
            trial: None,
            refused: None,
            synced: good.into_iter().collect(),
            syncing: BTreeSet::new(),
            unsynced: false,
            recording: None,
            blocked: false,
            serving: None,
            next: None,
            back_off: BackOff::default(),
            waiting: false,
            rollback: None,
            builds: VecDeque::new(),
            removing: false,
            error: None,
        }
    }

    /// Where it stands, in the API's words.
    #[must_use]
    pub fn state(&self) -> State {
        match (&self.serving, self.error()) {
            (Some(_), None) => State::Ready,
            (Some(_), Some(_)) => State::Degraded,
            (None, Some(_)) if self.good.is_none() || self.back_off.failing() => State::Failed,
            (None, _) => State::Starting,
        }
    }

    /// What went wrong last, while it still matters.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.folder.as_ref().or(self.error.as_ref())
    }

    /// The replica that takes calls, and its version.
    #[must_use]
    pub fn serving(&self) -> Option<(&ReplicaId, u64)> {
        self.serving.as_ref().map(|s| (&s.replica, s.version))
    }

    /// Whether a roll-back may begin now.
    ///
    /// # Errors
    /// While another one or a build is under way: both end with the function's image.
    pub fn may_roll_back(&self) -> Result<(), Error> {
        self.may_commit()?;
        if let Some(commit) = self.builds.front() {
            return Err(busy(&format!("commit {commit:.12} is being built")));
        }
        if self.good.is_none() {
            return Err(busy("the function is being created"));
        }
        Ok(())
    }

    /// Whether the folder may be committed now.
    ///
    /// # Errors
    /// While a roll-back changes it.
    pub fn may_commit(&self) -> Result<(), Error> {
        match &self.rollback {
            Some(it) => Err(busy(&format!("a roll-back to revision {} is under way", it.revision))),
            None => Ok(()),
        }
    }

    /// The image that the next start uses.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Versions that must stay on the disk.
    #[must_use]
    pub fn versions_in_use(&self) -> Vec<u64> {
        let mut used: Vec<u64> = [
            self.good,
            self.trial.as_ref().map(|t| t.version),
            self.refused,
            self.recording,
            self.serving.as_ref().map(|s| s.version),
            self.next.as_ref().and_then(|n| n.version),
        ]
        .into_iter()
        .flatten()
        .collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Takes in what happened and says what to do about it, in order.
    pub fn apply(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        if self.removing {
            return out; // what still arrives is about things that are being taken away
        }
        self.note(event, &mut out);
        if !self.removing {
            self.settle(&mut out);
        }
        out
    }

    fn note(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::EngineLost => self.engine = false,
            Event::EngineBack { found } => self.engine_back(found, out),
            Event::Saved => self.stale = true,
            Event::FolderLost { error } => self.folder = Some(error),
            Event::FolderBack => {
                self.folder = None;
                self.stale = true;
                self.heal();
            }
            Event::Made { version } => self.made(version, out),
            Event::MakeFailed { error } => {
                self.making = false;
                match &mut self.rollback {
                    Some(rollback) if rollback.making() => rollback.fail(error, out),
                    _ if self.folder.is_none() => {
                        self.unmade = true;
                        self.error = Some(error);
                    }
                    _ => {}
                }
            }
            Event::Synced { version } => {
                self.syncing.remove(&version);
                self.synced.insert(version);
            }
            Event::SyncFailed { version, error } => self.sync_failed(version, error, out),
            Event::Up { replica, version } => self.up(replica, version, out),
            Event::NotUp { replica, error } => self.not_up(&replica, error, out),
            Event::Switched { replica, version } => self.switched(&replica, version),
            Event::Refused { replica, version, error } => {
                if self.serves(&replica) && self.trying(version) {
                    self.refuse(version, error, out);
                }
            }
            Event::SwitchBroken { replica, version, error } => {
                if self.serves(&replica) && self.trying(version) {
                    self.broken(replica, error, out);
                }
            }
            Event::Exited { replica, error, ran } => self.exited(&replica, error, ran, out),
            Event::RetryDue => {
                self.waiting = false;
                self.blocked = false;
                self.stale |= std::mem::take(&mut self.unsynced);
            }
            Event::Recorded { version } => self.recorded(version, out),
            Event::RecordFailed { error } => self.record_failed(error, out),
            Event::MemoryShort => {
                if let Some(serving) = &self.serving {
                    out.push(Action::DropSpare { replica: serving.replica.clone() });
                }
            }
            Event::BuildWanted { commit } => {
                if self.builds.len() >= BUILDS {
                    out.push(Action::RefuseBuild { commit });
                } else if !self.builds.contains(&commit) {
                    self.builds.push_back(commit.clone());
                    if self.builds.len() == 1 {
                        out.push(Action::Build { commit });
                    }
                }
            }
            Event::Built { image } => {
                self.image = image;
                self.build_over(out);
            }
            Event::BuildFailed => self.build_over(out),
            Event::RollBack { revision, image } => {
                self.rollback = Some(Rollback::new(revision, image));
                out.push(Action::Restore { revision });
            }
            Event::Restored => {
                if let Some(rollback) = &mut self.rollback {
                    rollback.restored();
                }
            }
            Event::RestoreFailed { error } => {
                self.rollback = None;
                out.push(Action::RolledBack { result: Err(error) });
            }
            Event::Undone => {
                self.stale = true;
                if let Some(error) = self.rollback.take().and_then(Rollback::error) {
                    out.push(Action::RolledBack { result: Err(error) });
                }
            }
            Event::Remove => {
                self.removing = true;
                out.push(Action::TakeAway);
            }
        }
    }

    fn build_over(&mut self, out: &mut Vec<Action>) {
        self.builds.pop_front();
        if let Some(commit) = self.builds.front().cloned() {
            out.push(Action::Build { commit });
        }
    }

    /// Forgets what went wrong, unless it still matters.
    fn heal(&mut self) {
        if !self.unmade && self.refused.is_none() && self.trial.is_none() {
            self.error = None;
        }
    }

    fn serves(&self, replica: &ReplicaId) -> bool {
        self.serving.as_ref().is_some_and(|s| s.replica == *replica)
    }

    fn trying(&self, version: u64) -> bool {
        self.trial.as_ref().is_some_and(|t| t.version == version)
    }
}

fn busy(why: &str) -> Error {
    Error::new(ErrorCode::FailedPrecondition, why).hint("try again when it is over")
}
