//! What the gateway itself says: errors, and the headers that go with its own pages.

use api::{Error, ErrorCode};
use axum::body::Body;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// Marks an answer that the platform made, not the function, as OpenFaaS does: callers that repeat
/// failed calls look for it.
const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");

/// An error as `{"error": {...}}` with the status of its code.
pub(crate) fn error(error: &Error) -> Response<Body> {
    let status = StatusCode::from_u16(error.code.status()).expect("codes have valid statuses");
    let body = serde_json::to_vec(&error.body()).expect("an error is plain data");
    let mut answer = own(status, "application/json", body.into());
    if matches!(error.code, ErrorCode::Unavailable | ErrorCode::ResourceExhausted) {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// An error that a caller of a function gets instead of the function's answer.
pub(crate) fn instead_of_function(error: &Error) -> Response<Body> {
    mark(self::error(error))
}

/// What OpenFaaS says when there is no such function.
pub(crate) fn no_function(name: &str) -> Response<Body> {
    mark(text(StatusCode::NOT_FOUND, format!("error finding function {name}")))
}

/// One line of text.
pub(crate) fn text(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    own(status, "text/plain; charset=utf-8", text.into())
}

/// A JSON document.
pub(crate) fn json(value: &serde_json::Value) -> Response<Body> {
    own(StatusCode::OK, "application/json", value.to_string().into())
}

/// The verb is none of `allowed`.
pub(crate) fn wrong_verb(allowed: &'static str) -> Response<Body> {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("use one of {allowed}"));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Nothing is at this path of this origin; `hint` says what is.
pub(crate) fn no_path(path: &str, hint: &str) -> Response<Body> {
    error(&Error::new(ErrorCode::NotFound, format!("nothing is at `{path}`")).hint(hint))
}

/// The browser is not to guess types, run anything in, frame, or keep what we say.
pub(crate) fn protect(headers: &mut HeaderMap) {
    const RULES: [(HeaderName, HeaderValue); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    for (name, value) in RULES {
        headers.insert(name, value);
    }
}

fn mark(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(INTERNAL, HeaderValue::from_static("proxy"));
    answer
}

fn own(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    protect(answer.headers_mut());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_status_of_their_code_and_say_when_to_come_back() {
        let answer = error(&Error::new(ErrorCode::Unavailable, "no"));
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(!answer.headers().contains_key(INTERNAL));

        let answer = instead_of_function(&Error::new(ErrorCode::TooLarge, "no"));
        assert_eq!(answer.status(), 413);
        assert!(!answer.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(answer.headers()[INTERNAL], "proxy");
    }
}
