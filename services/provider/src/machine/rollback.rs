//! The steps of a roll-back: source and image together, or all as before.

use std::collections::BTreeSet;

use api::Error;

use super::Action;

#[derive(Debug)]
pub(super) struct Rollback {
    pub(super) revision: u64,
    pub(super) image: String,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The folder is being changed.
    Restoring,
    /// A version of it is wanted.
    Wanted,
    /// It is being made.
    Making,
    /// A replica is to start from the image with this version.
    Made(u64),
    /// It is starting.
    Starting(u64),
    /// It answers.
    Up(u64),
    /// The outcome is being stored.
    Recording,
    /// The folder is being put back, because of this.
    Undoing(Error),
}

impl Rollback {
    pub(super) fn new(revision: u64, image: String) -> Self {
        Self { revision, image, step: Step::Restoring }
    }

    pub(super) fn restored(&mut self) {
        self.step = Step::Wanted;
    }

    pub(super) fn wants_version(&self) -> bool {
        matches!(self.step, Step::Wanted)
    }

    pub(super) fn make(&mut self) {
        self.step = Step::Making;
    }

    pub(super) fn making(&self) -> bool {
        matches!(self.step, Step::Making)
    }

    pub(super) fn made(&mut self, version: u64) {
        self.step = Step::Made(version);
    }

    /// The version to start with, once.
    pub(super) fn version_to_start(&mut self) -> Option<u64> {
        let Step::Made(version) = self.step else { return None };
        self.step = Step::Starting(version);
        Some(version)
    }

    /// The replica could not be started for a reason that is not the revision's: once more.
    pub(super) fn start_again(&mut self) {
        if let Step::Starting(version) = self.step {
            self.step = Step::Made(version);
        }
    }

    pub(super) fn up(&mut self) {
        if let Step::Starting(version) = self.step {
            self.step = Step::Up(version);
        }
    }

    /// The version to store, once, when its replica answers and its files are on the disk.
    pub(super) fn version_to_record(&mut self, synced: &BTreeSet<u64>) -> Option<u64> {
        let Step::Up(version) = self.step else { return None };
        if !synced.contains(&version) {
            return None;
        }
        self.step = Step::Recording;
        Some(version)
    }

    pub(super) fn recording(&self) -> bool {
        matches!(self.step, Step::Recording)
    }

    /// Gives up: the folder is put back.
    pub(super) fn fail(&mut self, error: Error, out: &mut Vec<Action>) {
        if !matches!(self.step, Step::Undoing(_)) {
            self.step = Step::Undoing(error);
            out.push(Action::Undo);
        }
    }

    /// Why it was given up.
    pub(super) fn error(self) -> Option<Error> {
        match self.step {
            Step::Undoing(error) => Some(error),
            _ => None,
        }
    }
}
