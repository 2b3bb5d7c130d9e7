//! Bodies in both directions: what hyper streams, with the deadlines of the contract.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::net::unix::pipe;
use tokio::time::{Instant, Sleep};

use crate::fork::Running;
use crate::proxy::Lease;
use crate::server::Slot;

/// What one read from a process takes at most.
const CHUNK: usize = 64 * 1024;

/// A point in time that costs nothing until somebody has to wait for it.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// A deadline; none never comes.
    pub(crate) fn new(at: Option<Instant>) -> Self {
        Self { at, sleep: None }
    }

    /// Ready when it has passed; else wakes the task when it does.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        sleep.as_mut().poll(cx)
    }
}

/// A request's body on its way to the function's server.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// One that was read whole before; none when it has been taken or was empty.
    Full(Option<Bytes>),
    /// One that is read as it is sent.
    Streamed(Incoming, Deadline),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(incoming, deadline) => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(frame) => {
                    Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
                }
                Poll::Pending if deadline.poll(cx).is_ready() => {
                    Poll::Ready(Some(Err(late("read"))))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Streamed(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Streamed(incoming, _) => incoming.size_hint(),
        }
    }
}

/// An answer's body. The call counts as running until this is gone.
#[derive(Debug)]
pub(crate) struct Answer {
    source: Source,
    deadline: Deadline,
    _slot: Option<Slot>,
}

#[derive(Debug)]
enum Source {
    Full(Option<Bytes>),
    Upstream(Incoming, Lease),
    Process(Box<ProcessOutput>),
}

/// The output of a process as it comes (mode `streaming`).
#[derive(Debug)]
pub(crate) struct ProcessOutput {
    /// What was read already, to decide on the status.
    pub(crate) first: Option<Bytes>,
    /// The rest.
    pub(crate) stdout: pipe::Receiver,
    /// The process; ended when this is dropped early.
    pub(crate) running: Running,
}

impl Answer {
    /// A body that is all here.
    pub(crate) fn full(bytes: impl Into<Bytes>, slot: Option<Slot>) -> Self {
        let bytes = Some(bytes.into()).filter(|bytes| !bytes.is_empty());
        Self { source: Source::Full(bytes), deadline: Deadline::new(None), _slot: slot }
    }

    /// A body that comes from the function's server; the connection goes back to its pool after.
    pub(crate) fn upstream(
        incoming: Incoming,
        mut lease: Lease,
        until: Option<Instant>,
        slot: Slot,
    ) -> Self {
        let source = if incoming.is_end_stream() {
            lease.give_back();
            Source::Full(None)
        } else {
            Source::Upstream(incoming, lease)
        };
        Self { source, deadline: Deadline::new(until), _slot: Some(slot) }
    }

    /// A body that a process writes.
    pub(crate) fn process(output: ProcessOutput, until: Option<Instant>, slot: Slot) -> Self {
        let source = Source::Process(Box::new(output));
        Self { source, deadline: Deadline::new(until), _slot: Some(slot) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let polled = match &mut this.source {
            Source::Full(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Source::Upstream(incoming, lease) => {
                let polled = Pin::new(&mut *incoming).poll_frame(cx);
                let ended = match &polled {
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(Ok(_))) => incoming.is_end_stream(),
                    _ => false,
                };
                if ended {
                    lease.give_back();
                }
                polled.map_err(io::Error::other)
            }
            Source::Process(output) => output.poll(cx),
        };
        match polled {
            Poll::Pending if this.deadline.poll(cx).is_ready() => {
                Poll::Ready(Some(Err(late("write"))))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Full(bytes) => bytes.is_none(),
            Source::Upstream(incoming, _) => incoming.is_end_stream(),
            Source::Process(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Source::Upstream(incoming, _) => incoming.size_hint(),
            Source::Process(_) => SizeHint::default(),
        }
    }
}

impl ProcessOutput {
    /// The answer ends when the process does, not when it closes its output.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(first) = self.first.take() {
            self.running.wrote(first.len());
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let mut chunk = BytesMut::with_capacity(CHUNK);
        match tokio_util::io::poll_read_buf(Pin::new(&mut self.stdout), cx, &mut chunk) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(0)) => self.running.poll_end(cx).map(|()| None),
            Poll::Ready(Ok(size)) => {
                self.running.wrote(size);
                Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))))
            }
        }
    }
}

/// The error that ends a body, and with it the connection, when its time is over.
fn late(which: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{which}_timeout is over"))
}
