//! Who may pass which door.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use reqwest::RequestBuilder;
use serde_json::Value;

use crate::world::{PASSWORD, World, change, long_body, twice, within};

fn owner(request: RequestBuilder) -> RequestBuilder {
    request.basic_auth("admin", Some(PASSWORD))
}

#[track_caller]
fn code(said: &Value, code: &str) {
    assert_eq!(said["error"]["code"], code, "{said}");
}

#[tokio::test]
async fn the_api_is_the_owners_on_the_consoles_origin_only() {
    let world = World::start(&[]).await;
    let answer = within(world.console(Method::GET, "/v1/functions").send()).await.unwrap();
    assert_eq!(answer.status(), 401);
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("Basic realm=\"Inplace\""), "{challenge}");
    code(&answer.json().await.unwrap(), "unauthenticated");

    let request = owner(world.console(Method::PUT, "/v1/functions/a/files/b%2Fc?x=%20"));
    let request = request.header("if-match", "\"1\"").header("x-forwarded-for", "6.6.6.6");
    let answer = within(request.body("content").send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["content-security-policy"],
        "default-src 'none'; frame-ancestors 'none'"
    );
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let said: Value = answer.json().await.unwrap();
    assert_eq!((&said["at"], &said["method"]), (&"provider".into(), &"PUT".into()));
    assert_eq!(said["uri"], "/v1/functions/a/files/b%2Fc?x=%20");
    assert_eq!(said["length"], 7);
    let headers = said["headers"].to_string();
    assert!(headers.contains("if-match") && headers.contains("x-call-id"), "{headers}");
    assert!(!headers.contains("authorization") && !headers.contains("6.6.6.6"), "{headers}");

    let answer = within(owner(world.get("/v1/functions")).send()).await.unwrap();
    assert_eq!(answer.status(), 404, "not on the functions' origin");
    let answer =
        within(owner(world.console(Method::GET, "/system/functions")).send()).await.unwrap();
    assert_eq!(answer.status(), 404, "and OpenFaaS's not on the console's");
}

#[tokio::test]
async fn openfaas_clients_are_told_what_they_look_for_and_browsers_get_no_challenge() {
    let world = World::start(&[]).await;
    for request in [
        world.get("/system/functions"),
        world.get("/system/functions").basic_auth("admin", Some("guess")),
    ] {
        let answer = within(request.send()).await.unwrap();
        assert_eq!(answer.status(), 401);
        assert!(!answer.headers().contains_key("www-authenticate"));
        assert_eq!(answer.text().await.unwrap(), "invalid credentials");
    }
    let answer = within(owner(world.get("/system/functions?namespace=x")).send()).await.unwrap();
    let said: Value = answer.json().await.unwrap();
    assert_eq!(said["uri"], "/system/functions?namespace=x");

    let browser = owner(world.get("/system/functions")).header("sec-fetch-mode", "cors");
    let answer = within(browser.send()).await.unwrap();
    assert_eq!(answer.status(), 403);
    code(&answer.json().await.unwrap(), "permission_denied");
}

