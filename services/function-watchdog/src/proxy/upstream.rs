//! The function's server: its connections, its running calls, and which one gets the next call.
//!
//! Connections are kept in a small stack of our own rather than in a general pool, because a
//! switch needs to know one process's calls exactly: a call is counted under the same lock by
//! which the switch changes the process, so that none can slip between the two.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderValue;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::RequestBody;

/// Idle connections kept to one process.
const IDLE: usize = 64;
/// How long an idle connection is used again. Servers close theirs after 2 s or more, and a
/// request that crosses such a close would be lost.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// Which server gets the calls.
#[derive(Debug, Default)]
pub(crate) struct Router {
    current: RwLock<Option<Arc<Upstream>>>,
    /// Whether there ever was one: then a missing one has died, and the next is under way.
    served: AtomicBool,
    changed: Notify,
}

impl Router {
    /// Lets this server get all calls from now on.
    pub(crate) fn set(&self, upstream: Option<Arc<Upstream>>) {
        self.served.fetch_or(upstream.is_some(), SeqCst);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = upstream;
        self.changed.notify_waiters();
    }

    /// Whether there is one.
    pub(crate) fn is_set(&self) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Takes the current server for one call, which it counts from here on.
    pub(crate) fn pick(&self) -> Option<Call> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let upstream = Arc::clone(current.as_ref()?);
        upstream.calls.fetch_add(1, SeqCst);
        Some(Call { upstream })
    }

    /// As [`Router::pick`]; if the server has died, waits for its successor, not beyond `until`.
    pub(crate) async fn pick_until(&self, until: Instant) -> Option<Call> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(call) = self.pick() {
                return Some(call);
            }
            if !self.served.load(SeqCst) {
                return None;
            }
            tokio::time::timeout_at(until, changed).await.ok()?;
        }
    }
}

/// One server.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    authority: HeaderValue,
    prefix: String,
    idle: Mutex<Vec<Idle>>,
    calls: AtomicUsize,
    retired: AtomicBool,
    drained: Notify,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

impl Upstream {
    /// `prefix` is put before each path.
    pub(crate) fn new(address: SocketAddr, prefix: &str) -> Arc<Self> {
        let authority = HeaderValue::try_from(address.to_string());
        Arc::new(Self {
            address,
            authority: authority.expect("an address is printable"),
            prefix: prefix.to_owned(),
            idle: Mutex::default(),
            calls: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            drained: Notify::new(),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a `Host` header.
    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Path and query as this server is asked for them.
    pub(crate) fn target(&self, uri: &Uri) -> Result<Uri, hyper::http::uri::InvalidUri> {
        let own = uri.path_and_query();
        if self.prefix.is_empty() && uri.scheme().is_none() && own.is_some() {
            return Ok(uri.clone());
        }
        format!("{}{}", self.prefix, own.map_or("/", |target| target.as_str())).parse()
    }

    /// Waits until no call is left. To be called once, after the router names another server.
    pub(crate) async fn drained(&self) {
        self.retired.store(true, SeqCst);
        if self.calls.load(SeqCst) > 0 {
            self.drained.notified().await;
        }
    }

    /// An idle connection that can take a request now. One whose last exchange is not quite over
    /// stays for later; closed and old ones go.
    fn take_idle(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        idle.retain(|one| !one.sender.is_closed() && now - one.since < IDLE_TIME);
        let at = idle.iter().rposition(|one| one.sender.is_ready())?;
        Some(idle.remove(at).sender)
    }

    fn put_idle(&self, sender: SendRequest<RequestBody>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE && !sender.is_closed() {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<RequestBody>> {
        let stream = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("connecting to {}", self.address))?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender; what goes wrong on it, the call on it is told.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }
}

/// A call that a server has: counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    upstream: Arc<Upstream>,
}

impl Call {
    /// The server.
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Sends the request. One that an idle connection gave back unsent goes out on a new one.
    pub(crate) async fn send(
        self,
        mut request: Request<RequestBody>,
    ) -> anyhow::Result<(Response<Incoming>, Lease)> {
        if let Some(mut sender) = self.upstream.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Lease::new(self, sender))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error()).context("waiting for the answer"),
                },
            }
        }
        let mut sender = self.upstream.connect().await?;
        let response = sender.send_request(request).await.context("waiting for the answer")?;
        Ok((response, Lease::new(self, sender)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let left = self.upstream.calls.fetch_sub(1, SeqCst) - 1;
        if left == 0 && self.upstream.retired.load(SeqCst) {
            self.upstream.drained.notify_one();
        }
    }
}

/// A connection whose answer is being read. Dropped before the answer's end, it closes.
#[derive(Debug)]
pub(crate) struct Lease {
    call: Call,
    sender: Option<SendRequest<RequestBody>>,
}

impl Lease {
    fn new(call: Call, sender: SendRequest<RequestBody>) -> Self {
        Self { call, sender: Some(sender) }
    }

    /// Keeps the connection for the next call: the answer was read to its end.
    pub(crate) fn give_back(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.call.upstream.put_idle(sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(port: u16) -> Arc<Upstream> {
        Upstream::new(([127, 0, 0, 1], port).into(), "")
    }

    #[tokio::test]
    async fn a_call_waits_for_the_successor_of_a_server_but_not_for_a_first_one() {
        let router = Router::default();
        let far = Instant::now() + Duration::from_secs(3600);
        assert!(router.pick_until(far).await.is_none());
        router.set(Some(upstream(1)));
        router.set(None);
        assert!(router.pick_until(Instant::now()).await.is_none());
        let come = async {
            tokio::task::yield_now().await;
            router.set(Some(upstream(2)));
        };
        let (call, ()) = tokio::join!(router.pick_until(far), come);
        assert_eq!(call.map(|call| call.upstream().address().port()), Some(2));
    }
}
