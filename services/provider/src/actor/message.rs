//! What the task of a function is told and asked.

use std::sync::Arc;
use std::time::Duration;

use api::Error;
use api::revision::{Revision, RolledBack};
use api::switch::Times;
use tokio::sync::oneshot;

use crate::builds::Build;
use crate::machine::{Event, ReplicaId};
use crate::replica::{FoundReplica, Running};
use crate::source::News;
use crate::store::FunctionRecord;

/// What the task is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something that concerns the machine only.
    Event(Event),
    /// containerd answers (with what runs of the function), or does not any more.
    Engine(Option<Vec<FoundReplica>>),
    /// From the watch of the folder.
    News(News),
    /// `Make` is done.
    Made { version: u64, took: Duration, unused: Option<u64> },
    /// A number for the next version.
    NextVersion(u64),
    /// The good version is in the store.
    Recorded { version: u64, record: Box<FunctionRecord> },
    /// `Sync` is done.
    Synced { version: u64, took: Duration },
    /// A replica answers.
    Up { replica: ReplicaId, version: u64, running: Box<Running> },
    /// A running replica switched.
    Switched { replica: ReplicaId, version: u64, times: Times },
    /// A replica ended by itself.
    Exited { replica: ReplicaId, status: Option<u32> },
    /// All of a replica is gone.
    Stopped { replica: ReplicaId },
    /// The folder was restored by a roll-back.
    Restored { kept: Option<String>, before: Option<String> },
    /// A build is over.
    Built { build: Arc<Build>, result: Result<Revision, Error> },
    /// Whether the folder differs from the current revision.
    Dirty(bool),
    /// Somebody asks for something.
    Ask(Ask),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What others ask of a function.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Commit the folder and build it.
    Commit { message: String, reply: Reply<Arc<Build>> },
    /// The folder was committed: build that.
    Build { commit: String, message: String, reply: Option<Reply<Arc<Build>>> },
    /// Go back to a revision, whose image is in the store.
    RollBack { revision: Revision, reply: Reply<RolledBack> },
    /// Stop all, and move it to the trash; or stop all, and leave it as it is.
    TakeAway { to_trash: bool, reply: Reply<()> },
}
