//! A new function: all of it, or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::event::Event;
use api::function::{CreateFunction, Function, State};
use api::openfaas::FunctionDeployment;
use api::{Error, ErrorCode, FunctionName};
use fs_err as fs;
use time::OffsetDateTime;
use tracing::{info, warn};

use super::Provider;
use crate::actor::{Ask, Handle};
use crate::folder::Folder;
use crate::git::Git;
use crate::store::FunctionRecord;
use crate::templates::Template;
use crate::{fault, trash};

/// How long a new function may take until it answers, on top of what its process may.
const LIMIT: Duration = Duration::from_secs(60);
/// How long the gateway may take to learn of a new function.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);
/// Trash id of a record without files, for the moment between two steps.
const UNMADE: &str = "unmade";
/// Most bytes of all names and values of an environment together; the kernel's own limit is near.
const MAX_ENV: usize = 64 * 1024;

impl Provider {
    /// Makes a function from a template, or takes one back from the trash, and waits until it
    /// answers.
    ///
    /// # Errors
    /// `InvalidArgument`, `AlreadyExists`; `StartFailed` with its output when it does not answer.
    /// Then nothing of it is left; what came from the trash is there again.
    pub async fn create(
        &self,
        request: CreateFunction,
        deployment: Option<FunctionDeployment>,
    ) -> Result<Function, Error> {
        let name: FunctionName = request.name.parse()?;
        check_env(&request.env)?;
        let busy = self.busy(&name)?;
        if self.get(&name).is_ok() {
            let message = format!("function `{name}` exists already");
            return Err(Error::new(ErrorCode::AlreadyExists, message)
                .hint("take another name, or remove it first"));
        }
        self.engine_answers().await?;
        let (restored, record) = match (&request.template, &request.image, &request.restore) {
            (None, None, Some(id)) => (true, self.take_back(&name, id).await?),
            (Some(template), None, None) => {
                (false, self.seed(&name, &template.clone(), request, deployment).await?)
            }
            (None, Some(image), None) => return Err(not_from_images(image)),
            _ => return Err(one_of()),
        };
        let created = async {
            let handle = self.spawn(record).await?;
            self.answering(&handle).await
        };
        let created = match created.await {
            Ok(function) => {
                info!(function = %name, restored, "created");
                Ok(function)
            }
            Err(error) => {
                self.take_away_again(&name, restored).await;
                Err(error)
            }
        };
        drop(busy);
        created
    }

    /// Waits until a new function is good, or says why not.
    async fn answering(&self, handle: &Handle) -> Result<Function, Error> {
        let limit = LIMIT + self.shared.config.ready_limit();
        let mut views = handle.views();
        let settled = views.wait_for(|view| view.good || view.function.state == State::Failed);
        let view = match tokio::time::timeout(limit, settled).await {
            Ok(Ok(view)) => view.clone(),
            Ok(Err(_)) => {
                return Err(Error::new(ErrorCode::Unavailable, "the provider is stopping"));
            }
            Err(_) => handle.view(),
        };
        if view.good {
            self.shared.routes.settled(SETTLE_LIMIT).await;
            return Ok(view.function);
        }
        Err(view.function.last_error.unwrap_or_else(|| {
            let message = format!("function `{}` did not answer in time", view.function.name);
            Error::new(ErrorCode::DeadlineExceeded, message)
        }))
    }

    /// Puts all of a new function on the disk and into the store.
    async fn seed(
        &self,
        name: &FunctionName,
        template_name: &str,
        request: CreateFunction,
        deployment: Option<FunctionDeployment>,
    ) -> Result<FunctionRecord, Error> {
        let shared = Arc::clone(&self.shared);
        let template = shared.templates.get(template_name)?;
        let image = self.import(name, &template).await?;
        let record = FunctionRecord {
            name: name.clone(),
            template: Some(template_name.to_owned()),
            base_image: image.clone(),
            image,
            source: template.source,
            env: request.env,
            labels: request.labels,
            deployment,
            created: OffsetDateTime::now_utc(),
            good: None,
            newest: None,
            revision: 0,
            replicas: 1,
            last_error: None,
        };
        let (name, template) = (name.clone(), template_name.to_owned());
        fault::blocking("seeding a function's folder", move || {
            let state = &shared.config.state;
            // The store first: what it knows and is not whole is found after a crash.
            shared.store.insert(&record)?;
            let folder = match Folder::create(state, &name) {
                Ok(folder) => folder,
                Err(error) => {
                    // A folder that is there is somebody's: it is not touched.
                    shared.store.remove(&name, UNMADE, record.created)?;
                    shared.store.purge(UNMADE)?;
                    return Err(error.into());
                }
            };
            let seeded = Git::init(state, &folder).map_err(Error::from).and_then(|_| {
                shared.templates.seed(&template, &folder).map_err(|error| {
                    fault::internal(&format!("seeding from template `{template}`"), &error)
                })
            });
            if let Err(error) = seeded {
                discard(&shared.store, state, &name);
                return Err(error);
            }
            Ok(record)
        })
        .await
    }

