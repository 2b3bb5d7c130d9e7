//! `GET /v1/events`: all that changes, as server-sent events.

use serde::{Deserialize, Serialize};

use crate::function::Function;
use crate::revision::Revision;
use crate::{Error, FunctionName};

/// Something changed. The type goes in the event's name, the rest in its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A function is new, or anything that [`Function`] shows of it changed.
    Function(Box<Function>),
    /// A function is gone.
    Removed {
        /// Which one.
        name: FunctionName,
    },
    /// How far something is that a function waits for, such as the import of its base image.
    Progress {
        /// Which function.
        name: FunctionName,
        /// What is done.
        what: String,
        /// Bytes or items so far.
        current: u64,
        /// Of how many; 0 when unknown.
        total: u64,
    },
    /// A saved version answers calls now.
    Live {
        /// Of which function.
        name: FunctionName,
        /// Which version.
        version: u64,
        /// From the event of the save to answering, in milliseconds.
        took_ms: f64,
    },
    /// A saved version did not start; the one before goes on answering.
    Refused {
        /// Of which function.
        name: FunctionName,
        /// Which version.
        version: u64,
        /// Why, with the log lines.
        error: Error,
    },
    /// A commit became a revision.
    Committed {
        /// Of which function.
        name: FunctionName,
        /// The new revision.
        revision: Revision,
    },
}
