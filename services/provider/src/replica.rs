//! Replicas: containers that answer a function's calls.
//!
//! A replica is made of a network namespace, a snapshot with the source link in it, a container
//! and its task, and a folder that it shares with us. All are named by the replica's id, so that
//! a restarted provider finds what runs and removes what is left of the rest.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use api::{Error, ErrorCode, FunctionName};
use containerd::Client;
use containerd::containers::{NewContainer, Runtime};
use containerd::snapshots::{IdRange, remap_labels};
use containerd::tasks::{Exiting, Output, SIGTERM, TaskStatus};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

mod control;
mod files;
mod seccomp;
mod seed;
mod spec;

pub use control::{Control, ControlError, Outcome};

use crate::fault;
use crate::images::Images;
use crate::logs::Logs;
use crate::machine::ReplicaId;
use crate::network::Network;

/// Port that a replica answers on.
const PORT: u16 = 8080;
/// How long a container may take until its watchdog listens.
const SOCKET_LIMIT: Duration = Duration::from_secs(20);
/// How long a first connection to a ready replica may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long a replica may take to end after it was asked to.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long a killed one may take.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long the lease of a start lives at most.
const LEASE_LIFE: Duration = Duration::from_secs(600);
/// Most lines of output in an error.
const ERROR_LINES: usize = 50;

/// The ids of a replica outside of it. They are the same as inside as long as there are no user
/// namespaces; these need the mapping on every snapshot from its beginning.
const IDS: IdRange = IdRange { container: 0, host: 0, size: 65_536 };

/// Labels of our containers.
const FUNCTION: &str = "inplace.function";
const ADDRESS: &str = "inplace.address";

/// Where replicas are made.
#[derive(Debug)]
pub struct Replicas {
    /// containerd, in the functions' namespace.
    pub client: Client,
    /// Which images are in use.
    pub images: Images,
    /// The functions' network.
    pub network: Arc<Network>,
    /// What functions print.
    pub logs: Logs,
    /// `STATE`: holds `versions/` and `volumes/`.
    pub state: PathBuf,
    /// `RUN`: holds `replicas/`, `etc/` and `mounts/`.
    pub run: PathBuf,
    /// The OCI runtime.
    pub runtime: Runtime,
    /// Whether the kernel lets us limit processes here.
    pub limit_pids: bool,
    /// Open files that a replica may have.
    pub open_files: u64,
    /// How long a new process of a function may take until it is ready.
    pub ready_limit: Duration,
}

/// A replica to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Its id.
    pub replica: ReplicaId,
    /// Whose it is.
    pub function: FunctionName,
    /// Full name of the image, in the store.
    pub image: String,
    /// Where the source is in the image.
    pub source: String,
    /// The function's environment.
    pub env: BTreeMap<String, String>,
    /// The version to begin with.
    pub version: u64,
    /// How long to keep a spare process.
    pub spare: Duration,
}

/// A replica that answers.
#[derive(Debug)]
pub struct Running {
    /// Where it answers.
    pub address: SocketAddrV4,
    /// Its watchdog.
    pub control: Control,
    /// Its end.
    pub exit: Exiting,
    /// When it was started or found.
    pub since: Instant,
    /// Where its output begins in the function's log.
    pub log: u64,
}

/// A container of ours, as containerd lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundReplica {
    /// Its id.
    pub replica: ReplicaId,
    /// Whose it is.
    pub function: FunctionName,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it runs; else it is a leftover.
    pub runs: bool,
}

impl Replicas {
    /// Starts a replica and waits until it answers.
    ///
    /// # Errors
    /// `StartFailed` with its output, `FailedPrecondition` when the image is not there,
    /// `Unavailable` when containerd does not answer. Nothing of it is left.
    pub async fn start(&self, launch: &Launch) -> Result<Running, Error> {
        let Launch { replica, function, image, .. } = launch;
        let begin = Instant::now();
        let attachment = self.network.attach(replica).await.map_err(|error| {
            fault::internal(&format!("connecting function `{function}` to the network"), &error)
        })?;
        let started = async {
            let running = self.run(launch, &attachment.namespace, attachment.address).await?;
            self.first(launch, running).await
        };
        match started.await {
            Ok(running) => {
                let took_ms = begin.elapsed().as_millis();
                info!(%function, %replica, %image, version = launch.version, took_ms, "replica up");
                Ok(running)
            }
            Err(error) => {
                self.remove(replica, attachment.address).await;
                Err(error)
            }
        }
    }

