//! What the provider says to the watchdog inside a function's container: the live switch.
//!
//! One JSON object per line in each direction, over the Unix socket [`SOCKET`] that the watchdog
//! listens on; one [`Request`], one [`Reply`], in order, as many as wanted on a connection. The
//! folder of the socket is bound in from the provider. The function's own code runs beside the
//! watchdog under the same uid, so the provider must treat whatever comes back as hostile: lines
//! of at most [`MAX_LINE`] bytes, every wait with a limit, no path or number taken on trust.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Folder bound into the container, writable by its user; holds the socket and the source link.
pub const RUN_DIR: &str = "/run/inplace";
/// The control socket, as the container sees it.
pub const SOCKET: &str = "/run/inplace/control.sock";
/// Folder with one sub-folder per version, read-only, as the container sees it.
pub const VERSIONS_DIR: &str = "/inplace/versions";
/// Symbolic link that names the version in use; the image's source path is a link to it.
pub const SOURCE_LINK: &str = "/run/inplace/source";
/// Longest line either side sends or accepts, in bytes.
pub const MAX_LINE: usize = 256 * 1024;

/// What the provider asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Start a process on this version, and when it is ready let it answer all new calls; the old
    /// process finishes its calls and ends. A newer `Switch` supersedes one still starting.
    Switch {
        /// The version, a folder of that name below [`VERSIONS_DIR`].
        version: u64,
        /// How long the new process may take to become ready, in milliseconds.
        ready_ms: u64,
        /// Keep a spare process (runtime and framework loaded, user code not) for this long
        /// after the switch, in milliseconds; 0 means none.
        spare_ms: u64,
    },
    /// Give up the spare process: memory is short.
    DropSpare,
    /// Tell what runs.
    Status,
}

/// What the watchdog answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Reply {
    /// The version answers all calls that arrive from now on.
    Switched {
        /// Which one.
        version: u64,
        /// Where the time went.
        times: Times,
    },
    /// The version did not become ready; whatever answered before still does.
    Refused {
        /// Which one.
        version: u64,
        /// Why, in one line.
        reason: String,
        /// The last lines that the new process printed, oldest first.
        lines: Vec<String>,
    },
    /// A newer `Switch` arrived before this one was ready.
    Superseded {
        /// Which one was given up.
        version: u64,
    },
    /// Answer to `Status`.
    Status {
        /// The version that answers calls, none before the first one is ready.
        version: Option<u64>,
        /// Whether a spare process waits.
        spare: bool,
        /// Calls being answered now.
        in_flight: u64,
    },
    /// Answer to `DropSpare`.
    Dropped,
    /// The request was not understood.
    Invalid {
        /// What was wrong with it.
        reason: String,
    },
}

/// Parts of a switch, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Whether the process was a spare that waited.
    pub spare: bool,
    /// From the request to the process with runtime and framework loaded (0 with a spare).
    pub start_ms: f64,
    /// Loading the user's code until it was ready.
    pub load_ms: f64,
    /// All of it, from the request to answering calls.
    pub total_ms: f64,
}

/// A duration as the milliseconds of this API: to the microsecond, which is as far as it means
/// anything, so that it prints as a person would write it.
#[must_use]
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_print_as_a_person_would_write_them() {
        for (nanos, text) in
            [(68_476_700, "68.477"), (2_000_000, "2.0"), (999, "0.001"), (0, "0.0")]
        {
            let json = serde_json::to_string(&millis(Duration::from_nanos(nanos))).unwrap();
            assert_eq!(json, text);
        }
    }
}
