//! `cargo xtask plan`: what would be built of a LinuxKit yml; no effects.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::linuxkit::{self, Package, Source};
use crate::packages;

/// Say what would be built of a LinuxKit yml; changes nothing
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask plan images/minimal.yml           a table
  cargo xtask plan images/minimal.yml --json    all, with config.json and runtime.json
  cargo xtask plan base.yml more.yml            later files over earlier, lists grow")]
pub(crate) struct Args {
    /// Files in LinuxKit's format; - is standard input
    #[arg(required = true, value_name = "FILE.yml")]
    files: Vec<PathBuf>,
    /// Print the whole plan as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let sources = args.files.iter().map(|path| source(path)).collect::<Result<Vec<_>>>()?;
    let outcome = match linuxkit::plan(&sources, &known()?) {
        Ok(outcome) => outcome,
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("{mistake}");
            }
            bail!("{} in {}", count(mistakes.len()), names(&sources));
        }
    };
    for warning in &outcome.warnings {
        eprintln!("warning: {warning}");
    }
    for image in outcome.plan.unread() {
        eprintln!("note: {image}: image not in a cache: defaults without its labels");
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome.plan)?);
    } else {
        print!("{}", outcome.plan);
    }
    Ok(())
}

fn source(path: &Path) -> Result<Source> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        let dir = std::env::current_dir().context("finding the working directory")?;
        return Ok(Source { name: "-".to_owned(), dir, text });
    }
    let text = fs::read_to_string(path)?;
    let full = std::path::absolute(path).with_context(|| format!("finding {}", path.display()))?;
    let dir = full.parent().context("a file has a folder")?.to_owned();
    Ok(Source { name: crate::workspace::shown(path).to_string(), dir, text })
}

/// The packages of the tree, and what their images run.
fn known() -> Result<Vec<Package>> {
    let known = packages::all()?.into_iter().map(|package| Package {
        name: package.name,
        dir: package.dir,
        config: linuxkit::ImageConfig {
            command: package.oci.cmd,
            env: package.oci.env,
            cwd: package.oci.workdir,
            user: package.oci.user,
        },
    });
    Ok(known.collect())
}

fn count(mistakes: usize) -> String {
    if mistakes == 1 { "1 mistake".to_owned() } else { format!("{mistakes} mistakes") }
}

fn names(sources: &[Source]) -> String {
    sources.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")
}
