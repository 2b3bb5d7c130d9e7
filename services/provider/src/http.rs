//! The API on the provider's socket, one file per resource.
//!
//! Nobody logs in here: who may open the socket may do everything. The gateway adds the doors.

use std::convert::Infallible;

use api::{Error, ErrorCode, FunctionName};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span};

mod builds;
mod events;
mod files;
mod functions;
mod logs;
mod revisions;
mod routes;
mod system;

use crate::provider::Provider;

/// Longest JSON body, in bytes.
const MAX_JSON: usize = 1 << 20;
const REQUEST_ID: &str = "x-request-id";

/// What every handler has.
#[derive(Clone, Debug)]
pub(crate) struct App {
    provider: Provider,
    /// Ends streams that would go on for ever.
    closing: CancellationToken,
}

/// An error on its way to a caller.
#[derive(Debug)]
pub(crate) struct Failure(Error);

type Result<T = Response, E = Failure> = std::result::Result<T, E>;

/// All routes. When `closing` is cancelled, endless answers end.
pub fn router(provider: Provider, closing: CancellationToken) -> Router {
    let function = "/v1/functions/{name}";
    let below = |rest: &str| format!("{function}/{rest}");
    Router::new()
        .route("/healthz", get(healthz))
        .route("/routes", get(routes::watch))
        .route("/routes/ack", post(routes::ack))
        .route("/routes/drained", post(routes::drained))
        .route("/v1/functions", get(functions::list).post(functions::create))
        .route(function, get(functions::get).delete(functions::remove))
        .route(&below("files"), get(files::list))
        .route(&below("files/"), get(files::list))
        .route(&below("files/{*path}"), get(files::read).put(files::write).delete(files::remove))
        .route(&below("commit"), post(builds::commit))
        .route(&below("revisions"), get(revisions::list))
        .route(&below("rollback"), post(revisions::roll_back))
        .route(&below("logs"), get(logs::of_function))
        .route("/v1/builds/{id}", get(builds::get))
        .route("/v1/trash", get(functions::trash))
        .route("/v1/events", get(events::all))
        .route(
            "/system/functions",
            get(system::list).post(system::deploy).put(system::update).delete(system::remove),
        )
        .route("/system/function/{name}", get(system::get))
        .route("/system/info", get(system::info))
        .route("/system/logs", get(logs::of_openfaas))
        .method_not_allowed_fallback(async || {
            Failure(Error::new(ErrorCode::InvalidArgument, "this path has no such method"))
        })
        .fallback(async || Failure(Error::new(ErrorCode::NotFound, "there is no such path")))
        .layer(middleware::from_fn(with_request_id))
        .with_state(App { provider, closing })
}

/// 200 when functions can be made; 503 while containerd does not answer.
async fn healthz(State(app): State<App>) -> StatusCode {
    if app.provider.is_engine_up() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Every line that is logged for a request bears its id: the caller's, or a new one.
async fn with_request_id(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).filter(|id| is_id(id)).cloned();
    let id = given.unwrap_or_else(new_id);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = info_span!("request", id = id.to_str().unwrap_or_default());
    async move {
        let mut response = next.run(request).await;
        debug!(%method, path, status = response.status().as_u16(), "answered");
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
    .instrument(span)
    .await
}

fn is_id(id: &HeaderValue) -> bool {
    id.len() <= 64 && id.as_bytes().iter().all(|it| it.is_ascii_alphanumeric() || *it == b'-')
}

fn new_id() -> HeaderValue {
    let mut bytes = [0; 8];
    // Without randomness ids repeat, which harms a log only.
    let _ = getrandom::fill(&mut bytes);
    let id = format!("{:016x}", u64::from_le_bytes(bytes));
    HeaderValue::from_str(&id).expect("hex digits are a header's value")
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(self.0.body())).into_response()
    }
}

/// Reads a name from a path.
fn name(text: &str) -> Result<FunctionName> {
    text.parse().map_err(|error: api::InvalidName| Failure(error.into()))
}

/// Reads a body as JSON; none at all is read as `{}`.
async fn json<T: DeserializeOwned>(body: Body) -> Result<T> {
    let bytes = match Limited::new(body, MAX_JSON).collect().await {
        Ok(bytes) => bytes.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body is longer than {MAX_JSON} bytes");
            return Err(Failure(Error::new(ErrorCode::TooLarge, message)));
        }
        Err(error) => {
            let message = format!("the body broke off: {error}");
            return Err(Failure(Error::new(ErrorCode::InvalidArgument, message)));
        }
    };
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        let message = format!("the body is not what it must be: {error}");
        Failure(Error::new(ErrorCode::InvalidArgument, message))
    })
}

/// Reads a query string's fields.
fn query<T: DeserializeOwned>(uri: &axum::http::Uri) -> Result<T> {
    axum::extract::Query::try_from_uri(uri).map(|it| it.0).map_err(|error| {
        let message = format!("the query is not what it must be: {}", error.body_text());
        Failure(Error::new(ErrorCode::InvalidArgument, message))
    })
}

/// One JSON value a line, sent as they come.
fn ndjson<T: Serialize>(app: &App, values: impl Stream<Item = T> + Send + 'static) -> Response {
    let lines = values.map(|value| {
        let mut line = serde_json::to_vec(&value).expect("an answer is plain data");
        line.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    let lines = lines.take_until(app.closing.clone().cancelled_owned());
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(lines)).into_response()
}

/// Server-sent events, sent as they come, with a comment now and then.
fn sse<T: Serialize>(
    app: &App,
    values: impl Stream<Item = (Option<&'static str>, T)> + Send + 'static,
) -> Response {
    let events = values.map(|(name, value)| {
        let event = axum::response::sse::Event::default();
        let event = name.map_or_else(|| event.clone(), |name| event.clone().event(name));
        event.json_data(value)
    });
    let events = events.take_until(app.closing.clone().cancelled_owned());
    let keep_alive = axum::response::sse::KeepAlive::default();
    axum::response::Sse::new(events).keep_alive(keep_alive).into_response()
}

/// Whether a caller wants server-sent events.
fn wants_sse(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    accept.is_some_and(|it| it.contains("text/event-stream"))
}
