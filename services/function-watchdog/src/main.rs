//! `fwatchdog`: OpenFaaS's watchdog contract and the live switch, inside a function's container.
//!
//! It answers HTTP on one port and hands each call to the function's process. Two ways to start:
//!
//! * on any OpenFaaS host it does what the classic watchdog and of-watchdog do, by their
//!   environment variables;
//! * where the provider has bound its folder in (`/run/inplace`), it lets the provider change the
//!   version of the code that runs, without losing a call.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`config`] | environment → checked configuration |
//! | [`logs`] | OpenFaaS's log lines, and the function's own output |
//! | [`process`] | children: start, signal, reap (as PID 1 also strangers') |
//! | [`server`] | the port: health, limits, calls, and the order of a stop |
//! | [`body`] | bodies in both directions, with their deadlines |
//! | [`fork`] | modes `classic`, `serializing`, `streaming`: a process for every call |
//! | [`proxy`] | mode `http`: one process that is an HTTP server itself |
//! | [`worker`] | such a process: port, output, and how it says that it is ready |
//! | [`live`] | the live switch between two of them |
mod body;
mod config;
mod fork;
mod live;
mod logs;
mod process;
mod proxy;
mod run;
mod server;
mod worker;

use std::process::ExitCode;

use anyhow::Context as _;

/// One thread runs everything: a call crosses three short tasks, and moving those between threads
/// costs more than it brings. It also makes starting a child free of races (see [`process`]).
fn main() -> anyhow::Result<ExitCode> {
    let config = match run::Arguments::parse(std::env::args().skip(1))? {
        run::Arguments::Version => {
            run::print_version();
            return Ok(ExitCode::SUCCESS);
        }
        run::Arguments::Healthcheck => return Ok(run::healthcheck()),
        run::Arguments::Serve => config::Config::from_env(std::env::vars_os())?,
    };
    // The function runs as the same user and must not trace, stop or read this process. What is
    // started from here is not bound by it: it ends with an exec.
    nix::sys::prctl::set_dumpable(false).context("closing this process to tracers")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(run::run(config))
}
