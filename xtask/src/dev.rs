//! `cargo xtask dev`: the in-place loop on this host, without a machine.
//!
//! containerd, buildkitd, the provider and the gateway run in a [`testkit::Cell`]; this process
//! watches over them, restarts what dies, and ends all of it in order. What it changes on the
//! host ([`settings`]) it puts back.

mod settings;
mod state;
mod supervise;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use api::machine::Machine;
use testkit::{Host, Network, Tools};

use crate::packages::{self, Options, Profile};
pub(crate) use state::State;

/// Arguments of `cargo xtask dev`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  sudo -E cargo xtask dev                          run until Ctrl-C, print addresses and password
  sudo -E cargo xtask dev --detach --json          start, print one line of JSON, return
  sudo -E cargo xtask stop                         stop what --detach started
  sudo -E cargo xtask dev --state /srv/inplace     keep functions in a folder of your own")]
pub(crate) struct Args {
    /// Folder that keeps functions, images and the password [default: /var/lib/inplace/dev]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Port of the functions' origin
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Port of the console's origin
    #[arg(long, value_name = "PORT", default_value_t = 8443, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) console_port: u16,
    /// Name of the functions' bridge; two of these on one host need different ones
    #[arg(long, value_name = "NAME", default_value = "inplace0")]
    pub(crate) bridge: String,
    /// Network of the functions
    #[arg(long, value_name = "CIDR", default_value = "10.62.0.0/16")]
    pub(crate) subnet: String,
    /// Return when the gateway answers; `cargo xtask stop` ends it
    #[arg(long)]
    pub(crate) detach: bool,
    /// Print one line of JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Run our programs fully optimised, as benches do
    #[arg(long)]
    pub(crate) release: bool,
    /// Install missing host packages without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Runs the loop until a signal ends it, or hands it to a process of its own.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "`cargo xtask dev` needs root: it makes namespaces, mounts, a bridge and firewall rules; try `sudo -E cargo xtask dev`"
        );
    }
    if args.port == args.console_port {
        bail!("--port and --console-port are both {}; each origin needs its own", args.port);
    }
    crate::host::ensure(crate::host::Need::Dev, args.yes)?;
    let dir = State::folder(args.state.as_deref())?;
    let state = State::lock(&dir)?;
    for (port, flag) in [(args.port, "--port"), (args.console_port, "--console-port")] {
        check_port(port, flag)?;
    }
    // For --detach, too: here a person sees how far it is, and the other process finds it made.
    let tools = prepare(args)?;
    if args.detach {
        drop(state);
        return detach(args, &dir);
    }
    let machine = Machine {
        url: format!("http://127.0.0.1:{}", args.port),
        console: format!("http://127.0.0.1:{}", args.console_port),
        editor: String::new(),
        user: "admin".to_owned(),
        password: state.password()?,
        state: dir.to_str().context("the state folder's path is not UTF-8")?.to_owned(),
    };
    let restore = settings::apply(&dir)?;
    let host = Host::new(tools, &dir, Network::Host)?;
    let result = supervise::run(host, args, &state, || announce(args, &machine));
    // Also after a failure: the host is as it was.
    restore.undo()?;
    result
}

/// Makes what runs, or takes what the caller has made: `cargo xtask test` hands it on to the stories
/// that it plays.
fn prepare(args: &Args) -> Result<Tools> {
    if std::env::var_os("INPLACE_PROGRAMS").is_some() && !args.release {
        return Tools::from_env();
    }
    let profile = if args.release { Profile::Bench } else { Profile::Dev };
    let prepared = packages::prepare(&Options { profile, ..Options::default() })?;
    Ok(Tools { tools: prepared.tools, bases: prepared.bases, programs: prepared.programs })
}

/// Starts this program again in a session of its own and waits for its line of JSON.
fn detach(args: &Args, dir: &Path) -> Result<()> {
    fs_err::create_dir_all(dir.join("log"))?;
    let path = dir.join("log/dev.log");
    let log = fs_err::File::create(&path)?;
    let mut child = Command::new("setsid")
        .arg(std::env::current_exe()?)
        .args(["dev", "--json", "--yes", "--state"])
        .arg(dir)
        .args(["--port", &args.port.to_string(), "--console-port", &args.console_port.to_string()])
        .args(["--bridge", &args.bridge, "--subnet", &args.subnet])
        .args(args.release.then_some("--release"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.into_parts().0)
        .spawn()
        .context("starting `setsid`")?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    let Ok(machine) = serde_json::from_str::<Machine>(&line) else {
        child.wait()?;
        bail!("it did not start; {}:\n{}", path.display(), fs_err::read_to_string(&path)?.trim());
    };
    announce(args, &machine)
}

/// Prints where the machine answers.
fn announce(args: &Args, machine: &Machine) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(machine)?)?;
        return Ok(out.flush()?);
    }
    let Machine { url, console, user, password, state, .. } = machine;
    writeln!(
        out,
        "
Inplace runs.

  functions  {url}
  console    {console}
  user       {user}
  password   {password}
  state      {state}

A first function, and a call to it:
  curl -u {user}:{password} {console}/v1/functions -H 'content-type: application/json' \\
       -d '{{\"name\": \"hello\", \"template\": \"python3-http\"}}'
  curl {url}/function/hello

Its code is in {state}/functions/hello: save a file there, and the next call runs it."
    )?;
    if args.detach {
        writeln!(out, "\n`cargo xtask stop --state {state}` stops it.")?;
    } else {
        writeln!(out, "\nCtrl-C stops it.")?;
    }
    Ok(out.flush()?)
}

/// An error that names the flag beats a daemon that dies later.
fn check_port(port: u16, flag: &str) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => {
            bail!("port {port} cannot be used: {error}; choose another one with {flag} PORT")
        }
    }
}
