//! `/routes`: the table for the gateway, which never shows it to anybody.

use std::time::Duration;

use api::route::{Ack, Drained, Update};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::{App, Result, json, ndjson};

/// A reader hears something at least so often.
const PING_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn watch(State(app): State<App>) -> Result {
    let provider = app.provider.clone();
    let (snapshot, receiver) = provider.shared.routes.subscribe().await;
    let state = (provider, receiver, Some(snapshot));
    let updates = stream::unfold(state, async |(provider, mut receiver, first)| {
        let update = match first {
            Some(snapshot) => snapshot,
            None => match timeout(PING_EVERY, receiver.recv()).await {
                Ok(Ok(update)) => update,
                // Too slow or over: the reader connects anew and begins with a snapshot.
                Ok(Err(RecvError::Lagged(_) | RecvError::Closed)) => return None,
                Err(_) => Update::Ping { epoch: provider.shared.routes.epoch() },
            },
        };
        Some((update, (provider, receiver, None)))
    });
    Ok(ndjson(&app, updates))
}

pub(super) async fn ack(State(app): State<App>, body: Body) -> Result {
    let Ack { epoch } = json(body).await?;
    app.provider.shared.routes.ack(epoch);
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn drained(State(app): State<App>, body: Body) -> Result {
    let Drained { replica } = json(body).await?;
    app.provider.shared.routes.drained(&replica);
    Ok(StatusCode::NO_CONTENT.into_response())
}
