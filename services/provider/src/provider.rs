//! All functions of this host: what they share, how they are found, made and brought back.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use api::{Error, ErrorCode, FunctionName};
use fs_err as fs;
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

mod create;
mod engine;
mod memory;
mod tidy;

use crate::actor::{self, Ask, Handle, Message};
use crate::builds::Builds;
use crate::config::{Config, Limits};
use crate::images::Images;
use crate::logs::Logs;
use crate::network::{self, Network};
use crate::replica::Replicas;
use crate::routes::Routes;
use crate::shared::{self, Shared};
use crate::store::{FunctionRecord, Store};
use crate::templates::Templates;
use crate::versions::{self, VersionError, Versions};
use crate::{folder, trash};

/// The containerd namespace of functions, their images and builds.
const NAMESPACE: &str = "functions";
/// Epochs of the route table that one process may count through.
const EPOCHS: u64 = 1 << 32;
/// How long all functions together may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Open files that a function may have.
const OPEN_FILES: u64 = 65_536;

/// All functions.
#[derive(Clone, Debug)]
pub struct Provider {
    /// What they share.
    pub shared: Arc<Shared>,
    functions: Arc<Mutex<Functions>>,
    engine: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Functions {
    handles: BTreeMap<FunctionName, Handle>,
    /// Names that are being made or removed.
    busy: BTreeSet<FunctionName>,
}

/// Holds a name while its function is being made or removed.
#[derive(Debug)]
struct Busy<'a> {
    provider: &'a Provider,
    name: FunctionName,
}

impl Provider {
    /// Opens the state, sets up the network, and brings all functions back as they were.
    ///
    /// # Errors
    /// When the state is damaged, the network cannot be made, or limits are required that the
    /// host cannot enforce.
    pub async fn open(config: Config, stop: CancellationToken) -> Result<Self> {
        prepare(&config)?;
        let store = Arc::new(Store::open(&config.state.join("provider/state.db"))?);
        let network = Network::open(network::Config {
            bridge: config.bridge.clone(),
            subnet: config.subnet,
            namespaces: config.run.join("netns"),
            gateway_port: config.gateway_port,
            dns: config.dns,
            nft: config.nft.clone(),
        })
        .await
        .context("setting up the functions' network")?;
        let replicas = Replicas {
            client: containerd::Client::connect(&config.containerd, NAMESPACE)?,
            images: Images::default(),
            network: Arc::new(network),
            logs: Logs::open(config.run.join("logs"))?,
            state: config.state.clone(),
            run: config.run.clone(),
            runtime: containerd::containers::Runtime {
                binary: config.crun.clone(),
                shim_cgroup: config.shim_cgroup.clone(),
            },
            limit_pids: can_limit_pids(config.limits)?,
            open_files: open_files()?,
            ready_limit: config.ready_limit(),
        };
        let shared = Arc::new(Shared {
            buildkit: buildkit::Client::connect(&config.buildkit),
            templates: Templates::new(config.bases.clone()),
            routes: Routes::new(store.reserve_epochs(EPOCHS)?),
            builds: Builds::new(store.next_replica()?),
            replicas: Arc::new(replicas),
            events: broadcast::Sender::new(shared::EVENTS),
            store,
            config,
            stop,
        });
        let provider =
            Self { shared, functions: Arc::default(), engine: watch::Sender::new(false) };
        provider.bring_back().await?;
        provider.start_tasks();
        Ok(provider)
    }

