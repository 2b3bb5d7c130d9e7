//! One task per function: it owns the function's state machine, carries out its actions, and feeds
//! what became of them back as events. Whoever wants something of a function asks it here.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::function::{Function, LiveParts};
use api::switch::millis;
use api::{Error, ErrorCode, FunctionName};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

mod builds;
mod live;
mod message;
mod removal;
mod replicas;
mod rollback;
mod view;

use crate::machine::{Action, Event, Machine, ReplicaId};
use crate::replica::{Control, FoundReplica};
use crate::routes::Drain;
use crate::shared::Shared;
use crate::source::{News, Source};
use crate::store::FunctionRecord;
use crate::versions::Versions;
use message::Reply;
pub(crate) use message::{Ask, Message};
pub(crate) use rollback::undo_interrupted;

/// Messages that wait for the task. Whoever sends waits when it is full.
const MAILBOX: usize = 64;

/// How others reach a function.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Its folder and git directory.
    pub source: Arc<Source>,
    mailbox: mpsc::Sender<Message>,
    view: watch::Receiver<View>,
}

/// What can be seen of a function at any time.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// As the API shows it.
    pub function: Function,
    /// Whether it ever was ready and its version is on the disk.
    pub good: bool,
    /// The deployment, as OpenFaaS's API shows it.
    pub record: Arc<FunctionRecord>,
}

/// The state of one function's task.
pub(crate) struct Actor {
    shared: Arc<Shared>,
    name: FunctionName,
    record: FunctionRecord,
    machine: Machine,
    source: Arc<Source>,
    versions: Arc<Versions>,
    /// The newest version.
    newest: Option<u64>,
    /// A number for the next version, taken before it is needed: it costs a write to the disk.
    next_version: Option<u64>,
    members: HashMap<ReplicaId, Member>,
    /// For replicas that are about to be stopped.
    drains: HashMap<ReplicaId, Drain>,
    /// Replicas that are being stopped.
    stopping: HashMap<ReplicaId, Ipv4Addr>,
    found: HashMap<ReplicaId, FoundReplica>,
    measures: BTreeMap<u64, Measure>,
    /// When the save was seen that the next version, and the one being made, will hold.
    saved: Option<Instant>,
    making: Option<Instant>,
    dirty: bool,
    dirty_check: DirtyCheck,
    rollback: Option<rollback::Running>,
    mailbox: mpsc::Sender<Message>,
    view: watch::Sender<View>,
    /// Ends all that the task has started.
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A replica that answers.
#[derive(Debug)]
struct Member {
    address: std::net::SocketAddrV4,
    control: Control,
    since: Instant,
    log: u64,
}

/// How long the parts of a version's way took.
#[derive(Clone, Copy, Debug, Default)]
struct Measure {
    saved: Option<Instant>,
    parts: LiveParts,
    answering: Option<OffsetDateTime>,
    took: Duration,
}

/// Whether the folder is being compared, and whether it must be once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DirtyCheck {
    #[default]
    Idle,
    Running,
    Again,
}

impl Handle {
    /// What can be seen of the function now.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// A receiver of all views from now on.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    pub(crate) async fn send(&self, message: Message) {
        // The task has ended: the function is gone, and nobody cares any more.
        let _ = self.mailbox.send(message).await;
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Ask(ask(reply))).await;
        answer.await.unwrap_or_else(|_| {
            let name = &self.view.borrow().function.name;
            Err(Error::new(ErrorCode::NotFound, format!("function `{name}` is being removed")))
        })
    }
}

/// Starts the task of a function.
pub(crate) fn spawn(
    shared: &Arc<Shared>,
    record: FunctionRecord,
    versions: Versions,
    seed: u64,
) -> Handle {
    let (mailbox, messages) = mpsc::channel(MAILBOX);
    let name = record.name.clone();
    let source = Arc::new(Source::new(&shared.config.state, &name));
    let machine = Machine::new(seed, record.image.clone(), versions.newest());
    let first = view::view(&machine, &record, None, true, &shared.config);
    shared.tell(api::event::Event::Function(Box::new(first.function.clone())));
    let (view, views) = watch::channel(first);
    let stop = shared.stop.child_token();
    let fresh = record.good.is_none();
    let handle = Handle { source: Arc::clone(&source), mailbox: mailbox.clone(), view: views };
    let actor = Actor {
        shared: Arc::clone(shared),
        name,
        record,
        machine,
        source,
        newest: versions.newest(),
        versions: Arc::new(versions),
        next_version: None,
        members: HashMap::new(),
        drains: HashMap::new(),
        stopping: HashMap::new(),
        found: HashMap::new(),
        measures: BTreeMap::new(),
        // A new function's first version counts from here.
        saved: fresh.then(Instant::now),
        making: None,
        dirty: true,
        dirty_check: DirtyCheck::Idle,
        rollback: None,
        mailbox,
        view,
        stop,
        tasks: TaskTracker::new(),
    };
    tokio::spawn(actor.run(messages));
    handle
}

