//! The template python3-http: what a handler gets, and what it may return.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{INDEX, Live, Watchdog, until, within};

#[tokio::test]
async fn a_handler_sees_the_request_as_on_openfaas() {
    let live = Live::start();
    live.save_files(
        1,
        &[("handler.py", "import json
def handle(event, context):
    return json.dumps({
        'body': event.body.decode(), 'type': type(event.body).__name__,
        'method': event.method, 'path': event.path,
        'q': event.query.get('q'), 'all': event.query.getlist('q'), 'none': event.query.get('z', 'default'),
        'number': event.query.get('n', type=int), 'dict': event.query.to_dict(),
        'header': event.headers.get('x-MY-header'), 'item': event.headers['X-My-Header'],
        'pairs': dict(event.headers)['X-My-Header'], 'in': 'x-my-header' in event.headers,
        'forwarded': event.headers.get('X-Forwarded-For'), 'host': context.hostname,
    })
")],
    );
    live.switched(1, false).await;
    let client = reqwest::Client::new();
    let request = client.post(live.watchdog.url("/a%20b/%C3%A4?q=1&q=2&n=7"));
    let request = request.header("X-My-Header", "mine").header("X-Forwarded-For", "1.2.3.4");
    let answer = live.watchdog.send(request.body("hello")).await;
    let seen: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let expected = serde_json::json!({
        "body": "hello", "type": "bytes", "method": "POST", "path": "/a b/ä",
        "q": "1", "all": ["1", "2"], "none": "default", "number": 7,
        "dict": {"q": "1", "n": "7"}, "header": "mine", "item": "mine", "pairs": "mine", "in": true,
        "forwarded": "1.2.3.4", "host": "localhost",
    });
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_handler_may_return_what_it_may_on_openfaas() {
    const HTML: &str = "text/html; charset=utf-8";
    const JSON: &str = "application/json";
    let live = Live::start();
    for (version, (returns, status, content_type, body)) in (1..).zip([
        ("None", 200, HTML, ""),
        ("'text'", 200, HTML, "text"),
        ("b'bytes'", 200, HTML, "bytes"),
        ("{}", 200, HTML, ""),
        ("{'statusCode': 201, 'body': 'made'}", 201, HTML, "made"),
        ("{'statusCode': '404', 'body': 'gone'}", 404, HTML, "gone"),
        ("{'body': {'b': 1, 'a': 2}}", 200, JSON, "{\"a\":2,\"b\":1}\n"),
        ("{'body': [1, 'x']}", 200, HTML, "[1, 'x']"),
        ("{'body': None}", 200, HTML, ""),
        ("{'body': 7}", 200, HTML, "7"),
        ("{'body': b'raw'}", 200, HTML, "raw"),
        ("{'body': '<a/>', 'headers': {'Content-Type': 'text/xml'}}", 200, "text/xml", "<a/>"),
        ("{'body': 'x', 'headers': [('content-type', 'a/b')]}", 200, "a/b", "x"),
        ("('text', 202)", 202, HTML, "text"),
        ("('text', {'Content-Type': 'a/b'})", 200, "a/b", "text"),
        ("('text', 203, {'Content-Type': 'a/b'})", 203, "a/b", "text"),
        ("[1, 2]", 200, JSON, "[1,2]\n"),
        ("(str(i) for i in range(3))", 200, HTML, "012"),
        ("'ä'", 200, HTML, "ä"),
    ]) {
        live.save(version, returns);
        live.switched(version, true).await;
        let answer = live.watchdog.get("/").await;
        answer.assert(status, body);
        assert_eq!(answer.header("content-type"), Some(content_type), "{returns}");
    }
}

#[tokio::test]
async fn a_list_as_a_header_is_one_header_an_item() {
    let live = Live::start();
    for (version, cookies) in (1..).zip(["['a=1', 'b=2']", "('a=1', 'b=2')"]) {
        live.save(version, &format!("{{'headers': {{'Set-Cookie': {cookies}, 'X-One': 1}}}}"));
        live.switched(version, true).await;
        let answer = live.watchdog.get("/").await;
        let seen: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(seen, ["a=1", "b=2"], "{cookies}");
        assert_eq!(answer.header("x-one"), Some("1"));
    }
}

#[tokio::test]
async fn an_exception_is_500_and_its_trace_is_in_the_log_only() {
    let live = Live::start();
    for (version, (returns, says)) in (1..).zip([
        ("1 / 0", "ZeroDivisionError"),
        ("exit(3)", "SystemExit"),
        ("(_ for _ in ()).throw(KeyboardInterrupt('mine'))", "KeyboardInterrupt: mine"),
        ("(_ for _ in ()).throw(BaseException('any'))", "BaseException: any"),
        ("object()", "a handler cannot return a object"),
        ("{'headers': {'X-A': 'a\\r\\nX-B: b'}}", "holds a line end"),
        ("{'statusCode': 'fine'}", "invalid literal for int()"),
    ]) {
        live.save(version, returns);
        live.switched(version, true).await;
        live.watchdog.get("/").await.assert(500, "Internal Server Error\n");
        live.watchdog.wait_log(says);
    }
}

#[tokio::test]
async fn an_exit_in_a_streamed_body_ends_the_call_and_not_the_server() {
    let live = Live::start();
    live.save(1, "(exit(3) if event.path == '/exit' else 'x' for _ in range(2))");
    live.switched(1, false).await;
    assert_eq!(live.watchdog.get("/exit").await.status, 500);
    live.watchdog.wait_log("SystemExit: 3");
    live.watchdog.get("/").await.assert(200, "xx");
}

#[tokio::test]
async fn a_handler_imports_its_own_modules_in_both_ways_and_leaves_no_traces() {
    let live = Live::start();
    live.save_files(
        1,
        &[
            ("one.py", "NAME = 'one'\n"),
            ("two.py", "from .one import NAME as ONE\nNAME = ONE + ' two'\n"),
            ("handler.py", "from .one import NAME\nfrom function.two import NAME as TWO\nfrom function import one\ndef handle(event, context):\n    return f'{NAME} {TWO} {one.NAME}'\n"),
        ],
    );
    live.switched(1, true).await;
    live.watchdog.get("/").await.assert(200, "one one two one");
    assert!(!live.folder(1).join("__pycache__").exists());
    // A package that says so itself, on the next version's files.
    live.save_files(
        2,
        &[
            ("__init__.py", "KIND = 'package'\n"),
            ("one.py", "NAME = 'other'\n"),
            ("handler.py", "from . import KIND\nfrom .one import NAME\ndef handle(event, context):\n    return f'{KIND} {NAME}'\n"),
        ],
    );
    live.switched(2, true).await;
    live.watchdog.get("/").await.assert(200, "package other");
}

#[tokio::test]
async fn large_bodies_pass_and_larger_ones_are_413() {
    let live = Live::start();
    live.save(1, "str(len(event.body))");
    live.switched(1, false).await;
    let size = 100 * 1024 * 1024;
    live.watchdog.post("/", vec![1; size]).await.assert(200, &size.to_string());
    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    // Without a byte of it, and, what races with the answer, while it is sent.
    let answer = live.watchdog.raw(&format!("{head}Content-Length: 300000000\r\n\r\n")).await;
    assert_too_large(&answer);
    let piece = vec![b'x'; 1 << 20];
    let chunk = [b"100000\r\n", &piece[..], b"\r\n"].concat();
    let declared = format!("{head}Content-Length: {}\r\n\r\n", 300 << 20);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    for (head, piece) in [(&declared, &piece), (&chunked, &chunk)].repeat(4) {
        let mut stream = live.watchdog.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        // The watchdog closes when it has answered, so not all of it can be sent.
        for _ in 0..300 {
            if stream.write_all(piece).await.is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        // After the answer may come the reset of what was sent in vain.
        let _ = within(stream.read_to_end(&mut answer)).await;
        assert_too_large(&String::from_utf8_lossy(&answer));
    }
    live.watchdog.post("/", "small").await.assert(200, "5");
}

#[track_caller]
fn assert_too_large(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body, "Request Entity Too Large: exceeds max_body of 268435456\n");
}

#[tokio::test]
async fn without_our_watchdog_it_is_an_ordinary_server() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("handler.py"), "def handle(event, context): return 'plain'\n")
        .unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let vars = [
        ("mode", "http".to_owned()),
        ("fprocess", format!("/usr/bin/python3 {INDEX}")),
        ("upstream_url", format!("http://127.0.0.1:{port}")),
        ("PORT", port.to_string()),
        ("INPLACE_SOURCE", folder.path().display().to_string()),
    ];
    let vars: Vec<_> = vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let watchdog = Watchdog::start(&vars);
    until("it answers", async || watchdog.get("/").await.status == 200).await;
    watchdog.get("/").await.assert(200, "plain");
}

#[tokio::test]
async fn the_seed_answers() {
    let live = Live::start();
    let seed =
        std::path::Path::new(INDEX).parent().unwrap().join("python3-http/function/handler.py");
    live.save_files(1, &[("handler.py", &fs_err::read_to_string(seed).unwrap())]);
    live.switched(1, false).await;
    let answer = live.watchdog.post("/?name=you", "12345").await;
    answer.assert(200, "Hello, you! You sent 5 bytes by POST.\n");
}
