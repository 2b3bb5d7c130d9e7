//! Requests that mean no good.

use base64::Engine;

use crate::replica::Replica;
use crate::world::{PASSWORD, World};

#[track_caller]
fn check_status(answer: &str, status: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
}

#[tokio::test]
async fn a_request_of_unclear_length_reaches_no_function() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    for headers in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: -1",
        "content-length: 99999999999999999999",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding : chunked",
        " transfer-encoding: chunked",
        "transfer-encoding: chunked\r\n folded: x",
        "transfer\x00-encoding: chunked",
    ] {
        let request = format!("POST /function/hello HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\nhello");
        check_status(&world.raw(&request).await, "400");
    }
    assert!(replica.seen().is_empty(), "{:?}", replica.seen());
}

#[tokio::test]
async fn a_request_hidden_in_another_is_seen_by_nobody() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    // Who goes by Content-Length takes the second request for a body; who goes by chunks does not.
    let hidden = "GET /system/functions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for order in [
        format!("content-length: {}\r\ntransfer-encoding: chunked", 5 + hidden.len()),
        format!("transfer-encoding: chunked\r\ncontent-length: {}", 5 + hidden.len()),
    ] {
        let before = replica.seen().len();
        let request = format!(
            "POST /function/hello/count HTTP/1.1\r\nhost: x\r\n{order}\r\n\r\n0\r\n\r\n{hidden}"
        );
        let answer = world.raw(&request).await;
        assert_eq!(replica.seen()[before..], ["POST /count"], "{answer}");
        // One answer, and the connection ends: what follows is not read.
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    for head in [
        "GET /function/hello HTTP/1.1\r\n",
        "GET /function/hello HTTP/1.1\r\nhost: a\r\nhost: b\r\n",
    ] {
        check_status(&world.raw(&format!("{head}connection: close\r\n\r\n")).await, "400");
    }
    assert!(replica.seen().is_empty());
    // An address in full goes by itself, not by the header beside it.
    let request = "GET http://real:1/function/hello HTTP/1.1\r\nhost: other\r\nconnection: host, close\r\n\r\n";
    let answer = world.raw(request).await;
    assert!(answer.contains("x-forwarded-host: real:1") && !answer.contains("other"), "{answer}");
    check_status(
        &world.raw("CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\nconnection: close\r\n\r\n").await,
        "404",
    );
}

#[tokio::test]
async fn no_path_leads_from_a_function_to_the_api_or_to_the_route_table() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let login = base64::engine::general_purpose::STANDARD.encode(format!("admin:{PASSWORD}"));
    for (path, status) in [
        ("/function/../v1/functions", "404"),
        ("/function/../system/functions", "404"),
        ("/function/%2e%2e/system/functions", "404"),
        ("/function/..%2fsystem%2ffunctions", "404"),
        ("/function//system/functions", "404"),
        ("//system/functions", "404"),
        ("/./system/functions", "404"),
        ("/System/functions", "404"),
        ("/system%2ffunctions", "404"),
        ("/%73ystem/functions", "404"),
        ("/routes", "404"),
        ("/routes/ack", "404"),
        ("/system/../routes", "400"),
        ("/system/%2e%2e/routes", "400"),
        ("/system/.%2E/routes", "400"),
        ("/system/..%2froutes", "400"),
        ("/system/..\\routes", "400"),
        ("/system/./functions", "400"),
        ("/system/functions", "200"),
        ("/function/hello/../../system/functions", "200"),
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {login}\r\nconnection: close\r\n\r\n"
        );
        let answer = world.raw(&request).await;
        check_status(&answer, status);
        let by_provider = answer.contains("\"at\":\"provider\"");
        assert_eq!(by_provider, path == "/system/functions", "{path}: {answer}");
    }
    assert_eq!(replica.seen(), ["GET /../../system/functions"], "passed on as it came");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let world = World::start(&[]).await;
    let long = "y".repeat(70 * 1024);
    let answer = world.raw(&format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {long}\r\n")).await;
    check_status(&answer, "431");
    let many: String = (0..200).map(|number| format!("x{number}: y\r\n")).collect();
    let answer = world.raw(&format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
    check_status(&answer, "431");
}
