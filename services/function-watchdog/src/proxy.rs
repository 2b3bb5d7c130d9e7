//! Mode `http`: calls go to one process that is an HTTP server itself.

mod headers;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::body::{Answer, Deadline, RequestBody};
use crate::config::Config;
use crate::logs::Logs;
use crate::server::{Slot, duration_header, internal_error, plain_error};
pub(crate) use upstream::{Lease, Router, Upstream};

/// Largest body that `http_buffer_req_body` reads into memory.
const BUFFERED_BODY: usize = 32 * 1024 * 1024;

/// How long a call waits for the successor of a process that died: some starts of an
/// interpreter. One that dies again and again is started at longer and longer intervals.
const SUCCESSOR: Duration = Duration::from_secs(2);

/// What a call in mode `http` needs.
#[derive(Debug)]
pub(crate) struct Proxy {
    config: Arc<Config>,
    router: Arc<Router>,
    logs: Logs,
    tunnels: TaskTracker,
}

impl Proxy {
    /// `tunnels` is told of upgraded connections, so that a stop can wait for them.
    pub(crate) fn new(
        config: Arc<Config>,
        router: Arc<Router>,
        logs: Logs,
        tunnels: TaskTracker,
    ) -> Self {
        Self { config, router, logs, tunnels }
    }

    /// Whether a process is there that can answer.
    pub(crate) fn ready(&self) -> bool {
        self.router.is_set()
    }

