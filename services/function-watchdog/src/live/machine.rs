//! The state machine of the live switch: events in, actions out, no I/O, no clock.
//!
//! Every worker has one role at a time, and a role says all that is known of it:
//!
//! ```text
//!            Switch                Ready               another is Ready
//! Spare ───────────────► Starting ───────► Serving ──────────────────────► Draining ──► Ending
//!   └── given up, expired    └── superseded, too late, not needed ───────────────────────►─┘
//! ```
//!
//! What holds at all times (a test tries it with random events): at most one worker serves, at
//! most one spare waits, at most one starts for a request and one to replace a worker that died;
//! every request gets exactly one answer; and once a version was good, either a worker serves it,
//! or one starts, or a timer is armed to start one.

mod role;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use role::{Origin, Role, Starting};
pub(crate) use words::{Action, Event, Limits, Ticket, Timer, WorkerId};

/// Processes that finish their last calls at a time; the oldest of more is told to end.
const MAX_DRAINING: usize = 4;
/// A worker that served this long was healthy: its death is met with a restart at once.
const HEALTHY: Duration = Duration::from_secs(10);
/// First wait before a restart, doubled each time: 0, 0.1 s, 0.2 s, ... 10 s.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long after an answer the next spare is started: the processor belongs to the first calls
/// of the new code, and nobody saves again that fast.
const SPARE_WAIT: Duration = Duration::from_millis(200);

/// The machine's state.
#[derive(Debug)]
pub(crate) struct Machine {
    limits: Limits,
    workers: BTreeMap<WorkerId, Role>,
    next: u64,
    /// The version that served last; every restart is on it.
    good: Option<u64>,
    /// What the source link names.
    link: Option<u64>,
    /// How long a worker may take to become ready.
    ready: Duration,
    /// How long a spare waits after a switch; zero: none is wanted.
    spare: Duration,
    /// False once a process was seen that does not know how to be a spare.
    spares_work: bool,
    /// Deaths since a worker was healthy.
    deaths: u32,
    actions: Vec<Action>,
}

