//! An HTTP/1.1 server on a Unix socket or a TCP port: limits on what a client may hold, upgrades,
//! and a stop that lets running calls end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

mod listener;
mod stall;

pub use listener::{Listener, Stream};
use stall::Stall;

use crate::Backoff;

/// What the clients of one server may hold, together and each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// From an open connection, or the end of the answer before, to a complete request head.
    pub head: Duration,
    /// Bytes of a request head, and of what is read ahead of a body.
    pub buffer: usize,
    /// How long a client may take none of what is sent to it.
    pub stall: Duration,
    /// How long running calls may take after the stop has begun.
    pub drain: Duration,
}

/// 1024 connections, 30 s and 64 KiB for a head, 60 s without progress, 10 s to drain.
impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head: Duration::from_secs(30),
            buffer: 64 * 1024,
            stall: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

/// Who sent a request; in the extensions of every request that [`serve`] hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine.
    Unix,
    /// The other end of a TCP connection.
    Tcp(SocketAddr),
}

/// Answers on `listener` with `service` (an axum router, or any tower service) until `stop` is
/// cancelled, then takes no more connections, lets running calls end, and returns.
///
/// An answer without an end (server-sent events, a watch) has to end by itself at `stop`, or the
/// limit cuts it. An upgraded connection is the service's own.
///
/// # Errors
/// [`Undrained`] when calls were cut at the limit.
pub async fn serve<S, B>(
    listener: Listener,
    service: S,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), Undrained>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let open = TaskTracker::new();
    // Cuts what is left when this future ends, however it ends.
    let cut = CancellationToken::new();
    let _guard = cut.clone().drop_guard();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("it is never closed");
            let (stream, peer) = accept(&listener).await;
            (slot, stream, peer)
        };
        let (slot, stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let (service, stop, cut) = (service.clone(), stop.clone(), cut.clone());
        open.spawn(async move {
            connection(stream, peer, service, limits, stop, cut).await;
            drop(slot);
        });
    }
    drop(listener);
    open.close();
    match timeout(limits.drain, open.wait()).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Undrained { connections: open.len(), limit: limits.drain }),
    }
}

/// Connections that still had a call running when the limit of the stop was over.
#[derive(Debug, thiserror::Error)]
#[error("cut {connections} connections with calls still running after {limit:?}")]
pub struct Undrained {
    /// How many.
    pub connections: usize,
    /// The limit.
    pub limit: Duration,
}

/// The next connection; a failure (no file descriptors left) is waited out, not spun on.
async fn accept(listener: &Listener) -> (Stream, Peer) {
    for wait in Backoff::new(Duration::from_millis(10), Duration::from_secs(1)) {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client gave up before it was its turn.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!("accepting a connection failed: {error:#}");
                sleep(wait).await;
            }
        }
    }
    unreachable!("a back-off has no end")
}

async fn connection<S, B>(
    stream: Stream,
    peer: Peer,
    service: S,
    limits: Limits,
    stop: CancellationToken,
    cut: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        service.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.buffer)
        .serve_connection(TokioIo::new(Stall::new(stream, limits.stall)), service)
        .with_upgrades();
    tokio::pin!(connection);
    let answered = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.as_mut().await
    };
    if let Some(Err(error)) = cut.run_until_cancelled(answered).await {
        debug!(?peer, "connection ended: {:#}", anyhow::Error::new(error));
    }
}

#[cfg(test)]
mod tests;
