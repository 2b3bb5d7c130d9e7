//! The only door of the machine: two origins, one login, and the way to every function.
//!
//! ```text
//!  functions' origin ──┐                      ┌── replicas, by the route table
//!                      ├─ doors ── proxy ─────┤
//!  console's origin ───┘    │                 └── provider's socket (/v1, /system)
//!                         login                        │
//!                                  routes ◄── GET /routes (snapshot, deltas)
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`config`] | flags and environment |
//! | [`gateway`] | puts the parts together, and takes them down in order |
//! | [`doors`] | which path of which origin goes where, and who may |
//! | [`login`] | the password, and what wrong ones cost |
//! | [`proxy`] | a call on its way: headers, bodies, retries, upgrades |
//! | [`routes`] | the route table: its pure core, its replicas, its link to the provider |
//! | [`answer`] | what the gateway itself says |
mod answer;
mod config;
mod doors;
mod gateway;
mod login;
mod proxy;
mod routes;

use std::process::ExitCode;

use clap::Parser;

use crate::config::Config;
use crate::gateway::Gateway;

fn main() -> ExitCode {
    let config = Config::parse();
    daemon::run("gateway", async |shutdown| Gateway::open(config)?.serve(shutdown).await)
}