    /// Answers one call.
    pub(crate) async fn call(
        &self,
        mut request: Request<Incoming>,
        started: Instant,
        slot: Slot,
    ) -> Response<Answer> {
        let upgrade = headers::wants_upgrade(request.headers());
        let until = self.deadline(&request, started, upgrade);
        let patience = started + SUCCESSOR;
        let patience = until.map_or(patience, |until| until.min(patience));
        let Some(call) = self.router.pick_until(patience).await else {
            return internal_error(StatusCode::SERVICE_UNAVAILABLE, started);
        };
        let note = Note::of(&request, self.config.log_call_id);
        let downstream = upgrade.then(|| hyper::upgrade::on(&mut request));

        let request = match self.outgoing(request, started, call.upstream(), upgrade).await {
            Ok(request) => request,
            Err((status, why)) => return plain_error(status, why, started, Some(slot)),
        };
        let sent = match until {
            Some(at) => tokio::time::timeout_at(at, call.send(request)).await,
            None => Ok(call.send(request).await),
        };
        let (mut response, lease) = match sent {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                self.logs.say(format_args!("Upstream HTTP request error: {error:#}"));
                return internal_error(StatusCode::INTERNAL_SERVER_ERROR, started);
            }
            Err(_) => {
                let limit = started.elapsed();
                self.logs
                    .say(format_args!("Upstream HTTP killed due to exec_timeout: {limit:.3?}"));
                return internal_error(StatusCode::GATEWAY_TIMEOUT, started);
            }
        };

        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        headers::drop_hop_by_hop(response.headers_mut(), switched);
        response.headers_mut().insert("x-duration-seconds", duration_header(started));
        *response.version_mut() = Version::HTTP_11;
        self.log(&note, &response, started);
        if switched && let Some(downstream) = downstream {
            return self.tunnel(downstream, response, lease, slot);
        }
        response.map(|incoming| Answer::upstream(incoming, lease, until, slot))
    }

    /// When the answer must be complete. Streams (by what the caller accepts) are only bound by
    /// `write_timeout`; an upgraded connection, once it is one, by nothing but its two ends.
    fn deadline(
        &self,
        request: &Request<Incoming>,
        started: Instant,
        upgrade: bool,
    ) -> Option<Instant> {
        let mut exec = self.config.exec_timeout;
        let asked = request.headers().get("x-timeout").and_then(|value| value.to_str().ok());
        if let Some(asked) = asked.and_then(crate::config::parse_duration)
            && (exec.is_zero() || asked < exec)
        {
            exec = asked;
        }
        let streamed = upgrade || headers::accepts_stream(request.headers());
        let mut limit = self.config.write_timeout;
        if !streamed && !exec.is_zero() {
            limit = limit.min(exec);
        }
        // A timeout of centuries is none.
        started.checked_add(limit)
    }

    /// The request as the function's server gets it.
    async fn outgoing(
        &self,
        request: Request<Incoming>,
        started: Instant,
        upstream: &Upstream,
        upgrade: bool,
    ) -> Result<Request<RequestBody>, (StatusCode, String)> {
        let (mut parts, incoming) = request.into_parts();
        headers::drop_hop_by_hop(&mut parts.headers, upgrade);
        headers::ensure_host(&mut parts.headers, &parts.uri, upstream.authority());
        parts.uri = upstream
            .target(&parts.uri)
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("reading the path: {error}")))?;
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let read = self.config.read_timeout;
        let read_until = if read.is_zero() { None } else { started.checked_add(read) };
        let body = if incoming.is_end_stream() {
            RequestBody::Full(None)
        } else if self.config.buffer_body {
            let bytes = buffer(incoming, read).await?;
            // What was chunked has a length now; trailers have no place without chunks.
            parts.headers.remove(hyper::header::TRAILER);
            parts.headers.insert(hyper::header::CONTENT_LENGTH, bytes.len().into());
            RequestBody::Full(Some(bytes))
        } else {
            RequestBody::Streamed(incoming, Deadline::new(read_until))
        };
        Ok(Request::from_parts(parts, body))
    }

    /// Joins two upgraded connections until either ends. The process counts as busy meanwhile.
    fn tunnel(
        &self,
        downstream: OnUpgrade,
        mut response: Response<Incoming>,
        lease: Lease,
        slot: Slot,
    ) -> Response<Answer> {
        let upstream = hyper::upgrade::on(&mut response);
        let logs = self.logs.clone();
        self.tunnels.spawn(async move {
            let _busy = (lease, slot);
            let joined = async {
                let upstream = upstream.await.map_err(std::io::Error::other)?;
                let downstream = downstream.await.map_err(std::io::Error::other)?;
                let (mut one, mut other) = (TokioIo::new(upstream), TokioIo::new(downstream));
                tokio::io::copy_bidirectional(&mut one, &mut other).await
            };
            if let Err(error) = joined.await {
                logs.say(format_args!("Upgraded connection ended: {error}"));
            }
        });
        response.map(|_| Answer::full(Bytes::new(), None))
    }

    fn log(&self, note: &Note, response: &Response<Incoming>, started: Instant) {
        if note.probe {
            return;
        }
        let size = response.body().size_hint().exact().map_or(-1, |size| size.cast_signed());
        let (method, target, status) = (&note.method, &note.target, response.status());
        let took = started.elapsed().as_secs_f64();
        match &note.call_id {
            Some(id) => self.logs.say(format_args!(
                "{method} {target} - {status} - ContentLength: {size}B ({took:.4}s) [{id}]"
            )),
            None => self.logs.say(format_args!(
                "{method} {target} - {status} - ContentLength: {size}B ({took:.4}s)"
            )),
        }
    }
}

/// What the log says of a request, taken before the request is sent away.
struct Note {
    method: Method,
    target: hyper::Uri,
    probe: bool,
    call_id: Option<String>,
}

impl Note {
    fn of(request: &Request<Incoming>, call_id: bool) -> Self {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        Self {
            method: request.method().clone(),
            target: request.uri().clone(),
            probe: header("user-agent").is_some_and(|agent| agent.starts_with("kube-probe")),
            call_id: call_id.then(|| header("x-call-id").unwrap_or("none").to_owned()),
        }
    }
}

/// Reads a body whole, within a size and a time (zero: none).
async fn buffer(incoming: Incoming, limit: Duration) -> Result<Bytes, (StatusCode, String)> {
    let read = Limited::new(incoming, BUFFERED_BODY).collect();
    let read = if limit.is_zero() {
        read.await
    } else {
        let late = |_| (StatusCode::REQUEST_TIMEOUT, "read_timeout is over".to_owned());
        tokio::time::timeout(limit, read).await.map_err(late)?
    };
    match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err((
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("http_buffer_req_body takes bodies of at most {BUFFERED_BODY} bytes"),
        )),
        Err(error) => Err((StatusCode::BAD_REQUEST, format!("reading the body: {error}"))),
    }
}
