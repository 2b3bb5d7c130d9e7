//! The connection to buildkitd, and the one call that is made on it: a build.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{
    ListWorkersRequest, SolveRequest, SolveResponse, StatusRequest, StatusResponse,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, info};

use crate::build::{Build, Dockerfile, Image, Network, Recipe};
use crate::context::Tree;
use crate::error::{Error, exit_code, is_transport, missing_base};
use crate::events::Events;
use crate::session::Session;
use crate::status::Steps;
use crate::{exporter, llb};

/// Bytes that the other side may send before it must wait, for connections and streams.
pub(crate) const WINDOW: u32 = 16 << 20;
/// Largest message that BuildKit may send, in bytes.
const MAX_MESSAGE: usize = 16 << 20;
/// How long the rest of the status stream may take once the build has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The same for a build that was refused before its first step: the stream never ends then.
const NO_WORDS: Duration = Duration::from_millis(100);

pub(crate) type Control = ControlClient<Channel>;

/// A client of one buildkitd; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    socket: Arc<PathBuf>,
    channel: Channel,
}

impl Client {
    /// A client of the daemon behind this Unix socket. It connects when it is used, and again
    /// after the daemon was gone. Must be called within a tokio runtime.
    #[must_use]
    pub fn connect(socket: impl Into<PathBuf>) -> Self {
        let socket = Arc::new(socket.into());
        let path = Arc::clone(&socket);
        let connector = tower::service_fn(move |_| {
            let path = Arc::clone(&path);
            async move { UnixStream::connect(path.as_path()).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://buildkitd")
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .connect_with_connector_lazy(connector);
        Self { socket, channel }
    }

    /// Waits until the daemon answers and has a worker.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not within `limit`.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), Error> {
        let end = Instant::now() + limit;
        let mut pause = Duration::from_millis(5);
        loop {
            let last =
                match timeout_at(end, self.control().list_workers(ListWorkersRequest::default()))
                    .await
                {
                    Ok(Ok(answer)) if !answer.get_ref().record.is_empty() => return Ok(()),
                    Ok(Ok(_)) => Status::unavailable("it has no worker"),
                    Ok(Err(status)) => status,
                    Err(_) => return Err(self.unavailable(Status::deadline_exceeded("no answer"))),
                };
            if Instant::now() + pause >= end {
                return Err(self.unavailable(last));
            }
            // Another process's readiness is no event that can be waited for: asked again, rarer.
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Builds, tells `events` how it goes, and gives the image once it is in the store and
    /// unpacked. Dropping the future stops the build, and with it a step that runs.
    ///
    /// # Errors
    /// See [`Error`]; only after [`Error::Unavailable`] is the same build worth trying again.
    pub async fn solve(&self, build: Build, events: Events) -> Result<Image, Error> {
        build.check()?;
        let limit = build.limit;
        let mut steps = Steps::default();
        match timeout(limit, self.run(&build, &events, &mut steps)).await {
            Ok(result) => result,
            Err(_) => Err(over(&build, limit, &steps)),
        }
    }

    async fn run(&self, build: &Build, events: &Events, steps: &mut Steps) -> Result<Image, Error> {
        let source = build.source.clone();
        let tree = tokio::task::spawn_blocking(move || Tree::open(&source)).await;
        let tree = Arc::new(tree.map_err(|it| Error::refused(format!("reading git: {it}")))??);
        let (id, reference) = (random_id()?, random_id()?);
        let mut request = request(build, &tree, &id)?;
        let session = Session::open(self.control(), id, build, tree).await;
        let session = session.map_err(|status| self.failed(build, &status, steps))?;
        request.r#ref.clone_from(&reference);
        request.session = session.id().to_owned();
        debug!(build = %reference, images = ?build.names, "build started");

        let mut control = self.control();
        let solve = control.solve(request);
        tokio::pin!(solve);
        let (mut status, _watching) = self.watch(reference.clone());
        let result = loop {
            tokio::select! {
                biased;
                Some(message) = status.recv() => tell(steps, message, events),
                result = &mut solve => break result,
            }
        };
        let rest = if result.is_err() && !steps.any() { NO_WORDS } else { LAST_WORDS };
        let rest = Instant::now() + rest;
        while let Ok(Some(message)) = timeout_at(rest, status.recv()).await {
            tell(steps, message, events);
        }
        match result {
            Ok(answer) => {
                let image = image(&answer.into_inner())?;
                info!(build = %reference, images = ?build.names, digest = %image.digest, "image built");
                Ok(image)
            }
            Err(_) if session.failure().is_some() => {
                Err(Error::refused(session.failure().unwrap_or_default()))
            }
            Err(status) => Err(self.failed(build, &status, steps)),
        }
    }

    /// The status stream of a build. It ends with the build, or when the handle is dropped.
    fn watch(&self, reference: String) -> (mpsc::Receiver<StatusResponse>, AbortOnDropHandle<()>) {
        let (sender, receiver) = mpsc::channel(16);
        let mut control = self.control();
        let task = tokio::spawn(async move {
            let request = StatusRequest { r#ref: reference };
            let mut stream = match control.status(request).await {
                Ok(stream) => stream.into_inner(),
                Err(error) => return debug!(%error, "no status of the build"),
            };
            while let Ok(Some(message)) = stream.message().await {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        (receiver, AbortOnDropHandle::new(task))
    }

    fn control(&self) -> Control {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    fn unavailable(&self, status: Status) -> Error {
        Error::Unavailable { socket: self.socket.to_path_buf(), source: Some(Box::new(status)) }
    }

    /// What a failed call means; BuildKit's codes say little, its texts and steps more.
    fn failed(&self, build: &Build, status: &Status, steps: &Steps) -> Error {
        let failure = steps.failure();
        if failure.is_none() && is_transport(status) {
            return self.unavailable(status.clone());
        }
        if let Some(name) =
            lost_base(build, status.message(), failure.as_ref().map(|it| it.step.as_str()))
        {
            return Error::MissingBase { name };
        }
        let (step, reason, lines) = match failure {
            Some(failure) => (Some(failure.step), failure.reason, failure.lines),
            None => (None, status.message().to_owned(), Vec::new()),
        };
        Error::Failed { step, exit_code: exit_code(&reason), reason, lines }
    }
}

fn tell(steps: &mut Steps, message: StatusResponse, events: &Events) {
    for event in steps.apply(message) {
        events.push(event);
    }
}

/// The base image that could not be had, if that is why a build failed.
fn lost_base(build: &Build, text: &str, step: Option<&str>) -> Option<String> {
    match &build.recipe {
        Recipe::Commit(commit) => {
            let is_base = step == Some(llb::base_step(&commit.base).as_str());
            is_base.then(|| commit.base.clone())
        }
        Recipe::Dockerfile(_) => missing_base(text).map(str::to_owned),
    }
}

/// What a build's limit being over means: looking an image up takes milliseconds when it is in the
/// store, so one that is still looked up is asked of a registry that does not answer.
fn over(build: &Build, limit: Duration, steps: &Steps) -> Error {
    let running = steps.running();
    let looked_up = running.iter().find_map(|step| match &build.recipe {
        Recipe::Commit(commit) => {
            (*step == llb::base_step(&commit.base)).then_some(commit.base.as_str())
        }
        Recipe::Dockerfile(_) => step.strip_prefix("[internal] load metadata for "),
    });
    match looked_up {
        Some(name) => Error::MissingBase { name: name.to_owned() },
        None => Error::Deadline { limit, running },
    }
}

fn request(build: &Build, tree: &Tree, session: &str) -> Result<SolveRequest, Error> {
    let mut request = SolveRequest::default();
    let config = match &build.recipe {
        Recipe::Commit(commit) => {
            if let Some(dependencies) = &commit.dependencies
                && !tree.has_file(&dependencies.file)
            {
                let file = &dependencies.file;
                return Err(Error::refused(format!("dependency file {file} is not in the commit")));
            }
            let env = exporter::environment(&commit.config);
            request.definition = Some(llb::definition(commit, &env, session, tree.time()));
            Some(exporter::config(commit, tree.time())?)
        }
        Recipe::Dockerfile(dockerfile) => {
            if !tree.has_file(&dockerfile.file) {
                let file = &dockerfile.file;
                return Err(Error::refused(format!("Dockerfile {file} is not in the commit")));
            }
            request.frontend = "dockerfile.v0".into();
            request.frontend_attrs = frontend(dockerfile).collect();
            None
        }
    };
    request.exporters = vec![exporter::image(&build.names, config.as_ref())];
    Ok(request)
}

fn frontend(dockerfile: &Dockerfile) -> impl Iterator<Item = (String, String)> {
    let fixed = [
        ("filename", dockerfile.file.as_str()),
        // Base images come from the store, never from a registry.
        ("image-resolve-mode", "local"),
        // A `# syntax=` line would ask a registry for another frontend; this has it ignored.
        ("cmdline", "builtin"),
    ];
    let network = match dockerfile.network {
        Network::None => Some(("force-network-mode", "none")),
        Network::Daemon => None,
    };
    let target = dockerfile.target.as_deref().map(|it| ("target", it));
    let plain = fixed.into_iter().chain(network).chain(target);
    let plain = plain.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let args = dockerfile.build_args.iter();
    plain.chain(args.map(|(key, value)| (format!("build-arg:{key}"), value.clone())))
}

fn image(answer: &SolveResponse) -> Result<Image, Error> {
    let value = |key: &str| {
        answer.exporter_response.get(key).cloned().ok_or_else(|| Error::Failed {
            step: None,
            exit_code: None,
            reason: format!("buildkitd told no {key}"),
            lines: Vec::new(),
        })
    };
    Ok(Image {
        digest: value("containerimage.digest")?,
        config_digest: value("containerimage.config.digest")?,
    })
}

fn random_id() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::refused(format!("reading random bytes: {error}")))?;
    Ok(bytes.iter().map(|it| format!("{it:02x}")).collect())
}
