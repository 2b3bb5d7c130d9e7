//! One replica: its connections, its count of calls, and the moment it is free of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::Authority;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Notify;

use crate::proxy::body::Upload;

/// A replica is on this machine: if it does not take a connection by then, it is ill.
const CONNECT: Duration = Duration::from_secs(2);
/// Idle connections are given up before servers do it (Node and uvicorn: after 5 s), so that a
/// call is rarely sent into one that closes.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections that are kept for one replica.
const IDLE_CONNECTIONS: usize = 64;
/// What is read ahead of an answer's body, and the longest head of an answer, in bytes.
const BUFFER: usize = 64 * 1024;
/// In the count of calls: no new ones are taken.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// A replica of a function.
pub(crate) struct Upstream {
    /// Its identifier.
    pub(crate) id: String,
    /// Its `IP:PORT`.
    pub(crate) address: Authority,
    /// Its connections.
    pub(crate) client: Client<HttpConnector, Upload>,
    /// Running calls, and [`CLOSED`].
    calls: AtomicUsize,
    drained: Notify,
}

impl Upstream {
    pub(super) fn new(id: String, address: Authority) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(BUFFER)
            .build(connector);
        Self { id, address, client, calls: AtomicUsize::new(0), drained: Notify::new() }
    }

    /// How many calls run.
    pub(crate) fn in_flight(&self) -> usize {
        self.calls.load(Ordering::Relaxed) & !CLOSED
    }

    /// Counts one more call, unless no new ones are taken.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Call> {
        let open = |calls: usize| (calls & CLOSED == 0).then_some(calls + 1);
        self.calls.fetch_update(Ordering::AcqRel, Ordering::Relaxed, open).ok()?;
        Some(Call(Arc::clone(self)))
    }

    /// Takes no new calls.
    pub(super) fn close(&self) {
        if self.calls.fetch_or(CLOSED, Ordering::AcqRel) == 0 {
            self.drained.notify_one();
        }
    }

    /// Waits until no new calls are taken and none runs. One waiter.
    pub(crate) async fn drained(&self) {
        self.drained.notified().await;
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, address) = (&self.id, &self.address);
        write!(f, "Upstream({id} at {address}, {} calls)", self.in_flight())
    }
}

/// A call that runs on a replica; dropped when its last byte is through.
#[derive(Debug)]
pub(crate) struct Call(pub(crate) Arc<Upstream>);

impl Drop for Call {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1 {
            self.0.drained.notify_one();
        }
    }
}
