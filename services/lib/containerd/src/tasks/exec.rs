//! Further processes in a running container.

use containerd_client::services::v1::{DeleteProcessRequest, ExecProcessRequest};
use serde::Serialize;

use super::{Exit, Output, RUNTIME_LIMIT, Started};
use crate::client::{Client, op};
use crate::containers::{any, json};
use crate::error::Result;

const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

impl Client {
    /// Starts a process in a running container. `exec` names it within the container; `process`
    /// is an [`oci_spec::runtime::Process`] or anything that is written as the same JSON.
    ///
    /// Delete it with [`Client::delete_exec`] when it has exited.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists) when the name is taken,
    /// [`Error::NotFound`](crate::Error::NotFound) when the container has no task,
    /// [`Error::Failed`](crate::Error::Failed) when the program cannot be run; nothing is left.
    pub async fn exec(
        &self,
        container: &str,
        exec: &str,
        process: &impl Serialize,
        stdout: &Output,
        stderr: &Output,
    ) -> Result<Started> {
        let (stdout, stderr) = Output::prepare(stdout, stderr).await?;
        let request = ExecProcessRequest {
            container_id: container.to_owned(),
            exec_id: exec.to_owned(),
            stdout,
            stderr,
            spec: Some(any(PROCESS, json(exec, process)?)),
            ..ExecProcessRequest::default()
        };
        let op = op("adding a process to", container).within(RUNTIME_LIMIT);
        op.run(self.tasks_rpc().exec(request)).await?;
        let started = self.start(container, exec).await;
        if started.is_err() {
            // Best effort: the error that matters is the one of the start.
            let _ = self.delete_exec(container, exec).await;
        }
        started
    }

    /// Sends a signal to a process that [`Client::exec`] started.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) when it is not there or has exited.
    pub async fn kill_exec(&self, container: &str, exec: &str, signal: u32) -> Result<()> {
        self.kill(container, exec, signal).await
    }

    /// Deletes a process that has exited.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Failed`](crate::Error::Failed) while
    /// it runs.
    pub async fn delete_exec(&self, container: &str, exec: &str) -> Result<Exit> {
        let request =
            DeleteProcessRequest { container_id: container.to_owned(), exec_id: exec.to_owned() };
        let op = op("deleting a process of", container).within(RUNTIME_LIMIT);
        let answer = op.run(self.tasks_rpc().delete_process(request)).await?;
        Ok(Exit::new(answer.exit_status, answer.exited_at))
    }
}
