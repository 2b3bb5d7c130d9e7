//! Tasks: the processes of containers.
//!
//! A container's task is created, started, and deleted when it has exited. Its exit is known for
//! certain from [`Exiting`], which is registered before the start and survives a restart of
//! containerd; events only tell early.

mod exec;
mod exit;
mod output;

use std::time::Duration;

use containerd_client::services::v1::{
    CreateTaskRequest, DeleteResponse, DeleteTaskRequest, GetRequest, KillRequest, ListPidsRequest,
    ListTasksRequest, PauseTaskRequest, ResumeTaskRequest, StartRequest,
};
use containerd_client::types::v1::{Process, Status};
use tracing::warn;

use crate::client::{Client, op};
use crate::error::{NotFoundExt, Result};
use crate::snapshots::Mount;

pub use exit::{Exit, Exiting};
pub use output::Output;

/// How long the shim and the runtime may take to create, start or delete.
const RUNTIME_LIMIT: Duration = Duration::from_secs(60);

/// `SIGTERM`, as [`Client::kill_task`] takes it.
pub const SIGTERM: u32 = 15;
/// `SIGKILL`.
pub const SIGKILL: u32 = 9;

/// A container's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Identifier of its container.
    pub container: String,
    /// Process id, as containerd's pid namespace has it.
    pub pid: u32,
    /// Where it stands.
    pub status: TaskStatus,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    /// Its namespaces are there, its program does not run yet.
    Created,
    /// It runs.
    Running,
    /// It is frozen, or is being frozen.
    Paused,
    /// It has exited and waits to be deleted.
    Stopped,
    /// Its shim does not say: it is gone or hangs.
    Unknown,
}

/// A process that has been started.
#[derive(Debug)]
pub struct Started {
    /// Process id, as containerd's pid namespace has it.
    pub pid: u32,
    /// Its exit.
    pub exit: Exiting,
}

impl Client {
    /// Creates the task of a container: mounts `rootfs` and makes its namespaces, without running
    /// its program. Returns the process id.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists) when it has one,
    /// [`Error::Failed`](crate::Error::Failed) with the runtime's own words.
    pub async fn create_task(
        &self,
        container: &str,
        rootfs: Vec<Mount>,
        stdout: &Output,
        stderr: &Output,
    ) -> Result<u32> {
        let (stdout, stderr) = Output::prepare(stdout, stderr).await?;
        let request = CreateTaskRequest {
            container_id: container.to_owned(),
            rootfs,
            stdout,
            stderr,
            ..CreateTaskRequest::default()
        };
        let op = op("creating task of", container).within(RUNTIME_LIMIT);
        Ok(op.run(self.tasks_rpc().create(request)).await?.pid)
    }

    /// Runs the program of a created task.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) when there is no task,
    /// [`Error::Failed`](crate::Error::Failed) when the program cannot be run.
    pub async fn start_task(&self, container: &str) -> Result<Started> {
        self.start(container, "").await
    }

    /// The exit of a task that somebody else started, or that was started before a restart of
    /// the caller. Resolves at once for one that has exited and was not deleted.
    pub fn watch_task(&self, container: &str) -> Exiting {
        Exiting::register(self, container, "")
    }

