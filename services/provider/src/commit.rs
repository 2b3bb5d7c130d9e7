//! From a git commit to a revision: an image in containerd's store, built from the commit's tree.

use std::sync::Arc;
use std::time::Duration;

use api::build::{BuildEvent, StepStatus};
use api::revision::Revision;
use api::{Error, ErrorCode, FunctionName};
use buildkit::Event;
use time::OffsetDateTime;
use tracing::{info, warn};

use crate::builds::Build;
use crate::fault;
use crate::folder::FilePath;
use crate::images;
use crate::shared::Shared;
use crate::source::Source;
use crate::store::{FunctionRecord, NewRevision};

/// How long a build may take.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long a buildkitd or containerd that went away is waited for.
const BACK_LIMIT: Duration = Duration::from_secs(60);
/// Events of BuildKit that wait for us.
const EVENTS: usize = 1024;
/// Longest configuration of an image that is read, in bytes.
const MAX_CONFIG: usize = 4 << 20;

/// Builds a commit and makes a revision of it, which replaces those that are not kept any more.
/// When it returns, all of it is on the disk. `used` is a revision that something else needs.
///
/// # Errors
/// `BuildFailed` with the build's last lines, `Unavailable` when buildkitd or containerd stays
/// away, `FailedPrecondition` when the base image is gone. No revision was made then.
pub(crate) async fn build(
    shared: &Arc<Shared>,
    record: &FunctionRecord,
    source: &Source,
    build: &Arc<Build>,
    used: Option<u64>,
) -> Result<Revision, Error> {
    let _slot = shared.builds.slot().await;
    let commit = &build.started.commit;
    let name = images::name(&record.name, commit);
    let held = shared.replicas.images.hold(&name).await;
    tell_dependencies(shared, record, source, build);
    let first = attempt(shared, record, source, build, &name).await;
    let image = match first {
        Err(error) if error.code == ErrorCode::Unavailable => {
            warn!(function = %record.name, commit, "a build broke off, it is tried once more: {error}");
            let line = format!("{error}; the build is tried once more");
            build.tell(BuildEvent::Log { name: String::new(), line });
            back(shared).await?;
            attempt(shared, record, source, build, &name).await?
        }
        other => other?,
    };
    let client = &shared.replicas.client;
    let unpacking = |error| fault::containerd("unpacking the image", error);
    client.unpack_image(&name).await.map_err(unpacking)?;
    let new = NewRevision {
        commit: commit.clone(),
        image: name,
        digest: image.digest,
        message: build.message.trim().to_owned(),
        time: crate::clock::rfc3339(OffsetDateTime::now_utc()),
    };
    let (shared, function) = (Arc::clone(shared), record.name.clone());
    fault::blocking("storing a revision", move || -> Result<Revision, Error> {
        // The image must outlive a power cut as soon as somebody may rely on the revision.
        fs_err::File::open(&shared.config.state)
            .and_then(|state| nix::unistd::syncfs(&state).map_err(Into::into))
            .map_err(|error| fault::internal("bringing an image to the disk", &error.into()))?;
        let revision = shared.store.add_revision(&function, new)?;
        drop(held); // the store names it
        prune(&shared, &function, used);
        Ok(revision)
    })
    .await
}

/// Forgets revisions that are not kept any more; their images go with the next sweep.
fn prune(shared: &Shared, function: &FunctionName, used: Option<u64>) {
    let (keep, now) = (shared.config.retention(), OffsetDateTime::now_utc());
    match shared.store.prune_revisions(function, &keep, used, now) {
        Ok(gone) if gone.is_empty() => {}
        Ok(gone) => info!(%function, revisions = ?gone, "old revisions are not kept any more"),
        // They go with the next commit.
        Err(error) => warn!(%function, "old revisions are left: {error}"),
    }
}

/// Says what would otherwise be missed only when the function runs elsewhere.
fn tell_dependencies(shared: &Shared, record: &FunctionRecord, source: &Source, build: &Build) {
    let template = record.template.as_deref().and_then(|name| shared.templates.get(name).ok());
    let Some(file) = template.and_then(|it| it.dependencies) else { return };
    let Ok(path) = file.parse::<FilePath>() else { return };
    if source.open().is_ok_and(|it| it.folder.read(&path, u64::MAX - 1).is_ok()) {
        let line = format!("`{file}` is part of the image, and what it names is not installed");
        build.tell(BuildEvent::Log { name: String::new(), line });
    }
}

