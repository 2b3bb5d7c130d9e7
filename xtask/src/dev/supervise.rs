//! Watches over the four processes of `xtask dev`: starts them in order, restarts what dies, and
//! stops them in order.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use testkit::{Daemon, Host};

use super::{Args, State};

/// First and longest delay before a restart, and how long a process must run to start afresh.
const DELAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));
/// How soon to look again whether a socket answers: nothing tells.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long one answer about health may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);
/// How long all of it may take until the gateway and the provider answer.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// One of the processes, in the order of starting; they are stopped in the opposite one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Service {
    Containerd,
    Buildkitd,
    Provider,
    Gateway,
}

const SERVICES: [Service; 4] =
    [Service::Containerd, Service::Buildkitd, Service::Provider, Service::Gateway];

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Buildkitd => "buildkitd",
            Self::Provider => "provider",
            Self::Gateway => "gateway",
        }
    }

    /// Whether it ended because it cannot do what its arguments say: another try would not help.
    fn refuses(self, status: ExitStatus) -> bool {
        matches!(self, Self::Provider | Self::Gateway) && status.code() == Some(2)
    }

    /// How long an ordered stop may take before the process is killed.
    fn stop_limit(self) -> Duration {
        match self {
            Self::Gateway | Self::Provider => Duration::from_secs(30),
            Self::Containerd | Self::Buildkitd => Duration::from_secs(10),
        }
    }
}

/// What happens to this process.
enum Event {
    Exited(Service, u32, ExitStatus),
    Signal(i32),
}

/// Runs everything until a signal; `announce` is called once, when all of it answers.
pub(super) fn run(
    host: Host,
    args: &Args,
    state: &State,
    announce: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (sender, events) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("taking signals")?;
    let signal_sender = sender.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal_sender.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    let mut crew =
        Crew { host, args, state, sender, running: HashMap::new(), delays: HashMap::new() };
    let result = crew.work(&events, announce);
    crew.stop(&events);
    result
}

struct Crew<'a> {
    host: Host,
    args: &'a Args,
    state: &'a State,
    sender: Sender<Event>,
    running: HashMap<Service, Running>,
    delays: HashMap<Service, Duration>,
}

struct Running {
    pid: u32,
    since: Instant,
}

