//! `cargo xtask`: build, run and test Inplace. One file per verb; the work is in the modules below.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod bench;
mod dev;
mod doctor;
mod lock;
mod pkg;
mod plan;
mod stop;
mod test;

mod children;
mod host;
mod linuxkit;
mod packages;
mod progress;
mod sys;
#[cfg(test)]
mod tidy;
mod workspace;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

/// Build, run and test Inplace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
#[command(after_help = "Examples:
  cargo xtask dev                  run the loop on this host, print address and password
  cargo xtask test                 all that CI checks
  cargo xtask test --fast          format, lints and unit tests
  cargo xtask doctor               what this host has and lacks
  cargo xtask pkg build python3    one package, as an OCI image layout

Exit codes: 0 done, 1 something failed (the last lines say what), 2 wrong arguments, 130 interrupted.")]
enum Xtask {
    /// The in-place loop on this host, without a machine (root)
    Dev(dev::Args),
    /// Stop, in order, what `dev --detach` left running
    Stop(stop::Args),
    Test(test::Args),
    /// Figures of the loop: medians, with a peer in the same run (root)
    Bench(bench::Args),
    Doctor(doctor::Args),
    Plan(plan::Args),
    Pkg(pkg::Args),
    Lock(lock::Args),
}

fn main() -> ExitCode {
    let done = match Xtask::parse() {
        Xtask::Dev(args) => dev::run(&args),
        Xtask::Stop(args) => stop::run(&args),
        Xtask::Bench(args) => bench::run(&args),
        Xtask::Doctor(args) => doctor::run(&args),
        Xtask::Lock(args) => lock::run(&args),
        Xtask::Plan(args) => plan::run(&args),
        Xtask::Pkg(args) => pkg::run(&args),
        Xtask::Test(args) => test::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<test::Failed>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
