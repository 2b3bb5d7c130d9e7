//! The name of a function: one word for its folder, its git directory, its route and its image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The namespace that a name without one is in, as OpenFaaS calls it.
pub const DEFAULT_NAMESPACE: &str = "openfaas-fn";

/// A function's name with its namespace, both DNS labels (RFC 1123: `a-z 0-9 -`, 1 to 63 long,
/// no `-` at either end). Written `NAME` in the default namespace and `NAME.NS` in others; the
/// text form is safe as a file name and as a path segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName {
    namespace: String,
    name: String,
}

impl FunctionName {
    /// A name in a namespace; an empty namespace means the default one.
    ///
    /// # Errors
    /// When either part is not a DNS label.
    pub fn new(name: &str, namespace: &str) -> Result<Self, InvalidName> {
        let namespace = if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace };
        check(name, name)?;
        check(namespace, namespace)?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The name without its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace, `openfaas-fn` by default.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace == DEFAULT_NAMESPACE {
            f.write_str(&self.name)
        } else {
            write!(f, "{}.{}", self.name, self.namespace)
        }
    }
}

impl FromStr for FunctionName {
    type Err = InvalidName;

    /// Reads `NAME` or `NAME.NS`, split at the last dot as OpenFaaS does.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.rsplit_once('.') {
            Some((_, "")) => Err(InvalidName { text: text.to_owned(), why: "ends with a dot" }),
            Some((name, namespace)) => Self::new(name, namespace),
            None => Self::new(text, ""),
        }
    }
}

impl TryFrom<String> for FunctionName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.to_string()
    }
}

/// A text that is no function name, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a function name: it {why}")]
pub struct InvalidName {
    text: String,
    why: &'static str,
}

impl From<InvalidName> for crate::Error {
    fn from(error: InvalidName) -> Self {
        Self::new(crate::ErrorCode::InvalidArgument, error.to_string())
            .hint("use 1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit")
    }
}

fn check(label: &str, text: &str) -> Result<(), InvalidName> {
    let why = if label.is_empty() {
        "is empty"
    } else if label.len() > 63 {
        "is longer than 63 characters"
    } else if label.starts_with('-') || label.ends_with('-') {
        "begins or ends with `-`"
    } else if !label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        "has a character other than a-z, 0-9 and `-`"
    } else {
        return Ok(());
    };
    Err(InvalidName { text: text.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_ok(text: &str, name: &str, namespace: &str) {
        let parsed: FunctionName = text.parse().unwrap();
        assert_eq!((parsed.name(), parsed.namespace()), (name, namespace));
        assert_eq!(parsed.to_string().parse(), Ok(parsed));
    }

    #[test]
    fn names_are_read_with_and_without_a_namespace() {
        check_ok("hello", "hello", "openfaas-fn");
        check_ok("hello.staging", "hello", "staging");
        check_ok("hello.openfaas-fn", "hello", "openfaas-fn");
        check_ok("7", "7", "openfaas-fn");
        check_ok(&"a".repeat(63), &"a".repeat(63), "openfaas-fn");
    }

    #[test]
    fn what_is_no_dns_label_is_refused() {
        for text in ["", ".", "a.", ".b", "-a", "a-", "A", "a_b", "a/b", "..", "a b", "ä", "a.b.c"]
        {
            assert!(text.parse::<FunctionName>().is_err(), "{text:?} was taken");
        }
        assert!("a".repeat(64).parse::<FunctionName>().is_err());
    }
}
