//! Real sockets, real clients: what a server does at its limits and when it stops.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use fs_err as fs;
use futures::stream;
use http::{Method, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::UnixClient;
use crate::client::ClientError;

struct Server {
    dir: TempDir,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Undrained>>,
}

impl Server {
    fn start(router: Router, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::unix(&dir.path().join("run/api.sock"), 0o660).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, limits, stop.clone()));
        Self { dir, stop, task }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("run/api.sock")
    }
}

fn hello() -> Router {
    Router::new()
        .route("/hello", get(async || "\"hello\""))
        .route("/echo", post(async |body: Bytes| body))
}

#[tokio::test]
async fn a_socket_has_its_mode_and_replaces_one_that_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/api.sock");
    let first = Listener::unix(&path, 0o600).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    drop(first);
    let _second = Listener::unix(&path, 0o666).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_client_calls_over_a_unix_socket_and_is_told_what_went_wrong() {
    let server = Server::start(hello(), Limits::default());
    let client = UnixClient::new(server.path());
    let none = None::<&()>;
    let said: String = client.call(Method::GET, "/hello", none).await.unwrap();
    assert_eq!(said, "hello");
    let sent = vec![1, 2, 3];
    let back: Vec<u8> = client.call(Method::POST, "/echo", Some(&sent)).await.unwrap();
    assert_eq!(back, sent);

    let error = client.call::<()>(Method::GET, "/absent", none).await.unwrap_err();
    assert!(matches!(error, ClientError::Status { status: StatusCode::NOT_FOUND, .. }), "{error}");
    let error = client.call::<u8>(Method::GET, "/hello", none).await.unwrap_err();
    assert!(matches!(error, ClientError::Answer { .. }), "{error}");
    let nobody = UnixClient::new(server.dir.path().join("nobody.sock"));
    let error = nobody.call::<()>(Method::GET, "/", none).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.to_string().contains("nobody.sock"), "{error}");
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_lets_a_running_call_end() {
    let (running, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, wait) = (Arc::clone(&running), Arc::clone(&finish));
    let slow = async move || {
        told.notify_one();
        wait.notified().await;
        "done"
    };
    let server = Server::start(Router::new().route("/slow", get(slow)), Limits::default());
    let mut idle = UnixStream::connect(server.path()).await.unwrap();
    let mut busy = UnixStream::connect(server.path()).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    running.notified().await;
    server.stop.cancel();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "an idle connection is closed");
    finish.notify_one();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_cuts_what_does_not_end_within_the_limit() {
    let running = Arc::new(Notify::new());
    let told = Arc::clone(&running);
    let never = async move || {
        told.notify_one();
        std::future::pending::<()>().await;
    };
    let limits = Limits { drain: Duration::from_millis(20), ..Limits::default() };
    let server = Server::start(Router::new().route("/never", get(never)), limits);
    let mut busy = UnixStream::connect(server.path()).await.unwrap();
    busy.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    running.notified().await;
    server.stop.cancel();
    let error = server.task.await.unwrap().unwrap_err();
    assert_eq!(error.connections, 1);
    assert_eq!(busy.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_server_that_is_dropped_takes_its_connections_along() {
    let server = Server::start(hello(), Limits::default());
    let mut idle = UnixStream::connect(server.path()).await.unwrap();
    idle.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 12]).await.unwrap();
    server.task.abort();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    struct Tell(Arc<Notify>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let gone = Arc::new(Notify::new());
    let told = Arc::clone(&gone);
    let flood = async move || {
        let tell = Tell(told);
        Body::from_stream(stream::repeat_with(move || {
            let _ = &tell;
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 65536]))
        }))
    };
    let limits = Limits { stall: Duration::from_millis(20), ..Limits::default() };
    let server = Server::start(Router::new().route("/flood", get(flood)), limits);
    let mut client = UnixStream::connect(server.path()).await.unwrap();
    client.write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    gone.notified().await;
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_is_free() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = Server::start(hello(), limits);
    let request = b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut first = UnixStream::connect(server.path()).await.unwrap();
    first.write_all(&request[..10]).await.unwrap();
    let mut second = UnixStream::connect(server.path()).await.unwrap();
    second.write_all(request).await.unwrap();
    first.write_all(&request[10..]).await.unwrap();
    for stream in [&mut first, &mut second] {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_or_is_too_long_ends_the_connection() {
    let limits = Limits { head: Duration::from_millis(20), buffer: 8192, ..Limits::default() };
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, hello(), limits, CancellationToken::new()));

    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /hello HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();

    let mut long = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /hello HTTP/1.1\r\nx: {}\r\n", "y".repeat(9000));
    long.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    long.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}
