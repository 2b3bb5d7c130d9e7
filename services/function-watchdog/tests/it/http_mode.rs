//! Mode `http` without the live switch: any OpenFaaS image.

use fs_err as fs;
use std::net::TcpListener;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{UPSTREAM, Watchdog, until, within};

/// The watchdog with our own odd server, ready to answer.
async fn start(more: &[(&str, &str)]) -> (Watchdog, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    // Freed for the server that takes it in a moment; nobody else asks for one by number.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let process = format!("/usr/bin/python3 {UPSTREAM} {} {port}", folder.path().display());
    let upstream = format!("http://127.0.0.1:{port}");
    let mut vars = vec![("mode", "http"), ("fprocess", &process), ("upstream_url", &upstream)];
    vars.extend_from_slice(more);
    let watchdog = Watchdog::start(&vars);
    until("the server answers", async || watchdog.get("/").await.status == 200).await;
    (watchdog, folder)
}

#[tokio::test]
async fn requests_arrive_as_they_were_sent() {
    let (watchdog, _folder) = start(&[]).await;
    let client = reqwest::Client::new();
    let request = client.patch(watchdog.url("/a%20b/c?q=1&r")).header("X-Call-Id", "77");
    let answer = watchdog.send(request.header("Host", "fn.example").body("hello")).await;
    let seen = answer.text().to_lowercase();
    assert!(seen.starts_with("patch /a%20b/c?q=1&r http/1.1\r\n"), "{seen}");
    for header in ["x-call-id: 77", "host: fn.example", "content-length: 5"] {
        assert!(seen.contains(&format!("\r\n{header}\r\n")), "{header} is not in {seen}");
    }
    assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
    assert!(answer.header("x-duration-seconds").unwrap().parse::<f64>().unwrap() >= 0.0);
    assert_eq!(answer.header("x-openfaas-internal"), None);
    watchdog.wait_log("PATCH /a%20b/c?q=1&r - 200 OK - ContentLength: ");
}

#[tokio::test]
async fn a_chunked_body_is_streamed_or_buffered() {
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (watchdog, _folder) = start(&[]).await;
    let answer = watchdog.raw(chunked).await;
    assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    assert!(!answer.to_lowercase().contains("connection: close\r\ntransfer"), "{answer}");
    for name in ["http_buffer_req_body", "buffer_http"] {
        let (watchdog, _folder) = start(&[(name, "true")]).await;
        let answer = watchdog.raw(chunked).await;
        assert!(answer.contains("content-length: 5\r\n"), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }
}

#[tokio::test]
async fn a_prefix_of_the_upstream_is_put_before_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let process = format!("/usr/bin/python3 {UPSTREAM} {} {port}", folder.path().display());
    let upstream = format!("http://localhost:{port}/base/");
    let vars = [("mode", "http"), ("fprocess", &process[..]), ("http_upstream_url", &upstream[..])];
    let watchdog = Watchdog::start(&vars);
    until("the server answers", async || watchdog.get("/").await.status == 200).await;
    assert!(watchdog.get("/x?y").await.text().starts_with("GET /base/x?y HTTP/1.1"));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let (watchdog, _folder) = start(&[]).await;
    let request = "POST /trailers HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTrailer: x-mine\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\nx-mine: 7\r\n\r\n";
    let answer = watchdog.raw(request).await;
    assert!(answer.contains("x-mine: 7\r\n"), "the server has not seen ours: {answer}");
    assert!(answer.ends_with("0\r\nx-sum: 42\r\n\r\n"), "we have not seen the server's: {answer}");
}

