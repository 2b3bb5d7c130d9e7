//! The entity tag of a file, and what a caller asks of it before a write.

use std::fmt;
use std::io::{self, Read};

use api::{Error, ErrorCode};
use sha2::{Digest, Sha256};

/// A strong entity tag: the first 128 bits of the SHA-256 of a file's bytes, in quotes.
///
/// Of the content and not of inode, size and time, because an editor writes in place, twice within
/// one tick of a file system's clock if it must: times would call two contents one. And it is
/// the same after a roll-back, a restore or a reboot. Files read through the API are small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// The tag of all that a reader gives, and how many bytes that was.
    pub(super) fn of(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hash = Sha256::new();
        let size = io::copy(&mut reader, &mut hash)?;
        Ok((Self::from_hash(hash), size))
    }

    pub(super) fn from_hash(hash: Sha256) -> Self {
        let mut tag = String::with_capacity(34);
        tag.push('"');
        for byte in &hash.finalize()[..16] {
            tag.push_str(&format!("{byte:02x}"));
        }
        tag.push('"');
        Self(tag)
    }

    /// As the header `ETag` has it, with its quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the value of an `If-None-Match` header names it: the caller has it already.
    #[must_use]
    pub fn is_in(&self, header: &str) -> bool {
        header.trim() == "*" || tags(header).any(|tag| tag.trim_start_matches("W/") == self.0)
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What must be true of a file for a write to it to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing: the last writer wins.
    #[default]
    None,
    /// `If-None-Match: *`: it must not exist.
    Absent,
    /// `If-Match: *`: it must exist.
    Present,
    /// `If-Match: "...", ...`: it must exist and have one of these tags.
    Tagged(Vec<String>),
}

impl Precondition {
    /// Reads the two headers of a write.
    ///
    /// # Errors
    /// `InvalidArgument` when both are given, or one is nothing that a write can ask.
    pub fn from_headers(if_match: Option<&str>, if_none: Option<&str>) -> Result<Self, Error> {
        let refuse = |message| Err(Error::new(ErrorCode::InvalidArgument, message));
        match (if_match.map(str::trim), if_none.map(str::trim)) {
            (None, None) => Ok(Self::None),
            (None, Some("*")) => Ok(Self::Absent),
            (None, Some(_)) => refuse("`If-None-Match` of a write can only be `*`"),
            (Some("*"), None) => Ok(Self::Present),
            (Some(header), None) => {
                let tags: Vec<_> = tags(header).map(str::to_owned).collect();
                // A weak tag never matches here (RFC 9110, 13.1.1), so it is let through.
                let quoted = |tag: &String| {
                    let tag = tag.trim_start_matches("W/");
                    tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"')
                };
                if tags.is_empty() || !tags.iter().all(quoted) {
                    return refuse("`If-Match` is neither `*` nor a list of tags in quotes");
                }
                Ok(Self::Tagged(tags))
            }
            (Some(_), Some(_)) => refuse("`If-Match` and `If-None-Match` exclude each other"),
        }
    }

    /// Whether a file with this tag, or none, may be written.
    #[must_use]
    pub fn holds(&self, current: Option<&Etag>) -> bool {
        match (self, current) {
            (Self::None, _) | (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Absent, Some(_)) | (Self::Present | Self::Tagged(_), None) => false,
            (Self::Tagged(tags), Some(current)) => tags.contains(&current.0),
        }
    }

    /// What is different, when it does not hold for a file that is there or is not.
    pub(super) fn why_not(&self, there: bool) -> &'static str {
        match (self, there) {
            (Self::Absent, _) => "exists already",
            (_, true) => "is not what it was when it was read",
            (_, false) => "does not exist",
        }
    }

    /// Whether the answer depends on the bytes that are there.
    pub(super) fn needs_content(&self) -> bool {
        matches!(self, Self::Tagged(_))
    }
}

/// The tags of a header. Ours hold no comma, so a split that others would need quotes for is right.
fn tags(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(str::trim).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Etag {
        Etag::of(text.as_bytes()).unwrap().0
    }

    #[test]
    fn a_tag_is_of_the_bytes_alone() {
        // First half of SHA-256 of the empty text, which any tool can confirm.
        assert_eq!(tag("").as_str(), "\"e3b0c44298fc1c149afbf4c8996fb924\"");
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
    }

    #[test]
    fn a_reader_that_has_it_is_told_so() {
        let tag = tag("x");
        assert!(tag.is_in("*"));
        assert!(tag.is_in(&format!("\"other\", W/{tag}")));
        assert!(!tag.is_in("\"other\""));
        assert!(!tag.is_in(""));
    }

    #[track_caller]
    fn check(if_match: Option<&str>, if_none: Option<&str>, absent: bool, same: bool, other: bool) {
        let asked = Precondition::from_headers(if_match, if_none).unwrap();
        let answers =
            (asked.holds(None), asked.holds(Some(&tag("same"))), asked.holds(Some(&tag("other"))));
        assert_eq!(answers, (absent, same, other), "{asked:?}");
    }

    #[test]
    fn preconditions_hold_as_http_has_them() {
        let same = tag("same").to_string();
        check(None, None, true, true, true);
        check(None, Some("*"), true, false, false);
        check(Some("*"), None, false, true, true);
        check(Some(&same), None, false, true, false);
        check(Some(&format!("\"x\" , {same}")), None, false, true, false);
        check(Some(&format!("W/{same}")), None, false, false, false);
    }

    #[test]
    fn preconditions_without_a_meaning_are_refused() {
        for (if_match, if_none) in [
            (Some("*"), Some("*")),
            (None, Some("\"x\"")),
            (Some("x"), None),
            (Some(""), None),
            (Some(","), None),
            (Some("\""), None),
        ] {
            let error = Precondition::from_headers(if_match, if_none).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument);
        }
    }
}
