//! Calls a function: finds a replica, waits for one if need be, and tries again while it may.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Error, ErrorCode, FunctionName};
use axum::body::Body;
use daemon::Backoff;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::attempt::{Failure, Outgoing};
use super::body::{self, Lender};
use super::headers::{self, Stamp};
use super::path;
use super::tunnel::{Change, Tunnels};
use crate::answer;
use crate::config::Limits;
use crate::routes::{Call, Live, Lookup, Target};

/// The verbs of OpenFaaS's invoke route.
const VERBS: &str = "GET, POST, PUT, PATCH, DELETE, OPTIONS, HEAD";
/// Waits before replicas are tried again when none of them took the call.
const AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// Calls functions by the route table.
#[derive(Debug)]
pub(crate) struct Functions {
    live: Arc<Live>,
    limits: Limits,
    held: Semaphore,
    tunnels: Tunnels,
    stop: CancellationToken,
}

impl Functions {
    /// Calls by what `live` says. Streams without an end are cut at `stop`.
    pub(crate) fn new(
        live: Arc<Live>,
        limits: Limits,
        tunnels: Tunnels,
        stop: CancellationToken,
    ) -> Self {
        let held = Semaphore::new(limits.held.min(Semaphore::MAX_PERMITS));
        Self { live, limits, held, tunnels, stop }
    }

    /// Answers a request for `/function/...`, which asked for `host`.
    pub(crate) async fn call(
        &self,
        request: Request<Incoming>,
        host: &HeaderValue,
        peer: IpAddr,
    ) -> Response<Body> {
        let stamp = Stamp::new(request.headers());
        let mut answer = self.answer(request, host, peer, &stamp).await.unwrap_or_else(|error| {
            debug!(call = ?stamp.id, "call failed: {error}");
            answer::instead_of_function(&error)
        });
        stamp.mark(answer.headers_mut());
        answer
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        host: &HeaderValue,
        peer: IpAddr,
        stamp: &Stamp,
    ) -> Result<Response<Body>, Error> {
        if !is_verb(request.method()) {
            return Ok(answer::wrong_verb(VERBS));
        }
        let split = request.uri().path_and_query().and_then(path::function);
        let (text, rest) = split.unwrap_or_default();
        let Ok(name) = text.parse::<FunctionName>() else { return Ok(answer::no_function(text)) };
        let path = path::seen_by_function(rest)
            .map_err(|_| Error::new(ErrorCode::InvalidArgument, "the path cannot be read"))?;
        if request.body().size_hint().lower() > self.limits.body_limit {
            return Err(too_large(self.limits.body_limit));
        }

        let change = Change::asked(&mut request);
        let (mut parts, body) = request.into_parts();
        headers::to_function(&mut parts.headers, stamp, host, peer);
        if let Some(change) = &change {
            headers::set_upgrade(&mut parts.headers, change.protocol.clone());
        }
        let call = Outgoing::new(
            parts.method,
            path,
            parts.headers,
            Lender::new(body, self.limits.body_limit),
        );
        match self.dispatch(&name, call).await? {
            Some(answered) => self.pass_on(&name, answered, change, stamp),
            None => Ok(answer::no_function(&name.to_string())),
        }
    }

    /// Sends a call to replicas until one answers; none when there is no such function.
    async fn dispatch(
        &self,
        name: &FunctionName,
        mut request: Outgoing,
    ) -> Result<Option<Answered>, Error> {
        let end = Instant::now() + self.limits.hold;
        let mut view = self.live.view();
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        let mut failed = Vec::new();
        let mut permit = None;
        let mut held = None;
        loop {
            let target = match view.look_up(name) {
                Lookup::Found(target) => Some(target),
                Lookup::NoTable => None,
                Lookup::Unknown => return Ok(None),
            };
            if let Some(target) = target {
                if permit.is_none() {
                    permit = Some(self.admit(name, &target)?);
                }
                if let Some(call) = target.pick(&failed) {
                    held = None;
                    let silence = target.timeout.unwrap_or(self.limits.timeout);
                    match request.send(&call.0, silence).await {
                        Ok(response) => {
                            let holds = (call, permit);
                            return Ok(Some(Answered { response, silence, holds }));
                        }
                        Err(Failure::Again(error)) => {
                            debug!(function = %name, replica = call.0.id, "trying another: {error:#}");
                            failed.push(Arc::clone(&call.0));
                            continue;
                        }
                        Err(failure) => return Err(self.final_error(name, failure, silence)),
                    }
                }
            }

            // Nobody takes the call now: wait for a change, or for those that failed to recover.
            if held.is_none() {
                held = Some(self.held.try_acquire().map_err(|_| too_many_held(name))?);
            }
            let recover = async {
                if failed.is_empty() {
                    std::future::pending::<()>().await;
                }
                sleep(backoff.next().expect("a back-off has no end")).await;
            };
            tokio::select! {
                () = view.changed() => {}
                () = recover => {}
                () = sleep_until(end) => {
                    return Err(none_ready(name, self.limits.hold, failed.is_empty()));
                }
            }
            failed.clear();
        }
    }

