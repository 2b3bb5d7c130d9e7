//! The route table: the provider computes it, the gateway holds a copy.
//!
//! On the provider's socket: `GET /routes` streams [`Update`]s as NDJSON (a snapshot, then one line
//! per change; a new reader always gets a snapshot first), `POST /routes/ack` takes [`Ack`],
//! `POST /routes/drained` takes [`Drained`]. A replica that left the table is stopped when the
//! gateway says that it is drained, or when its limit is over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::FunctionName;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Update {
    /// The whole table.
    Snapshot {
        /// Number of this state of the table; only ever grows, also over a provider's restart.
        epoch: u64,
        /// All functions that exist.
        routes: BTreeMap<FunctionName, Route>,
    },
    /// One function's route changed, or is gone.
    Delta {
        /// Number of the state after this change: the one before plus one, else read anew.
        epoch: u64,
        /// Whose route.
        name: FunctionName,
        /// Its new route; none when the function was removed.
        route: Option<Route>,
    },
    /// Sent when nothing else was, so that a dead connection is seen.
    Ping {
        /// Number of the current state.
        epoch: u64,
    },
}

/// Where a function's calls go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Replicas that take calls; empty while none is ready.
    pub replicas: Vec<Replica>,
    /// Limit of one call, in milliseconds; 0 means the gateway's own.
    #[serde(default)]
    pub timeout_ms: u64,
}

/// A replica that takes calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Identifier, unique for ever.
    pub id: String,
    /// `IP:PORT` of its HTTP server.
    pub address: String,
}

/// The gateway routes by this state of the table now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Epoch of the table in use.
    pub epoch: u64,
}

/// The gateway has no call left on a replica that left the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Identifier of the replica.
    pub replica: String,
}