impl Crew<'_> {
    fn work(
        &mut self,
        events: &Receiver<Event>,
        announce: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut announce = Some(announce);
        let begun = Instant::now();
        // What is to be started, and when.
        let mut due: Vec<(Instant, Service)> = SERVICES.map(|service| (begun, service)).into();
        loop {
            let now = Instant::now();
            if let Some(index) = due.iter().position(|(at, _)| *at <= now) {
                let (_, service) = due.remove(index);
                if self.may_start(service) {
                    self.start(service)?;
                } else {
                    due.push((now + LOOK_AGAIN, service));
                }
                continue;
            }
            // Until all of it answers there is also the question whether it does.
            let until = due.iter().map(|(at, _)| *at - now).min();
            let until = if announce.is_some() {
                until.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)
            } else {
                until.unwrap_or(Duration::from_secs(3600))
            };
            match events.recv_timeout(until) {
                Ok(Event::Signal(signal)) => {
                    let name = Signal::try_from(signal).map_or("signal", Signal::as_str);
                    eprintln!("{name}: stopping in order; once more: at once");
                    return Ok(());
                }
                Ok(Event::Exited(service, pid, status)) if self.is(service, pid) => {
                    let delay = self.delay(service);
                    if announce.is_some() && (service.refuses(status) || delay > DELAY.0 * 8) {
                        let verb =
                            if service.refuses(status) { "does not start" } else { "keeps ending" };
                        let tail = self.host.tail(service.name());
                        bail!("{} {verb} ({status}); {tail}", service.name());
                    }
                    eprintln!(
                        "{} ended ({status}), restart in {} ms; its log is {}",
                        service.name(),
                        delay.as_millis(),
                        self.host.log(service.name()).display()
                    );
                    due.push((Instant::now() + delay, service));
                }
                Ok(Event::Exited(..)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the signal thread is gone"),
            }
            if announce.is_some() && self.answers() {
                announce.take().expect("it is there")()?;
            } else if announce.is_some() && begun.elapsed() > READY_LIMIT {
                bail!(
                    "nothing answers after {} s; see {}",
                    READY_LIMIT.as_secs(),
                    self.state.dir().join("log").display()
                );
            }
        }
    }

    /// buildkitd ends at once when containerd does not answer; the others wait by themselves.
    fn may_start(&self, service: Service) -> bool {
        service != Service::Buildkitd
            || UnixStream::connect(self.host.socket(Daemon::Containerd)).is_ok()
    }

    /// Starts a process and a thread that waits for its end.
    fn start(&mut self, service: Service) -> Result<()> {
        let mut command = match service {
            Service::Containerd => self.host.daemon_command(Daemon::Containerd)?,
            Service::Buildkitd => self.host.daemon_command(Daemon::Buildkitd)?,
            Service::Provider => self.provider()?,
            Service::Gateway => self.gateway()?,
        };
        // Ctrl-C on the terminal is for this process alone: it stops the others in order.
        let mut child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", service.name()))?;
        self.running.insert(service, Running { pid: child.id(), since: Instant::now() });
        let sender = self.sender.clone();
        std::thread::spawn(move || wait(&mut child, service, &sender));
        Ok(())
    }

    fn provider(&self) -> Result<Command> {
        let dir = self.state.dir();
        let tools = self.host.tools();
        let mut command = self.host.cell().command(tools.program("provider"));
        command.arg("--state").arg(dir);
        command.arg("--run").arg(dir.join("run/provider"));
        command.arg("--bases").arg(&tools.bases);
        command.arg("--containerd").arg(self.host.socket(Daemon::Containerd));
        command.arg("--buildkit").arg(self.host.socket(Daemon::Buildkitd));
        command.arg("--crun").arg(tools.tool("crun"));
        // A root shell without a login has no /usr/sbin on its path.
        let nft = crate::host::find_program("nft").context("there is no `nft` on this host")?;
        command.arg("--nft").arg(nft);
        command.args(["--bridge", &self.args.bridge, "--subnet", &self.args.subnet]);
        command.args(["--gateway-port", &self.args.port.to_string(), "--stop-functions-at-exit"]);
        self.host.log_to(&mut command, "provider")?;
        Ok(command)
    }

    fn gateway(&self) -> Result<Command> {
        let dir = self.state.dir();
        let mut command = self.host.cell().command(self.host.tools().program("gateway"));
        command.arg("--functions").arg(self.address(self.args.port).to_string());
        command.arg("--console").arg(self.address(self.args.console_port).to_string());
        command.arg("--provider").arg(dir.join("run/provider/api.sock"));
        command.arg("--run").arg(dir.join("run/gateway"));
        command.arg("--password-file").arg(self.state.password_file());
        self.host.log_to(&mut command, "gateway")?;
        Ok(command)
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Whether an end is that of the process that runs now, and not of one before it.
    fn is(&mut self, service: Service, pid: u32) -> bool {
        self.running.get(&service).is_some_and(|running| running.pid == pid)
    }

    /// Delay before the next start of a process that has just ended.
    fn delay(&mut self, service: Service) -> Duration {
        let lived = self.running.remove(&service).map(|running| running.since.elapsed());
        next_delay(self.delays.entry(service).or_default(), lived.unwrap_or_default())
    }

    /// Whether all of it answers: the gateway's doors, the provider, and the daemons behind it.
    fn answers(&self) -> bool {
        let all = || -> Result<bool> {
            UnixStream::connect(self.host.socket(Daemon::Buildkitd))?;
            let provider = UnixStream::connect(self.state.dir().join("run/provider/api.sock"))?;
            provider.set_read_timeout(Some(HEALTH_LIMIT))?;
            Ok(healthy(provider)?
                && self.door_answers(self.args.port)?
                && self.door_answers(self.args.console_port)?)
        };
        all().unwrap_or(false)
    }

    fn door_answers(&self, port: u16) -> Result<bool> {
        let stream = TcpStream::connect_timeout(&self.address(port), HEALTH_LIMIT)?;
        stream.set_read_timeout(Some(HEALTH_LIMIT))?;
        healthy(stream)
    }

    /// Stops the processes in the opposite order of starting; a second signal ends all at once.
    fn stop(mut self, events: &Receiver<Event>) {
        'services: for service in SERVICES.into_iter().rev() {
            let Some(running) = self.running.get(&service) else { continue };
            let pid = running.pid;
            signal(pid, Signal::SIGTERM);
            let deadline = Instant::now() + service.stop_limit();
            loop {
                match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(Event::Exited(ended, its, _)) => {
                        if self.is(ended, its) {
                            self.running.remove(&ended);
                        }
                        if ended == service {
                            break;
                        }
                    }
                    Ok(Event::Signal(_)) => break 'services,
                    Err(_) => {
                        eprintln!(
                            "{} does not stop: killed after {} s",
                            service.name(),
                            service.stop_limit().as_secs()
                        );
                        signal(pid, Signal::SIGKILL);
                        break;
                    }
                }
            }
        }
        // Dropping the host ends the cell, and with it whatever is left.
    }
}

/// The delay doubles with each restart, and falls back after a minute of running.
fn next_delay(last: &mut Duration, lived: Duration) -> Duration {
    *last = if last.is_zero() || lived >= DELAY.1 { DELAY.0 } else { (*last * 2).min(DELAY.1) };
    *last
}

fn wait(child: &mut Child, service: Service, sender: &Sender<Event>) {
    let pid = child.id();
    if let Ok(status) = child.wait() {
        let _ = sender.send(Event::Exited(service, pid, status));
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// `GET /healthz` without a client library: this must compile before anything else does.
fn healthy(mut stream: impl Read + Write) -> Result<bool> {
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(&head == b"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_minute_and_falls_back_after_one() {
        let mut last = Duration::ZERO;
        let quick = Duration::from_secs(1);
        let delays: Vec<u128> = (0..10).map(|_| next_delay(&mut last, quick).as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000]);
        assert_eq!(next_delay(&mut last, Duration::from_secs(60)).as_millis(), 200);
    }
}
