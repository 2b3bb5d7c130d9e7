//! Calls of functions: what goes through, and what the platform says itself.

use futures::future::select;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::provider::route;
use crate::replica::Replica;
use crate::world::{World, within};

#[tokio::test]
async fn every_verb_reaches_the_function_with_its_path_query_and_body() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"] {
        let request = world
            .call(method.parse().unwrap(), "/function/hello/a%20b/../c?x=1&y=%2F&x=2")
            .header("x-custom", "kept")
            .body("the body");
        let answer = within(request.send()).await.unwrap();
        assert_eq!(answer.status(), 200, "{method}");
        assert_eq!(answer.headers()["x-function"], "yes");
        assert_eq!(answer.headers()["x-method"], method);
        if method == "HEAD" {
            continue;
        }
        let said: Value = answer.json().await.unwrap();
        assert_eq!(said["method"], method);
        assert_eq!(said["body"], "the body");
        let headers = said["headers"].as_array().unwrap();
        assert!(headers.contains(&"x-custom: kept".into()), "{headers:?}");
    }
    // A client cleans the path before it sends it; what was sent came through whole.
    assert!(replica.seen().contains(&"GET /c?x=1&y=%2F&x=2".to_owned()), "{:?}", replica.seen());
    let raw = "GET /function/hello/a%20b/../c?x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(world.raw(raw).await.starts_with("HTTP/1.1 200"));
    assert_eq!(replica.seen().last().unwrap(), "GET /a%20b/../c?x");
}

#[tokio::test]
async fn other_verbs_are_refused() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    for method in ["TRACE", "PROPFIND", "get"] {
        let request = world.call(method.parse().unwrap(), "/function/hello");
        let answer = within(request.send()).await.unwrap();
        assert_eq!(answer.status(), 405, "{method}");
        assert_eq!(answer.headers()["allow"], "GET, POST, PUT, PATCH, DELETE, OPTIONS, HEAD");
    }
    assert!(replica.seen().is_empty());
}

#[tokio::test]
async fn a_name_means_its_namespace_and_an_unknown_one_is_told_as_openfaas_does() {
    let world = World::start(&[]).await;
    let (plain, staged) = (Replica::start().await, Replica::start().await);
    world.provider.route("hello", &[&plain]).await;
    world.provider.route("hello.staging", &[&staged]).await;
    for (path, id) in [
        ("/function/hello/id", &plain.id),
        ("/function/hello.openfaas-fn/id", &plain.id),
        ("/function/hello.staging/id", &staged.id),
    ] {
        assert_eq!(&within(world.get(path).send()).await.unwrap().text().await.unwrap(), id);
    }
    for (path, name) in [
        ("/function/other", "other"),
        ("/function/hello.prod/id", "hello.prod"),
        ("/function/.openfaas-fn", ".openfaas-fn"),
        ("/function/Hello", "Hello"),
        ("/function/", ""),
    ] {
        let answer = within(world.get(path).send()).await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(answer.headers()["x-openfaas-internal"], "proxy");
        assert!(answer.headers().contains_key("x-call-id"));
        assert_eq!(answer.text().await.unwrap(), format!("error finding function {name}"));
    }
}

#[tokio::test]
async fn a_function_learns_who_calls_and_the_caller_who_answered() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let request = world
        .get("/function/hello")
        .header("x-call-id", "my-call")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-host", "evil")
        .header("forwarded", "for=6.6.6.6")
        .header("cookie", "mine=1; inplace-session=secret; __Host-inplace-editor=secret");
    let answer = within(request.send()).await.unwrap();
    assert_eq!(answer.headers()["x-call-id"], "my-call");
    assert!(answer.headers()["x-served-by"].to_str().unwrap().starts_with("inplace/"));
    let start: u64 = answer.headers()["x-start-time"].to_str().unwrap().parse().unwrap();
    assert!(start > 1_700_000_000_000_000_000, "Unix time in nanoseconds");

    let said: Value = answer.json().await.unwrap();
    let headers: Vec<&str> =
        said["headers"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let door = world.gateway.functions;
    for line in [
        &format!("host: {door}"),
        &format!("x-forwarded-host: {door}"),
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-call-id: my-call",
        &format!("x-start-time: {start}"),
        "cookie: mine=1",
    ] {
        assert!(headers.contains(&line), "{line} is not in {headers:?}");
    }
    let text = headers.join("\n");
    assert!(
        !text.contains("6.6.6.6") && !text.contains("evil") && !text.contains("secret"),
        "{text}"
    );

    let answer = within(world.get("/function/hello").send()).await.unwrap();
    assert_eq!(answer.headers()["x-call-id"].len(), 36, "one is made when there is none");
}

