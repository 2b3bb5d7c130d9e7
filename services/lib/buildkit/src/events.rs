//! What a build tells while it runs, and the bounded queue that it tells it through.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Something that happened in a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step is somewhere new. It may end more than once: BuildKit works out what a step depends
    /// on, ends, looks into its cache, and only then runs it.
    Step {
        /// What the step does. BuildKit may run steps of one name twice.
        name: String,
        /// How far it is.
        status: StepStatus,
        /// How long it ran, once it has ended.
        took: Option<Duration>,
    },
    /// How far a transfer within a step is.
    Progress {
        /// The step's name.
        step: String,
        /// What moves, for example `transferring` or `exporting layers`.
        what: String,
        /// Bytes or items so far.
        current: u64,
        /// Of how many; 0 when BuildKit does not know.
        total: u64,
    },
    /// A line that a step printed.
    Log {
        /// The step's name.
        step: String,
        /// The line, without its end.
        line: String,
    },
    /// The reader was too slow: lines are missing here.
    Skipped {
        /// How many.
        lines: u64,
    },
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepStatus {
    /// It runs.
    Running,
    /// It ended well.
    Done,
    /// Its result was there already.
    Cached,
    /// It ended badly.
    Failed,
}

/// Where a build puts its events; given to [`Client::solve`](crate::Client::solve).
#[derive(Debug)]
pub struct Events(Arc<Shared>);

/// Where a caller takes them out.
#[derive(Debug)]
pub struct EventReader(Arc<Shared>);

/// A queue that holds `capacity` lines and progress notes. When it is full, lines are counted
/// instead of kept, progress is left out, and steps are still kept: there are few of them.
/// So a slow reader loses detail, but it never holds a build up.
#[must_use]
pub fn channel(capacity: usize) -> (Events, EventReader) {
    let shared = Arc::new(Shared { capacity, queue: Mutex::default(), changed: Notify::new() });
    (Events(Arc::clone(&shared)), EventReader(shared))
}

#[derive(Debug)]
struct Shared {
    capacity: usize,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Lines that found no room since the last event that did.
    skipped: u64,
    /// Either side is gone.
    closed: bool,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// Adds an event, without waiting.
    pub(crate) fn push(&self, event: Event) {
        let mut queue = self.0.lock();
        if queue.closed {
            return;
        }
        let full = queue.events.len() >= self.0.capacity;
        match event {
            Event::Log { .. } if full => queue.skipped += 1,
            Event::Progress { .. } if full => {}
            event => {
                queue.mark_skipped();
                queue.events.push_back(event);
            }
        }
        drop(queue);
        self.0.changed.notify_one();
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl EventReader {
    /// Waits for the next event; `None` when the build has ended and all were read.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            {
                let mut queue = self.0.lock();
                if queue.events.is_empty() {
                    queue.mark_skipped();
                }
                if let Some(event) = queue.events.pop_front() {
                    return Some(event);
                }
                if queue.closed {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        queue.events.clear();
    }
}

impl Queue {
    fn mark_skipped(&mut self) {
        if self.skipped > 0 {
            let lines = std::mem::take(&mut self.skipped);
            self.events.push_back(Event::Skipped { lines });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Event {
        Event::Log { step: "s".into(), line: text.into() }
    }

    fn step(status: StepStatus) -> Event {
        Event::Step { name: "s".into(), status, took: None }
    }

    async fn all(mut reader: EventReader) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = reader.recv().await {
            events.push(event);
        }
        events
    }

    #[tokio::test]
    async fn a_slow_reader_loses_lines_but_no_step_and_is_told() {
        let (events, reader) = channel(2);
        for event in [
            step(StepStatus::Running),
            line("1"),
            line("2"),
            line("3"),
            step(StepStatus::Done),
            line("4"),
        ] {
            events.push(event);
        }
        drop(events);
        let expected = [
            step(StepStatus::Running),
            line("1"),
            Event::Skipped { lines: 2 },
            step(StepStatus::Done),
            Event::Skipped { lines: 1 },
        ];
        assert_eq!(all(reader).await, expected);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_costs_no_memory() {
        let (events, reader) = channel(2);
        drop(reader);
        events.push(step(StepStatus::Running));
        assert!(events.0.lock().events.is_empty());
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_an_event_and_by_the_end() {
        let (events, reader) = channel(2);
        let reading = tokio::spawn(all(reader));
        tokio::task::yield_now().await;
        events.push(line("1"));
        tokio::task::yield_now().await;
        drop(events);
        assert_eq!(reading.await.unwrap(), [line("1")]);
    }
}
