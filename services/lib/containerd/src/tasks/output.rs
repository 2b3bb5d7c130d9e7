//! Where the output of a process goes.

use std::path::{Path, PathBuf};

use crate::error::Result;

/// Where the output of a process goes. The task's shim carries it there, also while containerd is
/// away; all of it has arrived when the task (or the exec) has been deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Null,
    /// To the end of a file, which is made if it is missing. It is never rotated.
    File(PathBuf),
    /// Into a fifo that exists. The shim holds both of its ends: a process whose output nobody
    /// reads blocks when the fifo is full.
    Fifo(PathBuf),
}

impl Output {
    /// The two as the shim gets them, files made.
    ///
    /// Always bare paths, never `file://`: with that scheme the shim takes both outputs to the
    /// file of standard output, and what it closes at the end of the one is lost of the other
    /// (the last lines of a crash, mostly).
    pub(crate) async fn prepare(stdout: &Self, stderr: &Self) -> Result<(String, String)> {
        for output in [stdout, stderr] {
            if let Self::File(path) = output {
                fs_err::tokio::OpenOptions::new().append(true).create(true).open(path).await?;
            }
        }
        Ok(Self::paths(stdout, stderr))
    }

    fn paths(stdout: &Self, stderr: &Self) -> (String, String) {
        match (stdout, stderr) {
            (Self::Null, Self::Null) => (String::new(), String::new()),
            // One name for both would be opened once and closed by whichever ends first.
            (Self::File(a), Self::File(b)) if a == b => (text(a), other_name(a)),
            (stdout, stderr) => (stdout.path(), stderr.path()),
        }
    }

    /// The shim opens both as soon as one is named, so nowhere needs a name too.
    fn path(&self) -> String {
        match self {
            Self::Null => "/dev/null".to_owned(),
            Self::File(path) | Self::Fifo(path) => text(path),
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Another name of the same file.
fn other_name(path: &Path) -> String {
    format!("/.{}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_both_outputs_have_a_name_or_none_and_never_the_same() {
        let file = Output::File("/log/a".into());
        let check = |stdout: &Output, stderr: &Output, expected: (&str, &str)| {
            let (stdout, stderr) = Output::paths(stdout, stderr);
            assert_eq!((stdout.as_str(), stderr.as_str()), expected);
        };
        check(&Output::Null, &Output::Null, ("", ""));
        check(&file, &Output::Null, ("/log/a", "/dev/null"));
        check(&file, &file, ("/log/a", "/./log/a"));
        check(&Output::Fifo("/f".into()), &file, ("/f", "/log/a"));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_made_is_named() {
        let file = Output::File("/none/log".into());
        let error = Output::prepare(&file, &Output::Null).await.unwrap_err();
        assert!(error.to_string().contains("/none/log"), "{error}");
    }
}
