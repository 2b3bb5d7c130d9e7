//! The log: OpenFaaS's lines with Go's time before them, and the function's own output.
//!
//! Its format is part of the contract (people and tools read it by `faas-cli logs`), so it is
//! written by hand rather than by a logging framework. A thread does the writing, because a full
//! pipe must not stop calls from being answered: our own lines are dropped when the queue is full
//! (and counted), the function's lines wait, so that the function feels its slow reader as it
//! would without us.

mod tail;

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::config::Output;
pub(crate) use tail::Tail;

/// Lines that wait to be written.
const QUEUE: usize = 1024;
/// Bytes of the function's lines that wait to be written; at least `config`'s longest line.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Longest line of our own; a URL may be much longer.
const LONGEST_OWN: usize = 2048;
/// How long the last lines may take to be written when the process ends.
const FLUSH: Duration = Duration::from_secs(1);
/// What one read of a function's output takes at most.
const CHUNK: usize = 8 * 1024;

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A handle to the log; clones write to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    queue: mpsc::Sender<Entry>,
    room: Arc<Semaphore>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line { to: Stream, text: Vec<u8>, _room: Option<OwnedSemaphorePermit> },
    Flush(std::sync::mpsc::Sender<()>),
}

impl Logs {
    /// Starts the thread that writes.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (queue, entries) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("logs".to_owned())
            .spawn(move || write_all(entries, &counted))?;
        Ok(Self { queue, room: Arc::new(Semaphore::new(QUEUE_BYTES)), lost })
    }

    /// A line of ours, to stderr with the time before it, as Go's `log` writes it.
    pub(crate) fn say(&self, line: fmt::Arguments<'_>) {
        let mut text = stamp();
        // Writing to a vector cannot fail.
        let _ = text.write_fmt(line);
        text.truncate(LONGEST_OWN);
        text.push(b'\n');
        let entry = Entry::Line { to: Stream::Stderr, text, _room: None };
        if self.queue.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A line of the function's output; waits while the reader of our output is slow.
    async fn pass(&self, to: Stream, line: &[u8], prefix: bool) {
        let mut text = if prefix { stamp() } else { Vec::with_capacity(line.len() + 1) };
        if prefix {
            let name: &[u8] = match to {
                Stream::Stdout => b"stdout: ",
                Stream::Stderr => b"stderr: ",
            };
            text.extend_from_slice(name);
        }
        text.extend_from_slice(line);
        text.push(b'\n');
        let size = u32::try_from(text.len().min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await.ok();
        // The writer only goes when the process does.
        let _ = self.queue.send(Entry::Line { to, text, _room: room }).await;
    }

    /// Waits until what was said so far is written, within a limit.
    pub(crate) async fn flush(&self) {
        let (done, written) = std::sync::mpsc::channel();
        let queued = tokio::time::timeout(FLUSH, self.queue.send(Entry::Flush(done))).await;
        if queued.is_ok() {
            // The process ends after this: there is nobody left whom blocking could hurt.
            let _ = written.recv_timeout(FLUSH);
        }
    }
}

/// Copies a function's output to the log, line by line, until its end; keeps the last lines.
pub(crate) async fn pump(
    logs: Logs,
    to: Stream,
    mut from: pipe::Receiver,
    output: Output,
    tail: Option<Arc<Mutex<Tail>>>,
) {
    let mut pending = BytesMut::with_capacity(CHUNK);
    let mut seen = 0; // bytes of `pending` that hold no line end
    loop {
        let ending = pending[seen..].iter().position(|byte| *byte == b'\n').map(|at| seen + at);
        let line = match ending {
            Some(at) if at <= output.longest => {
                let mut line = pending.split_to(at + 1);
                line.truncate(at);
                line
            }
            _ if pending.len() >= output.longest => pending.split_to(output.longest),
            _ => {
                seen = pending.len();
                pending.reserve(CHUNK);
                match from.read_buf(&mut pending).await {
                    Ok(1..) => continue,
                    Ok(0) | Err(_) if pending.is_empty() => return,
                    Ok(0) | Err(_) => pending.split(),
                }
            }
        };
        seen = 0;
        if let Some(tail) = &tail {
            tail.lock().unwrap_or_else(PoisonError::into_inner).push(&line);
        }
        logs.pass(to, &line, output.prefix).await;
    }
}

/// `2026/11/24 21:19:30 `, in UTC.
fn stamp() -> Vec<u8> {
    let now = time::OffsetDateTime::now_utc();
    let (year, month, day) = now.to_calendar_date();
    let (hour, minute, second) = now.to_hms();
    let mut text = Vec::with_capacity(128);
    let _ =
        write!(text, "{year}/{:02}/{day:02} {hour:02}:{minute:02}:{second:02} ", u8::from(month));
    text
}

/// The thread: takes what is there, writes it by one call a stream.
fn write_all(mut entries: mpsc::Receiver<Entry>, lost: &AtomicU64) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(first) = entries.blocking_recv() {
        let mut next = Some(first);
        let mut flushed = None;
        while let Some(entry) = next {
            match entry {
                Entry::Line { to: Stream::Stdout, text, .. } => out.extend_from_slice(&text),
                Entry::Line { to: Stream::Stderr, text, .. } => err.extend_from_slice(&text),
                Entry::Flush(done) => flushed = Some(done),
            }
            next = if out.len() + err.len() < 64 * 1024 { entries.try_recv().ok() } else { None };
        }
        let dropped = lost.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            err.extend_from_slice(&stamp());
            let _ =
                writeln!(err, "{dropped} log lines were lost, the log was not read fast enough");
        }
        // Nobody reads the log: there is no place left to say so.
        let _ = std::io::stdout().lock().write_all(&out).and_then(|()| std::io::stdout().flush());
        let _ = std::io::stderr().lock().write_all(&err);
        out.clear();
        err.clear();
        if let Some(done) = flushed {
            let _ = done.send(());
        }
    }
}
