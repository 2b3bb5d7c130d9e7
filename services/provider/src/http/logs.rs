//! What a function printed: `/v1/functions/{name}/logs` as text, `/system/logs` as OpenFaaS's lines.

use std::convert::Infallible;

use api::{Error, ErrorCode, FunctionName};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Uri, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{App, Failure, Result, name, ndjson, query};
use crate::fault;
use crate::logs::Logs;

/// Lines that are given when nobody says how many.
const LINES: usize = 100;
/// Most lines of the past.
const MAX_LINES: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
}

/// OpenFaaS's query. Lines have no time here, so `since` is taken and has no effect.
#[derive(Debug, Deserialize)]
pub(super) struct OpenFaasQuery {
    name: String,
    #[serde(default)]
    namespace: String,
    tail: Option<i64>,
    #[serde(default)]
    follow: bool,
}

/// One line as OpenFaaS gives it.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    namespace: String,
    instance: String,
    timestamp: String,
    text: String,
}

pub(super) async fn of_function(
    State(app): State<App>,
    Path(text): Path<String>,
    uri: Uri,
) -> Result {
    let name = name(&text)?;
    let LogsQuery { tail, follow } = query(&uri)?;
    let lines = lines(&app, name, tail.unwrap_or(LINES), follow).await?;
    let text = lines.map(|line| Ok::<_, Infallible>(Bytes::from(line + "\n")));
    let text = text.take_until(app.closing.clone().cancelled_owned());
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, Body::from_stream(text)).into_response())
}

pub(super) async fn of_openfaas(State(app): State<App>, uri: Uri) -> Result {
    let OpenFaasQuery { name, namespace, tail, follow } = query(&uri)?;
    let name = FunctionName::new(&name, &namespace).map_err(Error::from)?;
    let tail = tail.and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0);
    let lines = lines(&app, name.clone(), tail.unwrap_or(MAX_LINES), follow).await?;
    let values = lines.map(move |text| Line {
        name: name.name().to_owned(),
        namespace: name.namespace().to_owned(),
        instance: String::new(),
        timestamp: crate::clock::rfc3339(OffsetDateTime::now_utc()),
        text,
    });
    Ok(ndjson(&app, values))
}

async fn lines(
    app: &App,
    name: FunctionName,
    tail: usize,
    follow: bool,
) -> Result<impl Stream<Item = String> + use<>> {
    app.provider.get(&name)?;
    if tail > MAX_LINES {
        let message = format!("`tail` is at most {MAX_LINES}");
        return Err(Failure(Error::new(ErrorCode::InvalidArgument, message)));
    }
    let logs = app.provider.shared.replicas.logs.clone();
    let past = {
        let (logs, name) = (logs.clone(), name.clone());
        fault::blocking("reading a log", move || {
            logs.tail(&name, 0, tail)
                .map_err(|error| fault::internal("reading a log", &error.into()))
        })
        .await?
    };
    let end = follow.then_some(past.end);
    Ok(stream::iter(past.lines).chain(later(logs, name, end)))
}

/// Lines from a position on, without end; none when there is no position.
fn later(logs: Logs, name: FunctionName, from: Option<u64>) -> impl Stream<Item = String> {
    let batches = stream::unfold((logs, name, from), async |(logs, name, from)| {
        let batch = logs.next(&name, from?).await.ok()?;
        Some((batch.lines, (logs, name, Some(batch.end))))
    });
    batches.flat_map(stream::iter)
}
