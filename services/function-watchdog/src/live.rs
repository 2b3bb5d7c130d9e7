//! The live switch: carries out what the state machine decides.
//!
//! One task owns all workers and the machine; whatever happens (a request on the control socket, a
//! word of a worker, an end, a time) reaches it through one queue.
//!
//! # When the source link moves
//!
//! The image's source path is a link to ours, so it means the same folder to every process. It is
//! moved *before* the new version's code is loaded, although the old process still answers: code
//! that reads a file of its own by that path while it is loaded (`open("/home/app/function/...")`
//! at the top of a module) would otherwise keep the old version's content for as long as it
//! serves. The price: until the switch, which is milliseconds away, the old process sees the new
//! files where it opens them by that path; what it opens by its working directory or beside its
//! own file stays its own. A version that is refused gives the path back to the good one.

mod control;
mod machine;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Context as _;
use api::switch::{Reply, Request};
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::config::{self, Config};
use crate::logs::Logs;
use crate::process::{Exit, Processes};
use crate::proxy::Router;
use crate::worker::{Code, Ear, Ending, Said, Worker};
use machine::{Action, Event, Limits, Machine, Ticket, Timer, WorkerId};

/// What waits to be handled.
const QUEUE: usize = 64;
/// How long a process may take to end after SIGTERM.
const TERM_TIME: Duration = Duration::from_secs(10);
/// Limits of what a request may ask for: a longer time to become ready helps nobody, and a spare
/// process that waits for a day is forgotten.
const READY_LIMITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(600));
const SPARE_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// A request of the provider, and the way back.
#[derive(Debug)]
struct Command {
    request: Request,
    reply: oneshot::Sender<Reply>,
}

/// What happens.
#[derive(Debug)]
enum Input {
    Command(Command),
    Event(Event),
}

/// What the live switch stands on.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) upstream: config::Upstream,
    pub(crate) folders: config::Live,
    pub(crate) processes: Processes,
    pub(crate) router: Arc<Router>,
    pub(crate) logs: Logs,
    pub(crate) calls: Arc<AtomicUsize>,
}

/// Opens the control socket, and drives the switch until it is dropped.
pub(crate) fn start(parts: Parts) -> anyhow::Result<impl Future<Output = ()>> {
    let (inputs, queue) = mpsc::channel(QUEUE);
    let name = api::switch::SOCKET.rsplit('/').next().unwrap_or_default();
    let socket = parts.folders.run_dir.join(name);
    let listener = control::listen(&socket)?;
    let limits = Limits { drain: parts.config.write_timeout, term: TERM_TIME };
    let driver = Driver {
        machine: Machine::new(limits),
        workers: HashMap::new(),
        timers: BTreeMap::new(),
        tickets: HashMap::new(),
        next_ticket: 0,
        inputs: inputs.clone(),
        parts,
    };
    Ok(async move {
        tokio::join!(driver.run(queue), control::serve(listener, inputs));
    })
}

struct Driver {
    parts: Parts,
    machine: Machine,
    workers: HashMap<WorkerId, Worker>,
    timers: BTreeMap<Timer, Instant>,
    tickets: HashMap<Ticket, oneshot::Sender<Reply>>,
    next_ticket: u64,
    inputs: mpsc::Sender<Input>,
}

