//! An HTTP/1.1 client with a pool over a Unix socket.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tower::Service;

/// Connections are given up when idle for this long, well before [`crate::Limits`] closes them
/// at the other end.
const IDLE: Duration = Duration::from_secs(10);

/// Longest answer that [`UnixClient::call`] reads.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// Speaks HTTP to the process behind one Unix socket. Clones share the pool.
#[derive(Clone, Debug)]
pub struct UnixClient {
    pool: Client<Connector, Body>,
    path: Arc<Path>,
}

impl UnixClient {
    /// A client for the socket at `path`; it connects when it is first used.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path: Arc<Path> = path.into().into();
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(Connector { path: Arc::clone(&path) });
        Self { pool, path }
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a request and gives the answer as soon as its head is there; bodies stream both ways
    /// and an upgrade can be taken from the answer by [`hyper::upgrade::on`].
    ///
    /// Of the URI only path and query count. There is no limit on the time; the caller has one.
    ///
    /// # Errors
    /// When the socket cannot be reached or the connection breaks before the answer's head.
    pub async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, ClientError> {
        let path = request.uri().path_and_query().cloned();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(Authority::from_static("localhost"));
        parts.path_and_query = path.or(Some(PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(parts).expect("all three parts are there");
        self.pool.request(request).await.map_err(|source| {
            let path = self.path.display().to_string();
            if source.is_connect() {
                ClientError::Connect { path, source }
            } else {
                ClientError::Send { path, source }
            }
        })
    }

    /// Sends `body` as JSON (or no body) and reads the whole answer as JSON.
    ///
    /// An answer without a body is read as `null`, so `T = ()` takes it.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`ClientError::Status`] when the status is not 2xx, with what the
    /// other side said; [`ClientError::Answer`] when the answer cannot be read.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let operand = || format!("{} {path_and_query}", self.path.display());
        let broken = |source: anyhow::Error| ClientError::Answer { path: operand(), source };
        let body = match body {
            Some(value) => Body::from(serde_json::to_vec(value).map_err(|it| broken(it.into()))?),
            None => Body::empty(),
        };
        let mut request = Request::builder().method(method).uri(path_and_query).body(body);
        if let Ok(request) = &mut request {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        let answer = self.send(request.map_err(|it| broken(it.into()))?).await?;
        let status = answer.status();
        let bytes: Bytes = Limited::new(answer.into_body(), LONGEST_ANSWER)
            .collect()
            .await
            .map_err(|it| broken(anyhow::Error::from_boxed(it)))?
            .to_bytes();
        if !status.is_success() {
            let said = String::from_utf8_lossy(&bytes).trim().to_owned();
            return Err(ClientError::Status { path: operand(), status, said });
        }
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|it| broken(it.into()))
    }
}

/// Why a request over a Unix socket failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket: the request was not sent.
    #[error("connecting to `{path}`")]
    Connect {
        /// The socket.
        path: String,
        /// The cause.
        source: hyper_util::client::legacy::Error,
    },
    /// The connection broke before the head of the answer; the request may have been acted on.
    #[error("sending a request to `{path}`")]
    Send {
        /// The socket.
        path: String,
        /// The cause.
        source: hyper_util::client::legacy::Error,
    },
    /// The other side refused.
    #[error("`{path}` answered {status}: {said}")]
    Status {
        /// The socket and the path of the request.
        path: String,
        /// The status.
        status: StatusCode,
        /// The body of the answer.
        said: String,
    },
    /// What was said is not what was to be said.
    #[error("reading the answer of `{path}`")]
    Answer {
        /// The socket and the path of the request.
        path: String,
        /// The cause.
        source: anyhow::Error,
    },
}

/// Connects to one path, whatever the URI says.
#[derive(Clone, Debug)]
struct Connector {
    path: Arc<Path>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = Arc::clone(&self.path);
        Box::pin(async move { UnixStream::connect(&path).await.map(TokioIo::new) })
    }
}