impl Machine {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            workers: BTreeMap::new(),
            next: 1,
            good: None,
            link: None,
            ready: Duration::ZERO,
            spare: Duration::ZERO,
            spares_work: true,
            deaths: 0,
            actions: Vec::new(),
        }
    }

    /// The version that answers calls.
    pub(crate) fn serving(&self) -> Option<u64> {
        self.workers.values().find_map(|role| match role {
            Role::Serving { version, .. } => Some(*version),
            _ => None,
        })
    }

    /// Whether a spare waits, loaded.
    pub(crate) fn has_spare(&self) -> bool {
        self.workers.values().any(|role| *role == Role::Spare { loaded: true })
    }

    /// Takes an event; gives back what to do about it. An event of a worker that has another role
    /// by now (it was late) changes nothing.
    pub(crate) fn apply(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match event {
            // The first version is not known yet, but its process can be under way.
            Event::Begin => self.spawn_spare(),
            Event::Switch { ticket, version, ready, spare } => {
                if let Some((worker, old)) = self.find_starting(|s| s.ticket.is_some()) {
                    self.kill(worker);
                    self.superseded(&old);
                }
                (self.ready, self.spare) = (ready, spare);
                self.act(Action::Disarm(Timer::Spare));
                self.start(now, version, Some(ticket));
            }
            Event::DropSpare => {
                self.spare = Duration::ZERO;
                self.drop_spare();
            }
            Event::Loaded(worker) => match self.workers.get_mut(&worker) {
                Some(Role::Spare { loaded }) => *loaded = true,
                Some(Role::Starting(starting)) => starting.loaded = Some(now),
                _ => {}
            },
            Event::Ready { worker, spoke } => self.ready(now, worker, spoke),
            Event::Exited { worker, how, killed } => self.exited(now, worker, &how, killed),
            Event::Drained(worker) => self.end(worker),
            Event::LinkFailed(reason) => {
                self.link = None;
                if let Some((worker, starting)) = self.find_starting(|s| s.ticket.is_some()) {
                    self.kill(worker);
                    self.failed(worker, &starting, reason);
                }
            }
            Event::Due(timer) => self.due(now, timer),
        }
        std::mem::take(&mut self.actions)
    }

    fn due(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Ready(worker) => {
                if let Some(Role::Starting(starting)) = self.workers.get(&worker).cloned() {
                    self.kill(worker);
                    let limit = self.ready.as_millis();
                    let reason = match starting.loaded {
                        Some(_) => format!("its code was not loaded within {limit} ms"),
                        None => format!("the process was not ready within {limit} ms"),
                    };
                    self.failed(worker, &starting, reason);
                }
            }
            Timer::Drain(worker) => self.end(worker),
            Timer::Term(worker) => {
                if self.workers.get(&worker) == Some(&Role::Ending) {
                    self.act(Action::Signal(worker, Signal::SIGKILL));
                }
            }
            Timer::Restart => {
                let restarting = self.find_starting(|s| s.ticket.is_none()).is_some();
                if let Some(good) = self.good.filter(|_| !restarting && self.serving().is_none()) {
                    self.start(now, good, None);
                }
            }
            Timer::Prepare if self.find_spare().is_none() => self.spawn_spare(),
            Timer::Prepare => {}
            Timer::Spare => {
                self.spare = Duration::ZERO;
                self.drop_spare();
            }
        }
    }

    /// Brings a version under way: by the spare if there is one, else by a new process. The
    /// module above says why the link moves first.
    fn start(&mut self, now: Instant, version: u64, ticket: Option<Ticket>) {
        self.act(Action::Disarm(Timer::Prepare));
        self.point(version);
        let spare = self.find_spare();
        let (worker, origin) = match spare {
            Some((worker, loaded)) => {
                self.act(Action::Feed { worker, version });
                (worker, Origin::Spare { loaded })
            }
            None => {
                let worker = self.new_worker();
                self.act(Action::Spawn { worker, version: Some(version) });
                (worker, Origin::New)
            }
        };
        let loaded = (origin == Origin::Spare { loaded: true }).then_some(now);
        let starting = Starting { version, ticket, asked: now, loaded, origin };
        self.workers.insert(worker, Role::Starting(starting));
        self.act(Action::Arm(Timer::Ready(worker), self.ready));
    }

    fn ready(&mut self, now: Instant, worker: WorkerId, spoke: bool) {
        let starting = match self.workers.get(&worker).cloned() {
            Some(Role::Starting(starting)) => starting,
            Some(Role::Spare { .. }) => {
                // It has not waited for its folder: it is no server of our templates.
                self.spares_work = false;
                return self.kill(worker);
            }
            _ => return,
        };
        self.act(Action::Disarm(Timer::Ready(worker)));
        if !spoke && starting.origin != Origin::New {
            self.spares_work = false;
            self.kill(worker);
            return self.start(now, starting.version, starting.ticket);
        }
        let before = self.workers.iter().find_map(|(worker, role)| match role {
            Role::Serving { .. } => Some(*worker),
            _ => None,
        });
        self.point(starting.version);
        self.act(Action::Route(worker));
        self.workers.insert(worker, Role::Serving { version: starting.version, since: now });
        self.good = Some(starting.version);
        self.act(Action::Disarm(Timer::Restart));
        if let Some(before) = before {
            self.drain(before);
        }
        if let Some(ticket) = starting.ticket {
            if let Some((replacement, _)) = self.find_starting(|s| s.ticket.is_none()) {
                self.kill(replacement);
            }
            self.deaths = 0;
            let times = starting.times(now);
            self.act(Action::Switched { ticket, version: starting.version, times });
            self.keep_spare();
        } else if !self.spare.is_zero() && self.spares_work {
            // It may have taken the spare; the time until which one is wanted stays.
            self.act(Action::Arm(Timer::Prepare, SPARE_WAIT));
        }
    }

    fn exited(&mut self, now: Instant, worker: WorkerId, how: &str, killed: bool) {
        match self.workers.remove(&worker) {
            Some(Role::Starting(starting)) => {
                self.act(Action::Disarm(Timer::Ready(worker)));
                if killed && starting.origin != Origin::New {
                    // The kernel, short of memory, takes a process that only waits, maybe in
                    // the moment in which it is needed: that says nothing about the code.
                    return self.start(now, starting.version, starting.ticket);
                }
                let reason = format!("the process ended before it was ready ({how})");
                self.failed(worker, &starting, reason);
            }
            Some(Role::Serving { since, .. }) => {
                self.act(Action::Unroute);
                if now.saturating_duration_since(since) >= HEALTHY {
                    self.deaths = 0;
                }
                self.restart_later();
            }
            Some(Role::Draining) => self.act(Action::Disarm(Timer::Drain(worker))),
            Some(Role::Ending) => self.act(Action::Disarm(Timer::Term(worker))),
            Some(Role::Spare { .. }) | None => {}
        }
    }

    /// A worker will not become ready: whatever served before still does.
    fn failed(&mut self, worker: WorkerId, starting: &Starting, reason: String) {
        if let Some(good) = self.good {
            self.point(good);
        }
        match starting.ticket {
            Some(ticket) => {
                let version = starting.version;
                self.act(Action::Refused { ticket, version, worker, reason });
                self.keep_spare();
            }
            None => self.restart_later(),
        }
    }

    fn restart_later(&mut self) {
        let wait = match self.deaths {
            0 => Duration::ZERO,
            more => (FIRST_WAIT * 2_u32.saturating_pow(more - 1).min(1000)).min(LONGEST_WAIT),
        };
        self.deaths = self.deaths.saturating_add(1);
        self.act(Action::Arm(Timer::Restart, wait));
    }

    /// After a request was answered: somebody edits, and the next one is to be fast.
    fn keep_spare(&mut self) {
        if self.spare.is_zero() {
            self.drop_spare();
        } else if self.spares_work {
            self.act(Action::Arm(Timer::Spare, self.spare));
            self.act(Action::Arm(Timer::Prepare, SPARE_WAIT));
        }
    }

    fn spawn_spare(&mut self) {
        if self.spares_work {
            let worker = self.new_worker();
            self.workers.insert(worker, Role::Spare { loaded: false });
            self.act(Action::Spawn { worker, version: None });
        }
    }

    fn drop_spare(&mut self) {
        self.act(Action::Disarm(Timer::Prepare));
        self.act(Action::Disarm(Timer::Spare));
        if let Some((worker, _)) = self.find_spare() {
            self.kill(worker);
        }
    }

    fn drain(&mut self, worker: WorkerId) {
        let draining = |role: &Role| *role == Role::Draining;
        if self.workers.values().filter(|role| draining(role)).count() >= MAX_DRAINING {
            let oldest = self.workers.iter().find(|(_, role)| draining(role)).map(|(w, _)| *w);
            oldest.into_iter().for_each(|oldest| self.end(oldest));
        }
        self.workers.insert(worker, Role::Draining);
        self.act(Action::Arm(Timer::Drain(worker), self.limits.drain));
        self.act(Action::Retire(worker));
    }

    /// Tells a draining worker to end.
    fn end(&mut self, worker: WorkerId) {
        if self.workers.get(&worker) == Some(&Role::Draining) {
            self.workers.insert(worker, Role::Ending);
            self.act(Action::Disarm(Timer::Drain(worker)));
            self.act(Action::Signal(worker, Signal::SIGTERM));
            self.act(Action::Arm(Timer::Term(worker), self.limits.term));
        }
    }

    /// Ends a worker that serves nothing.
    fn kill(&mut self, worker: WorkerId) {
        if let Some(Role::Starting(_)) = self.workers.insert(worker, Role::Ending) {
            self.act(Action::Disarm(Timer::Ready(worker)));
        }
        self.act(Action::Signal(worker, Signal::SIGKILL));
    }

    fn superseded(&mut self, old: &Starting) {
        if let Some(ticket) = old.ticket {
            self.act(Action::Superseded { ticket, version: old.version });
        }
    }

    fn point(&mut self, version: u64) {
        if self.link != Some(version) {
            self.link = Some(version);
            self.act(Action::Point(version));
        }
    }

    fn new_worker(&mut self) -> WorkerId {
        let worker = WorkerId(self.next);
        self.next += 1;
        worker
    }

    fn find_spare(&self) -> Option<(WorkerId, bool)> {
        self.workers.iter().find_map(|(worker, role)| match role {
            Role::Spare { loaded } => Some((*worker, *loaded)),
            _ => None,
        })
    }

    fn find_starting(&self, which: impl Fn(&Starting) -> bool) -> Option<(WorkerId, Starting)> {
        self.workers.iter().find_map(|(worker, role)| match role {
            Role::Starting(starting) if which(starting) => Some((*worker, starting.clone())),
            _ => None,
        })
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }
}
