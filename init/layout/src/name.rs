//! Names of containers: they become paths, so they are checked once and for all.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes: a folder `NNN-NAME` and an id in containerd both hold it.
pub const MAX_NAME: usize = 64;

/// A name of `a-z`, `0-9`, `_`, `.` and `-` that starts with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "name `{0}` is not of a-z, 0-9, `_`, `.`, `-` with a letter or digit first (at most {MAX_NAME})"
)]
pub struct InvalidName(String);

impl ContainerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContainerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ContainerName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        let is_alphanumeric = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
        let starts_well = text.bytes().next().is_some_and(is_alphanumeric);
        let goes_on_well =
            text.bytes().all(|it| is_alphanumeric(it) || matches!(it, b'_' | b'.' | b'-'));
        if starts_well && goes_on_well && text.len() <= MAX_NAME {
            Ok(Self(text))
        } else {
            Err(InvalidName(text))
        }
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_folder() {
        for good in ["a", "dhcp", "0-x", "a_b.c-d", &"n".repeat(64)] {
            assert_eq!(good.parse::<ContainerName>().map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", "a/b", "../x", "-a", "_a", "A", "a b", "ä", &"n".repeat(65)] {
            assert_eq!(bad.parse::<ContainerName>(), Err(InvalidName(bad.to_owned())), "{bad}");
        }
    }
}