/// Waits until what a build needs is there again.
async fn back(shared: &Shared) -> Result<(), Error> {
    let doing = "waiting for containerd";
    shared
        .replicas
        .client
        .wait_ready(BACK_LIMIT)
        .await
        .map_err(|error| fault::containerd(doing, error))?;
    shared.buildkit.wait_ready(BACK_LIMIT).await.map_err(api_error)
}

async fn attempt(
    shared: &Shared,
    record: &FunctionRecord,
    source: &Source,
    build: &Arc<Build>,
    name: &str,
) -> Result<buildkit::Image, Error> {
    let config = base_config(shared, record).await?;
    let git_dir = source.git_dir();
    let request = buildkit::Build {
        source: buildkit::Source { git_dir, commit: build.started.commit.clone() },
        shared_key: record.name.to_string(),
        recipe: buildkit::Recipe::Commit(buildkit::Commit {
            base: record.base_image.clone(),
            config,
            path: record.source.clone(),
            owner: crate::sys::OWNER,
            dependencies: None,
        }),
        names: vec![name.to_owned()],
        secrets: buildkit::Secrets::default(),
        limit: LIMIT,
    };
    let (events, mut reader) = buildkit::channel(EVENTS);
    let pump = async {
        while let Some(event) = reader.recv().await {
            build.tell(told(event));
        }
    };
    let (result, ()) = tokio::join!(shared.buildkit.solve(request, events), pump);
    result.map_err(api_error)
}

/// The configuration of the base image, which the new image keeps; the base is imported again if
/// the store lost it.
async fn base_config(shared: &Shared, record: &FunctionRecord) -> Result<serde_json::Value, Error> {
    let (client, base) = (&shared.replicas.client, &record.base_image);
    let resolved = match client.unpack_image(base).await {
        Err(error) if error.is_not_found() => {
            info!(function = %record.name, %base, "the base image is imported again");
            restore_base(shared, record).await?;
            client.unpack_image(base).await
        }
        other => other,
    };
    let failed = |error| fault::containerd("reading the base image", error);
    let digest = resolved.map_err(failed)?.manifest.config().digest().to_string();
    let bytes = client.read_blob(&digest, MAX_CONFIG).await.map_err(failed)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| fault::internal("reading the base image", &error.into()))
}

async fn restore_base(shared: &Shared, record: &FunctionRecord) -> Result<(), Error> {
    let gone = || {
        let message = format!("base image `{}` is not in the store", record.base_image);
        Error::new(ErrorCode::FailedPrecondition, message)
            .hint("create the function anew from its template, with this folder")
    };
    let template = record.template.as_deref().ok_or_else(gone)?;
    let template = shared.templates.get(template).map_err(|_| gone())?;
    // A newer release has another base under the same name.
    if !shared.templates.image(&template).is_ok_and(|it| it == record.base_image) {
        return Err(gone());
    }
    let client = &shared.replicas.client;
    shared.templates.import(&template, client, |_| ()).await.map(drop)
}

fn told(event: Event) -> BuildEvent {
    match event {
        Event::Step { name, status, took } => BuildEvent::Step {
            name,
            status: match status {
                buildkit::StepStatus::Running => StepStatus::Running,
                buildkit::StepStatus::Done => StepStatus::Done,
                buildkit::StepStatus::Cached => StepStatus::Cached,
                buildkit::StepStatus::Failed => StepStatus::Failed,
            },
            ms: took.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        },
        Event::Progress { step, what, current, total } => {
            BuildEvent::Progress { name: step, what, current, total }
        }
        Event::Log { step, line } => BuildEvent::Log { name: step, line },
        Event::Skipped { lines } => {
            let line = format!("{lines} lines were printed too fast and are left out");
            BuildEvent::Log { name: String::new(), line }
        }
    }
}

fn api_error(error: buildkit::Error) -> Error {
    use buildkit::Error as E;
    let message = error.to_string();
    match error {
        E::Unavailable { .. } => Error::new(ErrorCode::Unavailable, "buildkitd does not answer")
            .hint("it is started again by itself; commit again in a moment"),
        E::Failed { lines, .. } => Error::new(ErrorCode::BuildFailed, message).lines(lines),
        E::MissingBase { .. } => Error::new(ErrorCode::FailedPrecondition, message),
        E::Deadline { .. } => Error::new(ErrorCode::DeadlineExceeded, message),
        E::Refused { .. } => Error::new(ErrorCode::FailedPrecondition, message),
        other => fault::internal("building an image", &other.into()),
    }
}
