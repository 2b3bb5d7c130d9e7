//! The client: one connection, the headers of every request, a deadline for every call.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::version_client::VersionClient;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::error::{Error, Result};

/// How long a call may take that has no limit of its own.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection attempt may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Pause between attempts while containerd is away: from the first to the last value.
pub(crate) const RETRY: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));
/// Longest message that containerd sends (its own limit), in bytes.
const MAX_MESSAGE: usize = 16 << 20;

/// A connection to containerd within one namespace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    headers: Headers,
}

/// The headers that every request carries. This is the only place that knows them.
#[derive(Clone, Debug)]
struct Headers {
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert("containerd-lease", lease.clone());
        }
        Ok(request)
    }
}

impl Client {
    /// A client for the Unix socket at the absolute path `socket`.
    ///
    /// Nothing is sent yet: the connection is made by the first call, and made anew by the first
    /// call after it broke. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that is not absolute or UTF-8, or a namespace that cannot be
    /// sent as a header.
    pub fn connect(socket: &Path, namespace: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("socket {}", socket.display()), why);
        let path = socket.to_str().ok_or_else(|| invalid("the path is not UTF-8"))?;
        if !socket.is_absolute() {
            return Err(invalid("the path is not absolute"));
        }
        let endpoint = Endpoint::from_shared(format!("unix://{path}"))
            .map_err(|error| invalid(&error.to_string()))?;
        let channel = endpoint.connect_timeout(CONNECT_LIMIT).connect_lazy();
        Ok(Self { channel, headers: Headers { namespace: header(namespace)?, lease: None } })
    }

    /// Waits until containerd answers and returns its version; tries again and again up to
    /// `limit`, since a socket gives no sign of when it will be listened on.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the last attempt's reason when `limit` is over,
    /// [`Error::DeadlineExceeded`] when containerd is there but hangs.
    pub async fn wait_ready(&self, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        let mut pause = RETRY.0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.ask_version(left.min(CALL_LIMIT)).await {
                Err(error) if error.is_unavailable() && Instant::now() + pause < end => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
                result => return result,
            }
        }
    }

    /// containerd's version.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not answer.
    pub async fn version(&self) -> Result<String> {
        self.ask_version(CALL_LIMIT).await
    }

    async fn ask_version(&self, limit: Duration) -> Result<String> {
        let op = op("asking for the version of", "containerd").within(limit);
        Ok(op.run(self.version_rpc().version(())).await?.version)
    }

    /// The same connection, with `lease` on every request. Only [`crate::Lease`] uses it.
    pub(crate) fn with_lease(&self, lease: &str) -> Result<Self> {
        let mut client = self.clone();
        client.headers.lease = Some(header(lease)?);
        Ok(client)
    }

    /// The namespace of every request.
    pub(crate) fn namespace(&self) -> &str {
        self.headers.namespace.to_str().unwrap_or_default()
    }
}

/// Defines how each of containerd's services is reached: over the one channel, with the headers.
macro_rules! services {
    ($($name:ident: $service:ident),* $(,)?) => {
        impl Client {
            $(pub(crate) fn $name(&self) -> $service<InterceptedService<Channel, impl Interceptor + Clone + use<>>> {
                $service::with_interceptor(self.channel.clone(), self.headers.clone())
                    .max_decoding_message_size(MAX_MESSAGE)
            })*
        }
    };
}

services! {
    containers_rpc: ContainersClient,
    content_rpc: ContentClient,
    diff_rpc: DiffClient,
    events_rpc: EventsClient,
    images_rpc: ImagesClient,
    leases_rpc: LeasesClient,
    snapshots_rpc: SnapshotsClient,
    tasks_rpc: TasksClient,
    version_rpc: VersionClient,
}

/// A named call: what is done, to what, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op<'a> {
    operation: &'static str,
    operand: &'a str,
    limit: Duration,
}

/// A call with the usual limit.
pub(crate) fn op<'a>(operation: &'static str, operand: &'a str) -> Op<'a> {
    Op { operation, operand, limit: CALL_LIMIT }
}

impl Op<'_> {
    /// The same with another limit.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Waits for the answer of a call.
    pub(crate) async fn run<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        self.wait(call).await.map(Response::into_inner)
    }

    /// Waits for anything that ends in a status, for example the next message of a stream.
    pub(crate) async fn wait<T>(&self, step: impl Future<Output = Result<T, Status>>) -> Result<T> {
        match tokio::time::timeout(self.limit, step).await {
            Ok(result) => result.map_err(|status| self.error(&status)),
            Err(_) => Err(Error::DeadlineExceeded {
                operation: self.operation,
                operand: self.operand.to_owned(),
                limit: self.limit,
            }),
        }
    }

    /// The error that a status means for this call.
    pub(crate) fn error(&self, status: &Status) -> Error {
        Error::from_status(self.operation, self.operand, status)
    }

    /// Unwraps a field that containerd always sends.
    pub(crate) fn field<T>(&self, value: Option<T>, name: &str) -> Result<T> {
        value.ok_or_else(|| {
            let what = format!("{} `{}`", self.operation, self.operand);
            Error::invalid(what, format!("containerd's answer has no `{name}`"))
        })
    }
}

/// A name that no other call, of this process or another, will ever use.
pub(crate) fn unique(purpose: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{purpose}-{nanos:x}-{:x}-{count:x}", std::process::id())
}

fn header(value: &str) -> Result<MetadataValue<Ascii>> {
    if value.is_empty() {
        return Err(Error::invalid("containerd namespace", "it is empty"));
    }
    value
        .parse()
        .map_err(|_| Error::invalid(format!("header value `{value}`"), "it is not plain ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_path_or_namespace_that_cannot_work_is_refused_by_name() {
        let error = Client::connect(Path::new("run/c.sock"), "functions").unwrap_err();
        assert_eq!(error.to_string(), "socket run/c.sock: the path is not absolute");
        let error = Client::connect(Path::new("/run/c.sock"), "").unwrap_err();
        assert_eq!(error.to_string(), "containerd namespace: it is empty");
        let error = Client::connect(Path::new("/run/c.sock"), "a\nb").unwrap_err();
        assert!(error.to_string().ends_with("it is not plain ASCII"), "{error}");
    }

    #[tokio::test]
    async fn without_a_listener_every_call_says_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::connect(&folder.path().join("no.sock"), "functions").unwrap();
        assert!(client.version().await.unwrap_err().is_unavailable());
        let error = client.wait_ready(Duration::from_millis(30)).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
    }

    #[tokio::test]
    async fn a_call_that_takes_too_long_is_named() {
        let op = op("getting image", "x").within(Duration::from_millis(1));
        let error = op.run::<()>(std::future::pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "getting image `x`: not done within 1ms");
    }

    #[tokio::test]
    async fn work_can_be_given_to_another_thread() {
        fn check<T>(_: impl Future<Output = T> + Send) {}
        let client = Client::connect(Path::new("/run/c.sock"), "functions").unwrap();
        check(client.import_layout(Path::new("/"), |_| ()));
        check(client.unpack_image("x"));
        check(client.cleanup("x", Duration::ZERO));
        check(client.events(&[]).next());
        check(client.commit_snapshot(crate::commit::CommitSnapshot {
            container: "x",
            base: "x",
            name: "x",
            comment: "",
        }));
    }

    #[test]
    fn unique_names_differ() {
        assert_ne!(unique("a"), unique("a"));
    }
}
