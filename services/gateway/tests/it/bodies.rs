//! Bodies: streamed both ways as they come, of any size, within little memory.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::Method;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::replica::Replica;
use crate::world::{World, change, long_body, twice, within};

const MIB: u64 = 1024 * 1024;
/// More than 1 GiB takes through three processes on a slow machine.
const MINUTES: Duration = Duration::from_secs(300);

#[tokio::test]
async fn each_part_of_a_request_arrives_before_the_next_is_sent() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let (parts, receiver) = mpsc::channel(1);
    let body = ReceiverStream::new(receiver).map(Ok::<Bytes, std::io::Error>);
    let request = world.call(Method::POST, "/function/hello/echo");
    let request = request.body(reqwest::Body::wrap_stream(body));
    parts.send(Bytes::from("first")).await.unwrap();
    let mut answer = within(request.send()).await.unwrap();
    assert_eq!(within(answer.chunk()).await.unwrap().unwrap(), "first");
    for part in ["second", "third"] {
        parts.send(Bytes::from(part)).await.unwrap();
        assert_eq!(within(answer.chunk()).await.unwrap().unwrap(), part);
    }
    drop(parts);
    assert_eq!(within(answer.chunk()).await.unwrap(), None);
}

#[tokio::test]
async fn each_event_of_an_answer_arrives_before_the_next_is_made() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let parts = replica.next_stream();
    let request = world.get("/function/hello/stream").header("accept", "text/event-stream");
    let mut answer = within(request.send()).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        parts.send(event.clone().into()).await.unwrap();
        assert_eq!(within(answer.chunk()).await.unwrap().unwrap(), event);
    }
    drop(parts);
    assert_eq!(within(answer.chunk()).await.unwrap(), None);
}

#[tokio::test]
async fn a_caller_that_leaves_frees_its_replica() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let waiting = tokio::spawn(world.get("/function/hello/wait").send());
    within(replica.inner.arrived.notified()).await;
    waiting.abort();
    world.provider.route("hello", &[]).await;
    world.provider.drained(&replica.id).await;
}

#[tokio::test]
async fn a_connection_changes_its_protocol_through_the_gateway() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let (mut stream, head) = change(world.gateway.functions, "/function/hello/upgrade", "").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("upgrade: twice\r\n") && head.contains("x-call-id: "), "{head}");
    twice(&mut stream).await;
    // It counts as a call until it ends.
    let epoch = world.provider.set("hello", &[]);
    world.provider.acked(epoch).await;
    assert!(world.provider.all_drained().is_empty());
    drop(stream);
    world.provider.drained(&replica.id).await;
}

#[tokio::test]
async fn an_upgrade_that_the_function_ignores_is_an_ordinary_call() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let request = world
        .get("/function/hello/id")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    let answer = within(request.send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, replica.id.clone()));
    // One that changes it unasked is no valid answer.
    let answer = within(world.get("/function/hello/upgrade").send()).await.unwrap();
    assert_eq!(answer.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_1_gib_does_not_grow_the_gateway() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let send = async |length: u64| {
        let request = world.call(Method::POST, "/function/hello/count").body(long_body(length));
        let said = request.timeout(MINUTES).send().await.unwrap().text().await.unwrap();
        assert_eq!(said, length.to_string());
    };
    send(8 * MIB).await;
    let before = world.gateway.peak_memory();
    send(1024 * MIB).await;
    let grown = world.gateway.peak_memory().saturating_sub(before);
    assert!(grown <= 16 * MIB, "it grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_read_does_not_grow_the_gateway() {
    let world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let parts = replica.next_stream();
    let answer = within(world.get("/function/hello/stream").send()).await.unwrap();
    let before = world.gateway.peak_memory();
    // Until nobody takes any more: every buffer on the way is full.
    let part = Bytes::from_static(&[b'x'; 64 * 1024]);
    let mut sent = 0;
    let quiet = Duration::from_millis(500);
    while tokio::time::timeout(quiet, parts.send(part.clone())).await.is_ok_and(|it| it.is_ok()) {
        sent += part.len() as u64;
        assert!(sent < 256 * MIB, "somebody holds {sent} bytes");
    }
    let grown = world.gateway.peak_memory().saturating_sub(before);
    assert!(grown <= 16 * MIB, "it grew by {grown} bytes");
    drop(parts);
    assert_eq!(within(answer.bytes()).await.unwrap().len() as u64, sent, "nothing was lost");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_its_length_is_told() {
    let world = World::start(&["--body-limit", "1000"]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let call = || world.call(Method::POST, "/function/hello/count");
    let answer = within(call().body("x".repeat(1000)).send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "1000");

    let seen = replica.seen().len();
    let answer = within(call().body("x".repeat(1001)).send()).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(replica.seen().len(), seen, "the function was not troubled");

    let parts = stream::iter((0..3).map(|_| Ok::<_, std::io::Error>("x".repeat(400))));
    let answer = within(call().body(reqwest::Body::wrap_stream(parts)).send()).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.headers()["x-openfaas-internal"], "proxy");
    let said: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(said["error"]["message"], "the request's body is over 1000 bytes");
}
