//! `cargo xtask lock`: pin what comes from outside.

use anyhow::Result;

use crate::packages;

/// Write version and checksum of all that comes from outside into images/lock.yml
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask lock             pin what is new; replace what is no longer to be had
  cargo xtask lock --update    take the newest of everything")]
pub(crate) struct Args {
    /// Take the newest version of everything
    #[arg(long)]
    update: bool,
}

/// Rewrites the lock if anything changed, and says what.
pub(crate) fn run(args: &Args) -> Result<()> {
    let changed = packages::relock(args.update)?;
    println!(
        "images/lock.yml {}",
        if changed { "was rewritten; commit it" } else { "is as it should be" }
    );
    Ok(())
}
