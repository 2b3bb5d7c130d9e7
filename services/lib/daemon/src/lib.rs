//! What every long-lived process of ours shares, and nothing more.
//!
//! A daemon's `main` parses its flags and calls [`run()`], which sets up the log, the runtime and the
//! signals, and turns the outcome into an exit code:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     daemon::run("example", |shutdown| async move {
//!         let listener = daemon::Listener::unix("/run/example/api.sock".as_ref(), 0o660)?;
//!         let router = axum::Router::new();
//!         daemon::notify::ready("answering")?;
//!         daemon::serve(listener, router, daemon::Limits::default(), shutdown.token()).await?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`log`] | where log lines go and what they look like |
//! | [`shutdown`] | signals, and an ordered stop with a limit for every stage |
//! | [`serve`](mod@serve) | an HTTP/1.1 server on a Unix socket or a TCP port |
//! | [`client`] | an HTTP/1.1 client with a pool over a Unix socket |
//! | [`notify`] | tells whoever started us that we are ready |
//! | [`backoff`] | how long to wait before the next attempt |
//! | [`file`](mod@file) | a write that is there whole after a power cut, or not at all |
pub mod backoff;
pub mod client;
pub mod file;
pub mod log;
pub mod notify;
mod run;
pub mod serve;
pub mod shutdown;

pub use backoff::Backoff;
pub use client::UnixClient;
pub use run::run;
pub use serve::{Limits, Listener, Peer, serve};
pub use shutdown::{Shutdown, Stage, drain};
