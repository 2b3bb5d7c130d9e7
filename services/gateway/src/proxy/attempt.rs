//! One attempt to have a replica answer, and whether there may be another.

use std::error::Error as _;
use std::pin::pin;
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::Error as ClientError;
use tokio::time::{Instant, timeout_at};

use super::body::{Fault, Lender};
use crate::routes::live::Upstream;

/// How often a call that a replica may have seen is sent again. More would let a call that kills
/// its function do so without end.
const REPEATS: u32 = 3;

/// A call as a replica gets it, to be sent as often as is safe.
#[derive(Debug)]
pub(crate) struct Outgoing {
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
    body: Lender,
    /// Whether a replica that has only seen the head cannot have acted on the call, or acting
    /// twice is the same as once.
    repeatable: bool,
    repeats: u32,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The replica did not get the call, or cannot have acted on it: another may be tried.
    Again(ClientError),
    /// The connection broke, and the replica may have acted on the call.
    Broken(ClientError),
    /// The replica was silent for too long.
    Late,
    /// The request's body did not come whole.
    Fault(Fault),
}

impl Outgoing {
    /// A call whose headers are as the function gets them.
    pub(crate) fn new(
        method: Method,
        path: PathAndQuery,
        headers: HeaderMap,
        body: Lender,
    ) -> Self {
        let repeatable = method.is_idempotent() || !body.lend().is_end_stream();
        Self { method, path, headers, body, repeatable, repeats: 0 }
    }

    /// Sends it to one replica, which may be silent for `silence`.
    pub(crate) async fn send(
        &mut self,
        upstream: &Upstream,
        silence: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(upstream.address.clone());
        uri.path_and_query = Some(self.path.clone());
        let mut request = Request::new(self.body.lend());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(uri).expect("all three parts are there");
        *request.headers_mut() = self.headers.clone();

        let sent = upstream.client.request(request);
        match answer_in_time(sent, &self.body, silence).await {
            None => Err(Failure::Late),
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(self.failure(error)),
        }
    }

    fn failure(&mut self, error: ClientError) -> Failure {
        if let Some(fault) = self.body.fault() {
            return Failure::Fault(fault);
        }
        let again = was_not_sent(&error) || {
            self.repeats += 1;
            self.repeatable && self.repeats <= REPEATS
        };
        if again && self.body.take_back().is_some() {
            Failure::Again(error)
        } else {
            Failure::Broken(error)
        }
    }
}

/// Waits for an answer for `silence` after the last of the request's body moved; none when the
/// time is over.
pub(crate) async fn answer_in_time<T>(
    sent: impl Future<Output = T>,
    body: &Lender,
    silence: Duration,
) -> Option<T> {
    let mut sent = pin!(sent);
    let mut end = Instant::now() + silence;
    loop {
        if let Ok(answer) = timeout_at(end, sent.as_mut()).await {
            return Some(answer);
        }
        let later = body.moved() + silence;
        if later <= end {
            return None;
        }
        end = later;
    }
}

/// Whether the other side cannot have seen any of the request.
fn was_not_sent(error: &ClientError) -> bool {
    let canceled = error
        .source()
        .and_then(|source| source.downcast_ref::<hyper::Error>())
        .is_some_and(hyper::Error::is_canceled);
    error.is_connect() || canceled
}
