//! Headers that belong to one connection, and those that say how to treat a call.

use hyper::HeaderMap;
use hyper::Uri;
use hyper::header::{
    ACCEPT, CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};

/// Headers about one connection only, besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    // Answered by our own server as soon as the body is asked for.
    EXPECT,
    UPGRADE,
];

/// Whether the request wants to change the protocol (websockets do).
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && names(headers).any(|name| name.eq_ignore_ascii_case("upgrade"))
}

/// Whether the caller waits for a stream (server-sent events, NDJSON).
pub(crate) fn accepts_stream(headers: &HeaderMap) -> bool {
    let Some(accept) = headers.get(ACCEPT).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let accept = accept.to_ascii_lowercase();
    ["text/event-stream", "application/x-ndjson"].iter().any(|kind| accept.contains(kind))
}

/// Removes what is about one connection. With `upgrade` the headers that carry the change of
/// protocol stay. `TE: trailers` stays, or no trailer would come.
pub(crate) fn drop_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    let protocol = if upgrade { headers.get(UPGRADE).cloned() } else { None };
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = names(headers).filter_map(|name| name.parse().ok()).collect();
        for name in named.iter().filter(|name| **name != TE) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// HTTP/1.1 needs a host; HTTP/1.0 callers may not send one, proxies' callers send it in the URL.
pub(crate) fn ensure_host(headers: &mut HeaderMap, uri: &Uri, default: &HeaderValue) {
    if !headers.contains_key(HOST) {
        let named = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        headers.insert(HOST, named.unwrap_or_else(|| default.clone()));
    }
}

/// The names in `Connection`.
fn names(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn check(
        before: &[(&'static str, &'static str)],
        upgrade: bool,
        after: &[(&'static str, &'static str)],
    ) {
        let mut headers = map(before);
        drop_hop_by_hop(&mut headers, upgrade);
        assert_eq!(headers, map(after), "{before:?}");
    }

    #[test]
    fn what_belongs_to_one_connection_goes_no_further() {
        check(&[("connection", "close"), ("x-a", "1")], false, &[("x-a", "1")]);
        check(
            &[("connection", "keep-alive, X-Mine"), ("x-mine", "1"), ("keep-alive", "5")],
            false,
            &[],
        );
        check(&[("transfer-encoding", "chunked"), ("expect", "100-continue")], false, &[]);
        check(&[("te", "gzip")], false, &[]);
        check(
            &[("te", "trailers"), ("connection", "TE"), ("trailer", "x-sum")],
            false,
            &[("te", "trailers"), ("trailer", "x-sum")],
        );
    }

    #[test]
    fn an_upgrade_is_handed_on_only_when_it_is_wanted() {
        let websocket =
            [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "k")];
        assert!(wants_upgrade(&map(&websocket)));
        assert!(!wants_upgrade(&map(&[("upgrade", "websocket")])));
        check(
            &websocket,
            true,
            &[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "k")],
        );
        check(&websocket, false, &[("sec-websocket-key", "k")]);
    }
}
