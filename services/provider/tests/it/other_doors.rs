//! What else the socket answers: OpenFaaS's API, logs, events, and a table that survives.

use api::event::Event;
use api::openfaas::{FunctionStatus, Info};
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;

use crate::fixture::World;

const PRINTS: &str = "def handle(event, context):\n    print('called', event.path, flush=True)\n    return {'statusCode': 200, 'body': 'ok'}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openfaas_clients_see_functions_and_remove_them() {
    let world = World::start().await;
    let body = json!({"name": "hello", "template": "python3-http", "env": {"A": "1"}, "labels": {"team": "x"}});
    world.post::<serde_json::Value>("/v1/functions", body).await.unwrap();
    let all: Vec<FunctionStatus> = world.get("/system/functions").await.unwrap();
    let [hello] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((hello.name.as_str(), hello.namespace.as_str()), ("hello", "openfaas-fn"));
    assert_eq!((hello.replicas, hello.available_replicas), (1, 1));
    assert_eq!(hello.labels["faas_function"], "hello");
    assert_eq!(hello.labels["team"], "x");
    assert_eq!(hello.env_vars, Some([("A".to_owned(), "1".to_owned())].into()));
    let one: FunctionStatus =
        world.get("/system/function/hello?namespace=openfaas-fn").await.unwrap();
    assert_eq!(one, *hello);
    let none: Vec<FunctionStatus> = world.get("/system/functions?namespace=other").await.unwrap();
    assert!(none.is_empty());
    let info: Info = world.get("/system/info").await.unwrap();
    assert_eq!(info.provider.orchestration, "containerd");

    let remove = |name: &str| {
        let body = json!({ "functionName": name }).to_string();
        world.raw(Request::delete("/system/functions").body(Body::from(body)).unwrap())
    };
    let mut events = world.events().await;
    assert_eq!(remove("hello").await.0, StatusCode::ACCEPTED);
    assert!(events.until(|event| matches!(event, Event::Removed { .. })).await.is_some());
    assert_eq!(remove("hello").await.0, StatusCode::NOT_FOUND);
    assert!(world.containers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_function_prints_is_read_from_its_end_and_followed() {
    let world = World::start().await;
    world.create("hello").await;
    world.save_live("hello", "handler.py", PRINTS).await;
    let address = world.address("hello").await.unwrap();
    world.call_at(address, "/first").await.unwrap();
    let request = Request::get("/v1/functions/hello/logs?tail=3&follow=true").body(Body::empty());
    let mut body = world.api.send(request.unwrap()).await.unwrap().into_body();
    world.call_at(address, "/second").await.unwrap();
    let mut text = String::new();
    while !(text.contains("called /first") && text.contains("called /second")) {
        let frame = tokio::time::timeout(crate::fixture::LIMIT, body.frame()).await.unwrap();
        text.push_str(std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap());
    }
    let request = Request::get("/system/logs?name=hello&tail=2").body(Body::empty()).unwrap();
    let (status, _, lines) = world.raw(request).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(lines.lines().count(), 2);
    assert!(lines.lines().all(|line| line.contains("\"timestamp\":\"20")), "{lines}");
    let later = "/system/logs?name=hello&since=2999-01-01T00:00:00Z";
    let (_, _, lines) = world.raw(Request::get(later).body(Body::empty()).unwrap()).await;
    assert_eq!(lines, "");
    let refused = Request::get("/v1/functions/hello/logs?tail=x").body(Body::empty()).unwrap();
    assert_eq!(world.raw(refused).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_replica_goes_on_until_the_gateway_has_no_call_left_on_it() {
    let world = World::start().await;
    world.create("hello").await;
    world.committed("hello", "first").await;
    let before = world.address("hello").await.unwrap();
    let request = Request::get("/routes").body(Body::empty()).unwrap();
    let mut gateway = world.api.send(request).await.unwrap().into_body();
    gateway.frame().await.unwrap().unwrap();
    let id = world.containers().pop().unwrap();

    world
        .post::<serde_json::Value>("/v1/functions/hello/rollback", json!({"revision": 1}))
        .await
        .unwrap();
    let after = world.address("hello").await.unwrap();
    assert_ne!(before, after);
    assert!(world.call_at(before, "/").await.is_ok(), "a call may still be on its way");
    assert_eq!(world.containers().len(), 2);
    world.post::<()>("/routes/drained", json!({ "replica": id })).await.unwrap();
    while world.containers().len() > 1 {
        // Its end has no event of ours; the test's own limit ends this.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(world.call_at(before, "/").await.is_err());
    assert!(world.call_at(after, "/").await.is_ok());
}