#[tokio::test]
async fn another_page_cannot_act_with_the_owners_login() {
    let world = World::start(&[]).await;
    let functions = format!("http://{}", world.gateway.functions);
    let console = format!("http://{}", world.gateway.console);
    for (name, value) in [
        ("origin", &*functions),
        ("origin", "null"),
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let request = owner(world.console(Method::POST, "/v1/functions")).header(name, value);
        let answer = within(request.body("{}").send()).await.unwrap();
        assert_eq!(answer.status(), 403, "{name}: {value}");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
        code(&answer.json().await.unwrap(), "permission_denied");
        // Without a login neither: no form pops up over another page.
        let request = world.console(Method::GET, "/v1/functions").header(name, value);
        assert_eq!(within(request.send()).await.unwrap().status(), 403);
    }
    let own = owner(world.console(Method::POST, "/v1/functions"))
        .header("origin", &console)
        .header("sec-fetch-site", "same-origin");
    assert_eq!(within(own.body("{}").send()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn whoever_guesses_has_to_wait_on_both_doors() {
    let world = World::start(&[]).await;
    for _ in 0..5 {
        let guess = world.console(Method::GET, "/v1/functions").basic_auth("admin", Some("guess"));
        assert_eq!(within(guess.send()).await.unwrap().status(), 401);
    }
    let requests = [world.console(Method::GET, "/v1/functions"), world.get("/system/functions")];
    for request in requests {
        let answer = within(owner(request).send()).await.unwrap();
        assert_eq!(answer.status(), 429);
        let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=2).contains(&wait), "{wait}");
        code(&answer.json().await.unwrap(), "resource_exhausted");
    }
    let answer = within(world.console(Method::GET, "/healthz").send()).await.unwrap();
    assert_eq!(answer.status(), 200, "what needs no login goes on");
}

#[tokio::test]
async fn what_the_provider_streams_arrives_line_by_line() {
    let world = World::start(&[]).await;
    let lines = world.provider.next_stream();
    let request = owner(world.console(Method::GET, "/v1/stream"));
    let mut answer = within(request.send()).await.unwrap();
    for number in 0..3 {
        let line = format!("{{\"line\":{number}}}\n");
        lines.send(line.clone().into()).await.unwrap();
        assert_eq!(within(answer.chunk()).await.unwrap().unwrap(), line);
    }
    drop(lines);
    assert_eq!(within(answer.chunk()).await.unwrap(), None);
}

#[tokio::test]
async fn a_terminal_is_the_owners_and_no_other_pages() {
    let world = World::start(&[]).await;
    let door = world.gateway.console;
    let login =
        format!("authorization: Basic {}\r\n", STANDARD.encode(format!("admin:{PASSWORD}")));
    let (mut stream, head) = change(door, "/v1/upgrade", &login).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    twice(&mut stream).await;
    let (_, head) = change(door, "/v1/upgrade", "").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    let foreign = format!("{login}origin: http://{}\r\n", world.gateway.functions);
    let (_, head) = change(door, "/v1/upgrade", &foreign).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_upload_to_the_api_does_not_grow_the_gateway() {
    const MIB: u64 = 1024 * 1024;
    let world = World::start(&[]).await;
    let send = async |length: u64| {
        let request = owner(world.call(Method::POST, "/system/upload"));
        let answer = request.body(long_body(length)).send();
        let said: Value = answer.await.unwrap().json().await.unwrap();
        assert_eq!(said["length"], length);
    };
    send(8 * MIB).await;
    let before = world.gateway.peak_memory();
    send(256 * MIB).await;
    let grown = world.gateway.peak_memory().saturating_sub(before);
    assert!(grown <= 16 * MIB, "it grew by {grown} bytes");
}

#[tokio::test]
async fn without_the_provider_the_api_says_so_and_the_doors_are_healthy() {
    let world = World::without_provider(&[]).await;
    for request in [world.console(Method::GET, "/v1/functions"), world.get("/system/functions")] {
        let answer = within(owner(request).send()).await.unwrap();
        assert_eq!(answer.status(), 503);
        let said: Value = answer.json().await.unwrap();
        code(&said, "unavailable");
        assert!(said["error"]["hint"].as_str().unwrap().contains("comes back"), "{said}");
    }
    for request in [world.console(Method::GET, "/healthz"), world.get("/healthz")] {
        let answer = within(request.send()).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap()),
            (200, "OK".to_owned())
        );
    }
}

#[tokio::test]
async fn every_other_path_says_what_is_there_instead() {
    let world = World::start(&[]).await;
    let answer = within(owner(world.console(Method::GET, "/")).send()).await.unwrap();
    let said: Value = answer.json().await.unwrap();
    assert_eq!((&said["name"], &said["functions"]), (&"inplace".into(), &"/v1/functions".into()));
    assert_eq!(within(world.console(Method::GET, "/").send()).await.unwrap().status(), 401);
    for request in [
        owner(world.console(Method::GET, "/editor/hello")),
        owner(world.console(Method::GET, "/v1x")),
        world.get("/"),
        world.get("/functions"),
    ] {
        let answer = within(request.send()).await.unwrap();
        assert_eq!(answer.status(), 404);
        let said: Value = answer.json().await.unwrap();
        code(&said, "not_found");
        assert_ne!(said["error"]["hint"], Value::Null);
    }
    let answer = within(world.call(Method::POST, "/healthz").send()).await.unwrap();
    assert_eq!(answer.status(), 405);
}
