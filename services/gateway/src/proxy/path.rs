//! Addresses: which function is meant, and what must not reach the provider.

use http::uri::PathAndQuery;

/// Splits `/function/NAME[/REST]` into the name as written and what the function sees: the rest,
/// with `/` in front and the query as it came. None for any other path.
///
/// Nothing is decoded or cleaned: the function gets what was sent, and what is no name is unknown.
pub(crate) fn function(path_and_query: &PathAndQuery) -> Option<(&str, &str)> {
    let rest = path_and_query.as_str().strip_prefix("/function/")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

/// The path that a function sees: the second half of what [`function`] gives.
pub(crate) fn seen_by_function(rest: &str) -> Result<PathAndQuery, http::uri::InvalidUri> {
    if rest.starts_with('/') { rest.parse() } else { format!("/{rest}").parse() }
}

/// Whether a path climbs: a part of it is `.` or `..`, however written. Such a path is read
/// differently by different programs, so it is not passed on to the provider.
pub(crate) fn climbs(path: &str) -> bool {
    let path = decoded(path.as_bytes());
    path.split(|&byte| matches!(byte, b'/' | b'\\')).any(|part| matches!(part, b"." | b".."))
}

/// Percent-decoding, once; what is no escape stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|&it| (it as char).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).expect("two hex digits are a byte"));
                at += 3;
            }
            (byte, ..) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expect: Option<(&str, &str)>) {
        let path: PathAndQuery = path.parse().unwrap();
        let split = function(&path)
            .map(|(name, rest)| (name, seen_by_function(rest).unwrap().as_str().to_owned()));
        assert_eq!(split, expect.map(|(name, rest)| (name, rest.to_owned())), "{path}");
    }

    #[test]
    fn the_prefix_is_taken_off_and_the_rest_is_left_as_it_is() {
        check("/function/a", Some(("a", "/")));
        check("/function/a/", Some(("a", "/")));
        check("/function/a?x=1&y=%20", Some(("a", "/?x=1&y=%20")));
        check("/function/a.ns/b/c?x", Some(("a.ns", "/b/c?x")));
        check("/function/a//b/../c", Some(("a", "//b/../c")));
        check("/function/a/%2e%2e/%2F", Some(("a", "/%2e%2e/%2F")));
        check("/function/a?b=/c", Some(("a", "/?b=/c")));
        check("/function/", Some(("", "/")));
        check("/function//a", Some(("", "/a")));
        check("/function/../v1/functions", Some(("..", "/v1/functions")));
        check("/function/%2e%2e/v1", Some(("%2e%2e", "/v1")));
        check("/function", None);
        check("/functions/a", None);
        check("/Function/a", None);
        check("//function/a", None);
        check("/v1/function/a", None);
    }

    #[test]
    fn a_path_that_climbs_is_seen_however_it_is_written() {
        for path in [
            "/v1/..",
            "/v1/../routes",
            "/v1/./x",
            "/v1/%2e%2e/routes",
            "/v1/%2E./routes",
            "/v1/..%2froutes",
            "/v1/x%2f..%2f..",
            "/v1/..\\routes",
            "/v1/..%5Croutes",
        ] {
            assert!(climbs(path), "{path}");
        }
        for path in [
            "/v1/functions",
            "/v1/functions/a/files/.git",
            "/v1/a..b",
            "/v1/...",
            "/v1/%252e%252e",
            "/v1/%",
            "/v1/%2",
            "/v1/%zz",
            "/v1/a%2Fb",
            "/",
        ] {
            assert!(!climbs(path), "{path}");
        }
    }
}
