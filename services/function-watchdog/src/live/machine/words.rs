//! What the machine hears and says.

use std::fmt;
use std::time::Duration;

use api::switch::Times;
use nix::sys::signal::Signal;

/// A process of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(pub(crate) u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A `Switch` that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// Times that can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A starting worker must be ready.
    Ready(WorkerId),
    /// A draining worker's calls must have ended.
    Drain(WorkerId),
    /// A worker that was told to end must have.
    Term(WorkerId),
    /// The worker that died is to be replaced.
    Restart,
    /// A spare is to be started.
    Prepare,
    /// The spare is no longer wanted.
    Spare,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The watchdog has started.
    Begin,
    /// The provider wants this version.
    Switch { ticket: Ticket, version: u64, ready: Duration, spare: Duration },
    /// The provider wants the memory of the spare.
    DropSpare,
    /// A worker has loaded runtime and framework.
    Loaded(WorkerId),
    /// A worker can answer calls. `spoke`: it said so itself; else its port was seen to be open.
    Ready { worker: WorkerId, spoke: bool },
    /// A worker's process has ended, or could not be started. `killed`: by SIGKILL, which comes
    /// from outside.
    Exited { worker: WorkerId, how: String, killed: bool },
    /// A draining worker has no call left.
    Drained(WorkerId),
    /// The source link could not be moved.
    LinkFailed(String),
    /// An armed timer's time has come.
    Due(Timer),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Let the source link name this version.
    Point(u64),
    /// Start a process on a version, or a spare one.
    Spawn { worker: WorkerId, version: Option<u64> },
    /// Tell a spare its version.
    Feed { worker: WorkerId, version: u64 },
    /// Let this worker get all calls from now on.
    Route(WorkerId),
    /// No worker gets calls.
    Unroute,
    /// Tell when this worker's last call has ended.
    Retire(WorkerId),
    /// Signal the worker's process group.
    Signal(WorkerId, Signal),
    /// Arm a timer, anew if it is armed.
    Arm(Timer, Duration),
    /// Disarm a timer, if it is armed.
    Disarm(Timer),
    /// Answer: the version serves.
    Switched { ticket: Ticket, version: u64, times: Times },
    /// Answer: it does not, with the worker whose last lines say why.
    Refused { ticket: Ticket, version: u64, worker: WorkerId, reason: String },
    /// Answer: a newer one came.
    Superseded { ticket: Ticket, version: u64 },
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The last calls of a worker that was replaced.
    pub(crate) drain: Duration,
    /// The end of a process that was told to end.
    pub(crate) term: Duration,
}
