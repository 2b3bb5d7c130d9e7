//! One pattern against one path, in time proportional to both: the pattern comes from a user.

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Glob(Vec<Token>);

#[derive(Debug, PartialEq)]
enum Token {
    /// Exactly this character.
    Char(char),
    /// `?`: one character that is no slash.
    One,
    /// `[a-z]`: one character in (or, with `^`, outside) the ranges.
    Class { outside: bool, ranges: Vec<(char, char)> },
    /// `*`: any characters but a slash, or none.
    Star,
    /// `**` before more: any number of whole folders, or none.
    Folders,
    /// `**` at the end: anything, or nothing.
    All,
}

/// Whether Go's `filepath.Match` would treat the text as more than itself.
pub(crate) fn has_wildcard(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                chars.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

impl Glob {
    /// Reads a pattern; the error says what is wrong with it.
    pub(crate) fn new(pattern: &str) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(char) = rest.next() {
            tokens.push(match char {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    let whole = rest.next_if_eq(&'/').is_some();
                    let left: String = rest.clone().collect();
                    // moby reads `**.pyc` as "ends with .pyc", but `**.py?` as folders and `.py?`.
                    let suffix = tokens.is_empty() && !whole && !has_wildcard(&left);
                    if left.is_empty() || suffix { Token::All } else { Token::Folders }
                }
                '*' => Token::Star,
                '?' => Token::One,
                '[' => class(&mut rest)?,
                '\\' => Token::Char(rest.next().ok_or("nothing follows the `\\`")?),
                char => Token::Char(char),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether the whole path matches. All the ways to match are followed at once.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let mut at = vec![false; self.0.len() + 1];
        self.enter(&mut at, 0);
        for char in path.chars() {
            let mut next = vec![false; at.len()];
            for (index, token) in self.0.iter().enumerate().filter(|(index, _)| at[*index]) {
                match token {
                    Token::Star if char != '/' => self.enter(&mut next, index),
                    Token::All => self.enter(&mut next, index),
                    Token::Folders => {
                        // Inside a folder's name the pattern cannot go on before its slash.
                        next[index] = true;
                        if char == '/' {
                            self.enter(&mut next, index + 1);
                        }
                    }
                    token if token.takes(char) => self.enter(&mut next, index + 1),
                    _ => {}
                }
            }
            at = next;
        }
        at[self.0.len()]
    }

    /// Marks a place in the pattern, and those behind it that it may reach without a character.
    fn enter(&self, at: &mut [bool], mut index: usize) {
        at[index] = true;
        while let Some(Token::Star | Token::Folders | Token::All) = self.0.get(index) {
            index += 1;
            at[index] = true;
        }
    }
}

impl Token {
    /// Whether a token of exactly one character takes this one.
    fn takes(&self, char: char) -> bool {
        match self {
            Self::Char(own) => *own == char,
            Self::One => char != '/',
            Self::Class { outside, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&char)) != *outside
            }
            Self::Star | Self::Folders | Self::All => false,
        }
    }
}

/// The rest of a class, after its `[`.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    const OPEN: &str = "no `]` ends the class";
    let outside = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match rest.next().ok_or(OPEN)? {
            ']' if ranges.is_empty() => return Err("the class is empty"),
            ']' => return Ok(Token::Class { outside, ranges }),
            '\\' => rest.next().ok_or(OPEN)?,
            char => char,
        };
        let high = if rest.next_if_eq(&'-').is_some() {
            match rest.next().ok_or(OPEN)? {
                ']' => return Err("the range has no end"),
                '\\' => rest.next().ok_or(OPEN)?,
                char => char,
            }
        } else {
            low
        };
        ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, takes: &[&str], leaves: &[&str]) {
        let glob = Glob::new(pattern).unwrap();
        for path in takes {
            assert!(glob.matches(path), "`{pattern}` takes `{path}`");
        }
        for path in leaves {
            assert!(!glob.matches(path), "`{pattern}` leaves `{path}`");
        }
    }

    #[test]
    fn globs_match_as_mobys_do() {
        check("a.txt", &["a.txt"], &["a_txt", "a.txt/b", "ba.txt"]);
        check("*", &["a", ".a"], &["a/b"]);
        check("*.p?", &["a.py", ".py"], &["a.p", "a.pyc", "d/a.py"]);
        check("[a-c]x", &["ax", "cx"], &["dx", "x"]);
        check("[^a-c]x", &["dx", "/x"], &["ax"]);
        check("[\\]]", &["]"], &["\\"]);
        check("\\*", &["*"], &["a"]);
        check("**", &["a", "a/b"], &[]);
        check("**/a", &["a", "x/a", "x/y/a"], &["xa", "x/ya", "a/b"]);
        check("**.pyc", &["a.pyc", "x/a.pyc", ".pyc"], &["a.py"]);
        check("**.py?", &[".pyc", "x/.pyc"], &["a.pyc"]);
        check("a**", &["a", "ab/c"], &["b"]);
        check("a/**", &["a/", "a/b/c"], &["a", "ab"]);
        check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb"]);
        check("**/*.go", &["a.go", "x/y/a.go"], &["a.g"]);
        check("ä?", &["äö"], &["ä"]);
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        check(
            &"*a".repeat(40),
            &[],
            &["a".repeat(39).as_str(), &"a".repeat(4000).replace("aa", "ab")],
        );
        check(&format!("{}x", "**/".repeat(40)), &[], &[&"a/".repeat(1000)]);
    }
}
