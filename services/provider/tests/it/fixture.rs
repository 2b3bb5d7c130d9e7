//! A provider in a cell of its own, and what a user does with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::build::BuildEvent;
use api::error::ErrorBody;
use api::event::Event;
use api::function::{Function, State};
use api::route::Update;
use axum::body::Body;
use daemon::UnixClient;
use daemon::client::ClientError;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde_json::Value;
use testkit::{Daemon, Host};

/// How long anything may take before a test gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// containerd, buildkitd and the provider.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) api: UnixClient,
    provider: Option<Child>,
}

impl World {
    pub(crate) async fn start() -> Self {
        let host = Host::start(&[Daemon::Containerd, Daemon::Buildkitd]).unwrap();
        let api = UnixClient::new(host.dir().join("run/provider/api.sock"));
        let mut world = Self { host, api, provider: None };
        // Links, so that a test can take a base away.
        fs_err::create_dir(world.bases()).unwrap();
        for entry in fs_err::read_dir(&world.host.tools().bases).unwrap() {
            let path = entry.unwrap().path();
            let link = world.bases().join(path.file_name().unwrap());
            std::os::unix::fs::symlink(path, link).unwrap();
        }
        world.start_provider(&[]).await;
        world
    }

    /// Starts the provider and waits until it answers.
    pub(crate) async fn start_provider(&mut self, more: &[&str]) {
        let (host, tools) = (&self.host, self.host.tools());
        let mut command = host.cell().command(env!("CARGO_BIN_EXE_provider"));
        command.arg("--state").arg(host.dir().join("state"));
        command.arg("--run").arg(host.dir().join("run/provider"));
        command.arg("--bases").arg(self.bases());
        command.arg("--containerd").arg(host.socket(Daemon::Containerd));
        command.arg("--buildkit").arg(host.socket(Daemon::Buildkitd));
        command.arg("--crun").arg(tools.tool("crun"));
        command
            .args(["--ready-seconds", "10"])
            .args(more)
            .env("INPLACE_LOG", "info,provider=debug")
            .env("INPLACE_LOG_FORMAT", "text");
        host.log_to(&mut command, "provider").unwrap();
        self.provider = Some(command.spawn().unwrap());
        let begin = Instant::now();
        while self.get::<Value>("/system/info").await.is_err() {
            if begin.elapsed() > LIMIT || self.provider_ended() {
                panic!("the provider does not answer:\n{}", self.log());
            }
            // Another process's readiness is no event that could be waited for here.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the provider by a signal and waits for it.
    pub(crate) fn stop_provider(&mut self, signal: Signal) {
        let mut child = self.provider.take().expect("the provider runs");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.host.dir().join("state")
    }

    pub(crate) fn bases(&self) -> PathBuf {
        self.host.dir().join("bases")
    }

    /// Sockets in the cell's network that take connections; what has no such address gets it.
    pub(crate) fn listen(&self, addresses: &[&str]) -> Vec<TcpListener> {
        let open = |address: &SocketAddr| {
            let ip = format!("{}/32", address.ip());
            // It may have the address already.
            let _ = self.host.cell().command("ip").args(["addr", "add", &ip, "dev", "lo"]).output();
            let (pid, address) = (self.host.cell().pid(), *address);
            let bind = move || {
                setns(
                    fs_err::File::open(format!("/proc/{pid}/ns/net"))?,
                    CloneFlags::CLONE_NEWNET,
                )?;
                anyhow::Ok(TcpListener::bind(address)?)
            };
            std::thread::spawn(bind).join().unwrap().unwrap()
        };
        addresses.iter().map(|it| open(&it.parse().unwrap())).collect()
    }

    pub(crate) fn folder(&self, function: &str) -> PathBuf {
        self.state().join("functions").join(function)
    }

    /// Saves a file as an editor does.
    pub(crate) fn save(&self, function: &str, file: &str, text: &str) {
        let path = self.folder(function).join(file);
        fs_err::write(&path, text).unwrap();
        std::os::unix::fs::chown(&path, Some(1000), Some(1000)).unwrap();
    }

    /// Saves a file and waits until it is live.
    pub(crate) async fn save_live(&self, function: &str, file: &str, text: &str) {
        let mut events = self.events().await;
        self.save(function, file, text);
        let live = events.until(
            |event| matches!(event, Event::Live { name, .. } if name.to_string() == function),
        );
        assert!(live.await.is_some(), "the save was not live:\n{}", self.log());
    }

    /// Writes a file over the API; its tag.
    pub(crate) async fn put(&self, path: &str, text: &str) -> Result<String, ErrorBody> {
        let request = Request::put(path).body(Body::from(text.to_owned())).unwrap();
        let (status, headers, said) = self.raw(request).await;
        if status.is_success() {
            Ok(headers[http::header::ETAG].to_str().unwrap().to_owned())
        } else {
            Err(serde_json::from_str(&said).unwrap())
        }
    }

    /// All that a build told, when it has ended.
    pub(crate) async fn build(&self, id: &str) -> Vec<BuildEvent> {
        let request = Request::get(format!("/v1/builds/{id}")).body(Body::empty()).unwrap();
        let (status, _, text) = self.raw(request).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Kills a function's replica from outside.
    pub(crate) async fn crash(&self, function: &str) {
        for id in self.containers() {
            let info = self.ctr(&["containers", "info", &id]);
            if info.contains(&format!("\"inplace.function\": \"{function}\"")) {
                self.ctr(&["tasks", "kill", "--signal", "SIGKILL", &id]);
            }
        }
    }

    /// Ids of all containers of functions.
    pub(crate) fn containers(&self) -> Vec<String> {
        self.ctr(&["containers", "ls", "-q"]).lines().map(str::to_owned).collect()
    }

    /// Runs containerd's own tool in the functions' namespace.
    pub(crate) fn ctr(&self, args: &[&str]) -> String {
        let mut command = self.host.cell().command(self.host.tools().tool("ctr"));
        command.arg("--address").arg(self.host.socket(Daemon::Containerd));
        let output = command.args(["--namespace", "functions"]).args(args).output().unwrap();
        assert!(output.status.success(), "ctr {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ErrorBody> {
        self.api(Method::GET, path, None).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Value,
    ) -> Result<T, ErrorBody> {
        self.api(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), ErrorBody> {
        self.api(Method::DELETE, path, None).await
    }

    async fn api<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, ErrorBody> {
        let call = self.api.call(method, path, body.as_ref());
        match tokio::time::timeout(LIMIT, call).await.expect("an answer in time") {
            Ok(answer) => Ok(answer),
            Err(ClientError::Status { said, .. }) => Err(serde_json::from_str(&said).unwrap()),
            Err(error) => {
                Err(api::Error::new(api::ErrorCode::Unavailable, error.to_string()).body())
            }
        }
    }

    /// Sends any request and reads the whole answer.
    pub(crate) async fn raw(
        &self,
        request: Request<Body>,
    ) -> (StatusCode, http::HeaderMap, String) {
        let response = self.api.send(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8_lossy(&body).into_owned())
    }

    /// Makes a function from the Python template.
    pub(crate) async fn create(&self, name: &str) -> Function {
        let body = serde_json::json!({"name": name, "template": "python3-http"});
        self.post("/v1/functions", body).await.unwrap_or_else(|error| {
            panic!("{name} was not created: {error:?}\n{}", self.log());
        })
    }

    pub(crate) async fn function(&self, name: &str) -> Function {
        self.get(&format!("/v1/functions/{name}")).await.unwrap()
    }

    /// Commits and waits for the end; all events.
    pub(crate) async fn commit(&self, name: &str, message: &str) -> Vec<BuildEvent> {
        let body = serde_json::json!({ "message": message });
        let request = Request::post(format!("/v1/functions/{name}/commit?wait=true"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let (status, _, text) = self.raw(request).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Commits and gives the revision.
    pub(crate) async fn committed(&self, name: &str, message: &str) -> api::revision::Revision {
        match self.commit(name, message).await.pop() {
            Some(BuildEvent::Done(revision)) => revision,
            other => panic!("not committed: {other:?}\n{}", self.log()),
        }
    }

    /// Listens to events; to be called before what is to be heard.
    pub(crate) async fn events(&self) -> Events {
        let request = Request::get("/v1/events").body(Body::empty()).unwrap();
        let body = self.api.send(request).await.unwrap().into_body();
        Events { body, text: String::new() }
    }

    /// Waits until a function is in a state.
    pub(crate) async fn until(&self, name: &str, what: impl Fn(&Function) -> bool) -> Function {
        let mut events = self.events().await;
        let now = self.function(name).await;
        if what(&now) {
            return now;
        }
        let wanted = |event: &Event| match event {
            Event::Function(function) => function.name.to_string() == name && what(function),
            _ => false,
        };
        match events.until(wanted).await {
            Some(Event::Function(function)) => *function,
            _ => panic!("{name} stays {:?}\n{}", self.function(name).await, self.log()),
        }
    }

    pub(crate) async fn until_state(&self, name: &str, state: State) -> Function {
        self.until(name, |function| function.state == state).await
    }

    /// Address of the replica that takes a function's calls.
    pub(crate) async fn address(&self, name: &str) -> Option<SocketAddr> {
        let request = Request::get("/routes").body(Body::empty()).unwrap();
        let mut body = self.api.send(request).await.unwrap().into_body();
        let mut line = Vec::new();
        while !line.contains(&b'\n') {
            let frame = tokio::time::timeout(LIMIT, body.frame()).await.unwrap();
            line.extend_from_slice(frame.unwrap().unwrap().data_ref().unwrap());
        }
        let Update::Snapshot { routes, .. } = serde_json::from_slice(&line).unwrap() else {
            panic!("the first line is no snapshot");
        };
        let route = routes.get(&name.parse().unwrap())?;
        route.replicas.first().map(|replica| replica.address.parse().unwrap())
    }

    /// Calls a function at its replica.
    pub(crate) async fn call(&self, name: &str) -> String {
        let address = self.address(name).await.unwrap_or_else(|| panic!("{name} has no route"));
        self.call_at(address, "/").await.unwrap()
    }

    pub(crate) async fn call_at(&self, address: SocketAddr, path: &str) -> Result<String> {
        let (pid, path) = (self.host.cell().pid(), path.to_owned());
        tokio::task::spawn_blocking(move || request(pid, address, &path)).await?
    }

    /// The end of the provider's log.
    pub(crate) fn log(&self) -> String {
        let text = fs_err::read_to_string(self.host.log("provider")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn provider_ended(&mut self) -> bool {
        self.provider.as_mut().is_none_or(|it| it.try_wait().unwrap().is_some())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut provider) = self.provider.take() {
            let _ = provider.kill();
            let _ = provider.wait();
        }
    }
}

/// A function that answers with a text.
pub(crate) fn handler(text: &str) -> String {
    format!(
        "def handle(event, context):\n    return {{\"statusCode\": 200, \"body\": \"{text}\"}}\n"
    )
}

/// A stream of server-sent events.
pub(crate) struct Events {
    body: hyper::body::Incoming,
    text: String,
}

impl Events {
    /// The next event that is wanted; none when it does not come in time.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        let all = async {
            loop {
                while let Some((block, rest)) = self.text.split_once("\n\n") {
                    let event = event(block);
                    self.text = rest.to_owned();
                    if let Some(event) = event.filter(&wanted) {
                        return Some(event);
                    }
                }
                let data = self.body.frame().await?.ok()?.into_data().ok()?;
                self.text.push_str(std::str::from_utf8(&data).unwrap());
            }
        };
        tokio::time::timeout(LIMIT, all).await.unwrap_or(None)
    }
}

fn event(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    let mut value: Value = serde_json::from_str(field("data: ")?).unwrap();
    value["type"] = field("event: ")?.into();
    Some(serde_json::from_value(value).unwrap())
}

/// A `GET` from within the cell's network.
fn request(pid: u32, address: SocketAddr, path: &str) -> Result<String> {
    let work = move |path: String| -> Result<String> {
        setns(fs_err::File::open(format!("/proc/{pid}/ns/net"))?, CloneFlags::CLONE_NEWNET)?;
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{head}\n{body}");
        }
        Ok(body.to_owned())
    };
    let path = path.to_owned();
    // A thread that changed its namespace is not given back to the pool.
    std::thread::spawn(move || work(path)).join().expect("the thread does not panic")
}
