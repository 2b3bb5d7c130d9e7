//! A server that stands where the provider's socket stands.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use api::FunctionName;
use api::route::{Ack, Drained, Route, Update};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use daemon::{Limits, Listener, serve};
use fs_err as fs;
use futures::{StreamExt, stream};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::replica::{Replica, twice};
use crate::world::within;

/// The provider's side of the route table, kept over restarts of its server.
pub(crate) struct Provider {
    pub(crate) socket: PathBuf,
    inner: Arc<Inner>,
    server: Option<(CancellationToken, JoinHandle<()>)>,
}

struct Inner {
    table: Mutex<(u64, BTreeMap<FunctionName, Route>)>,
    updates: broadcast::Sender<Update>,
    readers: watch::Sender<usize>,
    ack: watch::Sender<u64>,
    drained: watch::Sender<Vec<String>>,
    stop: Mutex<CancellationToken>,
    stream: Mutex<Option<mpsc::Receiver<Bytes>>>,
}

impl Provider {
    /// Listens on `socket`, with an empty table at epoch 1.
    pub(crate) fn start(socket: PathBuf) -> Self {
        let mut provider = Self::absent(socket);
        provider.appear();
        provider
    }

    /// Does not listen yet.
    pub(crate) fn absent(socket: PathBuf) -> Self {
        let inner = Inner {
            table: Mutex::new((1, BTreeMap::new())),
            updates: broadcast::Sender::new(1024),
            readers: watch::Sender::new(0),
            ack: watch::Sender::new(0),
            drained: watch::Sender::new(Vec::new()),
            stop: Mutex::default(),
            stream: Mutex::default(),
        };
        Self { socket, inner: Arc::new(inner), server: None }
    }

    pub(crate) fn appear(&mut self) {
        let stop = CancellationToken::new();
        *self.inner.stop.lock().unwrap() = stop.clone();
        let router = Router::new()
            .route("/routes", get(routes))
            .route("/routes/ack", post(ack))
            .route("/routes/drained", post(drained))
            .route("/v1/stream", get(stream_out))
            .route("/v1/upgrade", get(twice))
            .fallback(describe)
            .with_state(Arc::clone(&self.inner));
        let listener = Listener::unix(&self.socket, 0o600).unwrap();
        let served = stop.clone();
        let task = tokio::spawn(async move {
            serve(listener, router, Limits::default(), served).await.unwrap();
        });
        self.server = Some((stop, task));
    }

    /// Stops listening; the table stays.
    pub(crate) async fn vanish(&mut self) {
        let (stop, task) = self.server.take().unwrap();
        stop.cancel();
        within(task).await.unwrap();
        fs::remove_file(&self.socket).unwrap();
    }

    /// Sets a function's replicas and tells the gateway; gives the epoch.
    pub(crate) fn set(&self, name: &str, replicas: &[&Replica]) -> u64 {
        self.set_route(name, Some(route(replicas)))
    }

    pub(crate) fn set_route(&self, name: &str, route: Option<Route>) -> u64 {
        let mut table = self.inner.table.lock().unwrap();
        table.0 += 1;
        let name: FunctionName = name.parse().unwrap();
        match &route {
            Some(route) => table.1.insert(name.clone(), route.clone()),
            None => table.1.remove(&name),
        };
        let _ = self.inner.updates.send(Update::Delta { epoch: table.0, name, route });
        table.0
    }

    /// Sets a function's replicas, and loses the news of it on the way.
    pub(crate) fn set_unheard(&self, name: &str, replicas: &[&Replica]) {
        let mut table = self.inner.table.lock().unwrap();
        table.0 += 1;
        table.1.insert(name.parse().unwrap(), route(replicas));
    }

    /// Waits until the gateway routes by this epoch or a later one.
    pub(crate) async fn acked(&self, epoch: u64) {
        within(self.inner.ack.subscribe().wait_for(|&it| it >= epoch)).await.unwrap();
    }

    /// Sets a function's replicas and waits until the gateway routes by them.
    pub(crate) async fn route(&self, name: &str, replicas: &[&Replica]) {
        self.acked(self.set(name, replicas)).await;
    }

    /// Waits until the gateway says that a replica is drained.
    pub(crate) async fn drained(&self, id: &str) {
        let mut drained = self.inner.drained.subscribe();
        within(drained.wait_for(|all| all.iter().any(|it| it == id))).await.unwrap();
    }

    pub(crate) fn all_drained(&self) -> Vec<String> {
        self.inner.drained.borrow().clone()
    }

    /// Waits until the table was read from its beginning so many times.
    pub(crate) async fn read(&self, times: usize) {
        within(self.inner.readers.subscribe().wait_for(|&it| it >= times)).await.unwrap();
    }

    /// Whoever asks for `/v1/stream` next gets what is sent here, part by part.
    pub(crate) fn next_stream(&self) -> mpsc::Sender<Bytes> {
        let (sender, receiver) = mpsc::channel(1);
        *self.inner.stream.lock().unwrap() = Some(receiver);
        sender
    }
}

/// A route to some replicas, with the gateway's own timeout.
pub(crate) fn route(replicas: &[&Replica]) -> Route {
    Route { replicas: replicas.iter().map(|it| it.entry()).collect(), timeout_ms: 0 }
}

async fn routes(State(inner): State<Arc<Inner>>) -> Response {
    let (snapshot, updates) = {
        let table = inner.table.lock().unwrap();
        let snapshot = Update::Snapshot { epoch: table.0, routes: table.1.clone() };
        (snapshot, inner.updates.subscribe())
    };
    inner.readers.send_modify(|it| *it += 1);
    let updates =
        stream::unfold(updates, async |mut updates| Some((updates.recv().await.ok()?, updates)));
    let lines = stream::iter([snapshot]).chain(updates).map(|update| {
        let mut line = serde_json::to_vec(&update).unwrap();
        line.push(b'\n');
        Ok::<_, Infallible>(line)
    });
    let stop = inner.stop.lock().unwrap().clone();
    Response::new(Body::from_stream(lines.take_until(stop.cancelled_owned())))
}

async fn ack(State(inner): State<Arc<Inner>>, Json(Ack { epoch }): Json<Ack>) {
    inner.ack.send_replace(epoch);
}

async fn drained(State(inner): State<Arc<Inner>>, Json(Drained { replica }): Json<Drained>) {
    inner.drained.send_modify(|all| all.push(replica));
}

async fn stream_out(State(inner): State<Arc<Inner>>) -> Response {
    let parts = inner.stream.lock().unwrap().take().unwrap();
    let parts = ReceiverStream::new(parts).map(Ok::<_, Infallible>);
    Response::builder()
        .header("content-type", "application/x-ndjson")
        .body(Body::from_stream(parts))
        .unwrap()
}

/// Says what was asked for.
async fn describe(request: Request) -> Json<Value> {
    let (parts, body) = request.into_parts();
    let mut length = 0;
    let mut body = body.into_data_stream();
    while let Some(part) = body.next().await {
        length += part.unwrap().len();
    }
    Json(json!({
        "at": "provider",
        "method": parts.method.as_str(),
        "uri": parts.uri.to_string(),
        "headers": lines(&parts.headers),
        "length": length,
    }))
}

/// Headers as `name: value`, in their order.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<String> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect()
}
