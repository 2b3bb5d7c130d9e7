//! Where the output of a process goes.

use std::path::{Path, PathBuf};

/// Where the output of a process goes; containerd's shim carries it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Null,
    /// To the end of a file, which is made if missing. It is never rotated.
    File(PathBuf),
    /// Into a fifo that exists and that somebody reads.
    Fifo(PathBuf),
    /// To a logging program that the shim starts: standard output on fd 3, standard error on
    /// fd 4; it closes fd 5 when it is ready. It must be given for both or neither.
    Program(PathBuf),
}

impl Output {
    /// The two as containerd names them. It opens both as soon as one is named, so one that goes
    /// nowhere needs a name too then.
    pub(crate) fn uris(stdout: &Self, stderr: &Self) -> (String, String) {
        match (stdout, stderr) {
            (Self::Null, Self::Null) => (String::new(), String::new()),
            (stdout, stderr) => (stdout.uri(), stderr.uri()),
        }
    }

    fn uri(&self) -> String {
        let name = |scheme: &str, path: &Path| format!("{scheme}{}", path.display());
        match self {
            Self::Null => name("file://", Path::new("/dev/null")),
            Self::File(path) => name("file://", path),
            Self::Fifo(path) => name("", path),
            Self::Program(path) => name("binary://", path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_both_outputs_have_a_name_or_none() {
        let file = Output::File("/log/a".into());
        let check = |stdout: &Output, stderr: &Output, expected: (&str, &str)| {
            let (stdout, stderr) = Output::uris(stdout, stderr);
            assert_eq!((stdout.as_str(), stderr.as_str()), expected);
        };
        check(&Output::Null, &Output::Null, ("", ""));
        check(&file, &Output::Null, ("file:///log/a", "file:///dev/null"));
        check(&Output::Fifo("/f".into()), &file, ("/f", "file:///log/a"));
        let program = Output::Program("/bin/logger".into());
        check(&program, &program, ("binary:///bin/logger", "binary:///bin/logger"));
    }
}
