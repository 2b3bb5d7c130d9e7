//! Our own programs, static, as the workspace's configuration has it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::progress::Progress;
use crate::{children, workspace};

/// Crates whose programs `dev` and the tests run.
pub(crate) const PROGRAMS: &[&str] = &["function-watchdog", "gateway", "provider"];

/// How programs are compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quickly.
    #[default]
    Dev,
    /// As `Dev`, together with all tests: so both share one build of every dependency, with the
    /// features that they need together.
    Tests,
    /// As benches are.
    Bench,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Dev | Self::Tests => "dev",
            Self::Bench => "bench",
        }
    }

    /// Folder of the target directory that cargo puts programs of this profile into.
    fn folder(self) -> &'static str {
        match self {
            Self::Dev | Self::Tests => "debug",
            Self::Bench => "release",
        }
    }
}

/// Compiles programs of ours and returns the folder that holds them.
pub(crate) fn build(programs: &[&str], profile: Profile, progress: &Progress) -> Result<PathBuf> {
    let step = progress.step("programs", &format!("compiling {}", programs.join(", ")));
    let mut command = workspace::cargo();
    command.args(["build", "--bins", "--profile", profile.name(), "--target", workspace::TARGET]);
    if profile == Profile::Tests {
        command.args(["--workspace", "--tests", "--locked"]);
    } else {
        command.args(programs.iter().flat_map(|program| ["--package", program]));
    }
    children::lines(&mut command, |line| step.say(line.trim()))?;
    step.done("compiled");
    Ok(workspace::target_dir().join(workspace::TARGET).join(profile.folder()))
}

/// A copy of a program without what only a debugger reads.
pub(crate) fn stripped(program: &Path, to: &Path) -> Result<()> {
    children::output(Command::new("strip").arg("-o").arg(to).arg(program)).map(drop)
}