    /// Takes over a replica that runs, and makes sure that it answers with `version`.
    ///
    /// # Errors
    /// When it does not. It is left as it is.
    pub async fn adopt(&self, found: &FoundReplica, version: u64) -> Result<Running, Error> {
        let running = Running {
            address: SocketAddrV4::new(found.address, PORT),
            control: Control::new(self.folder(&found.replica)),
            exit: self.client.watch_task(found.replica.as_str()),
            since: Instant::now(),
            log: self.logs.end(&found.function),
        };
        let unreachable = |error: ControlError| {
            Error::new(ErrorCode::StartFailed, format!("a replica that runs is lost: {error}"))
        };
        if running.control.version().await.map_err(unreachable)? != Some(version) {
            let switch = running.control.switch(version, self.ready_limit, Duration::ZERO);
            match switch.await.map_err(unreachable)? {
                Outcome::Switched(_) => {}
                Outcome::Refused(reason, lines) => return Err(start_failed(reason, lines)),
                Outcome::Superseded => return Err(unreachable(ControlError::Late(Duration::ZERO))),
            }
        }
        answers(running.address).await?;
        info!(function = %found.function, replica = %found.replica, version, "replica adopted");
        Ok(running)
    }

    /// Stops a replica: asked first, then killed, then removed with all that was its own.
    pub async fn stop(&self, replica: &ReplicaId, address: Ipv4Addr) {
        let id = replica.as_str();
        if self.client.kill_task(id, SIGTERM).await.is_ok() {
            // Whether it ended by itself or not: what is left is killed below.
            let _ = self.client.watch_task(id).within(STOP_LIMIT).await;
        }
        self.remove(replica, address).await;
    }

    /// Removes a replica in whatever state it is, over restarts of containerd.
    pub async fn remove(&self, replica: &ReplicaId, address: Ipv4Addr) {
        for pause in daemon::Backoff::default() {
            match self.client.cleanup(replica.as_str(), KILL_LIMIT).await {
                Ok(()) => break,
                Err(error) => warn!(%replica, "a replica was not removed yet: {error:#}"),
            }
            tokio::time::sleep(pause).await;
        }
        self.network.release(replica, address).await;
        self.remove_files(replica);
        debug!(%replica, "replica removed");
    }

