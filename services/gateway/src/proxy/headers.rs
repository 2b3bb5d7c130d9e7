//! Header rules: what a function may know, and what it may say.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const START_TIME: HeaderName = HeaderName::from_static("x-start-time");
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Cookies whose name begins so, with or without `__Host-` or `__Secure-`, are the gateway's own.
const OWN_COOKIES: &[u8] = b"inplace-";

/// Who calls, and when: what the gateway adds to a call and says again in its answer.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    /// Names the call in every log; the caller's own, or made here.
    pub(crate) id: HeaderValue,
    start: HeaderValue,
}

impl Stamp {
    /// The stamp of a call that begins now.
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Self {
            id: headers.get(CALL_ID).cloned().unwrap_or_else(new_id),
            start: HeaderValue::from(nanoseconds),
        }
    }

    /// Puts the stamp on an answer.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(CALL_ID, self.id.clone());
        headers.insert(START_TIME, self.start.clone());
        headers.insert(
            SERVED_BY,
            HeaderValue::from_static(concat!("inplace/", env!("CARGO_PKG_VERSION"))),
        );
    }
}

/// Turns a caller's headers into what a function gets. `host` is what the caller asked for.
pub(crate) fn to_function(
    headers: &mut HeaderMap,
    stamp: &Stamp,
    host: &HeaderValue,
    peer: IpAddr,
) {
    drop_hop_by_hop(headers);
    drop_claims(headers);
    drop_own_cookies(headers);
    headers.insert(CALL_ID, stamp.id.clone());
    headers.insert(START_TIME, stamp.start.clone());
    headers.insert(header::HOST, host.clone());
    headers.insert(FORWARDED_HOST, host.clone());
    let peer = HeaderValue::try_from(peer.to_canonical().to_string());
    headers.insert(FORWARDED_FOR, peer.expect("an address is a header value"));
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
}

/// Turns a function's headers into what a caller gets: a page of a function must not act on the
/// whole origin, let alone on the console.
pub(crate) fn from_function(headers: &mut HeaderMap, stamp: &Stamp) {
    drop_hop_by_hop(headers);
    headers.remove(HeaderName::from_static("clear-site-data"));
    headers.remove(header::STRICT_TRANSPORT_SECURITY);
    headers.remove(HeaderName::from_static("service-worker-allowed"));
    headers.remove(header::ALT_SVC);
    drop_set_own_cookies(headers);
    stamp.mark(headers);
}

/// Turns a caller's headers into what the provider gets: the gateway has judged the login.
pub(crate) fn to_provider(headers: &mut HeaderMap, stamp: &Stamp) {
    drop_hop_by_hop(headers);
    drop_claims(headers);
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::COOKIE);
    headers.insert(CALL_ID, stamp.id.clone());
}

/// Turns the provider's headers into what a caller gets.
pub(crate) fn from_provider(headers: &mut HeaderMap, stamp: &Stamp) {
    drop_hop_by_hop(headers);
    crate::answer::protect(headers);
    name_call(headers, stamp);
}

/// Puts the id of a call on an answer.
pub(crate) fn name_call(headers: &mut HeaderMap, stamp: &Stamp) {
    headers.insert(CALL_ID, stamp.id.clone());
}

/// The protocol that the other side wants to change to, or has changed to.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(listed)
        .any(|it| it.eq_ignore_ascii_case(b"upgrade"));
    headers.get(header::UPGRADE).filter(|_| asks).cloned()
}

/// Says that the connection changes to `protocol`.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Headers that speak of one connection, and those that `Connection` names; never `Host`.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(listed)
        .filter_map(|it| HeaderName::from_bytes(it).ok())
        .filter(|it| *it != header::HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::EXPECT,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

/// Headers by which a caller could claim to be the gateway. Programs that see headers as
/// environment variables (CGI, WSGI) cannot tell `_` from `-`, and take `Proxy` for a setting.
fn drop_claims(headers: &mut HeaderMap) {
    let claims = |name: &&HeaderName| {
        let name = name.as_str();
        let dashed = if name.contains('_') { &name.replace('_', "-") } else { name };
        let ours = dashed.starts_with("x-forwarded-")
            || matches!(dashed, "forwarded" | "x-real-ip" | "x-start-time" | "proxy");
        ours || (dashed == "x-call-id" && name != dashed)
    };
    let names: Vec<HeaderName> = headers.keys().filter(claims).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn drop_own_cookies(headers: &mut HeaderMap) {
    let ours = |value: &HeaderValue| value.as_bytes().split(|&it| it == b';').any(is_own_cookie);
    if !headers.get_all(header::COOKIE).iter().any(ours) {
        return;
    }
    let kept: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&it| it == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|it| !it.is_empty() && !is_own_cookie(it))
        .collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b"; "[..]));
    headers.remove(header::COOKIE);
    if let Some(kept) = kept.ok().filter(|it| !it.is_empty()) {
        headers.insert(header::COOKIE, kept);
    }
}

fn drop_set_own_cookies(headers: &mut HeaderMap) {
    if !headers.get_all(header::SET_COOKIE).iter().any(|it| is_own_cookie(it.as_bytes())) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter(|it| !is_own_cookie(it.as_bytes()))
        .cloned()
        .collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Whether `NAME=VALUE...` is a cookie of the gateway.
fn is_own_cookie(pair: &[u8]) -> bool {
    let name = pair.trim_ascii_start().to_ascii_lowercase();
    let name = [&b"__host-"[..], b"__secure-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(*prefix))
        .unwrap_or(&name);
    name.starts_with(OWN_COOKIES)
}

/// The parts of a value that is a list.
fn listed(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// A random UUID (RFC 9562, version 4).
fn new_id() -> HeaderValue {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random numbers are there after boot");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    HeaderValue::try_from(parts.join("-")).expect("hex digits are a header value")
}

#[cfg(test)]
mod tests;
