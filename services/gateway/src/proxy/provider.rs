//! Passes API requests on to the provider's socket, as streams in both directions.

use std::time::Duration;

use api::{Error, ErrorCode};
use axum::body::Body;
use daemon::UnixClient;
use daemon::client::ClientError;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::attempt::answer_in_time;
use super::body::{self, Fault, Lender};
use super::headers::{self, Stamp};
use super::path;
use super::tunnel::{Change, Tunnels};
use crate::answer;

/// How long the provider may be silent: it answers a create or a commit when it is done.
const SILENCE: Duration = Duration::from_secs(600);

/// The API behind the gateway.
#[derive(Debug)]
pub(crate) struct Provider {
    socket: UnixClient,
    body_limit: u64,
    tunnels: Tunnels,
    stop: CancellationToken,
}

impl Provider {
    /// The provider behind `socket`. Streams without an end are cut at `stop`.
    pub(crate) fn new(
        socket: UnixClient,
        body_limit: u64,
        tunnels: Tunnels,
        stop: CancellationToken,
    ) -> Self {
        Self { socket, body_limit, tunnels, stop }
    }

    /// Answers a request whose caller may make it: its path is one that the gateway offers.
    pub(crate) async fn pass(&self, request: Request<Incoming>) -> Response<Body> {
        let stamp = Stamp::new(request.headers());
        self.answer(request, &stamp).await.unwrap_or_else(|error| {
            debug!(call = ?stamp.id, "request failed: {error}");
            let mut answer = answer::error(&error);
            headers::name_call(answer.headers_mut(), &stamp);
            answer
        })
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        stamp: &Stamp,
    ) -> Result<Response<Body>, Error> {
        if path::climbs(request.uri().path()) {
            let message = format!("`{}` climbs out of its folder", request.uri().path());
            return Err(Error::new(ErrorCode::InvalidArgument, message)
                .hint("send a path without `.` and `..`, encoded or not"));
        }
        if request.body().size_hint().lower() > self.body_limit {
            return Err(self.too_large());
        }
        let change = Change::asked(&mut request);
        let (mut parts, body) = request.into_parts();
        headers::to_provider(&mut parts.headers, stamp);
        if let Some(change) = &change {
            headers::set_upgrade(&mut parts.headers, change.protocol.clone());
        }
        parts.version = http::Version::HTTP_11;
        let lender = Lender::new(body, self.body_limit);
        let sent = self.socket.send(Request::from_parts(parts, Body::new(lender.lend())));
        let mut response = match answer_in_time(sent, &lender, SILENCE).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => return Err(self.failure(&error, lender.fault())),
            None => {
                let message = format!("the provider did not answer within {SILENCE:?}");
                return Err(Error::new(ErrorCode::DeadlineExceeded, message));
            }
        };

        let changed = headers::upgrade(response.headers());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(change), Some(protocol)) = (change, changed) else {
                let message = "the provider changed its protocol unasked";
                return Err(Error::new(ErrorCode::Internal, message));
            };
            self.tunnels.open(change.connection, hyper::upgrade::on(&mut response), ());
            let (mut parts, _) = response.into_parts();
            headers::from_provider(&mut parts.headers, stamp);
            headers::set_upgrade(&mut parts.headers, protocol);
            return Ok(Response::from_parts(parts, Body::empty()));
        }
        let (mut parts, body) = response.into_parts();
        let body = body::download(&parts.headers, body, SILENCE, &self.stop, ());
        headers::from_provider(&mut parts.headers, stamp);
        Ok(Response::from_parts(parts, body))
    }

    fn failure(&self, error: &ClientError, fault: Option<Fault>) -> Error {
        match (fault, error) {
            (Some(Fault::TooLarge), _) => self.too_large(),
            (Some(fault), _) => Error::new(ErrorCode::InvalidArgument, fault.to_string()),
            (None, ClientError::Connect { .. }) => {
                warn!("the provider is not there: {error}");
                Error::new(ErrorCode::Unavailable, "the provider does not answer now")
                    .hint("it comes back by itself; functions go on answering meanwhile")
            }
            (None, _) => {
                warn!("the provider broke a request off: {error}");
                Error::new(ErrorCode::Unavailable, "the provider broke off before it answered")
                    .hint("look whether the request took effect before you repeat it")
            }
        }
    }

    fn too_large(&self) -> Error {
        let message = format!("the request's body is over {} bytes", self.body_limit);
        Error::new(ErrorCode::TooLarge, message)
    }
}