    /// A place among the calls that one function may have at a time.
    fn admit(&self, name: &FunctionName, target: &Target) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&target.permits).try_acquire_owned().map_err(|_| {
            let limit = self.limits.calls;
            let message = format!("function `{name}` has {limit} calls running, its limit");
            Error::new(ErrorCode::ResourceExhausted, message).hint("try again later")
        })
    }

    fn pass_on(
        &self,
        name: &FunctionName,
        answered: Answered,
        change: Option<Change>,
        stamp: &Stamp,
    ) -> Result<Response<Body>, Error> {
        let Answered { mut response, silence, holds } = answered;
        let changed = headers::upgrade(response.headers());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(change), Some(protocol)) = (change, changed) else {
                let message = format!("function `{name}` changed its protocol unasked");
                return Err(Error::new(ErrorCode::Unavailable, message));
            };
            self.tunnels.open(change.connection, hyper::upgrade::on(&mut response), holds);
            let (mut parts, _) = response.into_parts();
            headers::from_function(&mut parts.headers, stamp);
            headers::set_upgrade(&mut parts.headers, protocol);
            return Ok(Response::from_parts(parts, Body::empty()));
        }
        let (mut parts, body) = response.into_parts();
        let body = body::download(&parts.headers, body, silence, &self.stop, holds);
        headers::from_function(&mut parts.headers, stamp);
        parts.version = http::Version::HTTP_11;
        Ok(Response::from_parts(parts, body))
    }

    fn final_error(&self, name: &FunctionName, failure: Failure, silence: Duration) -> Error {
        match failure {
            Failure::Late => {
                let message = format!("function `{name}` did not answer within {silence:?}");
                Error::new(ErrorCode::DeadlineExceeded, message)
                    .hint("look at its log, or give it a longer timeout")
            }
            Failure::Fault(body::Fault::TooLarge) => too_large(self.limits.body_limit),
            Failure::Fault(fault) => Error::new(ErrorCode::InvalidArgument, fault.to_string()),
            Failure::Again(error) | Failure::Broken(error) => {
                debug!(function = %name, "no answer: {error:#}");
                let message = format!("function `{name}` broke the connection before it answered");
                Error::new(ErrorCode::Unavailable, message)
                    .hint("it may have run: repeat the call only if that does no harm")
            }
        }
    }
}

/// An answer's head, and what is held until its last byte is through.
struct Answered {
    response: Response<Incoming>,
    silence: Duration,
    holds: (Call, Option<OwnedSemaphorePermit>),
}

fn is_verb(method: &Method) -> bool {
    VERBS.split(", ").any(|verb| verb == method.as_str())
}

fn too_large(limit: u64) -> Error {
    Error::new(ErrorCode::TooLarge, format!("the request's body is over {limit} bytes"))
}

fn too_many_held(name: &FunctionName) -> Error {
    let message = format!("too many calls wait for a replica, and `{name}` has none ready");
    Error::new(ErrorCode::ResourceExhausted, message).hint("try again later")
}

fn none_ready(name: &FunctionName, hold: Duration, none: bool) -> Error {
    let what = if none { "was ready" } else { "took a connection" };
    let message = format!("no replica of function `{name}` {what} within {hold:?}");
    Error::new(ErrorCode::Unavailable, message).hint("look at the function's state and log")
}
