//! A server that stands where a function's container stands.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use daemon::{Limits, Listener, serve};
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::provider::lines;
use crate::world::within;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A replica with an identifier that is unique in this process.
pub(crate) struct Replica {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    pub(crate) inner: Arc<Inner>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What a test sees of a replica and may steer.
pub(crate) struct Inner {
    id: String,
    /// Every request, as `METHOD URI`.
    seen: watch::Sender<Vec<String>>,
    /// A call of `/wait` has arrived.
    pub(crate) arrived: Notify,
    /// Lets calls of `/wait` go, one each.
    pub(crate) go: Semaphore,
    stream: Mutex<Option<mpsc::Receiver<Bytes>>>,
}

impl Replica {
    pub(crate) async fn start() -> Self {
        let id = format!("r{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let inner = Arc::new(Inner {
            id: id.clone(),
            seen: watch::Sender::new(Vec::new()),
            arrived: Notify::new(),
            go: Semaphore::new(0),
            stream: Mutex::default(),
        });
        let router = Router::new()
            .route("/id", any(async |State(inner): State<Arc<Inner>>| inner.id.clone()))
            .route("/echo", post(async |request: Request| request.into_body()))
            .route("/count", post(count))
            .route("/wait", any(wait))
            .route("/stream", get(stream))
            .route("/upgrade", get(twice))
            .route("/hostile", get(hostile))
            .route("/moved", get(async || (http::StatusCode::FOUND, [("location", "/there")])))
            .fallback(describe)
            .with_state(Arc::clone(&inner))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&inner), see));
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = stop.clone();
        let task = tokio::spawn(async move {
            serve(listener, router, Limits::default(), served).await.unwrap();
        });
        Self { id, address, inner, stop, task }
    }

    pub(crate) fn entry(&self) -> api::route::Replica {
        api::route::Replica { id: self.id.clone(), address: self.address.to_string() }
    }

    /// Ends as a container does: nobody listens any more, running calls are cut.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(within(self.task).await.unwrap_err().is_cancelled());
    }

    /// Ends in order; fails when a call was still running.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        within(self.task).await.unwrap();
    }

    /// Whoever asks for `/stream` next gets what is sent here, part by part.
    pub(crate) fn next_stream(&self) -> mpsc::Sender<Bytes> {
        let (sender, receiver) = mpsc::channel(1);
        *self.inner.stream.lock().unwrap() = Some(receiver);
        sender
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.inner.seen.borrow().clone()
    }

    /// Waits until it has got so many requests.
    pub(crate) async fn served(&self, count: usize) {
        within(self.inner.seen.subscribe().wait_for(|all| all.len() >= count)).await.unwrap();
    }
}

/// A replica that takes connections and closes each once `head` was read, without an answer.
/// Gives its entry, and how many heads it has read.
pub(crate) async fn closes_without_answer() -> (api::route::Replica, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut head, mut part) = (Vec::new(), [0; 4096]);
            while !head.windows(4).any(|it| it == b"\r\n\r\n") {
                let length = stream.read(&mut part).await.unwrap();
                head.extend_from_slice(&part[..length]);
            }
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (api::route::Replica { id: "closes".to_owned(), address }, heads)
}

async fn see(
    State(inner): State<Arc<Inner>>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    inner.seen.send_modify(|all| all.push(line));
    next.run(request).await
}

async fn describe(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let said = json!({
        "at": inner.id,
        "method": parts.method.as_str(),
        "uri": parts.uri.to_string(),
        "headers": lines(&parts.headers),
        "body": String::from_utf8(body.to_vec()).unwrap(),
    });
    ([("x-function", "yes"), ("x-method", parts.method.as_str())], Json(said)).into_response()
}

async fn count(request: Request) -> String {
    let mut body = request.into_body().into_data_stream();
    let mut length = 0;
    while let Some(part) = body.next().await {
        length += part.unwrap().len();
    }
    length.to_string()
}

async fn wait(State(inner): State<Arc<Inner>>) -> String {
    inner.arrived.notify_one();
    inner.go.acquire().await.unwrap().forget();
    inner.id.clone()
}

async fn stream(State(inner): State<Arc<Inner>>) -> Response {
    let parts = inner.stream.lock().unwrap().take().unwrap();
    let parts = ReceiverStream::new(parts).map(Ok::<_, std::convert::Infallible>);
    ([("content-type", "text/event-stream")], Body::from_stream(parts)).into_response()
}

/// Changes to a protocol that says everything twice.
pub(crate) async fn twice(mut request: Request) -> Response {
    let change = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(change.await.unwrap());
        let mut part = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut part).await {
            stream.write_all(&part[..length].repeat(2)).await.unwrap();
        }
    });
    let headers = [("connection", "upgrade"), ("upgrade", "twice")];
    (http::StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Tries to speak for the whole origin.
async fn hostile() -> Response {
    let mut answer = "hostile".into_response();
    for (name, value) in [
        ("set-cookie", "mine=1"),
        ("set-cookie", "inplace-session=fixed"),
        ("set-cookie", "__Host-inplace-session=fixed"),
        ("clear-site-data", "\"*\""),
        ("strict-transport-security", "max-age=99999999"),
        ("service-worker-allowed", "/"),
        ("alt-svc", "h2=\":1\""),
        ("x-call-id", "forged"),
    ] {
        answer.headers_mut().append(name, value.parse().unwrap());
    }
    answer
}
