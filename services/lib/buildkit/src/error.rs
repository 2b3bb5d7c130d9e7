//! Why a build did not give an image, and how BuildKit's texts are read.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::time::Duration;

/// Why there is no image. Nothing was changed in the store but caches.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// buildkitd is not there, or went away in mid-build: the same build may be tried again.
    #[error("buildkitd does not answer at {}", socket.display())]
    Unavailable {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the connection said.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The build ran, and a step of it failed.
    #[error("{}{reason}", step.as_ref().map(|it| format!("step `{it}`: ")).unwrap_or_default())]
    Failed {
        /// Name of the step; none when BuildKit named none.
        step: Option<String>,
        /// Exit code of the step's command, if it was a command that failed.
        exit_code: Option<i32>,
        /// BuildKit's own words.
        reason: String,
        /// The last lines that the step printed, oldest first; at most
        /// [`Error::LINES`](Self::LINES).
        lines: Vec<String>,
    },
    /// The base image is not in the local store, and no registry gave it.
    #[error("base image {name} is not in the local store")]
    MissingBase {
        /// Full name of the image.
        name: String,
    },
    /// The build took longer than its limit and was stopped.
    #[error("the build took longer than {} s and was stopped{}", limit.as_secs_f32(), during(running))]
    Deadline {
        /// The limit.
        limit: Duration,
        /// Names of the steps that ran when it was over.
        running: Vec<String>,
    },
    /// Nothing was started: what was asked for cannot be built.
    #[error("{reason}")]
    Refused {
        /// What is wrong with it, naming it.
        reason: String,
    },
}

impl Error {
    /// How many of a failed step's lines are kept.
    pub const LINES: usize = 40;

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

fn during(running: &[String]) -> String {
    match running {
        [] => String::new(),
        names => format!(" during {}", names.join(", ")),
    }
}

/// Whether a status comes from a broken connection and not from the daemon.
pub(crate) fn is_transport(status: &tonic::Status) -> bool {
    // A status that the daemon sent has no source; one that tonic made of an I/O error has.
    status.source().is_some() || status.code() == tonic::Code::Unavailable
}

/// The exit code in BuildKit's `process "..." did not complete successfully: exit code: 3`.
pub(crate) fn exit_code(text: &str) -> Option<i32> {
    let (_, rest) = text.rsplit_once("did not complete successfully: exit code: ")?;
    let digits = rest.split(|char: char| !char.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The image whose lookup failed, as far as BuildKit's text says that one did.
pub(crate) fn missing_base(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("failed to resolve source metadata for ")?;
    rest.split_once(": ").map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_read_from_the_text() {
        for (text, expected) in [
            ("process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3", Some(3)),
            (
                "failed to solve: process \"x\" did not complete successfully: exit code: 137: killed",
                Some(137),
            ),
            ("process \"echo exit code: 3\" was canceled", None),
        ] {
            assert_eq!(exit_code(text), expected, "{text}");
        }
    }

    #[test]
    fn a_message_names_its_operand() {
        let error = Error::Failed {
            step: Some("install dependencies".into()),
            exit_code: Some(1),
            reason: "exit code: 1".into(),
            lines: Vec::new(),
        };
        assert_eq!(error.to_string(), "step `install dependencies`: exit code: 1");
        let error =
            Error::Deadline { limit: Duration::from_millis(1500), running: vec!["a".into()] };
        assert_eq!(error.to_string(), "the build took longer than 1.5 s and was stopped during a");
    }
}
