//! The real binary with real processes: OpenFaaS's contract row by row, and the live switch.
//!
//! Nothing here needs root, but `as_pid_1` (a PID namespace of its own) and `closed` (another
//! user) do. Needed on the host: `/usr/bin/python3` with Debian's `python3-waitress`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's helper fails where it stands and says why, as a test does"
)]
mod as_pid_1;
mod closed;
mod control;
mod fork_modes;
mod http_mode;
mod python_template;
mod rig;
mod stop;
mod switch;