#[tokio::test]
async fn an_upgraded_connection_is_a_pipe() {
    let (watchdog, _folder) = start(&[("write_timeout", "500ms"), ("exec_timeout", "200ms")]).await;
    let mut stream = watchdog.connect().await;
    let head = b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        assert!(within(stream.read_buf(&mut seen)).await.unwrap() > 0);
    }
    let head = String::from_utf8(seen).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        head.contains("upgrade: echo\r\n") && head.contains("connection: upgrade\r\n"),
        "{head}"
    );
    for word in [b"one ", b"two "] {
        stream.write_all(word).await.unwrap();
        let mut echoed = [0; 4];
        within(stream.read_exact(&mut echoed)).await.unwrap();
        assert_eq!(&echoed, word);
    }
    // Closing our end closes the server's, which closes its own.
    stream.shutdown().await.unwrap();
    assert_eq!(within(stream.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn events_pass_one_by_one() {
    let (watchdog, folder) = start(&[("exec_timeout", "1ms"), ("write_timeout", "25s")]).await;
    let request = reqwest::Client::new().get(watchdog.url("/events"));
    let mut response = request.header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(within(response.chunk()).await.unwrap().unwrap(), "data: 1\n");
    fs::write(folder.path().join("read"), "").unwrap();
    assert_eq!(within(response.chunk()).await.unwrap().unwrap(), "data: 2\n");
    assert_eq!(within(response.chunk()).await.unwrap(), None);
}

#[tokio::test]
async fn a_caller_who_leaves_ends_the_request_upstream() {
    let (watchdog, folder) = start(&[]).await;
    let mut stream = watchdog.connect().await;
    stream.write_all(b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until("the server has the request", async || folder.path().join("asked").exists()).await;
    drop(stream);
    until("the server sees the end", async || folder.path().join("gone").exists()).await;
}

#[tokio::test]
async fn what_goes_wrong_upstream_is_500_and_marked() {
    let (watchdog, _folder) = start(&[]).await;
    let answer = watchdog.get("/nothing").await;
    answer.assert(500, "");
    assert_eq!(answer.header("x-openfaas-internal"), Some("of-watchdog"));
    watchdog.wait_log("Upstream HTTP request error: ");
    // An answer that breaks off must not look like a whole one.
    let broken = reqwest::get(watchdog.url("/break")).await.unwrap();
    assert_eq!(broken.status(), 200);
    assert!(broken.bytes().await.is_err());
}

#[tokio::test]
async fn a_server_that_does_not_listen_yet_is_500_while_the_health_is_good() {
    let vars =
        [("mode", "http"), ("upstream_url", "http://127.0.0.1:1"), ("fprocess", "sleep 3600")];
    let watchdog = Watchdog::start(&vars);
    watchdog.get("/_/health").await.assert(200, "OK");
    let answer = watchdog.get("/").await;
    assert_eq!((answer.status, answer.header("x-openfaas-internal")), (500, Some("of-watchdog")));
}

#[tokio::test]
async fn exec_timeout_is_504_and_the_caller_may_shorten_it() {
    let (watchdog, _folder) = start(&[("exec_timeout", "300ms")]).await;
    let answer = watchdog.get("/never").await;
    assert_eq!((answer.status, answer.header("x-openfaas-internal")), (504, Some("of-watchdog")));
    watchdog.wait_log("Upstream HTTP killed due to exec_timeout");

    let (watchdog, _folder) = start(&[]).await;
    let request = reqwest::Client::new().get(watchdog.url("/never")).header("X-Timeout", "100ms");
    assert_eq!(watchdog.send(request).await.status, 504);
}

#[tokio::test]
async fn write_timeout_ends_an_answer_that_takes_too_long() {
    let (watchdog, _folder) = start(&[("exec_timeout", "0"), ("write_timeout", "300ms")]).await;
    let request = reqwest::Client::new().get(watchdog.url("/events"));
    let response = request.header("accept", "text/event-stream").send().await.unwrap();
    assert!(within(response.bytes()).await.is_err());
}

#[tokio::test]
async fn log_call_id_names_the_call() {
    let (watchdog, _folder) = start(&[("log_callid", "1")]).await;
    let request = reqwest::Client::new().get(watchdog.url("/named")).header("X-Call-Id", "abc");
    assert_eq!(watchdog.send(request).await.status, 200);
    assert!(watchdog.wait_log("GET /named - ").ends_with("[abc]"));
}

#[tokio::test]
async fn the_watchdog_ends_with_its_only_process() {
    let (mut watchdog, _folder) = start(&[]).await;
    assert_eq!(watchdog.get("/exit").await.status, 500);
    assert_eq!(watchdog.wait().code(), Some(1));
    watchdog.wait_log("the function's process has ended: exit status 3");
    assert!(!watchdog.lock_file().exists());
}

#[tokio::test]
async fn a_large_body_costs_the_watchdog_no_memory() {
    const SIZE: usize = 100 * 1024 * 1024;
    let (watchdog, _folder) = start(&[]).await;
    let before = watchdog.peak_kib();
    let chunks =
        futures::stream::iter((0..SIZE / 65536).map(|_| Ok::<_, std::io::Error>(vec![1; 65536])));
    let request =
        reqwest::Client::new().post(watchdog.url("/stream")).header("content-length", SIZE);
    let mut response = request.body(reqwest::Body::wrap_stream(chunks)).send().await.unwrap();
    let mut read = 0;
    while let Some(chunk) = within(response.chunk()).await.unwrap() {
        read += chunk.len();
    }
    assert_eq!(read, SIZE);
    let grown = watchdog.peak_kib() - before;
    assert!(grown < 8 * 1024, "{grown} KiB");
}
