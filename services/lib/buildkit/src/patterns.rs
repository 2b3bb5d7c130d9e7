//! Which paths of a build context a list of patterns takes, as `.dockerignore` has it.
//!
//! The rules are those of moby's pattern matcher, which BuildKit's own client uses: the last
//! pattern that matches a path or one of its parents decides, `!` turns a match round, `*` and `?`
//! stop at a slash, `**` does not.

mod glob;

pub(crate) use glob::{Glob, has_wildcard};

/// A pattern that cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern `{pattern}`: {reason}")]
pub(crate) struct BadPattern {
    pattern: String,
    reason: &'static str,
}

/// A list of patterns, in order.
pub(crate) struct Patterns(Vec<Pattern>);

struct Pattern {
    glob: Glob,
    exception: bool,
}

/// Which patterns matched a folder, for its children to inherit; opaque to the caller.
#[derive(Clone)]
pub(crate) struct Inherited(Vec<bool>);

impl Patterns {
    /// Reads patterns; blank ones are left out.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, BadPattern> {
        let mut list = Vec::new();
        for raw in patterns {
            let text = raw.trim();
            if text.is_empty() {
                continue;
            }
            let bad = |reason| BadPattern { pattern: text.to_owned(), reason };
            let text = clean(text);
            let (text, exception) = match text.strip_prefix('!') {
                Some("") => return Err(bad("nothing follows the `!`")),
                Some(rest) => (rest, true),
                None => (text.as_str(), false),
            };
            list.push(Pattern { glob: Glob::new(text).map_err(bad)?, exception });
        }
        Ok(Self(list))
    }

    /// Whether there is no pattern at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the entries at the top inherit: nothing matched yet.
    pub(crate) fn top(&self) -> Inherited {
        Inherited(vec![false; self.0.len()])
    }

    /// Whether the patterns take `path`, given what its parent folder inherited to it; and what
    /// `path` inherits to its own children.
    pub(crate) fn matches(&self, path: &str, parent: &Inherited) -> (bool, Inherited) {
        let mut taken = false;
        let mut own = self.top();
        for (index, pattern) in self.0.iter().enumerate() {
            // A pattern that could not change the verdict is not even tried, and then inherits
            // nothing: BuildKit's verdicts below such a folder depend on it.
            let matched =
                parent.0[index] || (pattern.exception == taken && pattern.glob.matches(path));
            own.0[index] = matched;
            if matched {
                taken = !pattern.exception;
            }
        }
        (taken, own)
    }
}

/// The shortest path that means the same: no `.`, no double slash, `..` resolved as far as it goes.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks down to `path` as a tree walk does, so that parents hand on what they matched.
    fn check(patterns: &[&str], path: &str, expected: bool) {
        let list: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
        let patterns = Patterns::new(&list).unwrap();
        let mut inherited = patterns.top();
        let mut taken = false;
        for end in path.match_indices('/').map(|it| it.0).chain([path.len()]) {
            (taken, inherited) = patterns.matches(&path[..end], &inherited);
        }
        assert_eq!(taken, expected, "{list:?} on {path}");
    }

    #[test]
    fn a_pattern_takes_a_path_and_everything_below_it() {
        check(&["node_modules"], "node_modules", true);
        check(&["node_modules"], "node_modules/a/b.js", true);
        check(&["node_modules"], "sub/node_modules", false);
        check(&["**/node_modules"], "sub/node_modules/a", true);
        check(&["**/node_modules"], "node_modules/a", true);
        check(&["./docs/"], "docs/a.md", true);
        check(&["docs/*"], "docs", false);
        check(&["docs/*"], "docs/a/b", true);
        check(&["a/**/z"], "a/z", true);
        check(&["a/**/z"], "a/b/c/z", true);
        check(&["a/**"], "a", false);
        check(&["a/**"], "a/b", true);
        check(&["**"], "anything/at/all", true);
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        check(&["*", "!src"], "src/a.py", false);
        check(&["*", "!src"], "src", false);
        check(&["*", "!src/**"], "src/a.py", false);
        check(&["*.md", "!README.md"], "README.md", false);
        check(&["*.md", "!README.md"], "other.md", true);
        check(&["!README.md", "*.md"], "README.md", true);
        check(&["docs", "!docs/keep", "docs/keep/not"], "docs/keep/yes", false);
        check(&["docs", "!docs/keep", "docs/keep/not"], "docs/keep/not", true);
    }

    #[test]
    fn a_pattern_that_cannot_be_understood_is_named() {
        for (pattern, reason) in [
            ("!", "nothing follows the `!`"),
            ("a[b", "no `]` ends the class"),
            ("a\\", "nothing follows the `\\`"),
        ] {
            let error = Patterns::new(&[pattern.to_owned()]).err().unwrap();
            assert_eq!(error.to_string(), format!("pattern `{pattern}`: {reason}"));
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("", "."),
            ("./a/", "a"),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("/../a", "/a"),
            ("/", "/"),
            ("a/..", "."),
            ("!./a", "!./a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
