//! What callers send: bodies and queries, and words for what is wrong with them.

use api::{Error, ErrorCode};
use axum::body::Body;
use axum::http::Uri;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Failure, Result};

/// Longest JSON body, in bytes.
const MAX_JSON: usize = 1 << 20;

/// Reads a body as a JSON object; none at all is taken where `{}` would be.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T> {
    let bytes = match Limited::new(body, MAX_JSON).collect().await {
        Ok(bytes) => bytes.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body is longer than {MAX_JSON} bytes");
            return Err(Failure(Error::new(ErrorCode::TooLarge, message)));
        }
        Err(error) => return Err(refused(format!("the body broke off: {error}"))),
    };
    parse(&bytes).map_err(refused)
}

/// Reads a query string's fields.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T> {
    axum::extract::Query::try_from_uri(uri).map(|it| it.0).map_err(|error| {
        let text = error.body_text();
        let (_, why) = text.split_once("query string: ").unwrap_or(("", &text));
        refused(format!("the query is not what it must be: {}", in_words(why)))
    })
}

/// Whether a path is UTF-8 once its escapes are read.
pub(super) fn is_text(path: &str) -> bool {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| first == b'%');
        let digits = escaped.and_then(|it| std::str::from_utf8(it).ok());
        let byte = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    std::str::from_utf8(&bytes).is_ok()
}

fn refused(message: String) -> Failure {
    Failure(Error::new(ErrorCode::InvalidArgument, message))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.trim_ascii().is_empty() {
        return serde_json::from_slice(b"{}")
            .map_err(|_| "the body is empty, it must be a JSON object".to_owned());
    }
    // An array would be taken for the fields in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => format!("the body must be a JSON object, and is {}", kind(&value)),
            Err(error) => format!("the body is not JSON: {error}"),
        });
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        if !error.is_data() {
            return format!("the body is not JSON: {error}");
        }
        let why = in_words(&error.to_string());
        match path.as_str() {
            "." => format!("the body is not what it must be: {why}"),
            _ if why.contains(&format!("`{path}`")) => {
                format!("the body is not what it must be: {why}")
            }
            _ => format!("`{path}` in the body is not what it must be: {why}"),
        }
    })?;
    reader.end().map_err(|error| format!("the body is not JSON: {error}"))?;
    Ok(value)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The reader's words for types, as JSON and queries have them.
fn in_words(why: &str) -> String {
    let mut why = why.to_owned();
    for (rust, words) in [
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected a sequence", "expected an array"),
        ("expected a map", "expected an object"),
        ("invalid type: sequence", "invalid type: array"),
        ("invalid type: map", "invalid type: object"),
        ("invalid type: integer", "invalid type: number"),
        ("invalid value: integer", "invalid value: number"),
        ("invalid type: floating point", "invalid type: number"),
        ("invalid digit found in string", "expected a whole number"),
        ("cannot parse integer from empty string", "expected a whole number"),
        ("number too large to fit in target type", "the number is too large"),
        ("provided string was not `true` or `false`", "expected `true` or `false`"),
    ] {
        why = why.replace(rust, words);
    }
    if let Some((before, after)) = why.split_once("expected struct ") {
        let place = after.find(" at line ").map_or("", |at| &after[at..]);
        why = format!("{before}expected an object{place}");
    }
    why
}

#[cfg(test)]
mod tests {
    use api::build::CommitRequest;
    use api::function::CreateFunction;
    use api::openfaas::FunctionDeployment;
    use api::revision::RollbackRequest;
    use serde::Deserialize;

    use super::*;

    #[track_caller]
    fn check<T: DeserializeOwned>(body: &str, expected: &str) {
        let said = parse::<T>(body.as_bytes()).map(|_| ()).unwrap_err();
        assert!(said.contains(expected), "{body}: {said}");
        for word in ["struct", "u64", "CreateFunction", "sequence"] {
            assert!(!said.contains(word), "{body}: {said}");
        }
    }

    #[test]
    fn a_body_that_is_wrong_is_told_in_the_words_of_json() {
        check::<CreateFunction>("", "the body is empty");
        check::<CreateFunction>(" \n", "the body is empty");
        check::<CreateFunction>("{}", "missing field `name`");
        check::<CreateFunction>("[]", "must be a JSON object, and is an array");
        check::<CreateFunction>("[", "not JSON");
        check::<CreateFunction>("{", "not JSON");
        check::<CreateFunction>("{\"name\": \"a\"} x", "not JSON");
        check::<CreateFunction>("{\"name\": 5}", "`name` in the body is not what it must be");
        check::<CreateFunction>("{\"name\": \"a\", \"env\": []}", "array, expected an object");
        check::<CreateFunction>("{\"name\": \"a\", \"env\": {\"X\": 1}}", "`env.X` in the body");
        check::<CreateFunction>("{\"name\": \"a\", \"nam\": 1}", "unknown field `nam`");
        check::<CommitRequest>("[]", "must be a JSON object, and is an array");
        check::<CommitRequest>("null", "and is null");
        check::<RollbackRequest>("{\"revision\": \"1\"}", "expected a whole number, 0 or more");
        check::<RollbackRequest>("{\"revision\": -1}", "number `-1`, expected a whole number");
        check::<FunctionDeployment>(
            "{\"service\": \"a\", \"image\": \"b\", \"limits\": 5}",
            "`limits` in the body is not what it must be: invalid type: number `5`, expected an object",
        );
        assert_eq!(parse::<CommitRequest>(b""), Ok(CommitRequest::default()));
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[serde(default, rename = "tail")]
        _tail: Option<u64>,
        #[serde(default, rename = "follow")]
        _follow: bool,
    }

    #[test]
    fn a_path_is_text_or_not() {
        for path in ["/a%20b", "/%c3%a4", "/%", "/%zz", "/%a"] {
            assert!(is_text(path), "{path}");
        }
        for path in ["/%ff", "/a/%C3", "/%c3%28"] {
            assert!(!is_text(path), "{path}");
        }
    }

    #[test]
    fn a_query_that_is_wrong_is_told_by_its_fields() {
        for (text, expected) in [
            ("/?tail=x", "tail: expected a whole number"),
            ("/?follow=1", "follow: expected `true` or `false`"),
            ("/?tial=1", "unknown field `tial`"),
        ] {
            let Failure(error) = query::<Asked>(&text.parse().unwrap()).unwrap_err();
            assert!(error.message.contains(expected), "{text}: {error}");
        }
    }
}
