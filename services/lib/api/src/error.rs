//! The closed set of error codes, and the error body that every API of ours answers with.

use serde::{Deserialize, Serialize};

/// What went wrong, for a program. Its text form (`snake_case`) is part of the API.
///
/// It is a small set on purpose: a new code is a new promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request cannot be understood or breaks a rule; the message names the field.
    InvalidArgument,
    /// No or wrong credentials.
    Unauthenticated,
    /// Known caller, but not for this.
    PermissionDenied,
    /// The named thing does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The thing exists, but its state forbids this now (nothing to commit, image gone, ...).
    FailedPrecondition,
    /// `If-Match` did not match: somebody else wrote in between.
    Conflict,
    /// A body, a file or a tree is over its limit.
    TooLarge,
    /// A quota or a queue is full; try again later.
    ResourceExhausted,
    /// The build ran and failed; `lines` holds the end of its output.
    BuildFailed,
    /// The function's code did not start or did not become ready; `lines` holds its output.
    StartFailed,
    /// A part that is needed (containerd, buildkitd, the function) does not answer now.
    Unavailable,
    /// It took longer than its limit.
    DeadlineExceeded,
    /// A fault of ours; the log has the cause under the request's id.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::FailedPrecondition => 409,
            Self::Conflict => 412,
            Self::TooLarge => 413,
            Self::BuildFailed | Self::StartFailed => 422,
            Self::ResourceExhausted => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }
}

/// An error as a caller sees it: what happened and what to do next, never an inner cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Error {
    /// For a program.
    pub code: ErrorCode,
    /// For a person: lower case, no full stop, names its operand.
    pub message: String,
    /// What to do next; empty when there is nothing useful to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The last lines of output of what failed (a build, a start), oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Error {
    /// An error without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new(), lines: Vec::new() }
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds the output of what failed.
    #[must_use]
    pub fn lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }

    /// The body `{"error": {...}}`.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        ErrorBody { error: self.clone() }
    }
}

/// The JSON object around an [`Error`], as all our APIs answer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error itself.
    pub error: Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_shape_that_the_design_gives() {
        let body =
            Error::new(ErrorCode::NotFound, "no function is named `x`").hint("list them").body();
        let json = serde_json::to_value(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"error": {"code": "not_found", "message": "no function is named `x`", "hint": "list them"}})
        );
        assert_eq!(serde_json::from_value::<ErrorBody>(json).unwrap(), body);
    }
}
