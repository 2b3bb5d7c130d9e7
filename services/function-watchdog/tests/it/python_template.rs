//! The template python3-http: what a handler gets, and what it may return.

use crate::rig::{INDEX, Live, Watchdog, until};

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
async fn an_exception_is_500_and_its_trace_is_in_the_log_only() {
    let live = Live::start();
    for (version, (returns, says)) in (1..).zip([
        ("1 / 0", "ZeroDivisionError"),
        ("exit(3)", "SystemExit"),
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
    let request =
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000000\r\nConnection: close\r\n\r\n";
    let answer = live.watchdog.raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
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
