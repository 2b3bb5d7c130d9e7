//! From BuildKit's status stream to events: a state machine without I/O.
//!
//! BuildKit names steps by digests that are not those of the definition sent, so they are told
//! apart by digest here and shown by name.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};

use crate::error::Error;
use crate::events::{Event, StepStatus};

/// Longest line that is handed on, in bytes; a longer one comes in pieces of this size.
const MAX_LINE: usize = 4096;

/// All that is known of a build's steps.
#[derive(Debug, Default)]
pub(crate) struct Steps(HashMap<String, Step>);

#[derive(Debug, Default)]
struct Step {
    name: String,
    status: Option<StepStatus>,
    error: String,
    /// A line that has not ended yet, for each stream (1 and 2).
    partial: HashMap<i64, Vec<u8>>,
    /// The last lines, kept while the step runs and when it failed.
    lines: VecDeque<String>,
}

/// The step that made a build fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: String,
    pub(crate) reason: String,
    pub(crate) lines: Vec<String>,
}

impl Steps {
    /// Takes in a message and gives what is new in it.
    pub(crate) fn apply(&mut self, message: StatusResponse) -> Vec<Event> {
        let mut events = Vec::new();
        let (ended, begun): (Vec<Vertex>, Vec<Vertex>) =
            message.vertexes.into_iter().partition(|it| it.completed.is_some());
        for vertex in begun {
            self.vertex(vertex, &mut events);
        }
        for log in message.logs {
            self.log(log, &mut events);
        }
        for status in message.statuses {
            self.progress(status, &mut events);
        }
        // A step's last lines may come in the same message as its end; they belong before it.
        for vertex in ended {
            self.vertex(vertex, &mut events);
        }
        events
    }

    /// The first step that failed by itself, and was not merely stopped for another's failure.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let failed = |canceled: bool| {
            self.0.values().find(|step| {
                step.status == Some(StepStatus::Failed)
                    && step.error.contains("context canceled") == canceled
            })
        };
        let step = failed(false).or_else(|| failed(true))?;
        Some(Failure {
            step: step.name.clone(),
            reason: step.error.clone(),
            lines: step.lines.iter().cloned().collect(),
        })
    }

    /// Whether BuildKit has told of any step.
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Names of the steps that run now.
    pub(crate) fn running(&self) -> Vec<String> {
        let running = self.0.values().filter(|it| it.status == Some(StepStatus::Running));
        let mut names: Vec<String> = running.map(|it| it.name.clone()).collect();
        names.sort();
        names
    }

    fn vertex(&mut self, vertex: Vertex, events: &mut Vec<Event>) {
        let step = self.0.entry(vertex.digest).or_default();
        step.name = vertex.name;
        let status = match (&vertex.completed, &vertex.started) {
            (Some(_), _) if !vertex.error.is_empty() => StepStatus::Failed,
            (Some(_), _) if vertex.cached => StepStatus::Cached,
            (Some(_), _) => StepStatus::Done,
            (None, Some(_)) => StepStatus::Running,
            // Planned: nothing to tell yet.
            (None, None) => return,
        };
        if step.status == Some(status) {
            return;
        }
        if status != StepStatus::Running {
            for (_, rest) in std::mem::take(&mut step.partial) {
                step.line(&rest, events);
            }
            if status != StepStatus::Failed {
                step.lines = VecDeque::new();
            }
        }
        step.status = Some(status);
        step.error = vertex.error;
        let took = vertex.started.zip(vertex.completed).map(|(from, to)| between(&from, &to));
        events.push(Event::Step { name: step.name.clone(), status, took });
    }

    fn log(&mut self, log: VertexLog, events: &mut Vec<Event>) {
        let step = self.0.entry(log.vertex).or_default();
        let mut text = step.partial.remove(&log.stream).unwrap_or_default();
        text.extend_from_slice(&log.msg);
        let mut rest = text.as_slice();
        loop {
            let end = rest.iter().take(MAX_LINE + 1).position(|it| *it == b'\n');
            let (line, skip) = match end {
                Some(end) => (&rest[..end], end + 1),
                None if rest.len() > MAX_LINE => {
                    let cut = char_boundary(rest, MAX_LINE);
                    (&rest[..cut], cut)
                }
                None => break,
            };
            step.line(line, events);
            rest = &rest[skip..];
        }
        if !rest.is_empty() {
            step.partial.insert(log.stream, rest.to_vec());
        }
    }

    fn progress(&self, status: VertexStatus, events: &mut Vec<Event>) {
        let Some(step) = self.0.get(&status.vertex) else { return };
        let what = if status.name.is_empty() { status.id } else { status.name };
        events.push(Event::Progress {
            step: step.name.clone(),
            what: what.trim_end_matches(':').to_owned(),
            current: u64::try_from(status.current).unwrap_or(0),
            total: u64::try_from(status.total).unwrap_or(0),
        });
    }
}

impl Step {
    fn line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        if self.lines.len() == Error::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.clone());
        events.push(Event::Log { step: self.name.clone(), line });
    }
}

/// The largest cut at or below `at` that does not go through a UTF-8 character.
fn char_boundary(text: &[u8], at: usize) -> usize {
    let is_start = |index: &usize| text[*index] & 0b1100_0000 != 0b1000_0000;
    (at.saturating_sub(3)..=at).rev().find(is_start).unwrap_or(at)
}

fn between(from: &Timestamp, to: &Timestamp) -> Duration {
    let nanos = |it: &Timestamp| i128::from(it.seconds) * 1_000_000_000 + i128::from(it.nanos);
    Duration::from_nanos(u64::try_from(nanos(to) - nanos(from)).unwrap_or(0))
}

#[cfg(test)]
mod tests;
