//! A mount namespace with a pure cgroup2, and a cgroup that ends with its maker.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a killed cell may take until its last process is gone.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Which network the cell's processes are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The host's: what a person at this machine can reach (`xtask dev`).
    Host,
    /// A new one with nothing but `lo` and forwarding switched on (tests).
    Own,
}

/// Namespaces and a cgroup; see the crate's documentation.
#[derive(Debug)]
pub struct Cell {
    holder: Child,
    network: Network,
    /// The cell's cgroup as the host sees it.
    cgroup: PathBuf,
}

/// The holder's script. It runs in the new namespaces, says `ready`, and waits for the end of its
/// standard input, which comes with the maker's death at the latest; then it ends the whole
/// cgroup, itself included. `$1` is the cgroup2 mount of the host, `$2` the cell's cgroup in it.
const HOLDER: &str = r#"
set -eu
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/daemons /sys/fs/cgroup/functions /run/containerd /run/netns
echo $$ > /sys/fs/cgroup/daemons/cgroup.procs
for c in cpu memory pids io; do echo +$c > /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || :; done
for c in cpu memory pids io; do echo +$c > /sys/fs/cgroup/functions/cgroup.subtree_control 2>/dev/null || :; done
mount -t tmpfs -o mode=755 tmpfs /run/containerd
mount -t tmpfs -o mode=755 tmpfs /run/netns
if [ "$1" = own ]; then
    ip link set lo up
    echo 1 > /proc/sys/net/ipv4/ip_forward
fi
echo ready
cat > /dev/null
echo 1 > /sys/fs/cgroup/cgroup.kill
"#;

impl Cell {
    /// Makes the namespaces and the cgroup.
    ///
    /// # Errors
    /// Without root, without a cgroup2 mount, or when the kernel refuses a namespace.
    pub fn new(network: Network) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("a cell needs root: namespaces, mounts and cgroups are made");
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = cgroup2_mount()?;
        let name =
            format!("inplace-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cgroup = root.join(name);
        sweep(&root);
        // No cell of this process has the number yet: what is there is an earlier process's.
        let _ = remove_cgroups(&cgroup);
        fs_err::create_dir(&cgroup)?;
        // The shell enters the cgroup first, so that the new cgroup namespace is rooted in it.
        let net = if network == Network::Own { "--net" } else { "--" };
        let mut holder = Command::new("sh")
            .args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec unshare --mount --cgroup --propagation private "$@""#])
            .arg(&cgroup)
            .arg(net)
            .args(["sh", "-c", HOLDER, "holder"])
            .arg(if network == Network::Own { "own" } else { "host" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting `unshare`")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("the holder has no standard output")?;
        BufReader::new(stdout).read_line(&mut line).context("waiting for the cell")?;
        if line.trim() != "ready" {
            let output = holder.wait_with_output().context("reading why the cell failed")?;
            let _ = fs_err::remove_dir(&cgroup);
            bail!("no cell: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self { holder, network, cgroup })
    }

    /// A command whose process runs in the cell (it is the program itself, not a wrapper: its
    /// process id can be signalled). `program` must be an absolute path or in `PATH`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string()).args(["--mount", "--cgroup"]);
        if self.network == Network::Own {
            command.arg("--net");
        }
        let enter = r#"echo $$ > /sys/fs/cgroup/daemons/cgroup.procs && exec "$0" "$@""#;
        command.args(["--", "sh", "-c", enter]).arg(program);
        command
    }

    /// Process id of the holder: `/proc/PID/ns/*` and `/proc/PID/root` are the cell's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A path as the cell's mount namespace has it, readable from outside.
    #[must_use]
    pub fn path(&self, inside: &Path) -> PathBuf {
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(relative)
    }

    /// Ends every process in the cell and waits until they are gone, limit 10 s.
    ///
    /// # Errors
    /// When processes are still there after the limit.
    pub fn end(&mut self) -> Result<()> {
        if !self.cgroup.exists() {
            return Ok(());
        }
        let _ = fs_err::write(self.cgroup.join("cgroup.kill"), "1");
        let _ = self.holder.wait();
        let start = Instant::now();
        loop {
            match remove_cgroups(&self.cgroup) {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > END_LIMIT => {
                    return Err(error).context("ending the cell: processes are left");
                }
                // A killed process leaves its cgroup when it has been torn down; there is no
                // event for a whole tree.
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Where the host has its cgroup2: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` in hybrid mode.
fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs_err::read_to_string("/proc/self/mounts")?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(target))
        })
        .next()
        .context("this host has no cgroup2 mount (/proc/self/mounts)")
}

/// Removes the cgroups of cells whose maker was killed: their processes have ended by themselves,
/// the empty cgroups are still there.
fn sweep(root: &Path) {
    let Ok(entries) = fs_err::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix("inplace-")?.split_once('-'));
        let Some((maker, _)) = maker else { continue };
        if maker.parse::<u32>().is_ok() && !Path::new("/proc").join(maker).exists() {
            let _ = remove_cgroups(&entry.path());
        }
    }
}

/// Removes a tree of empty cgroups, leaves first.
fn remove_cgroups(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs_err::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroups(&entry.path())?;
        }
    }
    fs_err::remove_dir(cgroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_killed_makers_is_removed_and_nothing_else() {
        let mut dead = Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let root = tempfile::tempdir().unwrap();
        let own = format!("inplace-{}-0", std::process::id());
        let left = format!("inplace-{}-0/functions", dead.id());
        for name in [own.as_str(), &left, "inplace-x-0", "inplace-1", "user.slice"] {
            fs_err::create_dir_all(root.path().join(name)).unwrap();
        }
        sweep(root.path());
        let entries = fs_err::read_dir(root.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let mut expected = [own.as_str(), "inplace-1", "inplace-x-0", "user.slice"];
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