impl Driver {
    async fn run(mut self, mut queue: mpsc::Receiver<Input>) {
        self.apply(Event::Begin);
        loop {
            let due =
                self.timers.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
            let rest = async {
                match due {
                    Some((timer, at)) => {
                        tokio::time::sleep_until(at).await;
                        timer
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                input = queue.recv() => match input {
                    Some(Input::Event(event)) => self.apply(event),
                    Some(Input::Command(command)) => self.command(command),
                    None => return,
                },
                timer = rest => {
                    self.timers.remove(&timer);
                    self.apply(Event::Due(timer));
                }
            }
        }
    }

    fn command(&mut self, Command { request, reply }: Command) {
        match request {
            Request::Switch { version, ready_ms, spare_ms } => {
                if !self.folder(version).is_dir() {
                    let folder = self.folder(version).display().to_string();
                    let reason = format!("there is no folder {folder}");
                    self.answer(reply, Reply::Refused { version, reason, lines: Vec::new() });
                    return;
                }
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.tickets.insert(ticket, reply);
                let ready = Duration::from_millis(ready_ms).clamp(READY_LIMITS.0, READY_LIMITS.1);
                let spare = Duration::from_millis(spare_ms).min(SPARE_LIMIT);
                self.apply(Event::Switch { ticket, version, ready, spare });
            }
            Request::DropSpare => {
                self.apply(Event::DropSpare);
                self.answer(reply, Reply::Dropped);
            }
            Request::Status => {
                let in_flight = self.parts.calls.load(SeqCst) as u64;
                let (version, spare) = (self.machine.serving(), self.machine.has_spare());
                self.answer(reply, Reply::Status { version, spare, in_flight });
            }
        }
    }

    /// Applies an event, and what follows from carrying it out.
    fn apply(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let ended = match &event {
                Event::Exited { worker, how, .. } => {
                    self.log(format_args!("Worker {worker} has ended: {how}"));
                    Some(*worker)
                }
                _ => None,
            };
            for action in self.machine.apply(std::time::Instant::now(), event) {
                if let Some(event) = self.act(action) {
                    events.push_back(event);
                }
            }
            // After the actions, which may want its last lines.
            if let Some(worker) = ended {
                self.workers.remove(&worker);
            }
        }
    }

    /// Carries out one action; gives back what went wrong with it.
    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Point(version) => {
                if let Err(error) = self.point(version) {
                    return Some(Event::LinkFailed(format!("{error:#}")));
                }
            }
            Action::Spawn { worker, version } => {
                if let Err(error) = self.spawn(worker, version) {
                    let how = format!("{error:#}");
                    return Some(Event::Exited { worker, how, killed: false });
                }
            }
            Action::Feed { worker, version } => {
                let folder = self.folder(version);
                // It has just ended if this fails, which comes as an event of its own.
                let fed = self.workers.get_mut(&worker).map(|worker| worker.feed(&folder));
                if let Some(Err(error)) = fed {
                    self.log(format_args!("Worker {worker}: {error:#}"));
                }
            }
            Action::Route(worker) => {
                let upstream = self.workers.get(&worker).map(|worker| Arc::clone(&worker.upstream));
                self.parts.router.set(upstream);
            }
            Action::Unroute => self.parts.router.set(None),
            Action::Retire(worker) => self.retire(worker),
            Action::Signal(worker, signal) => {
                if let Some(worker) = self.workers.get(&worker) {
                    self.parts.processes.signal(worker.pid, signal);
                }
            }
            Action::Arm(timer, after) => {
                self.timers.insert(timer, Instant::now() + after);
            }
            Action::Disarm(timer) => {
                self.timers.remove(&timer);
            }
            Action::Switched { ticket, version, times } => {
                let (load, total) = (times.load_ms, times.total_ms);
                let how = if times.spare { "from the spare" } else { "from a new process" };
                self.log(format_args!(
                    "Version {version} answers, {how}: load {load:.1} ms, total {total:.1} ms"
                ));
                self.reply(ticket, Reply::Switched { version, times });
            }
            Action::Refused { ticket, version, worker, reason } => {
                self.log(format_args!("Version {version} is refused: {reason}"));
                let lines = self.workers.get(&worker).map(Worker::lines).unwrap_or_default();
                self.reply(ticket, Reply::Refused { version, reason, lines });
            }
            Action::Superseded { ticket, version } => {
                self.reply(ticket, Reply::Superseded { version });
            }
        }
        None
    }

    fn spawn(&mut self, id: WorkerId, version: Option<u64>) -> anyhow::Result<()> {
        let Parts { config, processes, logs, upstream, .. } = &self.parts;
        let folder = version.map(|version| self.folder(version));
        let code = match &folder {
            Some(folder) => Code::Folder(folder, upstream),
            None => Code::Later(upstream),
        };
        let (worker, ending, ear) = Worker::start(config, processes, logs, code)?;
        self.log(format_args!("Worker {id} listens on {}", worker.upstream.address()));
        tokio::spawn(watch(id, ending, ear, self.inputs.clone()));
        self.workers.insert(id, worker);
        Ok(())
    }

    /// Tells when the process's last call has ended. The router names another one already.
    fn retire(&self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let (upstream, inputs) = (Arc::clone(&worker.upstream), self.inputs.clone());
        // Ends with the process at the latest: its calls fail then.
        tokio::spawn(async move {
            upstream.drained().await;
            let _ = inputs.send(Input::Event(Event::Drained(id))).await;
        });
    }

    /// Lets the source link name a version, in one step.
    fn point(&self, version: u64) -> anyhow::Result<()> {
        let run_dir = &self.parts.folders.run_dir;
        let name = api::switch::SOURCE_LINK.rsplit('/').next().unwrap_or_default();
        let (link, new) = (run_dir.join(name), run_dir.join(format!(".{name}.new")));
        match fs_err::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("making way for a new source link");
            }
            _ => {}
        }
        fs_err::os::unix::fs::symlink(self.folder(version), &new)
            .context("making the source link")?;
        fs_err::rename(&new, &link).context("moving the source link")
    }

    fn folder(&self, version: u64) -> PathBuf {
        self.parts.folders.versions_dir.join(version.to_string())
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        if let Some(sender) = self.tickets.remove(&ticket) {
            self.answer(sender, reply);
        }
    }

    /// Whoever asked may be gone.
    fn answer(&self, sender: oneshot::Sender<Reply>, reply: Reply) {
        let _ = sender.send(reply);
    }

    fn log(&self, line: std::fmt::Arguments<'_>) {
        self.parts.logs.say(line);
    }
}

/// Passes on what a worker says, then how it ended.
async fn watch(id: WorkerId, ending: Ending, mut ear: Ear, inputs: mpsc::Sender<Input>) {
    let listen = async {
        while let Some(said) = ear.next().await {
            let event = match said {
                Said::Loaded => Event::Loaded(id),
                Said::Ready => Event::Ready { worker: id, spoke: true },
                Said::Listens => Event::Ready { worker: id, spoke: false },
            };
            let _ = inputs.send(Input::Event(event)).await;
            if said != Said::Loaded {
                break;
            }
        }
        // From here on only its end is news.
        std::future::pending::<()>().await;
    };
    let exit = tokio::select! {
        () = listen => return,
        exit = ending.wait() => exit,
    };
    let killed = exit == Exit::Signal(Signal::SIGKILL);
    let event = Event::Exited { worker: id, how: exit.to_string(), killed };
    let _ = inputs.send(Input::Event(event)).await;
}
