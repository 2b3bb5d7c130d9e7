//! What browsers say of where a request comes from.

use api::{Error, ErrorCode};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets requests to the console pass that its own pages made, a person typed, or a program sent.
///
/// `host` is what the request asked for: the console's own origin, as the browser sees it.
/// Functions are on the same host, so a browser calls them "same-site": that is not enough.
pub(crate) fn check_console(headers: &HeaderMap, host: &HeaderValue) -> Result<(), Error> {
    let foreign_site = headers
        .get_all(FETCH_SITE)
        .iter()
        .any(|it| !matches!(it.as_bytes(), b"same-origin" | b"none"));
    let own = [b"http://", host.as_bytes()].concat();
    let foreign_origin = headers.get_all(header::ORIGIN).iter().any(|it| it.as_bytes() != own);
    if foreign_site || foreign_origin {
        return Err(Error::new(ErrorCode::PermissionDenied, "the request comes from another page")
            .hint("use the console's own pages, or a program that is no browser"));
    }
    Ok(())
}

/// Lets no browser pass: OpenFaaS's API is for programs.
pub(crate) fn check_program(headers: &HeaderMap) -> Result<(), Error> {
    if headers.keys().any(|name| name.as_str().starts_with("sec-fetch-")) {
        return Err(Error::new(ErrorCode::PermissionDenied, "/system is not for browsers")
            .hint("use faas-cli or curl, or the console"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[(&'static str, &'static str)], passes: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let host = HeaderValue::from_static("localhost:8443");
        assert_eq!(check_console(&headers, &host).is_ok(), passes, "{lines:?}");
    }

    #[test]
    fn the_consoles_own_pages_people_and_programs_pass() {
        check(&[], true);
        check(&[("origin", "http://localhost:8443")], true);
        check(&[("sec-fetch-site", "none")], true);
        check(&[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8443")], true);
    }

    #[test]
    fn pages_of_other_origins_do_not() {
        for origin in [
            "http://localhost:8080",
            "https://localhost:8443",
            "http://localhost",
            "http://localhost:84433",
            "http://evil.localhost:8443",
            "null",
            "",
            "http://LOCALHOST:8443",
        ] {
            check(&[("origin", origin)], false);
        }
        for site in ["cross-site", "same-site", "", "same-origin, cross-site"] {
            check(&[("sec-fetch-site", site)], false);
        }
        check(&[("origin", "http://localhost:8443"), ("origin", "http://evil")], false);
        check(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:8443")], false);
    }

    #[test]
    fn no_browser_reaches_system() {
        let mut headers = HeaderMap::new();
        assert!(check_program(&headers).is_ok());
        headers.insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
        assert!(check_program(&headers).is_err());
    }
}
