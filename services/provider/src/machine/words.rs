//! What goes into a machine and what comes out.

use std::fmt;
use std::time::Duration;

use api::Error;

/// Names a replica, and with it its container, network namespace, runtime folder and log;
/// unique for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(String);

impl ReplicaId {
    /// The `number`th replica of the machine with that seed.
    #[must_use]
    pub fn new(seed: u64, number: u64) -> Self {
        Self(format!("{seed:016x}-{number}"))
    }

    /// Reads the id of a container of ours; none when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (seed, number) = text.split_once('-')?;
        let id = Self::new(u64::from_str_radix(seed, 16).ok()?, number.parse().ok()?);
        (id.as_str() == text).then_some(id)
    }

    /// The id, safe as a file name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A replica to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its new id.
    pub replica: ReplicaId,
    /// Full name of the image.
    pub image: String,
    /// The version of the source that it begins with.
    pub version: u64,
    /// Whether a spare process is worth its memory: somebody works on the function.
    pub spare: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// containerd does not answer; what runs goes on.
    EngineLost,
    /// containerd answers (again); these replicas of the function run.
    EngineBack {
        /// All of them.
        found: Vec<ReplicaId>,
    },
    /// Something in the folder changed.
    Saved,
    /// The folder cannot be used: it is not there any more, or is not the owner's.
    FolderLost {
        /// Why.
        error: Error,
    },
    /// The folder is there again.
    FolderBack,
    /// `Make` is done; the version is the newest one, new or not.
    Made {
        /// Its number.
        version: u64,
    },
    /// `Make` failed; nothing changed.
    MakeFailed {
        /// Why.
        error: Error,
    },
    /// The version's files are on the disk.
    Synced {
        /// Its number.
        version: u64,
    },
    /// They may not be on the disk.
    SyncFailed {
        /// Its number.
        version: u64,
        /// Why.
        error: Error,
    },
    /// A replica that was started or attached answers calls.
    Up {
        /// Which one.
        replica: ReplicaId,
        /// With which version.
        version: u64,
    },
    /// A replica could not be started or attached; nothing of it is left running.
    NotUp {
        /// Which one.
        replica: ReplicaId,
        /// Why.
        error: Error,
    },
    /// The version answers all calls from now on.
    Switched {
        /// In which replica.
        replica: ReplicaId,
        /// Its number.
        version: u64,
    },
    /// The version did not become ready; the one before answers.
    Refused {
        /// In which replica.
        replica: ReplicaId,
        /// Its number.
        version: u64,
        /// Why, with its output.
        error: Error,
    },
    /// The replica gave no usable answer to a `Switch`.
    SwitchBroken {
        /// Which one.
        replica: ReplicaId,
        /// The version that was asked for.
        version: u64,
        /// What came instead.
        error: Error,
    },
    /// A replica ended by itself.
    Exited {
        /// Which one.
        replica: ReplicaId,
        /// Its status and last output.
        error: Error,
        /// How long it ran.
        ran: Duration,
    },
    /// The delay of `RetryIn` is over.
    RetryDue,
    /// `RecordGood` or `RecordRollback` is in the store.
    Recorded {
        /// The good version now.
        version: u64,
    },
    /// It is not.
    RecordFailed {
        /// Why.
        error: Error,
    },
    /// The machine is short of memory.
    MemoryShort,
    /// A commit is to become a revision.
    BuildWanted {
        /// The git commit.
        commit: String,
    },
    /// A revision is in the store; its image is the function's now.
    Built {
        /// Full name of the image.
        image: String,
    },
    /// A build failed; nothing changed.
    BuildFailed,
    /// Go back to a revision whose image was found in the store.
    RollBack {
        /// Its number.
        revision: u64,
        /// Its image.
        image: String,
    },
    /// The folder holds the revision's source.
    Restored,
    /// The folder is as it was.
    RestoreFailed {
        /// Why.
        error: Error,
    },
    /// `Undo` is over.
    Undone,
    /// Take the function away.
    Remove,
}

/// What to do about it. Each is carried out beside the others and answers with an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make a version of the folder: `Made` or `MakeFailed`.
    Make,
    /// Bring a version's files to the disk: `Synced` or `SyncFailed`.
    Sync {
        /// Its number.
        version: u64,
    },
    /// Start a replica: `Up` or `NotUp`.
    Start(Start),
    /// Take over a replica that runs: `Up` or `NotUp`.
    Attach {
        /// Which one.
        replica: ReplicaId,
    },
    /// Ask the replica to switch: `Switched`, `Refused`, `SwitchBroken`, or nothing when a later
    /// one superseded it.
    Switch {
        /// Which one.
        replica: ReplicaId,
        /// The version to switch to.
        version: u64,
    },
    /// Stop a replica, once the gateway has no call left on it.
    Stop {
        /// Which one.
        replica: ReplicaId,
    },
    /// Send `RetryDue` after the delay.
    RetryIn {
        /// How long to wait.
        delay: Duration,
    },
    /// Store the good version: `Recorded` or `RecordFailed`.
    RecordGood {
        /// Its number.
        version: u64,
    },
    /// Store a roll-back's outcome in one step: `Recorded` or `RecordFailed`.
    RecordRollback {
        /// The revision that is current now.
        revision: u64,
        /// The image that every start uses now.
        image: String,
        /// The good version now.
        version: u64,
    },
    /// Give up versions that nothing needs.
    Prune,
    /// Say that a saved version answers.
    TellLive {
        /// Its number.
        version: u64,
    },
    /// Say that a saved version did not start.
    TellRefused {
        /// Its number.
        version: u64,
        /// Why, with its output.
        error: Error,
    },
    /// Give up the spare process.
    DropSpare {
        /// Of which replica.
        replica: ReplicaId,
    },
    /// Build a commit: `Built` or `BuildFailed`.
    Build {
        /// The git commit.
        commit: String,
    },
    /// Refuse to build a commit: too many wait already.
    RefuseBuild {
        /// The git commit.
        commit: String,
    },
    /// Keep what is not committed and put a revision's source into the folder: `Restored` or
    /// `RestoreFailed`.
    Restore {
        /// Its number.
        revision: u64,
    },
    /// Put back the source that was there before `Restore`: `Undone`.
    Undo,
    /// A roll-back is over.
    RolledBack {
        /// Nothing, or why all is as before.
        result: Result<(), Error>,
    },
    /// Stop all that runs, and move the function to the trash.
    TakeAway,
}
