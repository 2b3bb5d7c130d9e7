//! `/system`: OpenFaaS's provider API, as far as the loop needs it.

use api::openfaas::{
    DeleteFunctionRequest, FunctionDeployment, FunctionStatus, Info, ProviderInfo, VersionInfo,
};
use api::{Error, ErrorCode, FunctionName};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use serde::Deserialize;

use super::{App, Failure, Result, json, query};
use crate::actor::View;

/// The label by which OpenFaaS's clients know a function.
const NAME_LABEL: &str = "faas_function";

#[derive(Debug, Default, Deserialize)]
pub(super) struct NamespaceQuery {
    #[serde(default)]
    namespace: String,
}

pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result {
    let NamespaceQuery { namespace } = query(&uri)?;
    // Any name shows whether the namespace is one.
    let namespace = FunctionName::new("a", &namespace).map_err(Error::from)?.namespace().to_owned();
    let all: Vec<FunctionStatus> = app
        .provider
        .list()
        .iter()
        .map(|it| it.view())
        .filter(|it| it.function.name.namespace() == namespace)
        .map(status)
        .collect();
    Ok(Json(all).into_response())
}

pub(super) async fn get(State(app): State<App>, Path(text): Path<String>, uri: Uri) -> Result {
    let NamespaceQuery { namespace } = query(&uri)?;
    let handle = app.provider.get(&name(&text, &namespace)?)?;
    Ok(Json(status(handle.view())).into_response())
}

pub(super) async fn deploy(State(app): State<App>, body: Body) -> Result {
    let deployment: FunctionDeployment = json(body).await?;
    let name = name(&deployment.service, deployment.namespace.as_deref().unwrap_or_default())?;
    if app.provider.get(&name).is_ok() {
        let message = format!("function `{name}` exists already");
        return Err(Failure(Error::new(ErrorCode::AlreadyExists, message)));
    }
    Err(images_later(&deployment.image))
}

pub(super) async fn update(State(app): State<App>, body: Body) -> Result {
    let deployment: FunctionDeployment = json(body).await?;
    let name = name(&deployment.service, deployment.namespace.as_deref().unwrap_or_default())?;
    app.provider.get(&name)?;
    Err(images_later(&deployment.image))
}

pub(super) async fn remove(State(app): State<App>, uri: Uri, body: Body) -> Result {
    let NamespaceQuery { namespace } = query(&uri)?;
    let request: DeleteFunctionRequest = json(body).await?;
    // Older clients give the namespace in the query.
    let name = name(&request.function_name, &request.namespace.unwrap_or(namespace))?;
    app.provider.remove(&name).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

pub(super) async fn info() -> Json<Info> {
    let release =
        || VersionInfo { release: env!("CARGO_PKG_VERSION").to_owned(), sha: "unknown".to_owned() };
    Json(Info {
        provider: ProviderInfo {
            provider: "inplace".to_owned(),
            orchestration: "containerd".to_owned(),
            version: release(),
        },
        version: release(),
        arch: std::env::consts::ARCH.to_owned(),
    })
}

/// A function as OpenFaaS's clients see it: only what was deployed, and how it stands.
fn status(view: View) -> FunctionStatus {
    let View { function, record, .. } = view;
    let deployed = record.deployment.clone().unwrap_or_default();
    let mut labels = function.labels;
    labels.insert(NAME_LABEL.to_owned(), function.name.name().to_owned());
    let env = Some(record.env.clone()).filter(|it| !it.is_empty());
    FunctionStatus {
        name: function.name.name().to_owned(),
        namespace: function.name.namespace().to_owned(),
        image: if deployed.image.is_empty() { function.image } else { deployed.image },
        env_process: deployed.env_process,
        env_vars: deployed.env_vars.or(env),
        constraints: deployed.constraints,
        secrets: deployed.secrets,
        labels,
        annotations: deployed.annotations.unwrap_or_default(),
        limits: deployed.limits,
        requests: deployed.requests,
        read_only_root_filesystem: true,
        replicas: record.replicas,
        available_replicas: u64::from(function.live.is_some()),
        invocation_count: 0.0, // the gateway counts calls
        created_at: function.created,
    }
}

fn name(name: &str, namespace: &str) -> Result<FunctionName> {
    let parsed =
        if namespace.is_empty() { name.parse() } else { FunctionName::new(name, namespace) };
    parsed.map_err(|error| Failure(error.into()))
}

fn images_later(image: &str) -> Failure {
    let message = format!("functions cannot be deployed from an image such as `{image}` yet");
    let hint = "make one from a template: POST /v1/functions {\"name\", \"template\"}";
    Failure(Error::new(ErrorCode::InvalidArgument, message).hint(hint))
}
