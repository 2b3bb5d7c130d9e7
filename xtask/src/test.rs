//! `cargo xtask test`: all that CI checks, in sections; every failure is told at the end.

mod nextest;
mod report;

use std::process::Command;

use anyhow::{Context, Result, bail};

use self::nextest::{Scope, Suite};
pub(crate) use self::report::Failed;
use self::report::Report;
use crate::host::{self, Need};
use crate::packages::{self, Cache, Lock, Options, Prepared, Profile};
use crate::progress::Progress;
use crate::{children, workspace};

/// Run all that CI checks: format, lints, tests, docs, licences
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  sudo -E cargo xtask test             all of it; the integration tests need root
  cargo xtask test --fast              format, lints and unit tests
  sudo -E cargo xtask test rollback    only the tests whose name contains `rollback`

The last line is `N passed, N failed, N skipped`: tests, and one for each other section. Tests that
could not run for want of root are named above it and count as skipped.")]
pub(crate) struct Args {
    /// Format, lints and unit tests only
    #[arg(long)]
    fast: bool,
    /// Install missing host packages without asking
    #[arg(long)]
    yes: bool,
    /// Fail instead of changing images/lock.yml
    #[arg(long)]
    locked: bool,
    /// Only tests whose name contains this, and no other section
    filter: Option<String>,
}

/// Runs the sections and prints the counts.
pub(crate) fn run(args: &Args) -> Result<()> {
    let _guard = children::guard()?;
    host::ensure(Need::Test, args.yes)?;
    let tools = CargoTools::get(args.locked)?;
    let mut report = Report::default();
    let prepared = static_checks(args, &mut report);
    let scope = scope(args, prepared.as_ref());
    let suite = Suite { program: &tools.nextest, scope: &scope, filter: args.filter.as_deref() };
    suite.run(&mut report);
    if !args.fast && args.filter.is_none() {
        let mut doc = workspace::cargo();
        doc.args(["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
        report.section("doc", || quiet(doc.env("RUSTDOCFLAGS", "-D warnings")));
        let mut deny = Command::new(&tools.deny);
        deny.current_dir(workspace::root()).args([
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ]);
        report.section("deny", || quiet(&mut deny));
    }
    report.close()
}

/// What nextest and cargo-deny are run from.
struct CargoTools {
    nextest: std::path::PathBuf,
    deny: std::path::PathBuf,
}

impl CargoTools {
    fn get(locked: bool) -> Result<Self> {
        let progress = Progress::new();
        let cache = Cache::open(&progress)?;
        let before = Lock::load(&packages::lock_path())?;
        let mut lock = before.clone();
        let mut get = |tool| packages::tool(&cache, &mut lock, tool, locked, &progress);
        let tools = Self { nextest: get(packages::NEXTEST)?, deny: get(packages::DENY)? };
        if lock != before {
            lock.save(&packages::lock_path())?;
        }
        Ok(tools)
    }
}

/// Format and lints; the packages are made beside them, since those take longest.
fn static_checks(args: &Args, report: &mut Report) -> Option<Prepared> {
    let options = Options { locked: args.locked, profile: Profile::Tests };
    std::thread::scope(|scope| {
        let packages = (!args.fast)
            .then(|| scope.spawn(move || report::timed(|| packages::prepare(&options))));
        if args.filter.is_none() {
            report.section("fmt", || {
                quiet(workspace::cargo().args(["fmt", "--all", "--", "--check"]))
            });
            let mut clippy = workspace::cargo();
            clippy.args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ]);
            report.section("clippy", || quiet(&mut clippy));
        }
        let (seconds, made) =
            packages?.join().unwrap_or_else(|_| (0.0, Err(anyhow::anyhow!("it panicked"))));
        report.add("packages", seconds, made)
    })
}

fn scope(args: &Args, prepared: Option<&Prepared>) -> Scope {
    match prepared {
        _ if args.fast => Scope::Unit { reason: None },
        None => Scope::Unit { reason: Some("the packages could not be made") },
        Some(_) if !nix::unistd::geteuid().is_root() => Scope::Unit { reason: Some("needs root") },
        Some(prepared) => Scope::All(prepared.clone()),
    }
}

/// A command whose output only matters if it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let (ok, text) = children::transcript(command).context("running a section")?;
    if !ok {
        bail!("{}", text.trim_end());
    }
    Ok(())
}