    /// The function of that name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn get(&self, name: &FunctionName) -> Result<Handle, Error> {
        self.lock().handles.get(name).cloned().ok_or_else(|| {
            Error::new(ErrorCode::NotFound, format!("no function is named `{name}`"))
                .hint("GET /v1/functions lists them all")
        })
    }

    /// All functions, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Handle> {
        self.lock().handles.values().cloned().collect()
    }

    /// Stops a function and moves it to the trash.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` when containerd does not answer.
    pub async fn remove(&self, name: &FunctionName) -> Result<(), Error> {
        let handle = self.get(name)?;
        let _busy = self.busy(name)?;
        // Not begun when it cannot be ended: the function would not be called any more, and be there.
        let client = &self.shared.replicas.client;
        let doing = format!("removing function `{name}`");
        client.version().await.map_err(|error| crate::fault::containerd(&doing, error))?;
        let removed = handle.ask(|reply| Ask::TakeAway { to_trash: true, reply }).await;
        self.lock().handles.remove(name);
        if let Err(error) = removed {
            // It is whole as long as the store knows it: it goes on.
            self.revive(name).await;
            return Err(error);
        }
        Ok(())
    }

    /// Stops all functions, one beside the other, and removes their network.
    ///
    /// # Errors
    /// What could not be stopped in time.
    pub async fn stop_all(&self) -> Result<()> {
        let handles = std::mem::take(&mut self.lock().handles);
        let stopped = handles
            .values()
            .map(|handle| handle.ask(|reply| Ask::TakeAway { to_trash: false, reply }));
        let all = tokio::time::timeout(STOP_LIMIT, futures::future::join_all(stopped)).await;
        for result in all.context("stopping all functions")? {
            if let Err(error) = result {
                warn!("a function was not stopped: {error}");
            }
        }
        self.shared.replicas.network.remove().await
    }

    /// Starts the tasks of all functions that the store knows.
    async fn bring_back(&self) -> Result<()> {
        let shared = &self.shared;
        trash::tidy(&shared.store, &shared.config.state, shared.config.trash_kept())?;
        for record in shared.store.functions()? {
            let name = record.name.clone();
            if let Err(error) = actor::undo_interrupted(&shared.config.state, &record) {
                warn!(function = %name, "a roll-back is left half done: {error}");
            }
            if record.good.is_none() {
                // Its creation was never answered; what is in its folder may still be of use.
                warn!(function = %name, "it was never ready and is moved to the trash");
                trash::put(&shared.store, &shared.config.state, &name)?;
            } else if let Err(error) = self.spawn(record).await {
                // One that is damaged must not keep the others from running.
                warn!(function = %name, "it is not brought back: {error}");
            }
        }
        info!(functions = self.lock().handles.len(), "state is open");
        Ok(())
    }

    fn start_tasks(&self) {
        let stop = self.shared.stop.clone();
        tokio::spawn(self.shared.replicas.logs.clone().keep_bounded(stop.clone()));
        tokio::spawn(stop.clone().run_until_cancelled_owned(engine::watch(self.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(memory::watch(self.clone())));
        tokio::spawn(stop.run_until_cancelled_owned(tidy::watch(self.clone())));
    }

    /// Starts a function's task.
    async fn spawn(&self, record: FunctionRecord) -> Result<Handle, Error> {
        let shared = Arc::clone(&self.shared);
        let name = record.name.clone();
        let (record, versions, seed) = crate::fault::blocking("opening versions", move || {
            let state = &shared.config.state;
            let (record, versions) = open_versions(state, record)?;
            Ok::<_, Error>((record, versions, shared.store.next_replica()?))
        })
        .await?;
        let handle = actor::spawn(&self.shared, record, versions, seed);
        self.lock().handles.insert(name.clone(), handle.clone());
        if *self.engine.borrow() {
            // If it does not answer by now, whoever watches it tells when it does.
            if let Ok(mut found) = self.shared.replicas.list().await {
                found.retain(|it| it.runs && it.function == name);
                handle.send(Message::Engine(Some(found))).await;
            }
        }
        Ok(handle)
    }

    /// Starts the task of a function again that was not removed after all.
    async fn revive(&self, name: &FunctionName) {
        let revived = match self.shared.store.function(name) {
            Ok(Some(record)) => self.spawn(record).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = revived {
            warn!(function = %name, "it does not go on: {error}");
        }
    }

    /// Takes hold of a name.
    fn busy(&self, name: &FunctionName) -> Result<Busy<'_>, Error> {
        if !self.lock().busy.insert(name.clone()) {
            let message = format!("function `{name}` is being made or removed");
            return Err(Error::new(ErrorCode::FailedPrecondition, message)
                .hint("try again when that is over"));
        }
        Ok(Busy { provider: self, name: name.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Functions> {
        self.functions.lock().expect("nothing panics under this lock")
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.provider.lock().busy.remove(&self.name);
    }
}

/// Opens a function's versions. A good one that is lost is told by its absence: the function then
/// begins anew from its folder.
fn open_versions(
    state: &Path,
    mut record: FunctionRecord,
) -> Result<(FunctionRecord, Versions), VersionError> {
    let limits = versions::Limits::default();
    let keep = record.good.into_iter().collect();
    match Versions::open(state, &record.name, record.good, &keep, limits) {
        Err(VersionError::Missing { id }) => {
            warn!(function = %record.name, version = id, "the good version is lost");
            record.good = None;
            let versions = Versions::open(state, &record.name, None, &BTreeSet::new(), limits)?;
            Ok((record, versions))
        }
        other => Ok((record, other?)),
    }
}

/// Makes the folders that everything else expects.
fn prepare(config: &Config) -> Result<()> {
    for path in [&config.state, &config.run] {
        anyhow::ensure!(path.is_absolute(), "`{}` is not an absolute path", path.display());
        fs::create_dir_all(path)?;
    }
    for part in ["provider", "trash"] {
        fs::create_dir_all(config.state.join(part))?;
    }
    for part in ["replicas", "etc", "mounts", "netns", "logs"] {
        fs::create_dir_all(config.run.join(part))?;
    }
    folder::prepare_state(&config.state)?;
    Ok(())
}

/// What functions may have open: not more than the host lets us give.
fn open_files() -> Result<u64> {
    let (_, most) =
        getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    Ok(most.min(OPEN_FILES))
}

/// Whether the kernel lets us limit processes, told by the cgroup that functions are made in.
fn can_limit_pids(limits: Limits) -> Result<bool> {
    let file = "/sys/fs/cgroup/functions/cgroup.controllers";
    let controllers = fs::read_to_string(file).unwrap_or_default();
    let have: HashSet<&str> = controllers.split_whitespace().collect();
    if limits == Limits::Required {
        let missing: Vec<&str> =
            ["cpu", "memory", "pids"].into_iter().filter(|it| !have.contains(it)).collect();
        anyhow::ensure!(missing.is_empty(), "limits are required, and {file} lacks {missing:?}");
    }
    Ok(have.contains("pids"))
}
