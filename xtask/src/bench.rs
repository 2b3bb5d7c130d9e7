//! `cargo xtask bench`: whole-process figures of the loop, medians, with a peer in the same run.
//!
//! Every bench plays against a machine of its own (`dev` with release programs on a scratch state
//! folder and free ports), measures from outside as a user would, and prints every figure with
//! minimum, median, 90th percentile and maximum. Nothing here passes or fails; limits stand in
//! the documentation and are judged by a person.

mod commit;
mod figures;
mod invoke;
mod live;
mod machine;
mod versions;

use anyhow::Result;
use clap::ValueEnum;

use figures::Report;
use machine::Bench;

/// Arguments of `cargo xtask bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  sudo -E cargo xtask bench                 all of them
  sudo -E cargo xtask bench live            from the close of a saved file to new code answering
  sudo -E cargo xtask bench commit --json   figures for a program")]
pub(crate) struct Args {
    /// Which one [default: all]
    name: Option<Name>,
    /// Rounds of each figure
    #[arg(long, short = 'n', default_value_t = 30)]
    rounds: usize,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Install missing host packages without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Save → new code answering, with and without the spare process
    Live,
    /// Commit of one changed file, against buildctl on the same files
    Commit,
    /// A call through the gateway, to the watchdog, and to the bare process
    Invoke,
    /// Save in a tree of 5,000 files
    Versions,
}

/// Runs the benches that were asked for.
pub(crate) fn run(args: &Args) -> Result<()> {
    let machine = Bench::start(args.yes)?;
    let mut report = Report::new(args.rounds);
    let wanted = |name| args.name.is_none() || args.name == Some(name);
    if wanted(Name::Live) {
        live::run(&machine, &mut report)?;
    }
    if wanted(Name::Versions) {
        versions::run(&machine, &mut report)?;
    }
    if wanted(Name::Commit) {
        commit::run(&machine, &mut report)?;
    }
    if wanted(Name::Invoke) {
        invoke::run(&machine, &mut report)?;
    }
    if args.json { report.json() } else { report.table() }
}
