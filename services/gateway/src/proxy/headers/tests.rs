//! Header rules, against callers and functions that mean no good.

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn text(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

/// What a function sees beside the headers that the gateway always adds.
#[track_caller]
fn check_to(sent: &[(&str, &str)], seen: &[&str]) {
    let mut headers = map(sent);
    let stamp = Stamp::new(&headers);
    to_function(&mut headers, &stamp, &HeaderValue::from_static("door:8080"), PEER);
    for (name, value) in [
        ("host", "door:8080"),
        ("x-forwarded-host", "door:8080"),
        ("x-forwarded-for", "10.1.2.3"),
        ("x-forwarded-proto", "http"),
    ] {
        assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
        headers.remove(name);
    }
    for name in [CALL_ID, START_TIME] {
        assert_eq!(headers.get_all(&name).iter().count(), 1, "{name}");
        headers.remove(name);
    }
    assert_eq!(text(&headers), seen);
}

#[track_caller]
fn check_from(said: &[(&str, &str)], passed: &[&str]) {
    let mut headers = map(said);
    from_function(&mut headers, &Stamp::new(&HeaderMap::new()));
    for name in [CALL_ID, START_TIME, SERVED_BY] {
        assert!(headers.remove(&name).is_some(), "{name}");
    }
    assert_eq!(text(&headers), passed);
}

#[test]
fn a_function_gets_what_was_sent() {
    check_to(
        &[("accept", "a"), ("accept", "b"), ("authorization", "x"), ("x-custom", "y")],
        &["accept: a", "accept: b", "authorization: x", "x-custom: y"],
    );
}

#[test]
fn nobody_can_claim_to_be_the_gateway() {
    check_to(
        &[
            ("host", "other"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "7.7.7.7"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "1"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded_for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x-start-time", "1"),
            ("x_start_time", "1"),
            ("x_call_id", "other"),
            ("proxy", "http://evil"),
            ("my_header", "stays"),
        ],
        &["my_header: stays"],
    );
}

#[test]
fn headers_of_the_connection_end_here() {
    check_to(
        &[
            ("connection", "close, X-Secret"),
            ("connection", "host,x-forwarded-for, x-call-id"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("proxy-connection", "x"),
            ("proxy-authorization", "x"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
        ],
        &[],
    );
    check_from(&[("connection", "x-inner"), ("x-inner", "1"), ("keep-alive", "1")], &[]);
}

#[test]
fn cookies_of_the_gateway_stay_with_the_gateway() {
    check_to(&[("cookie", "a=1; b=2")], &["cookie: a=1; b=2"]);
    check_to(&[("cookie", "a=1; inplace-session=s; b=2")], &["cookie: a=1; b=2"]);
    check_to(
        &[("cookie", "__Host-inplace-session=s;a=1"), ("cookie", "__secure-INPLACE-x=1; b=2")],
        &["cookie: a=1; b=2"],
    );
    check_to(&[("cookie", "inplace-session=s")], &[]);
    check_to(&[("cookie", "not-inplace-session=s")], &["cookie: not-inplace-session=s"]);
    check_from(
        &[
            ("set-cookie", "a=1; Path=/"),
            ("set-cookie", "inplace-session=fixed; Path=/"),
            ("set-cookie", " __Host-Inplace-Session=fixed"),
            ("set-cookie", "b=2"),
        ],
        &["set-cookie: a=1; Path=/", "set-cookie: b=2"],
    );
}

#[test]
fn a_function_cannot_speak_for_the_whole_origin() {
    check_from(
        &[
            ("clear-site-data", "*"),
            ("strict-transport-security", "max-age=1"),
            ("service-worker-allowed", "/"),
            ("alt-svc", "h2=\":1\""),
            ("x-served-by", "me"),
            ("content-type", "text/html"),
            ("content-length", "5"),
            ("location", "/elsewhere"),
        ],
        &["content-length: 5", "content-type: text/html", "location: /elsewhere"],
    );
}

#[test]
fn a_call_keeps_its_id_or_gets_a_new_one() {
    let stamp = Stamp::new(&map(&[("x-call-id", "mine")]));
    assert_eq!(stamp.id, "mine");
    let mut headers = map(&[("x-call-id", "the function's own")]);
    from_function(&mut headers, &stamp);
    assert_eq!(headers[CALL_ID], "mine");

    let made: Vec<_> = (0..2).map(|_| Stamp::new(&HeaderMap::new()).id).collect();
    assert_ne!(made[0], made[1]);
    let id = made[0].to_str().unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
}

#[test]
fn the_login_does_not_reach_the_provider_and_its_answers_are_protected() {
    let mut headers =
        map(&[("authorization", "Basic x"), ("cookie", "a=1"), ("if-match", "\"e\"")]);
    let stamp = Stamp::new(&map(&[("x-call-id", "mine")]));
    to_provider(&mut headers, &stamp);
    assert_eq!(text(&headers), ["if-match: \"e\"", "x-call-id: mine"]);

    let mut headers = map(&[("content-security-policy", "default-src *"), ("etag", "\"e\"")]);
    from_provider(&mut headers, &stamp);
    assert_eq!(headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
    assert_eq!(headers["etag"], "\"e\"");
}

#[test]
fn an_upgrade_needs_both_headers() {
    assert_eq!(
        upgrade(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")])),
        Some(HeaderValue::from_static("websocket"))
    );
    assert_eq!(upgrade(&map(&[("upgrade", "websocket")])), None);
    assert_eq!(upgrade(&map(&[("connection", "upgrade")])), None);
}
