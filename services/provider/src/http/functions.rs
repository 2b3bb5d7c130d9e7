//! `/v1/functions` and `/v1/trash`.

use api::function::CreateFunction;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::{App, Result, json, name};
use crate::{fault, trash};

pub(super) async fn list(State(app): State<App>) -> Result {
    let all: Vec<_> = app.provider.list().iter().map(|it| it.view().function).collect();
    Ok(Json(all).into_response())
}

pub(super) async fn get(State(app): State<App>, Path(text): Path<String>) -> Result {
    let handle = app.provider.get(&name(&text)?)?;
    Ok(Json(handle.view().function).into_response())
}

pub(super) async fn create(State(app): State<App>, body: Body) -> Result {
    let request: CreateFunction = json(body).await?;
    // On its own, so that a caller who goes away leaves no half-made function.
    let creating = tokio::spawn(async move { app.provider.create(request, None).await });
    let function =
        creating.await.map_err(|error| fault::internal("creating a function", &error.into()))??;
    Ok((StatusCode::CREATED, Json(function)).into_response())
}

pub(super) async fn remove(State(app): State<App>, Path(text): Path<String>) -> Result {
    let name = name(&text)?;
    let removing = tokio::spawn(async move { app.provider.remove(&name).await });
    removing.await.map_err(|error| fault::internal("removing a function", &error.into()))??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn trash(State(app): State<App>) -> Result {
    let store = app.provider.shared.store.clone();
    let all = fault::blocking("reading the trash", move || trash::list(&store)).await?;
    Ok(Json(all).into_response())
}
