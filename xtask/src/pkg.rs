//! `cargo xtask pkg`: build packages and look at them.

use anyhow::Result;

use crate::host::{self, Need};
use crate::packages::{self, Options};

/// Build packages of `images/` and look at them
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask pkg ls                    all packages and function bases
  cargo xtask pkg build python3         an OCI image layout; its path is the last line
  cargo xtask pkg show-tag containerd   the full name of its image")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Build a package's image and print the path of its OCI layout
    Build(One),
    /// List packages and function bases
    Ls,
    /// Print the full name of a package's image; builds it if it is not in the cache
    ShowTag(One),
}

#[derive(Clone, Debug, clap::Args)]
struct One {
    /// Name of the package
    name: String,
    /// Fail instead of changing images/lock.yml
    #[arg(long)]
    locked: bool,
    /// Install missing host packages without asking
    #[arg(long)]
    yes: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.verb {
        Verb::Build(one) => println!("{}", image(one)?.0.display()),
        Verb::ShowTag(one) => println!("{}", image(one)?.1),
        Verb::Ls => {
            for package in packages::all()? {
                let kind = if package.is_base { "base" } else { "package" };
                println!("{:12} {kind:8} {}", package.name, crate::workspace::shown(&package.dir));
            }
        }
    }
    Ok(())
}

fn image(one: &One) -> Result<(std::path::PathBuf, String)> {
    host::ensure(Need::Build, one.yes)?;
    packages::image(&one.name, &Options { locked: one.locked, ..Options::default() })
}
