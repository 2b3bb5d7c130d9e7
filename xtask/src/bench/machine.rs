//! The machine that a bench measures, and a client that speaks to it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::function::Function;
use api::machine::Machine;
use base64::Engine as _;

use crate::packages;

/// A running machine with release programs; dropping it stops it and removes its state.
#[derive(Debug)]
pub(super) struct Bench {
    machine: Machine,
    agent: ureq::Agent,
    tools: PathBuf,
    authorization: String,
    _scratch: tempfile::TempDir,
}

impl Bench {
    /// Starts `dev --detach` on free ports, with a bridge and a subnet that nothing else uses.
    pub(super) fn start(yes: bool) -> Result<Self> {
        let profile = packages::Profile::Bench;
        let tools = packages::prepare(&packages::Options { profile, ..Default::default() })?.tools;
        let scratch = tempfile::Builder::new().prefix("inplace-bench-").tempdir()?;
        let ports = [free_port()?, free_port()?].map(|port| port.to_string());
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["dev", "--detach", "--json", "--release", "--state"]).arg(scratch.path());
        command.args(["--port", &ports[0], "--console-port", &ports[1]]);
        command.args(["--bridge", "inplace_bench", "--subnet", "10.63.0.0/16"]);
        if yes {
            command.arg("--yes");
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("the machine to measure did not start");
        }
        let machine: Machine = serde_json::from_slice(&output.stdout)?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .build();
        let login = format!("{}:{}", machine.user, machine.password);
        let authorization =
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login));
        Ok(Self { machine, agent: config.into(), tools, authorization, _scratch: scratch })
    }

    /// State folder of the machine.
    pub(super) fn state(&self) -> &Path {
        Path::new(&self.machine.state)
    }

    /// The folder of a function.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.state().join("functions").join(name)
    }

    /// Address of a function's route.
    pub(super) fn function_url(&self, name: &str) -> String {
        format!("{}/function/{name}", self.machine.url)
    }

    /// The body of a call that must succeed.
    pub(super) fn call(&self, url: &str) -> Result<String> {
        let mut response = self.agent.get(url).call()?;
        let text = response.body_mut().read_to_string()?;
        if response.status() != 200 {
            bail!("{url} answered {}: {text}", response.status());
        }
        Ok(text)
    }

    /// Calls until the body is the expected one.
    pub(super) fn wait_for_body(&self, url: &str, expected: &str) -> Result<()> {
        let start = Instant::now();
        while self.call(url)? != expected {
            if start.elapsed() > Duration::from_secs(30) {
                bail!("{url} does not answer `{expected}`");
            }
        }
        Ok(())
    }

    /// A function from a template, answering.
    pub(super) fn create(&self, name: &str) -> Result<()> {
        self.post("/v1/functions", &serde_json::json!({"name": name, "template": "python3-http"}))
            .map(drop)
    }

    /// How the API sees a function.
    pub(super) fn function(&self, name: &str) -> Result<Function> {
        let url = format!("{}/v1/functions/{name}", self.machine.console);
        let mut response =
            self.agent.get(url).header("authorization", &self.authorization).call()?;
        Ok(response.body_mut().read_json()?)
    }

    /// `POST` on the console origin; the answer's body.
    pub(super) fn post(&self, path: &str, body: &serde_json::Value) -> Result<String> {
        let url = format!("{}{path}", self.machine.console);
        let mut response =
            self.agent.post(&url).header("authorization", &self.authorization).send_json(body)?;
        let text = response.body_mut().read_to_string()?;
        if !response.status().is_success() {
            bail!("{url} answered {}: {text}", response.status());
        }
        Ok(text)
    }

    /// Removes a function; its task is gone afterwards.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let url = format!("{}/v1/functions/{name}", self.machine.console);
        let response =
            self.agent.delete(&url).header("authorization", &self.authorization).call()?;
        if !response.status().is_success() {
            bail!("removing {name} was answered {}", response.status());
        }
        Ok(())
    }

    /// Process id, on this host, of the watchdog of the only function there is.
    pub(super) fn watchdog(&self) -> Result<u32> {
        let output = self.tool("ctr")?.args(["tasks", "ls"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut running = text.lines().filter(|line| line.ends_with("RUNNING"));
        match (running.next(), running.next()) {
            (Some(line), None) => line.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()),
            _ => None,
        }
        .with_context(|| format!("not exactly one task runs:\n{text}"))
    }

    /// A tool of the daemons, such as `ctr`, already pointed at this machine's daemon.
    pub(super) fn tool(&self, name: &str) -> Result<Command> {
        let run = self.state().join("run");
        let mut command = Command::new(self.tools.join("bin").join(name));
        match name {
            "ctr" => command.arg("-a").arg(run.join("containerd.sock")).args(["-n", "functions"]),
            "buildctl" => command
                .arg("--addr")
                .arg(format!("unix://{}", run.join("buildkitd.sock").display())),
            _ => bail!("{name} is no tool of a daemon"),
        };
        Ok(command)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let stopped = std::env::current_exe()
            .and_then(|me| Command::new(me).args(["stop", "--state"]).arg(self.state()).output());
        if !stopped.is_ok_and(|output| output.status.success()) {
            eprintln!("the measured machine could not be stopped: {}", self.state().display());
        }
    }
}

fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
