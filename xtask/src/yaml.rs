//! YAML, read with care for its mistakes: each names its place and the nearest word that is known.

mod node;
mod read;

use std::fmt;
use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use serde::de::DeserializeOwned;
use serde_saphyr::Error;

use node::Node;
pub(crate) use node::{Place, Placed};
pub(crate) use read::read_all;

/// A mistake in a yml file, with its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The file, as a person should read it.
    pub(crate) file: String,
    /// Line and column, from 1.
    pub(crate) place: Option<(u64, u64)>,
    /// What is wrong, and the way out.
    pub(crate) message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for Mistake {}

/// Reads a yml file up to its first mistake.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path)?;
    Ok(from_yaml(&crate::workspace::shown(path).to_string(), &text)?)
}

/// Reads the text of a yml file up to its first mistake; `file` is how that names it.
pub(crate) fn from_yaml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Mistake> {
    // As in YAML 1.2, and so in LinuxKit: `yes` is a word.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(|it| (it.line(), it.column()));
        Mistake { file: file.to_owned(), place, message: describe(error) }
    })
}

fn describe(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        Error::SerdeUnknownVariant { variant, expected, .. } => unknown("word", variant, expected),
        Error::SerdeMissingField { field, .. } => missing(field),
        other => {
            // The library names the place again behind its message.
            let text = other.to_string();
            let message = text.lines().next().unwrap_or_default();
            let message = message.split(" at line ").next().unwrap_or_default();
            // Nor is there a policy to set for who writes the file.
            message.split(", set DuplicateKeyPolicy").next().unwrap_or_default().to_owned()
        }
    }
}

/// Says that a key is missing.
pub(crate) fn missing(field: &str) -> String {
    format!("key `{field}` is missing")
}

/// Says that a word is not known, which one may have been meant, and which there are.
pub(crate) fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|it| (strsim::damerau_levenshtein(found, it), it))
        .min()
        .filter(|(distance, it)| distance * 2 <= it.len());
    let hint = nearest.map_or(String::new(), |(_, it)| format!("; did you mean `{it}`?"));
    format!("unknown {what} `{found}`{hint} (known: {})", known.join(", "))
}
