//! `cargo xtask stop`: stops, in order, the machine that `dev --detach` left running.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::dev::State;

/// Longer than all the limits of an ordered stop together.
const LIMIT: Duration = Duration::from_secs(120);

/// Arguments of `cargo xtask stop`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// State folder of the machine [default: /var/lib/inplace/dev]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Stops the machine and waits until it is gone.
pub(crate) fn run(args: &Args) -> Result<()> {
    let dir = State::folder(args.state.as_deref())?;
    State::stop(&dir, LIMIT)?;
    println!("stopped; {} is kept", dir.display());
    Ok(())
}
