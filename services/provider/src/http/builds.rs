//! `/v1/functions/{name}/commit` and `/v1/builds/{id}`.

use std::sync::Arc;

use api::build::{BuildEvent, CommitRequest};
use api::{Error, ErrorCode};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response, sse};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;

use super::{App, Failure, Result, json, name, ndjson, query, wants_sse};
use crate::actor::Ask;
use crate::builds::Build;

/// Number of the last event that a reader of server-sent events has.
const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
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
        return Ok(follow(&app, &headers, build, 0));
    }
    Ok((StatusCode::ACCEPTED, Json(build.started.clone())).into_response())
}

pub(super) async fn get(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result {
    let build = app.provider.shared.builds.get(&id).ok_or_else(|| {
        let error = Error::new(ErrorCode::NotFound, format!("no build `{id}` is remembered"));
        Failure(error.hint(
            "the newest builds are remembered until the provider is started again; what came of \
             one is in GET /v1/functions/{name}/revisions",
        ))
    })?;
    // A browser that connects again says what it has seen.
    let seen = headers.get(LAST_EVENT_ID).and_then(|it| it.to_str().ok()?.parse::<usize>().ok());
    let from = seen.filter(|_| wants_sse(&headers)).map_or(0, |seen| seen.saturating_add(1));
    if from > 0 && build.has_ended_before(from) {
        // Which is how it is told not to connect once more.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(follow(&app, &headers, build, from))
}

fn follow(app: &App, headers: &HeaderMap, build: Arc<Build>, from: usize) -> Response {
    let events = events(build, from);
    if wants_sse(headers) {
        let named =
            |(number, event): (usize, _)| (sse::Event::default().id(number.to_string()), event);
        super::sse(app, events.map(named))
    } else {
        ndjson(app, events.map(|(_, event)| event))
    }
}

/// All that a build told and will tell, from an event on to its end, with their numbers.
fn events(build: Arc<Build>, from: usize) -> impl Stream<Item = (usize, BuildEvent)> {
    let batches = stream::unfold((build, from), async |(build, from)| {
        let batch = build.next(from).await?;
        let next = from + batch.len();
        Some((stream::iter((from..).zip(batch)), (build, next)))
    });
    batches.flatten()
}