    /// The task of a container.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn task(&self, container: &str) -> Result<Task> {
        let op = op("getting task of", container);
        let request = GetRequest { container_id: container.to_owned(), exec_id: String::new() };
        let process = op.run(self.tasks_rpc().get(request)).await?.process;
        let mut task = task(op.field(process, "process")?);
        container.clone_into(&mut task.container);
        Ok(task)
    }

    /// All tasks.
    ///
    /// # Errors
    /// As every call.
    pub async fn tasks(&self) -> Result<Vec<Task>> {
        let request = ListTasksRequest::default();
        let answer =
            op("listing tasks of", self.namespace()).run(self.tasks_rpc().list(request)).await?;
        Ok(answer.tasks.into_iter().map(task).collect())
    }

    /// Sends a signal to the task's first process; [`SIGKILL`] goes to all of them.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) when there is no task or it has exited.
    pub async fn kill_task(&self, container: &str, signal: u32) -> Result<()> {
        self.kill(container, "", signal).await
    }

    /// Freezes all processes of the task. crun does not wait for the kernel: the last one may
    /// stand still a moment after this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Failed`](crate::Error::Failed) when
    /// it does not run.
    pub async fn pause_task(&self, container: &str) -> Result<()> {
        let request = PauseTaskRequest { container_id: container.to_owned() };
        op("pausing task of", container).run(self.tasks_rpc().pause(request)).await?;
        Ok(())
    }

    /// Lets a frozen task go on.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Failed`](crate::Error::Failed) when
    /// it is not frozen.
    pub async fn resume_task(&self, container: &str) -> Result<()> {
        let request = ResumeTaskRequest { container_id: container.to_owned() };
        op("resuming task of", container).run(self.tasks_rpc().resume(request)).await?;
        Ok(())
    }

    /// Process ids in the task's cgroup, as containerd's pid namespace has them.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn task_pids(&self, container: &str) -> Result<Vec<u32>> {
        let request = ListPidsRequest { container_id: container.to_owned() };
        let answer =
            op("listing processes of", container).run(self.tasks_rpc().list_pids(request)).await?;
        Ok(answer.processes.into_iter().map(|it| it.pid).collect())
    }

    /// Deletes a task that has exited (or was never started) with its mounts and its shim.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Failed`](crate::Error::Failed) while
    /// it runs.
    pub async fn delete_task(&self, container: &str) -> Result<Exit> {
        let request = DeleteTaskRequest { container_id: container.to_owned() };
        let op = op("deleting task of", container).within(RUNTIME_LIMIT);
        let answer: DeleteResponse = op.run(self.tasks_rpc().delete(request)).await?;
        Ok(Exit::new(answer.exit_status, answer.exited_at))
    }

    /// Starts the task (`exec` empty) or an exec, its exit registered before.
    async fn start(&self, container: &str, exec: &str) -> Result<Started> {
        let exit = Exiting::register(self, container, exec);
        let request = StartRequest { container_id: container.to_owned(), exec_id: exec.to_owned() };
        let op = op("starting task of", container).within(RUNTIME_LIMIT);
        let pid = op.run(self.tasks_rpc().start(request)).await?.pid;
        Ok(Started { pid, exit })
    }

    async fn kill(&self, container: &str, exec: &str, signal: u32) -> Result<()> {
        let request = KillRequest {
            container_id: container.to_owned(),
            exec_id: exec.to_owned(),
            signal,
            all: signal == SIGKILL && exec.is_empty(),
        };
        op("signalling task of", container).run(self.tasks_rpc().kill(request)).await?;
        Ok(())
    }
}

/// A task that is frozen for a moment; it goes on even when the work in between is given up.
#[derive(Debug)]
pub(crate) struct Paused {
    client: Client,
    /// Empty once it has been resumed.
    container: String,
}

impl Paused {
    /// Freezes the task of a container if it has one that runs.
    pub(crate) async fn begin(client: &Client, container: &str) -> Result<Option<Self>> {
        let task = client.task(container).await.found()?;
        if task.is_none_or(|it| it.status != TaskStatus::Running) {
            return Ok(None);
        }
        // The guard comes first: a call that is given up may still freeze it.
        let guard = Self { client: client.clone(), container: container.to_owned() };
        client.pause_task(container).await?;
        Ok(Some(guard))
    }

    /// Lets it go on.
    pub(crate) async fn end(mut self) -> Result<()> {
        let container = std::mem::take(&mut self.container);
        self.client.resume_task(&container).await.found().map(|_| ())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.container.is_empty() {
            let (client, container) = (self.client.clone(), std::mem::take(&mut self.container));
            runtime.spawn(async move {
                if let Err(error) = client.resume_task(&container).await {
                    warn!(%container, error = &error as &dyn std::error::Error, "not resumed");
                }
            });
        }
    }
}

fn task(process: Process) -> Task {
    let status = match process.status() {
        Status::Created => TaskStatus::Created,
        Status::Running => TaskStatus::Running,
        Status::Paused | Status::Pausing => TaskStatus::Paused,
        Status::Stopped => TaskStatus::Stopped,
        Status::Unknown => TaskStatus::Unknown,
    };
    // In a list the container's identifier stands in `id`.
    let container = if process.container_id.is_empty() { process.id } else { process.container_id };
    Task { container, pid: process.pid, status }
}
