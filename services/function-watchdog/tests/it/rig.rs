//! Starts the watchdog, and talks to it from outside.

use fs_err as fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use api::switch::{Reply, Request};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// Limit of everything that a test waits for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The template's server.
pub(crate) const INDEX: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../images/templates/python3/index.py");
/// An HTTP server that does what real ones seldom do.
pub(crate) const UPSTREAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/upstream.py");

/// The lines that the watchdog has printed so far, and news of more.
#[derive(Default)]
struct Printed {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

/// A running watchdog; ended with all its processes when it is dropped.
pub(crate) struct Watchdog {
    child: Child,
    address: SocketAddr,
    printed: Arc<Printed>,
    dir: TempDir,
}

impl Watchdog {
    /// Starts it with these variables, on a free port, and waits until it listens.
    pub(crate) fn start(vars: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[], vars)
    }

    /// The same in a folder of the test's, started by a wrapper.
    pub(crate) fn start_in(dir: TempDir, wrapper: &[&str], vars: &[(&str, &str)]) -> Self {
        let mut child = command(dir.path(), wrapper, vars).spawn().expect("the watchdog starts");
        let printed = Arc::new(Printed::default());
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let printed = Arc::clone(&printed);
            std::thread::spawn(move || {
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    printed.lines.lock().unwrap().push(line);
                    printed.more.notify_all();
                }
            });
        }
        let mut this = Self { child, address: ([127, 0, 0, 1], 0).into(), printed, dir };
        let line = this.wait_log("Listening on port: ");
        let port = line.rsplit(' ').next().unwrap().parse().unwrap();
        this.address.set_port(port);
        this.wait_log("lock");
        this
    }

    /// Where it keeps its files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.dir().join(".lock")
    }

    /// The first line printed so far, or within the limit, that holds the text.
    pub(crate) fn wait_log(&self, text: &str) -> String {
        let found = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        let lines = self.printed.lines.lock().unwrap();
        let missing = |lines: &mut Vec<String>| found(lines).is_none();
        let (lines, _) = self.printed.more.wait_timeout_while(lines, LIMIT, missing).unwrap();
        found(&lines).unwrap_or_else(|| panic!("no line with {text:?} in {lines:#?}"))
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.printed.lines.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(since.elapsed() < LIMIT, "the watchdog did not end: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(reqwest::get(self.url(path)).await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(reqwest::Client::new().post(self.url(path)).body(body)).await
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        answer(request.timeout(LIMIT).send().await.unwrap()).await
    }

    /// A connection for requests that no HTTP client would send.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes, reads all that comes back until the other side closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Highest resident memory of the watchdog so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
            let since = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < LIMIT {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            println!("the watchdog printed: {:#?}", self.log());
        }
    }
}

/// What the watchdog prints when it does not even start, and how it ends.
pub(crate) fn fails(vars: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), &[], vars).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn command(dir: &Path, wrapper: &[&str], vars: &[(&str, &str)]) -> Command {
    let mut words = wrapper.to_vec();
    words.push(env!("CARGO_BIN_EXE_function-watchdog"));
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(dir).env_clear();
    command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("TMPDIR", dir);
    command.env("INPLACE_RUN_DIR", dir.join("run")).env("healthcheck_interval", "0");
    command.env("INPLACE_VERSIONS_DIR", dir.join("versions")).env("port", "0");
    command.envs(vars.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// An answer that was read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status and text.
    #[track_caller]
    pub(crate) fn assert(&self, status: u16, text: &str) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!((self.status, body.as_ref()), (status, text), "{:?}", self.headers);
    }
}

async fn answer(response: reqwest::Response) -> Answer {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: within(response.bytes()).await.unwrap().to_vec() }
}

/// Whether a path is there.
pub(crate) fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}

/// Waits within the limit.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("within the limit")
}

/// Waits until something outside has become true, within the limit.
pub(crate) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !is().await {
        assert!(since.elapsed() < LIMIT, "not within the limit: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A folder with a script, and the `fprocess` that runs it.
pub(crate) fn script(text: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script.sh");
    fs::write(&path, text).unwrap();
    let process = format!("sh {}", path.display());
    (dir, process)
}

/// A watchdog with the live switch and the template's server, as in a container.
pub(crate) struct Live {
    pub(crate) watchdog: Watchdog,
}

impl Live {
    pub(crate) fn start() -> Self {
        Self::start_with(&format!("/usr/bin/python3 {INDEX}"), &[])
    }

    pub(crate) fn start_with(process: &str, vars: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::create_dir(dir.path().join("versions")).unwrap();
        let mut all = vec![
            ("mode", "http"),
            ("upstream_url", "http://127.0.0.1:5000"),
            ("fprocess", process),
        ];
        all.extend_from_slice(vars);
        Self { watchdog: Watchdog::start_in(dir, &[], &all) }
    }

    pub(crate) fn link(&self) -> PathBuf {
        self.watchdog.dir().join("run/source")
    }

    pub(crate) fn folder(&self, version: u64) -> PathBuf {
        self.watchdog.dir().join(format!("versions/{version}"))
    }

    /// Writes a version whose handler returns this Python expression.
    pub(crate) fn save(&self, version: u64, returns: &str) {
        let handler = format!("def handle(event, context):\n    return {returns}\n");
        self.save_files(version, &[("handler.py", &handler)]);
    }

    pub(crate) fn save_files(&self, version: u64, files: &[(&str, &str)]) {
        fs::create_dir(self.folder(version)).unwrap();
        for (name, text) in files {
            fs::write(self.folder(version).join(name), text).unwrap();
        }
    }

    pub(crate) async fn control(&self) -> Control {
        let socket = self.watchdog.dir().join("run/control.sock");
        Control(tokio::io::BufReader::new(UnixStream::connect(socket).await.unwrap()))
    }

    pub(crate) async fn ask(&self, request: &Request) -> Reply {
        let mut control = self.control().await;
        control.send(request).await;
        control.reply().await
    }

    /// Switches, keeping a spare for a minute or none.
    pub(crate) async fn switch(&self, version: u64, spare: bool) -> Reply {
        self.ask(&switch(version, spare)).await
    }

    pub(crate) async fn switched(&self, version: u64, spare: bool) {
        let reply = self.switch(version, spare).await;
        assert!(matches!(reply, Reply::Switched { version: v, .. } if v == version), "{reply:?}");
    }

    pub(crate) async fn wait_spare(&self) {
        until("a spare waits", async || {
            matches!(self.ask(&Request::Status).await, Reply::Status { spare: true, .. })
        })
        .await;
    }
}

/// A `Switch` with a generous limit.
pub(crate) fn switch(version: u64, spare: bool) -> Request {
    Request::Switch { version, ready_ms: 20_000, spare_ms: if spare { 60_000 } else { 0 } }
}

/// A connection to the control socket.
pub(crate) struct Control(tokio::io::BufReader<UnixStream>);

impl Control {
    pub(crate) async fn send(&mut self, request: &Request) {
        self.send_raw(format!("{}\n", serde_json::to_string(request).unwrap()).as_bytes()).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        self.try_reply().await.expect("a reply")
    }

    /// None when the connection was closed.
    pub(crate) async fn try_reply(&mut self) -> Option<Reply> {
        let mut line = String::new();
        let read = within(self.0.read_line(&mut line)).await.unwrap_or(0);
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }
}