#[tokio::test]
async fn redirects_and_headers_pass_but_a_function_cannot_speak_for_its_origin() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let answer = within(world.get("/function/hello/moved").send()).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["location"]),
        (StatusCode::FOUND, &"/there".parse().unwrap())
    );

    let request = world.get("/function/hello/hostile").header("x-call-id", "mine");
    let answer = within(request.send()).await.unwrap();
    let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["mine=1"]);
    assert_eq!(answer.headers()["x-call-id"], "mine");
    for name in
        ["clear-site-data", "strict-transport-security", "service-worker-allowed", "alt-svc"]
    {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_silent_function_is_given_up_after_its_own_limit() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    let mut limited = route(&[&replica]);
    limited.timeout_ms = 50;
    world.provider.acked(world.provider.set_route("hello", Some(limited))).await;
    let answer = within(world.get("/function/hello/wait").send()).await.unwrap();
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.headers()["x-openfaas-internal"], "proxy");
    let said: Value = answer.json().await.unwrap();
    assert_eq!(said["error"]["code"], "deadline_exceeded");
    assert_eq!(said["error"]["message"], "function `hello` did not answer within 50ms");

    // An answer that falls silent in its midst is broken off, so that nobody takes it for whole.
    let parts = replica.next_stream();
    parts.send("data: 1\n\n".into()).await.unwrap();
    let mut answer = within(world.get("/function/hello/stream").send()).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    assert!(within(answer.chunk()).await.is_err());
    // The replica is free again.
    world.provider.route("hello", &[]).await;
    world.provider.drained(&replica.id).await;
}

#[tokio::test]
async fn one_function_cannot_take_all_calls() {
    let world = World::start(&["--calls", "1"]).await;
    let replica = Replica::start().await;
    world.provider.route("busy", &[&replica]).await;
    world.provider.route("other", &[&replica]).await;
    let first = tokio::spawn(world.get("/function/busy/wait").send());
    within(replica.inner.arrived.notified()).await;
    let answer = within(world.get("/function/busy/id").send()).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(within(world.get("/function/other/id").send()).await.unwrap().status(), 200);
    replica.inner.go.add_permits(1);
    assert_eq!(within(first).await.unwrap().unwrap().status(), 200);
    assert_eq!(within(world.get("/function/busy/id").send()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_call_is_held_until_a_replica_is_ready() {
    let world = World::start(&["--held", "1"]).await;
    let replica = Replica::start().await;
    world.provider.route("cold", &[]).await;
    world.provider.route("warm", &[&replica]).await;
    // One of two is held, and the other finds that place taken.
    let call = || world.call(Method::POST, "/function/cold/echo").body("kept").send();
    let (one, other) = (Box::pin(call()), Box::pin(call()));
    let (refused, held) = within(select(one, other)).await.factor_first();
    assert_eq!(refused.unwrap().status(), 429);
    assert_eq!(within(world.get("/function/warm/id").send()).await.unwrap().status(), 200);
    world.provider.set("cold", &[&replica]);
    assert_eq!(within(held).await.unwrap().text().await.unwrap(), "kept");
}

#[tokio::test]
async fn a_call_that_waited_long_enough_is_told_so() {
    let world = World::start(&["--hold", "0"]).await;
    world.provider.route("cold", &[]).await;
    let answer = within(world.get("/function/cold").send()).await.unwrap();
    assert_eq!(answer.status(), 503);
    let said: Value = answer.json().await.unwrap();
    assert_eq!(said["error"]["code"], "unavailable");
    assert_eq!(said["error"]["message"], "no replica of function `cold` was ready within 0ns");
    assert_ne!(said["error"]["hint"], Value::Null);
}