    /// Imports a template's base, and tells how far it is.
    async fn import(&self, name: &FunctionName, template: &Template) -> Result<String, Error> {
        let shared = &self.shared;
        let what = format!("importing base {}", template.base);
        let progress = |progress: containerd::images::Progress| {
            shared.tell(Event::Progress {
                name: name.clone(),
                what: what.clone(),
                current: progress.done,
                total: progress.total,
            });
        };
        shared.templates.import(template, &shared.replicas.client, progress).await
    }

    async fn take_back(&self, name: &FunctionName, id: &str) -> Result<FunctionRecord, Error> {
        let shared = Arc::clone(&self.shared);
        let (name, id) = (name.clone(), id.to_owned());
        fault::blocking("taking a function back", move || {
            let found = trash::list(&shared.store)?.into_iter().find(|it| it.id == id);
            let found = found.ok_or_else(|| {
                Error::new(ErrorCode::NotFound, format!("`{id}` is not in the trash"))
                    .hint("GET /v1/trash lists what is")
            })?;
            if found.name != name {
                let message = format!("`{id}` was function `{}`, not `{name}`", found.name);
                return Err(Error::new(ErrorCode::InvalidArgument, message)
                    .hint("it can be taken back under its own name"));
            }
            trash::take(&shared.store, &shared.config.state, &id)
        })
        .await
    }

    /// Undoes a creation that failed.
    async fn take_away_again(&self, name: &FunctionName, restored: bool) {
        let handle = self.lock().handles.remove(name);
        if let Some(handle) = handle
            && let Err(error) =
                handle.ask(|reply| Ask::TakeAway { to_trash: restored, reply }).await
        {
            warn!(function = %name, "what was half made is not stopped: {error}");
        }
        if !restored {
            let (shared, name) = (Arc::clone(&self.shared), name.clone());
            let undo = move || {
                discard(&shared.store, &shared.config.state, &name);
                shared.replicas.logs.remove(&name);
                Ok::<_, Error>(())
            };
            if let Err(error) = fault::blocking("undoing a creation", undo).await {
                warn!("what was half made is left: {error}");
            }
        }
    }
}

/// Removes a function that nobody ever used, for good.
fn discard(store: &crate::store::Store, state: &std::path::Path, name: &FunctionName) {
    let done = trash::put(store, state, name).and_then(|id| {
        let folder = state.join("trash").join(&id);
        fs::remove_dir_all(&folder)
            .with_context(|| format!("removing `{}`", folder.display()))
            .map_err(|error| fault::internal("undoing a creation", &error))?;
        Ok(store.purge(&id)?)
    });
    if let Err(error) = done {
        warn!(function = %name, "what was half made is in the trash: {error}");
    }
}

/// Refuses what would not be an environment, or another one than was meant.
fn check_env(env: &BTreeMap<String, String>) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(ErrorCode::InvalidArgument, why));
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return refuse(format!(
                "`{}` is not a name of an environment variable",
                name.escape_debug()
            ));
        }
        if value.contains('\0') {
            return refuse(format!("the environment variable `{name}` holds a NUL"));
        }
    }
    let size: usize = env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if size > MAX_ENV {
        return refuse(format!("the environment has {size} bytes, the most is {MAX_ENV}"));
    }
    Ok(())
}

fn not_from_images(image: &str) -> Error {
    let message = format!("functions cannot be made from an image such as `{image}` yet");
    Error::new(ErrorCode::InvalidArgument, message).hint("name a `template`")
}

fn one_of() -> Error {
    Error::new(
        ErrorCode::InvalidArgument,
        "a function is made from exactly one of `template` and `restore`",
    )
    .hint("name a `template`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_that_cannot_be_one_is_refused_by_name() {
        let check = |name: &str, value: &str| {
            check_env(&[(name.to_owned(), value.to_owned())].into()).map_err(|it| it.message)
        };
        assert_eq!(check("A", "x=1\n"), Ok(()));
        assert!(check("", "x").unwrap_err().contains("``"));
        assert!(check("A=B", "x").unwrap_err().contains("`A=B`"));
        assert!(check("A", "\0").unwrap_err().contains("`A` holds a NUL"));
        assert!(check("A", &"x".repeat(MAX_ENV)).unwrap_err().contains("the most is"));
    }
}
