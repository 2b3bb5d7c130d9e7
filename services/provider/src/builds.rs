//! Builds: what each one told, kept for a while, so that a reader can begin at any time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use api::build::{BuildEvent, BuildStarted};
use api::{Error, FunctionName};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// Builds that are remembered.
const KEPT: usize = 50;
/// Lines and notes that are kept of one build; steps and the end are kept in any case.
const LINES: usize = 5000;
/// Builds at a time.
const PARALLEL: usize = 2;
/// Builds that wait or run; more are refused.
const WAITING: usize = 32;

/// All builds that are remembered.
#[derive(Debug)]
pub struct Builds {
    builds: Mutex<VecDeque<Arc<Build>>>,
    slots: Semaphore,
    count: AtomicU64,
    /// Unique for a process, so that an id of an earlier one is never mistaken.
    process: u64,
}

/// One build and what it told.
#[derive(Debug)]
pub struct Build {
    /// Its id, function and commit.
    pub started: BuildStarted,
    /// The message for the revision.
    pub message: String,
    events: Mutex<Vec<BuildEvent>>,
    /// How many events there are, and whether the last one was.
    told: watch::Sender<(usize, bool)>,
}

impl Builds {
    /// None yet. `process` must differ from that of any other process that ever was.
    #[must_use]
    pub fn new(process: u64) -> Self {
        Self {
            builds: Mutex::default(),
            slots: Semaphore::new(PARALLEL),
            count: AtomicU64::new(0),
            process,
        }
    }

    /// Begins to remember a build; it may have to wait for its turn. None: too many wait.
    #[must_use]
    pub fn open(&self, function: &FunctionName, commit: &str, message: &str) -> Option<Arc<Build>> {
        let mut builds = self.lock();
        if builds.iter().filter(|build| !build.is_over()).count() >= WAITING {
            return None;
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let started = BuildStarted {
            build: format!("{}-{number}", self.process),
            function: function.clone(),
            commit: commit.to_owned(),
        };
        let build = Arc::new(Build {
            message: message.to_owned(),
            events: Mutex::new(vec![BuildEvent::Started(started.clone())]),
            told: watch::Sender::new((1, false)),
            started,
        });
        builds.push_back(Arc::clone(&build));
        while builds.len() > KEPT && builds.front().is_some_and(|it| it.is_over()) {
            builds.pop_front();
        }
        Some(build)
    }

    /// The build of that id, if it is still remembered.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Build>> {
        self.lock().iter().find(|build| build.started.build == id).cloned()
    }

    /// The newest build of a function's commit.
    #[must_use]
    pub fn of(&self, function: &FunctionName, commit: &str) -> Option<Arc<Build>> {
        let is = |it: &&Arc<Build>| it.started.function == *function && it.started.commit == commit;
        self.lock().iter().rev().find(is).cloned()
    }

    /// Ends all builds of a function that are not over, whatever becomes of their work.
    pub fn end(&self, function: &FunctionName, error: &Error) {
        for build in self.lock().iter().filter(|it| it.started.function == *function) {
            build.tell(BuildEvent::Failed(error.clone()));
        }
    }

    /// Waits for a turn to build.
    pub async fn slot(&self) -> SemaphorePermit<'_> {
        self.slots.acquire().await.expect("the semaphore is never closed")
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Build>>> {
        self.builds.lock().expect("nothing panics under this lock")
    }
}

impl Build {
    /// Adds what happened. After its end nothing is added.
    pub fn tell(&self, event: BuildEvent) {
        let mut events = self.lock();
        let (count, over) = *self.told.borrow();
        let detail = matches!(event, BuildEvent::Log { .. } | BuildEvent::Progress { .. });
        if over || (detail && count > LINES) {
            return;
        }
        events.push(if detail && count == LINES {
            let line = "more than is kept: the following lines are left out".to_owned();
            BuildEvent::Log { name: String::new(), line }
        } else {
            event
        });
        let over = matches!(events.last(), Some(BuildEvent::Done(_) | BuildEvent::Failed(_)));
        self.told.send_replace((events.len(), over));
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.told.borrow().1
    }

    /// Whether it is over and has no event of number `from` or above.
    #[must_use]
    pub fn has_ended_before(&self, from: usize) -> bool {
        let (count, over) = *self.told.borrow();
        over && count <= from
    }

    /// The events from number `from` on; waits until there are some. None after the last one.
    pub async fn next(&self, from: usize) -> Option<Vec<BuildEvent>> {
        let mut told = self.told.subscribe();
        let (count, _) = *told.wait_for(|&(count, over)| count > from || over).await.ok()?;
        let events = self.lock();
        (count > from).then(|| events[from..].to_vec())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BuildEvent>> {
        self.events.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use api::ErrorCode;

    use super::*;

    fn log(line: usize) -> BuildEvent {
        BuildEvent::Log { name: "s".to_owned(), line: line.to_string() }
    }

    fn failed() -> BuildEvent {
        BuildEvent::Failed(Error::new(ErrorCode::BuildFailed, "it broke"))
    }

    fn name() -> FunctionName {
        "hello".parse().unwrap()
    }

    #[tokio::test]
    async fn a_reader_gets_all_from_the_start_then_what_follows_then_the_end() {
        let builds = Builds::new(9);
        let build = builds.open(&name(), "abc", "").unwrap();
        assert_eq!(builds.get("9-1").unwrap().started.commit, "abc");
        build.tell(log(1));
        assert_eq!(build.next(0).await.unwrap().len(), 2);
        let (next, ()) = tokio::join!(build.next(2), async {
            tokio::task::yield_now().await;
            build.tell(failed());
        });
        assert_eq!(next.unwrap(), [failed()]);
        build.tell(log(2));
        assert_eq!(build.next(3).await, None);
        assert!(build.has_ended_before(3) && !build.has_ended_before(2));
    }

    #[test]
    fn one_build_keeps_a_bounded_number_of_lines_and_always_its_end() {
        let build = Builds::new(9).open(&name(), "abc", "").unwrap();
        for line in 0..2 * LINES {
            build.tell(log(line));
        }
        build.tell(failed());
        let events = build.lock();
        assert_eq!(events.len(), LINES + 2);
        assert_eq!(events.last(), Some(&failed()));
    }

    #[test]
    fn old_builds_are_forgotten_and_too_many_at_once_refused() {
        let builds = Builds::new(9);
        for _ in 0..2 * KEPT {
            builds.open(&name(), "abc", "").unwrap().tell(failed());
        }
        assert_eq!(builds.lock().len(), KEPT);
        for _ in 0..WAITING {
            builds.open(&name(), "abc", "").unwrap();
        }
        assert!(builds.open(&name(), "abc", "").is_none());
    }
}
