//! A gateway process with its provider, and clients for both doors.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use fs_err as fs;
use futures::stream;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Method, RequestBuilder, redirect};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::process::{Child, Command};

use crate::provider::Provider;

pub(crate) const PASSWORD: &str = "correct horse";

/// What a test would wait for in vain; far more than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that has to happen.
#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{place}: it did not happen within {PATIENCE:?}"),
        }
    }
}

/// Waits for what announces itself to nobody.
#[track_caller]
pub(crate) fn until(mut happened: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    within(async move {
        while !happened().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

/// Asks for a change of protocol with further `headers`; gives the connection and the answer's head.
pub(crate) async fn change(door: SocketAddr, path: &str, headers: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(door).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {door}\r\nconnection: keep-alive, Upgrade\r\n\
         upgrade: twice\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(stream.read_u8()).await.unwrap());
    }
    (stream, String::from_utf8(answer).unwrap())
}

/// Checks that the other end of a changed connection says everything twice.
pub(crate) async fn twice(stream: &mut TcpStream) {
    for word in ["once", "more"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let mut back = vec![0; 2 * word.len()];
        within(stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, word.repeat(2).as_bytes());
    }
}

/// A request's body of some MiB, made as it is sent.
pub(crate) fn long_body(length: u64) -> reqwest::Body {
    let part = Bytes::from_static(&[b'x'; 64 * 1024]);
    let count = usize::try_from(length / part.len() as u64).unwrap();
    let parts = std::iter::repeat_n(Ok::<_, Infallible>(part), count);
    reqwest::Body::wrap_stream(stream::iter(parts))
}

/// A gateway and the provider behind it. The log is shown when the test fails.
pub(crate) struct World {
    pub(crate) provider: Provider,
    pub(crate) gateway: Gateway,
    pub(crate) dir: TempDir,
}

impl World {
    /// Both run; the gateway has further `flags`.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = Provider::start(dir.path().join("provider.sock"));
        let gateway = Gateway::start(dir.path(), flags).await;
        provider.acked(1).await;
        Self { provider, gateway, dir }
    }

    /// Only the gateway runs.
    pub(crate) async fn without_provider(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = Provider::absent(dir.path().join("provider.sock"));
        let gateway = Gateway::start(dir.path(), flags).await;
        Self { provider, gateway, dir }
    }

    /// A request to the functions' origin.
    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.gateway.client.request(method, format!("http://{}{path}", self.gateway.functions))
    }

    /// A GET from the functions' origin.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.call(Method::GET, path)
    }

    /// A request to the console's origin, without a login.
    pub(crate) fn console(&self, method: Method, path: &str) -> RequestBuilder {
        self.gateway.client.request(method, format!("http://{}{path}", self.gateway.console))
    }

    /// Sends raw bytes to the functions' origin and reads until the gateway closes.
    pub(crate) async fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.gateway.functions).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// The gateway process.
pub(crate) struct Gateway {
    pub(crate) functions: SocketAddr,
    pub(crate) console: SocketAddr,
    pub(crate) client: Client,
    child: Child,
    log: std::path::PathBuf,
}

impl Gateway {
    /// Starts one and waits until it says that it is ready.
    pub(crate) async fn start(dir: &Path, flags: &[&str]) -> Self {
        fs::write(dir.join("password"), PASSWORD).unwrap();
        let notify = dir.join("notify.sock");
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        let log = dir.join("gateway.log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["--functions", "127.0.0.1:0", "--console", "127.0.0.1:0"])
            .args(["--provider".as_ref(), dir.join("provider.sock").as_os_str()])
            .args(["--password-file".as_ref(), dir.join("password").as_os_str()])
            .args(["--run".as_ref(), dir.join("run").as_os_str()])
            .args(flags)
            .env("NOTIFY_SOCKET", &notify)
            .env("INPLACE_LOG", "info,gateway=debug")
            .env("INPLACE_LOG_FORMAT", "text")
            .stderr(std::fs::File::options().create(true).append(true).open(&log).unwrap())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut message = vec![0; 4096];
        let length = tokio::select! {
            received = within(socket.recv(&mut message)) => received.unwrap(),
            ended = child.wait() => {
                panic!("{ended:?}: {}", fs::read_to_string(&log).unwrap());
            }
        };
        let message = String::from_utf8(message[..length].to_vec()).unwrap();
        let address = |door: &str| {
            let (_, rest) = message.split_once(&format!("{door} http://")).unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self { functions: address("functions"), console: address("console"), client, child, log }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().try_into().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        within(self.child.wait()).await.unwrap()
    }

    /// The most memory that it ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- log of the gateway\n{log}---");
        }
    }
}
