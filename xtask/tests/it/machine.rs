//! A machine for one test: started with `dev --detach --json`, stopped with `stop`.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use api::build::BuildEvent;
use api::function::{Function, State};
use api::machine::Machine as Addresses;
use api::revision::Revision;
use base64::Engine as _;
use serde_json::{Value, json};

/// Longest time that anything a test waits for may take; a hang fails, slowness does not.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Machine {
    pub(crate) addresses: Addresses,
    agent: ureq::Agent,
    scratch: Option<tempfile::TempDir>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) headers: ureq::http::HeaderMap,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Code and message of an error answer.
    #[track_caller]
    pub(crate) fn error(&self) -> (String, String) {
        let error = &self.json()["error"];
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        (text("code"), text("message"))
    }
}

/// Runs `cargo xtask ...`.
pub(crate) fn xtask(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).output().unwrap()
}

impl Machine {
    pub(crate) fn start() -> Self {
        let scratch = tempfile::Builder::new().prefix("inplace-story-").tempdir().unwrap();
        let mut machine = Self::start_on(scratch.path());
        machine.scratch = Some(scratch);
        machine
    }

    /// Starts on a state folder that outlives the machine.
    pub(crate) fn start_on(state: &Path) -> Self {
        let (port, console) = (free_port(), free_port());
        // Machines of several tests run at once: bridge and subnet follow from the port, which is
        // one machine's own.
        let [high, low] = port.to_be_bytes();
        let output = xtask(&[
            "dev",
            "--detach",
            "--json",
            "--yes",
            "--state",
            state.to_str().unwrap(),
            "--port",
            &port.to_string(),
            "--console-port",
            &console.to_string(),
            "--bridge",
            &format!("inplt{port}"),
            "--subnet",
            &format!("10.{high}.{low}.0/24"),
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let addresses = serde_json::from_slice(&output.stdout).unwrap();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .build()
            .into();
        Self { addresses, agent, scratch: None }
    }

    pub(crate) fn stop(&self) -> Output {
        xtask(&["stop", "--state", &self.addresses.state])
    }

    pub(crate) fn state(&self) -> &Path {
        Path::new(&self.addresses.state)
    }

    /// A file in a function's folder.
    pub(crate) fn file(&self, function: &str, path: &str) -> PathBuf {
        self.state().join("functions").join(function).join(path)
    }

    /// A call of a function.
    #[track_caller]
    pub(crate) fn call(&self, path: &str) -> Answer {
        read(self.agent.get(format!("{}/function/{path}", self.addresses.url)).call())
    }

    /// A call of a function, with a body that is streamed.
    #[track_caller]
    pub(crate) fn send(&self, path: &str, body: impl Read + 'static) -> Answer {
        let request = self.agent.post(format!("{}/function/{path}", self.addresses.url));
        read(request.send(ureq::SendBody::from_owned_reader(body)))
    }

    /// A request to the console origin, logged in.
    #[track_caller]
    pub(crate) fn api(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.addresses.console))
            .header("authorization", self.authorization());
        match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                read(self.agent.run(request.body(body.to_string()).unwrap()))
            }
            None => read(self.agent.run(request.body(()).unwrap())),
        }
    }

    /// A request with a body that is no JSON.
    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &[u8]) -> Answer {
        let request = self.agent.put(format!("{}{path}", self.addresses.console));
        read(request.header("authorization", &self.authorization()).send(body))
    }

    /// The same, streamed.
    #[track_caller]
    pub(crate) fn upload(&self, path: &str, body: impl Read + 'static) -> Answer {
        let request = self.agent.put(format!("{}{path}", self.addresses.console));
        let request = request.header("authorization", &self.authorization());
        read(request.send(ureq::SendBody::from_owned_reader(body)))
    }

    pub(crate) fn authorization(&self) -> String {
        let login = format!("{}:{}", self.addresses.user, self.addresses.password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
    }

    /// A new function from the Python template, answering.
    #[track_caller]
    pub(crate) fn create(&self, name: &str) {
        let answer = self.api(
            "POST",
            "/v1/functions",
            Some(json!({"name": name, "template": "python3-http"})),
        );
        assert!(matches!(answer.status, 200..=202), "{} {}", answer.status, answer.body);
        assert_eq!(self.call(name).status, 200, "a function that was created answers at once");
    }

    /// Saves a handler that answers this text, and waits until it does.
    #[track_caller]
    pub(crate) fn save(&self, function: &str, text: &str) {
        fs_err::write(self.file(function, "handler.py"), handler(text)).unwrap();
        self.wait(&format!("`{text}` is live"), || self.call(function).body == text);
    }

    #[track_caller]
    pub(crate) fn function(&self, name: &str) -> Function {
        let answer = self.api("GET", &format!("/v1/functions/{name}"), None);
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn wait_for_state(&self, name: &str, state: State) -> Function {
        self.wait(&format!("{name} is {state:?}"), || self.function(name).state == state);
        self.function(name)
    }

    /// Commits and waits for the end: the revision, or the last line of the stream.
    #[track_caller]
    pub(crate) fn commit(&self, name: &str, message: &str) -> Revision {
        let answer = self.try_commit(name, message);
        let last = answer.body.lines().last().unwrap_or_default();
        match serde_json::from_str(last) {
            Ok(BuildEvent::Done(revision)) => revision,
            other => panic!("{} {other:?}: {}", answer.status, answer.body),
        }
    }

    #[track_caller]
    pub(crate) fn try_commit(&self, name: &str, message: &str) -> Answer {
        self.api(
            "POST",
            &format!("/v1/functions/{name}/commit?wait=true"),
            Some(json!({"message": message})),
        )
    }

    #[track_caller]
    pub(crate) fn roll_back(&self, name: &str, revision: u64) -> Answer {
        self.api(
            "POST",
            &format!("/v1/functions/{name}/rollback"),
            Some(json!({"revision": revision})),
        )
    }

    #[track_caller]
    pub(crate) fn revisions(&self, name: &str) -> Vec<Revision> {
        let answer = self.api("GET", &format!("/v1/functions/{name}/revisions"), None);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Waits until something is so.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, mut so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !so() {
            if start.elapsed() > LIMIT {
                panic!("{what}: not within {LIMIT:?}; logs:\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Process ids of one of the machine's programs.
    pub(crate) fn pids(&self, program: &str) -> Vec<i32> {
        let state = self.addresses.state.as_bytes();
        let mut pids = Vec::new();
        for entry in fs_err::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Ok(line) = fs_err::read(entry.path().join("cmdline")) else { continue };
            let name = line.split(|byte| *byte == 0).next().unwrap_or_default();
            let ends = name.ends_with(format!("/{program}").as_bytes());
            if ends && line.windows(state.len()).any(|part| part == state) {
                pids.push(pid);
            }
        }
        pids
    }

    /// kill -9 of one of the machine's programs, and wait until another process has its place.
    #[track_caller]
    pub(crate) fn kill(&self, program: &str) {
        let old = self.pids(program);
        assert!(!old.is_empty(), "{program} does not run");
        for pid in &old {
            let pid = nix::unistd::Pid::from_raw(*pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        self.wait(&format!("{program} is back"), || {
            self.pids(program).iter().any(|pid| !old.contains(pid))
        });
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["provider", "gateway", "dev"] {
            let path = self.state().join(format!("log/{name}.log"));
            let log = fs_err::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(25).collect();
            text += &format!(
                "--- {name}\n{}\n",
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Code that answers a text.
pub(crate) fn handler(text: &str) -> String {
    format!(
        "def handle(event, context):\n    return {{\"statusCode\": 200, \"body\": \"{text}\"}}\n"
    )
}

#[track_caller]
fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = match response {
        Ok(response) => response,
        Err(error) => {
            return Answer { status: 0, body: error.to_string(), headers: Default::default() };
        }
    };
    let body = response
        .body_mut()
        .with_config()
        .limit(64 << 20)
        .read_to_string()
        .unwrap_or_else(|error| error.to_string());
    Answer { status: response.status().as_u16(), body, headers: response.headers().clone() }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