    /// All replicas that containerd knows.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn list(&self) -> Result<Vec<FoundReplica>, containerd::Error> {
        let containers = self.client.containers(&[]).await?;
        let tasks = self.client.tasks().await?;
        let running: HashSet<&str> = tasks
            .iter()
            .filter(|task| matches!(task.status, TaskStatus::Running | TaskStatus::Paused))
            .map(|task| task.container.as_str())
            .collect();
        let found = containers.iter().filter_map(|container| {
            Some(FoundReplica {
                replica: ReplicaId::parse(&container.id)?,
                function: container.labels.get(FUNCTION)?.parse().ok()?,
                address: container.labels.get(ADDRESS)?.parse().ok()?,
                runs: running.contains(container.id.as_str()),
            })
        });
        Ok(found.collect())
    }

    /// The error of a replica that ended by itself.
    #[must_use]
    pub fn ended(&self, function: &FunctionName, status: Option<u32>, log: u64) -> Error {
        let status = status.map_or("an unknown status".to_owned(), |it| format!("status {it}"));
        let message = format!("the replica of function `{function}` ended with {status}");
        Error::new(ErrorCode::StartFailed, message).lines(self.output(function, log))
    }

    /// Creates the container and starts it.
    async fn run(
        &self,
        launch: &Launch,
        namespace: &Path,
        address: Ipv4Addr,
    ) -> Result<Running, Error> {
        let Launch { replica, function, image, .. } = launch;
        let (id, client) = (replica.as_str(), &self.client);
        let about = |error: containerd::Error| self.about(launch, error);
        let _held = self.images.hold(image).await; // until the container names it
        let resolved = client.unpack_image(image).await.map_err(about)?;
        let binds = self
            .files(launch, address, spec::user(&resolved.config)?)
            .map_err(|error| fault::internal("preparing a replica's files", &error))?;
        let spec = spec::build(&spec::Input {
            function,
            id,
            image: &resolved.config,
            env: &launch.env,
            network: namespace,
            binds,
            limit_pids: self.limit_pids,
            open_files: self.open_files,
        })?;
        let lease = client.lease("start", LEASE_LIFE).await.map_err(about)?;
        let top = resolved.top_chain();

        let mounts =
            lease.prepare_snapshot(id, &top, remap_labels(IDS, IDS)).await.map_err(about)?;
        self.seed(launch, mounts.clone())
            .await
            .map_err(|error| fault::internal("preparing a replica's source", &error))?;
        let labels = [
            (FUNCTION.to_owned(), function.to_string()),
            (ADDRESS.to_owned(), address.to_string()),
        ];
        let runtime = self.runtime.clone();
        let new = NewContainer { id, image, snapshot: id, labels: labels.into(), runtime };
        client.create_container(new, &spec).await.map_err(about)?;
        if let Err(error) = lease.release().await {
            debug!(%replica, "a lease will expire by itself: {error:#}");
        }
        let log = self.logs.end(function);
        let output = Output::File(self.logs.path(function));
        client.create_task(id, mounts, &output, &output).await.map_err(about)?;
        let exit = client.start_task(id).await.map_err(about)?.exit;
        let address = SocketAddrV4::new(address, PORT);
        let control = Control::new(self.folder(replica));
        Ok(Running { address, control, exit, since: Instant::now(), log })
    }

    /// Lets a started replica begin with its version, and waits until it answers.
    async fn first(&self, launch: &Launch, mut running: Running) -> Result<Running, Error> {
        let function = &launch.function;
        let control = running.control.clone();
        let ready = async {
            control.wait(SOCKET_LIMIT).await?;
            control.switch(launch.version, self.ready_limit, launch.spare).await
        };
        let outcome = tokio::select! {
            outcome = ready => outcome,
            exit = &mut running.exit => {
                let status = exit.ok().map(|it| it.status);
                return Err(self.ended(function, status, running.log));
            }
        };
        match outcome {
            Ok(Outcome::Switched(_)) => {}
            Ok(Outcome::Refused(reason, lines)) => return Err(start_failed(reason, lines)),
            Ok(Outcome::Superseded) | Err(_) => {
                let why = outcome.err().map_or("superseded".to_owned(), |it| it.to_string());
                let lines = self.output(function, running.log);
                return Err(start_failed(format!("it did not become ready: {why}"), lines));
            }
        }
        answers(running.address).await?;
        Ok(running)
    }

    fn output(&self, function: &FunctionName, from: u64) -> Vec<String> {
        self.logs.tail(function, from, ERROR_LINES).map(|it| it.lines).unwrap_or_default()
    }

    /// An error of containerd as a caller sees it.
    fn about(&self, launch: &Launch, error: containerd::Error) -> Error {
        let image = &launch.image;
        match error {
            error if error.is_not_found() => {
                debug!(%image, "not found: {error:#}");
                Error::new(
                    ErrorCode::FailedPrecondition,
                    format!("image `{image}` is not in the store"),
                )
                .hint("commit again, or roll back to a revision whose image is there")
            }
            error => fault::containerd(&format!("starting function `{}`", launch.function), error),
        }
    }
}

fn start_failed(reason: String, lines: Vec<String>) -> Error {
    Error::new(ErrorCode::StartFailed, reason).lines(lines)
}

async fn answers(address: SocketAddrV4) -> Result<(), Error> {
    match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(start_failed(format!("nothing answers at {address}"), Vec::new())),
    }
}
