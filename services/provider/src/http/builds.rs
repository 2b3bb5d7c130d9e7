//! `/v1/functions/{name}/commit` and `/v1/builds/{id}`.

use std::sync::Arc;

use api::build::{BuildEvent, CommitRequest};
use api::{Error, ErrorCode};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;

use super::{App, Failure, Result, json, name, ndjson, query, sse, wants_sse};
use crate::actor::Ask;
use crate::builds::Build;

#[derive(Debug, Deserialize)]
pub(super) struct CommitQuery {
    #[serde(default)]
    wait: bool,
}

pub(super) async fn commit(
    State(app): State<App>,
    Path(text): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result {
    let handle = app.provider.get(&name(&text)?)?;
    let CommitQuery { wait } = query(&uri)?;
    let CommitRequest { message } = json(body).await?;
    let build = handle.ask(|reply| Ask::Commit { message, reply }).await?;
    if wait {
        return Ok(follow(&app, &headers, build));
    }
    Ok((StatusCode::ACCEPTED, Json(build.started.clone())).into_response())
}

pub(super) async fn get(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result {
    let build = app.provider.shared.builds.get(&id).ok_or_else(|| {
        Failure(Error::new(ErrorCode::NotFound, format!("no build `{id}` is remembered")))
    })?;
    Ok(follow(&app, &headers, build))
}

fn follow(app: &App, headers: &HeaderMap, build: Arc<Build>) -> Response {
    let events = events(build);
    if wants_sse(headers) {
        sse(app, events.map(|event| (None, event)))
    } else {
        ndjson(app, events)
    }
}

/// All that a build told and will tell, from its start to its end.
fn events(build: Arc<Build>) -> impl Stream<Item = BuildEvent> {
    let batches = stream::unfold((build, 0), async |(build, from)| {
        let batch = build.next(from).await?;
        let next = from + batch.len();
        Some((batch, (build, next)))
    });
    batches.flat_map(stream::iter)
}