impl Actor {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        self.watch_source();
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                () = self.stop.cancelled() => None,
            };
            match message {
                Some(Message::Ask(Ask::TakeAway { to_trash, reply })) => {
                    return self.take_away(to_trash, reply, messages).await;
                }
                Some(message) => self.handle(message),
                None => return,
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.apply(event),
            Message::Engine(None) => self.apply(Event::EngineLost),
            Message::Engine(Some(found)) => self.engine_back(found),
            Message::News(News::Saved(at)) => {
                self.saved.get_or_insert(at);
                self.apply(Event::Saved);
            }
            Message::News(News::Lost(error)) => self.apply(Event::FolderLost { error }),
            Message::News(News::Back) => self.apply(Event::FolderBack),
            Message::News(News::Branch) => self.branch_moved(),
            Message::Made { version, took, unused } => self.made(version, took, unused),
            Message::NextVersion(number) => self.next_version = Some(number),
            Message::Recorded { version, record } => {
                let rolled_back = self.record.revision != record.revision;
                self.record = *record;
                self.apply(Event::Recorded { version });
                if rolled_back {
                    self.check_dirty();
                }
            }
            Message::Synced { version, took } => {
                self.measure(version).parts.sync_ms = millis(took);
                self.apply(Event::Synced { version });
            }
            Message::Up { replica, version, running } => self.up(replica, version, *running),
            Message::Switched { replica, version, times } => {
                let measure = self.measure(version);
                measure.parts.switch = times;
                measure.answering = Some(OffsetDateTime::now_utc());
                self.apply(Event::Switched { replica, version });
            }
            Message::Exited { replica, status } => self.exited(replica, status),
            Message::Stopped { replica } => {
                self.stopping.remove(&replica);
            }
            Message::Restored { kept, before } => self.restored(kept, before),
            Message::Built { build, result } => self.built(&build, result),
            Message::Dirty(dirty) => self.dirty_known(dirty),
            Message::Ask(Ask::Commit { message, reply }) => self.commit(message, reply),
            Message::Ask(Ask::Build { commit, message, reply }) => {
                self.want_build(&commit, &message, reply);
            }
            Message::Ask(Ask::RollBack { revision, reply }) => self.roll_back(revision, reply),
            Message::Ask(Ask::TakeAway { .. }) => unreachable!("`run` ends with it"),
        }
        self.publish();
    }

    /// Lets the machine know, and does what it says.
    fn apply(&mut self, event: Event) {
        debug!(function = %self.name, ?event, "event");
        let actions = self.machine.apply(event);
        // What takes calls is known to the gateway before anything is stopped, and its word that
        // no call is left is listened for before it can come.
        let stops = actions.iter().filter_map(|action| match action {
            Action::Stop { replica } => Some((replica.clone(), self.shared.routes.drain(replica))),
            _ => None,
        });
        self.drains.extend(stops);
        self.publish_route();
        for action in actions {
            debug!(function = %self.name, ?action, "action");
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Make => self.make(),
            Action::Sync { version } => self.sync(version),
            Action::Start(start) => self.start(start),
            Action::Attach { replica } => self.attach(replica),
            Action::Switch { replica, version } => self.switch(replica, version),
            Action::Stop { replica } => self.stop(replica),
            Action::RetryIn { delay } => {
                self.task(async move {
                    tokio::time::sleep(delay).await;
                    Some(Message::Event(Event::RetryDue))
                });
            }
            Action::RecordGood { version } => self.record(version, None),
            Action::RecordRollback { revision, image, version } => {
                self.record(version, Some((revision, image)));
            }
            Action::Prune => self.prune(),
            Action::TellLive { version } => self.tell_live(version),
            Action::TellRefused { version, error } => self.tell_refused(version, error),
            Action::DropSpare { replica } => self.drop_spare(&replica),
            Action::Build { commit } => self.build(&commit),
            Action::RefuseBuild { commit } => self.refuse_build(&commit),
            Action::Restore { revision } => self.restore(revision),
            Action::Undo => self.undo(),
            Action::RolledBack { result } => self.rolled_back(result),
            // Only `Event::Remove` asks for it, and `take_away` is what applies that.
            Action::TakeAway => {}
        }
    }

    /// Runs something beside the task that waits for others; when all ends it is given up.
    fn task(&self, work: impl Future<Output = Option<Message>> + Send + 'static) {
        let (mailbox, stop) = (self.mailbox.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Some(Some(message)) = stop.run_until_cancelled(work).await {
                // It ends while the task itself does.
                let _ = mailbox.send(message).await;
            }
        });
    }

    /// Runs something beside the task that changes the disk; it is never given up in the middle.
    fn work(&self, work: impl Future<Output = Option<Message>> + Send + 'static) {
        let mailbox = self.mailbox.clone();
        self.tasks.spawn(async move {
            if let Some(message) = work.await {
                // As above.
                let _ = mailbox.send(message).await;
            }
        });
    }

    /// Does something on the disk.
    fn disk(
        &self,
        doing: &'static str,
        work: impl FnOnce() -> Result<Message, Error> + Send + 'static,
        failed: impl FnOnce(Error) -> Event + Send + 'static,
    ) {
        self.work(async move {
            let done = crate::fault::blocking(doing, work).await;
            Some(done.unwrap_or_else(|error| Message::Event(failed(error))))
        });
    }

    fn watch_source(&self) {
        let (source, mailbox, stop) =
            (Arc::clone(&self.source), self.mailbox.clone(), self.stop.clone());
        self.tasks.spawn(source.watch(stop, async move |news| {
            // As above.
            let _ = mailbox.send(Message::News(news)).await;
        }));
    }

    fn measure(&mut self, version: u64) -> &mut Measure {
        self.measures.entry(version).or_default()
    }
}
