//! Bodies on their way: streamed, counted, watched for silence, never held.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{HeaderMap, header};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The body of a request as whoever sends it on has it. Its [`Lender`] can take it back as long as
/// nothing was read from it.
#[derive(Debug)]
pub(crate) struct Upload(Arc<Mutex<Slot>>);

/// What the gateway keeps of a body that it lent out.
#[derive(Debug)]
pub(crate) struct Lender(Arc<Mutex<Slot>>);

#[derive(Debug)]
struct Slot {
    body: Option<Incoming>,
    /// Bytes that may still come.
    left: u64,
    touched: bool,
    moved: Instant,
    fault: Option<Fault>,
}

/// Why a body did not come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It is over its limit.
    #[error("the request's body is over its limit")]
    TooLarge,
    /// The caller broke off.
    #[error("the caller broke off in the request's body")]
    BrokenOff,
    /// It was taken back to be sent elsewhere.
    #[error("the request's body was taken back")]
    TakenBack,
}

impl Lender {
    /// Lends a body of at most `limit` bytes.
    pub(crate) fn new(body: Incoming, limit: u64) -> Self {
        Self(Arc::new(Mutex::new(Slot {
            body: Some(body),
            left: limit,
            touched: false,
            moved: Instant::now(),
            fault: None,
        })))
    }

    /// The body, for one attempt to send it.
    pub(crate) fn lend(&self) -> Upload {
        Upload(Arc::clone(&self.0))
    }

    /// Takes the body back from an attempt that failed, for another one. None once any of it was
    /// read.
    pub(crate) fn take_back(&mut self) -> Option<()> {
        let (body, left) = {
            let mut slot = lock(&self.0);
            if slot.touched {
                return None;
            }
            slot.fault = Some(Fault::TakenBack);
            (slot.body.take()?, slot.left)
        };
        *self = Self::new(body, left);
        Some(())
    }

    /// When the body moved last.
    pub(crate) fn moved(&self) -> Instant {
        lock(&self.0).moved
    }

    /// Why it did not come whole, if so.
    pub(crate) fn fault(&self) -> Option<Fault> {
        lock(&self.0).fault
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut slot = lock(&self.0);
        let Some(body) = &mut slot.body else { return Poll::Ready(Some(Err(Fault::TakenBack))) };
        let Some(frame) = ready!(Pin::new(body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        slot.touched = true;
        slot.moved = Instant::now();
        let frame = frame.map_err(|_| Fault::BrokenOff).and_then(|frame| {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            slot.left = slot.left.checked_sub(length).ok_or(Fault::TooLarge)?;
            Ok(frame)
        });
        if let Err(fault) = frame {
            slot.fault = Some(fault);
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of an answer on its way back. It ends with an error when nothing came for `silence`;
/// a stream that has no end by itself (server-sent events, NDJSON) also at `stop`. What it `holds`
/// (a place among the running calls) is let go with its last byte.
pub(crate) fn download(
    headers: &HeaderMap,
    body: Incoming,
    silence: Duration,
    stop: &CancellationToken,
    holds: impl Send + Unpin + 'static,
) -> Body {
    let stop = is_endless(headers).then(|| Box::pin(stop.clone().cancelled_owned()));
    Body::new(Download { body, silence, clock: None, stop, _holds: holds })
}

struct Download<H> {
    body: Incoming,
    silence: Duration,
    /// Runs while nothing comes; made at the first wait, so that a short answer needs none.
    clock: Option<Pin<Box<Sleep>>>,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _holds: H,
}

impl<H: Unpin> HttpBody for Download<H> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.clock = None;
            return Poll::Ready(frame.map(|it| it.map_err(io::Error::other)));
        }
        let ended = self.stop.as_mut().is_some_and(|it| it.as_mut().poll(context).is_ready());
        if ended {
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the gateway stops");
            return Poll::Ready(Some(Err(error)));
        }
        let silence = self.silence;
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(silence)));
        ready!(clock.as_mut().poll(context));
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer fell silent"))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn is_endless(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes().split(|&it| it == b';').next().unwrap_or_default();
        matches!(kind.trim_ascii(), b"text/event-stream" | b"application/x-ndjson")
    })
}
