//! A cell with containerd and buildkitd in it.

use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Cell, Network, Tools};

/// How long a daemon may take until its socket answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// One of the two daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Daemon {
    /// containerd, which everything else stands on.
    Containerd,
    /// buildkitd with containerd as its worker.
    Buildkitd,
}

impl Daemon {
    /// Name of the program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Buildkitd => "buildkitd",
        }
    }
}

/// A cell, a folder for all state, and the daemons that run.
///
/// Dropping it ends everything; the folder goes too unless it was given.
#[derive(Debug)]
pub struct Host {
    cell: Cell,
    tools: Tools,
    dir: PathBuf,
    running: Vec<(Daemon, Child)>,
    // Dropped last: the daemons write into it.
    _scratch: Option<tempfile::TempDir>,
}

impl Host {
    /// For tests: a scratch folder, a network of its own, and these daemons answering.
    ///
    /// # Errors
    /// Without root, without the tools, or when a daemon does not answer in time.
    pub fn start(daemons: &[Daemon]) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("inplace-").tempdir()?;
        let mut host = Self::new(Tools::from_env()?, scratch.path(), Network::Own)?;
        host._scratch = Some(scratch);
        for daemon in daemons {
            host.start_daemon(*daemon)?;
        }
        Ok(host)
    }

    /// A cell over a state folder that is kept; no daemon runs yet.
    ///
    /// # Errors
    /// Without root, or when the folder cannot be made.
    pub fn new(tools: Tools, dir: &Path, network: Network) -> Result<Self> {
        for part in ["run", "log", "containerd", "buildkit/tmp"] {
            fs_err::create_dir_all(dir.join(part))?;
        }
        let cell = Cell::new(network)?;
        Ok(Self { cell, tools, dir: dir.to_owned(), running: Vec::new(), _scratch: None })
    }

    /// The cell, to run commands in.
    #[must_use]
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Where the programs are.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The state folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The socket of a daemon.
    #[must_use]
    pub fn socket(&self, daemon: Daemon) -> PathBuf {
        self.dir.join("run").join(format!("{}.sock", daemon.name()))
    }

    /// The file that a daemon's output goes to.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// The last lines of a log, for an error message.
    #[must_use]
    pub fn tail(&self, name: &str) -> String {
        let log = self.log(name);
        let text = fs_err::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(10).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        format!("the end of {}:\n{}", log.display(), lines.join("\n"))
    }

    /// Starts a daemon and waits until its socket answers, limit 30 s.
    ///
    /// # Errors
    /// When it ends or does not answer; the message holds the end of its log.
    pub fn start_daemon(&mut self, daemon: Daemon) -> Result<()> {
        let mut child = self.daemon_command(daemon)?.spawn().context("starting `nsenter`")?;
        let waited = wait_for_socket(&self.socket(daemon), START_LIMIT, || {
            Ok(child.try_wait()?.map(|status| format!("{} {status}", daemon.name())))
        });
        self.running.push((daemon, child));
        waited.with_context(|| self.tail(daemon.name()))
    }

    /// The command that runs a daemon in the foreground, its configuration written; for a caller
    /// that watches over the process itself.
    ///
    /// # Errors
    /// When the configuration or the log cannot be written.
    pub fn daemon_command(&self, daemon: Daemon) -> Result<Command> {
        let config = self.dir.join("run").join(format!("{}.toml", daemon.name()));
        fs_err::write(&config, self.config(daemon)?)?;
        // A socket left by a killed daemon would look like an answer that never comes.
        let _ = fs_err::remove_file(self.socket(daemon));
        let mut command = self.cell.command(self.tools.tool(daemon.name()));
        command.arg("--config").arg(config);
        let bin = self.tools.tools.join("bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)))?;
        command.env("PATH", path).env("TMPDIR", self.dir.join("buildkit/tmp"));
        self.log_to(&mut command, daemon.name())?;
        Ok(command)
    }

    /// Sends a command's output to the log of that name, appending.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn log_to(&self, command: &mut Command, name: &str) -> Result<()> {
        let log = fs_err::OpenOptions::new().create(true).append(true).open(self.log(name))?;
        let log = log.into_parts().0;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(())
    }

    /// Sends a signal to a daemon that [`Host::start_daemon`] started and waits for its end.
    ///
    /// # Errors
    /// When it does not run, or the signal does not end it within 30 s.
    pub fn stop_daemon(&mut self, daemon: Daemon, signal: Signal) -> Result<ExitStatus> {
        let index = self
            .running
            .iter()
            .position(|(it, _)| *it == daemon)
            .with_context(|| format!("{} does not run", daemon.name()))?;
        let (_, mut child) = self.running.swap_remove(index);
        signal_and_wait(&mut child, signal, START_LIMIT)
            .with_context(|| format!("stopping {}", daemon.name()))
    }

    /// Process id of a daemon that runs.
    #[must_use]
    pub fn pid(&self, daemon: Daemon) -> Option<u32> {
        self.running.iter().find(|(it, _)| *it == daemon).map(|(_, child)| child.id())
    }

    fn config(&self, daemon: Daemon) -> Result<String> {
        let dir = self.dir.to_str().context("the state folder's path is not UTF-8")?;
        let socket = self.socket(daemon);
        let crun = self.tools.tool("crun");
        let mut text = String::new();
        match daemon {
            Daemon::Containerd => write!(
                text,
                r#"version = 3
root = "{dir}/containerd"
state = "/run/containerd/state"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{}"
[ttrpc]
  address = "{dir}/run/containerd.sock.ttrpc"
[plugins."io.containerd.service.v1.diff-service"]
  sync_fs = true
"#,
                socket.display()
            )?,
            Daemon::Buildkitd => write!(
                text,
                r#"root = "{dir}/buildkit"
[grpc]
  address = ["unix://{}"]
[otel]
  socketPath = "{dir}/run/buildkitd-otel.sock"
[cdi]
  disabled = true
[history]
  maxAge = 3600
  maxEntries = 20
[worker.oci]
  enabled = false
[worker.containerd]
  enabled = true
  address = "{}"
  namespace = "functions"
  snapshotter = "overlayfs"
  platforms = ["linux/amd64"]
  networkMode = "host"
  max-parallelism = 2
  defaultCgroupParent = "/buildkit"
  gc = true
  [worker.containerd.runtime]
    name = "io.containerd.runc.v2"
    options = {{ BinaryName = "{}" }}
  [[worker.containerd.gcpolicy]]
    all = true
    reservedSpace = "256MB"
    maxUsedSpace = "2GB"
[frontend."dockerfile.v0"]
  enabled = true
[frontend."gateway.v0"]
  enabled = false
"#,
                socket.display(),
                self.socket(Daemon::Containerd).display(),
                crun.display()
            )?,
        }
        Ok(text)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The order matters: nothing may write into the scratch folder while it is removed.
        let _ = self.cell.end();
        for (_, child) in &mut self.running {
            let _ = child.wait();
        }
    }
}

/// Waits until a Unix socket takes connections. `ended` says why waiting is pointless, if it is.
fn wait_for_socket(
    socket: &Path,
    limit: Duration,
    mut ended: impl FnMut() -> Result<Option<String>>,
) -> Result<()> {
    let start = Instant::now();
    while UnixStream::connect(socket).is_err() {
        if let Some(why) = ended()? {
            bail!("{why}");
        }
        if start.elapsed() > limit {
            bail!("{} does not answer after {} s", socket.display(), limit.as_secs());
        }
        // A daemon makes its socket when it is ready; there is nothing else to wait on.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn signal_and_wait(child: &mut Child, signal: Signal, limit: Duration) -> Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, signal)?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > limit {
            bail!("{signal} did not end process {pid} within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
