//! The API on the provider's socket, one file per resource.
//!
//! Nobody logs in here: who may open the socket may do everything. The gateway adds the doors.

use std::convert::Infallible;

use api::{Error, ErrorCode, FunctionName};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response, sse};
use axum::routing::{get, post};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span};

mod builds;
mod events;
mod files;
mod functions;
mod input;
mod logs;
mod revisions;
mod routes;
mod system;

use crate::provider::Provider;
use input::{json, query};

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
    let plain = Router::new()
        .route("/v1/functions", get(functions::list).post(functions::create))
        .route(function, get(functions::get).delete(functions::remove))
        .route(&below("files"), get(files::list))
        .route(&below("files/"), get(files::list))
        .route(&below("files/{*path}"), get(files::read).put(files::write).delete(files::remove))
        .route(&below("revisions"), get(revisions::list))
        .route(&below("rollback"), post(revisions::roll_back))
        .route("/v1/builds/{id}", get(builds::get))
        .route("/v1/trash", get(functions::trash))
        .route("/v1/events", get(events::all))
        .route_layer(middleware::from_fn(without_query));
    plain
        .route("/healthz", get(healthz))
        .route("/routes", get(routes::watch))
        .route("/routes/ack", post(routes::ack))
        .route("/routes/drained", post(routes::drained))
        .route(&below("commit"), post(builds::commit))
        .route(&below("logs"), get(logs::of_function))
        .route(
            "/system/functions",
            get(system::list).post(system::deploy).put(system::update).delete(system::remove),
        )
        .route("/system/function/{name}", get(system::get))
        .route("/system/info", get(system::info))
        .route("/system/logs", get(logs::of_openfaas))
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_path)
        .layer(middleware::from_fn(with_path_of_text))
        .layer(middleware::from_fn(with_request_id))
        .with_state(App { provider, closing })
}

/// 200 when functions can be made; 503 while containerd does not answer.
async fn healthz(State(app): State<App>) -> StatusCode {
    if app.provider.is_engine_up() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// 405; what the path has is in the header `Allow`.
async fn no_such_method(method: Method, uri: Uri) -> Response {
    let message = format!("`{}` has no method {method}", uri.path());
    let failure = Failure(Error::new(ErrorCode::InvalidArgument, message));
    (StatusCode::METHOD_NOT_ALLOWED, axum::Json(failure.0.body())).into_response()
}

async fn no_such_path(method: Method, uri: Uri) -> Failure {
    let message = format!("there is no `{}` to {method}", uri.path());
    Failure(Error::new(ErrorCode::NotFound, message))
}

/// Refuses a query where none has a meaning: it is another call than was meant.
async fn without_query(request: Request, next: Next) -> Response {
    match query::<NoQuery>(request.uri()) {
        Ok(NoQuery {}) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

/// Refuses a path whose escapes are no text, before it is taken apart.
async fn with_path_of_text(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if input::is_text(path) {
        return next.run(request).await;
    }
    let message = format!("the path `{path}` is not UTF-8 when its escapes are read");
    Failure(Error::new(ErrorCode::InvalidArgument, message)).into_response()
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

/// Server-sent events, sent as they come, with a comment now and then; each with what names it.
fn sse<T: Serialize>(
    app: &App,
    values: impl Stream<Item = (sse::Event, T)> + Send + 'static,
) -> Response {
    let events = values.map(|(event, value)| event.json_data(value));
    let events = events.take_until(app.closing.clone().cancelled_owned());
    let keep_alive = sse::KeepAlive::default();
    sse::Sse::new(events).keep_alive(keep_alive).into_response()
}

/// Whether a caller wants server-sent events.
fn wants_sse(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    accept.is_some_and(|it| it.contains("text/event-stream"))
}
