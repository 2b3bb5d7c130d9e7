//! `/v1/functions/{name}/revisions` and `/rollback`.

use std::time::Duration;

use api::revision::RollbackRequest;
use api::{Error, ErrorCode};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse;

use super::{App, Failure, Result, json, name};
use crate::actor::Ask;
use crate::fault;

/// How long a caller of a roll-back waits; it takes longer only while containerd is away.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) async fn list(State(app): State<App>, Path(text): Path<String>) -> Result {
    let name = name(&text)?;
    app.provider.get(&name)?;
    let store = app.provider.shared.store.clone();
    let all = fault::blocking("reading revisions", move || store.revisions(&name)).await?;
    Ok(Json(all).into_response())
}

pub(super) async fn roll_back(
    State(app): State<App>,
    Path(text): Path<String>,
    body: Body,
) -> Result {
    let name = name(&text)?;
    let handle = app.provider.get(&name)?;
    let RollbackRequest { revision: number } = json(body).await?;
    let store = app.provider.shared.store.clone();
    let list = format!("GET /v1/functions/{name}/revisions lists them all");
    let revision = fault::blocking("reading a revision", move || store.revision(&name, number))
        .await
        .map_err(|error| if error.hint.is_empty() { error.hint(list) } else { error })?;
    let client = &app.provider.shared.replicas.client;
    match client.unpack_image(&revision.image).await {
        Err(error) if error.is_not_found() => {
            let message =
                format!("image `{}` of revision {number} is not in the store", revision.image);
            return Err(Failure(
                Error::new(ErrorCode::FailedPrecondition, message)
                    .hint("nothing was changed; choose another revision"),
            ));
        }
        other => other.map_err(|error| fault::containerd("reading the revision's image", error))?,
    };
    let rolling = handle.ask(|reply| Ask::RollBack { revision, reply });
    match tokio::time::timeout(LIMIT, rolling).await {
        Ok(answer) => Ok(Json(answer?).into_response()),
        Err(_) => Err(Failure(
            Error::new(ErrorCode::DeadlineExceeded, format!("revision {number} is not live yet"))
                .hint("the roll-back goes on; the function's state tells how it ends"),
        )),
    }
}
