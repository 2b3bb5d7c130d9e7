//! The port: health, limits, calls, and an end without lost calls.

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Answer;
use crate::config::Config;
use crate::fork::Fork;
use crate::logs::Logs;
use crate::proxy::Proxy;

/// Says that an answer is the watchdog's, not the function's; callers retry by it.
const INTERNAL: &str = "x-openfaas-internal";
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long to wait when accepting fails, which happens when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Counts a call as running until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Who answers calls.
#[derive(Debug)]
pub(crate) enum Function {
    Fork(Fork),
    Http(Proxy),
}

/// The server's state.
#[derive(Debug)]
pub(crate) struct Server {
    config: Arc<Config>,
    function: Function,
    logs: Logs,
    calls: Arc<AtomicUsize>,
    accepting: AtomicBool,
}

impl Server {
    /// `calls` counts the calls that run, for whoever asks.
    pub(crate) fn new(
        config: Arc<Config>,
        function: Function,
        logs: Logs,
        calls: Arc<AtomicUsize>,
    ) -> Self {
        Self { config, function, logs, calls, accepting: AtomicBool::new(false) }
    }

    /// Writes the lock file: from now on the health is good, if the function's is.
    pub(crate) fn mark_healthy(&self) -> anyhow::Result<()> {
        if let Some(lock) = &self.config.lock {
            fs_err::write(lock, []).context("to run without a lock file set suppress_lock=true")?;
            self.logs.say(format_args!("Writing lock-file to: {}", lock.display()));
        } else {
            self.logs.say(format_args!("suppress_lock is set: no lock-file is written"));
        }
        self.accepting.store(true, SeqCst);
        Ok(())
    }

    /// Removes the lock file: whoever asks for the health sends nothing more.
    pub(crate) fn mark_unhealthy(&self) {
        self.accepting.store(false, SeqCst);
        if let Some(lock) = &self.config.lock {
            self.logs.say(format_args!("Removing lock-file: {}", lock.display()));
            if let Err(error) = fs_err::remove_file(lock) {
                self.logs.say(format_args!("Unable to remove it: {error}"));
            }
        }
    }

    /// Calls that run now.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Accepts connections until `stop`, then lets each finish the call it has. `connections`
    /// knows when all have.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
        connections: TaskTracker,
    ) {
        let room = Arc::new(Semaphore::new(connection_limit()));
        loop {
            let accept = async {
                // Never closed.
                let place = Arc::clone(&room).acquire_owned().await.ok();
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accept => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = Arc::clone(&self).connection(stream, stop.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    self.logs.say(format_args!("Accepting a connection failed: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, stop: CancellationToken) {
        // Fails only for a connection that is gone already, which is seen below.
        let _ = stream.set_nodelay(true);
        let limit = Some(self.config.read_timeout).filter(|limit| !limit.is_zero());
        let service = service_fn(|request| {
            let this = Arc::clone(&self);
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limit)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut served = pin!(served);
        // What goes wrong here is the other side's doing (it left, or talks no HTTP).
        tokio::select! {
            biased;
            _ = served.as_mut() => {}
            () = stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                let _ = served.await;
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let started = Instant::now();
        match request.uri().path() {
            "/_/health" => self.health(request.method()),
            "/_/ready" => self.ready(request, started).await,
            _ => {
                let limit = self.config.max_inflight;
                let running = self.calls.fetch_add(1, SeqCst) + 1;
                let slot = Slot(Arc::clone(&self.calls));
                if limit > 0 && running > limit {
                    return over_limit(limit);
                }
                self.call(request, started, slot).await
            }
        }
    }

    async fn call(
        &self,
        request: Request<Incoming>,
        started: Instant,
        slot: Slot,
    ) -> Response<Answer> {
        match &self.function {
            Function::Http(proxy) => proxy.call(request, started, slot).await,
            Function::Fork(fork) => fork.call(request, started, slot).await,
        }
    }

    fn health(&self, method: &Method) -> Response<Answer> {
        match *method {
            Method::GET if self.is_healthy() => status(StatusCode::OK, "OK"),
            Method::GET => status(StatusCode::SERVICE_UNAVAILABLE, ""),
            _ => status(StatusCode::METHOD_NOT_ALLOWED, ""),
        }
    }

    async fn ready(&self, mut request: Request<Incoming>, started: Instant) -> Response<Answer> {
        if request.method() != Method::GET {
            return status(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        if !self.is_healthy() {
            return status(StatusCode::SERVICE_UNAVAILABLE, "");
        }
        let limit = self.config.max_inflight;
        if limit > 0 && self.calls() >= limit {
            return status(StatusCode::TOO_MANY_REQUESTS, "");
        }
        let Some(path) = &self.config.ready_path else { return status(StatusCode::OK, "") };
        let Ok(uri) = path.parse::<Uri>() else {
            let why = format!("ready_path={path:?} is no path");
            return plain_error(StatusCode::INTERNAL_SERVER_ERROR, why, started, None);
        };
        *request.uri_mut() = uri;
        self.calls.fetch_add(1, SeqCst);
        self.call(request, started, Slot(Arc::clone(&self.calls))).await
    }

    /// The lock file is looked at each time: removing it by hand is a way to take a function out.
    fn is_healthy(&self) -> bool {
        let function = match &self.function {
            Function::Http(proxy) => proxy.ready(),
            Function::Fork(_) => true,
        };
        let locked = |lock: &PathBuf| lock.exists();
        function && self.accepting.load(SeqCst) && self.config.lock.as_ref().is_none_or(locked)
    }
}

/// Opens the port, on IPv6 and IPv4 where the kernel has both.
pub(crate) fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let open = |socket: std::io::Result<TcpSocket>, address: &str| {
        let socket = socket?;
        socket.set_reuseaddr(true)?;
        let ip: std::net::IpAddr = address.parse().expect("this is an address");
        socket.bind((ip, port).into())?;
        socket.listen(BACKLOG)
    };
    open(TcpSocket::new_v6(), "::")
        .or_else(|_| open(TcpSocket::new_v4(), "0.0.0.0"))
        .with_context(|| format!("listening on port {port}"))
}

/// An answer of ours because the function gave none.
pub(crate) fn internal_error(code: StatusCode, started: Instant) -> Response<Answer> {
    let mut response = status(code, "");
    response.headers_mut().insert(INTERNAL, HeaderValue::from_static("of-watchdog"));
    response.headers_mut().insert("x-duration-seconds", duration_header(started));
    response
}

/// An answer of ours that says what is wrong with the request or the process.
pub(crate) fn plain_error(
    code: StatusCode,
    text: impl Into<Bytes>,
    started: Instant,
    slot: Option<Slot>,
) -> Response<Answer> {
    let mut response = Response::new(Answer::full(text, slot));
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response.headers_mut().insert("x-duration-seconds", duration_header(started));
    response
}

/// Value of `X-Duration-Seconds`.
pub(crate) fn duration_header(started: Instant) -> HeaderValue {
    let text = format!("{:.6}", started.elapsed().as_secs_f64());
    HeaderValue::try_from(text).expect("digits are a header value")
}

fn status(code: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::full(text, None));
    *response.status_mut() = code;
    response
}

fn over_limit(limit: usize) -> Response<Answer> {
    let text = format!("Concurrent request limit exceeded. Max concurrent requests: {limit}\n");
    let mut response = Response::new(Answer::full(text, None));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
    response
}

/// Connections at a time: each may need a second descriptor towards the function.
fn connection_limit() -> usize {
    let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let files = files.map_or(1024, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX));
    (files.saturating_sub(64) / 2).clamp(16, 16 * 1024)
}
