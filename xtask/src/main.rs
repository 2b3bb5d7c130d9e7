//! `cargo xtask`: build, run and test Inplace. One file per verb; the work is in the modules below.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod doctor;
mod lock;
mod pkg;
mod test;

mod children;
mod host;
mod packages;
mod progress;
#[cfg(test)]
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Build, run and test Inplace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
#[command(after_help = "Examples:
  cargo xtask test                 all that CI checks
  cargo xtask test --fast          format, lints and unit tests
  cargo xtask doctor               what this host has and lacks
  cargo xtask pkg build python3    one package, as an OCI image layout

Exit codes: 0 done, 1 something failed (the last lines say what), 2 wrong arguments, 130 interrupted.")]
enum Xtask {
    Doctor(doctor::Args),
    Lock(lock::Args),
    Pkg(pkg::Args),
    Test(test::Args),
}

fn main() -> ExitCode {
    let done = match Xtask::parse() {
        Xtask::Doctor(args) => doctor::run(&args),
        Xtask::Lock(args) => lock::run(&args),
        Xtask::Pkg(args) => pkg::run(&args),
        Xtask::Test(args) => test::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
