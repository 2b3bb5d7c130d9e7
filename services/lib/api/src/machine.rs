//! The line of JSON that `cargo xtask run --detach --json` and `dev --detach --json` print.

use serde::{Deserialize, Serialize};

/// Where a machine answers, and how to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The functions' origin, for example `http://127.0.0.1:8080`.
    pub url: String,
    /// The console's origin.
    pub console: String,
    /// The editor's origin; empty where there is no editor (`xtask dev`).
    pub editor: String,
    /// Name to log in with.
    pub user: String,
    /// Password to log in with.
    pub password: String,
    /// State folder; names the machine for `xtask stop`.
    pub state: String,
}
