//! A request as environment variables, by OpenFaaS's names.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use hyper::Request;
use hyper::body::Body;
use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

/// The variables for a request. `classic` adds the three that only the classic watchdog sets.
/// The error says what cannot be a variable.
pub(crate) fn environment(
    request: &Request<impl Body>,
    classic: bool,
) -> Result<Vec<(String, OsString)>, String> {
    let mut set = Vec::with_capacity(request.headers().len() + 8);
    for name in
        request.headers().keys().filter(|name| **name != HOST && **name != TRANSFER_ENCODING)
    {
        // The first of several values, as OpenFaaS has it.
        let value = &request.headers()[name];
        set.push((variable(name.as_str()), OsString::from_vec(value.as_bytes().to_vec())));
    }
    let mut add = |name: &str, value: String| set.push((name.to_owned(), value.into()));
    add("Http_Method", request.method().to_string());
    if let Some(query) = request.uri().query().filter(|query| !query.is_empty()) {
        add("Http_Query", query.to_owned());
    }
    if request.headers().contains_key(TRANSFER_ENCODING) {
        add("Http_Transfer_Encoding", "chunked".to_owned());
    }
    if classic {
        let chunked = request.headers().contains_key(TRANSFER_ENCODING);
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = if chunked { "-1" } else { length.unwrap_or("0") };
        add("Http_ContentLength", length.to_owned());
        add("Http_Content_Length", length.to_owned());
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        if let Some(host) = host.or_else(|| request.uri().authority().map(|a| a.as_str())) {
            add("Http_Host", host.to_owned());
        }
    }
    let path = decode(request.uri().path());
    if path.contains(&0) {
        return Err("the path holds a NUL, which no environment variable can".to_owned());
    }
    if !path.is_empty() {
        set.push(("Http_Path".to_owned(), OsString::from_vec(path)));
    }
    Ok(set)
}

/// `x-call-id` → `Http_X_Call_Id`: hyper's names are lower case, Go's are not.
fn variable(header: &str) -> String {
    let mut name = String::with_capacity(header.len() + 5);
    name.push_str("Http_");
    let mut first = true;
    for c in header.chars() {
        name.push(match c {
            '-' => '_',
            c if first => c.to_ascii_uppercase(),
            c => c,
        });
        first = c == '-';
    }
    name
}

/// Percent-decoding; what is no escape stays as it is.
fn decode(path: &str) -> Vec<u8> {
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = match bytes[at..] {
            [b'%', high, low, ..] => hex(high).zip(hex(low)),
            _ => None,
        };
        if let Some((high, low)) = escape {
            out.push(high << 4 | low);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: hyper::http::request::Builder, classic: bool, expected: &[(&str, &str)]) {
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let mut set = environment(&request, classic).unwrap();
        set.sort();
        let set: Vec<_> = set.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(set, expected);
    }

    #[test]
    fn a_request_becomes_the_variables_that_openfaas_documents() {
        let request = || {
            Request::put("/a%20b/%zz?q=1&r=%20")
                .header("host", "fn.example:8080")
                .header("content-type", "text/plain")
                .header("content-length", "5")
                .header("x-call-id", "first")
                .header("x-call-id", "second")
        };
        let both = [
            ("Http_Content_Length", "5"),
            ("Http_Content_Type", "text/plain"),
            ("Http_Method", "PUT"),
            ("Http_Path", "/a b/%zz"),
            ("Http_Query", "q=1&r=%20"),
            ("Http_X_Call_Id", "first"),
        ];
        check(request(), false, &both);
        let classic = [
            ("Http_ContentLength", "5"),
            ("Http_Content_Length", "5"),
            ("Http_Content_Length", "5"),
            ("Http_Content_Type", "text/plain"),
            ("Http_Host", "fn.example:8080"),
            ("Http_Method", "PUT"),
            ("Http_Path", "/a b/%zz"),
            ("Http_Query", "q=1&r=%20"),
            ("Http_X_Call_Id", "first"),
        ];
        check(request(), true, &classic);
    }

    #[test]
    fn a_chunked_body_has_no_length() {
        let request = Request::post("/").header("transfer-encoding", "chunked");
        let expected = [
            ("Http_ContentLength", "-1"),
            ("Http_Content_Length", "-1"),
            ("Http_Method", "POST"),
            ("Http_Path", "/"),
            ("Http_Transfer_Encoding", "chunked"),
        ];
        check(request, true, &expected);
    }

    #[test]
    fn a_nul_in_the_path_is_refused() {
        let request = Request::get("/a%00b").body(http_body_util::Empty::<bytes::Bytes>::new());
        assert!(environment(&request.unwrap(), false).is_err());
    }
}
