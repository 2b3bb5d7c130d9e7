//! A session: a gRPC server of ours that BuildKit calls for files and secrets during one build,
//! inside a stream that we opened to it.

mod filesync;

use std::sync::{Arc, OnceLock};

use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus,
};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{
    Secrets as SecretsService, SecretsServer,
};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use crate::build::{Build, Secrets};
use crate::client::{Control, WINDOW};
use crate::context::Tree;
use filesync::Files;

/// What BuildKit may call, as it wants to be told before.
const METHODS: [&str; 3] = [
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/grpc.health.v1.Health/Check",
];
/// Bytes between our server and the stream.
const PIPE: usize = 256 * 1024;
/// Size of one message in the stream.
const CHUNK: usize = 32 * 1024;

/// An open session. Dropping it ends it, and whatever BuildKit still reads from it.
#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    failure: Failure,
    // Held for their drop, which aborts them.
    _tasks: JoinSet<()>,
}

/// Why the session could not give what it was asked for; set once. BuildKit's own error would
/// only repeat it wrapped, or say that the stream ended.
pub(crate) type Failure = Arc<OnceLock<String>>;

impl Session {
    /// Opens a session that serves the tree and the build's secrets. `id` is random.
    pub(crate) async fn open(
        mut control: Control,
        id: String,
        build: &Build,
        tree: Arc<Tree>,
    ) -> Result<Self, Status> {
        let failure = Failure::default();
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let (reader, writer) = tokio::io::split(theirs);
        let (outgoing, messages) = mpsc::channel(32);
        let mut request = Request::new(ReceiverStream::new(messages));
        let headers = request.metadata_mut();
        headers.insert("x-docker-expose-session-uuid", ascii(&id)?);
        headers.insert("x-docker-expose-session-sharedkey", ascii(&build.shared_key)?);
        for method in METHODS {
            let method = MetadataValue::from_static(method);
            headers.append("x-docker-expose-session-grpc-method", method);
        }
        let incoming = control.session(request).await?.into_inner();
        let mut tasks = JoinSet::new();
        tasks.spawn(send(reader, outgoing));
        tasks.spawn(receive(incoming, writer));
        let files = Files::new(tree, Arc::clone(&failure));
        let server = Server::builder()
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .add_service(HealthServer::new(Alive))
            .add_service(FileSyncServer::new(files))
            .add_service(SecretsServer::new(Vault(build.secrets.clone())));
        tasks.spawn(async move {
            let connection = tokio_stream::once(Ok::<_, std::io::Error>(ours));
            if let Err(error) = server.serve_with_incoming(connection).await {
                debug!(%error, "session ended");
            }
        });
        Ok(Self { id, failure, _tasks: tasks })
    }

    /// What a build names the session by.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Why the session failed, if it did.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}

fn ascii(text: &str) -> Result<MetadataValue<tonic::metadata::Ascii>, Status> {
    text.parse().map_err(|_| Status::invalid_argument(format!("{text:?} is not plain ASCII")))
}

/// Our server's bytes into the stream.
async fn send(mut from: ReadHalf<DuplexStream>, to: mpsc::Sender<BytesMessage>) {
    loop {
        let mut data = Vec::with_capacity(CHUNK);
        match from.read_buf(&mut data).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if to.send(BytesMessage { data }).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The stream's bytes to our server.
async fn receive(mut from: Streaming<BytesMessage>, mut to: WriteHalf<DuplexStream>) {
    while let Ok(Some(message)) = from.message().await {
        if to.write_all(&message.data).await.is_err() {
            return;
        }
    }
    // An error here means that the server has ended before the stream did.
    let _ = to.shutdown().await;
}

/// BuildKit ends a session that does not answer this.
struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("only Check is served"))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only Check is served"))
    }
}

struct Vault(Secrets);

#[tonic::async_trait]
impl SecretsService for Vault {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        match self.0.0.get(&id) {
            Some(data) => Ok(Response::new(GetSecretResponse { data: data.clone() })),
            None => Err(Status::not_found(format!("no secret is named {id}"))),
        }
    }
}
