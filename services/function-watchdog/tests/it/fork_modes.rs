//! Modes `classic`, `serializing` and `streaming`, row by row of OpenFaaS's table.

use fs_err as fs;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{Answer, Watchdog, exists, fails, script, until, within};

fn start(mode: &str, process: &str, more: &[(&str, &str)]) -> Watchdog {
    let mut vars = vec![("mode", mode), ("fprocess", process)];
    vars.extend_from_slice(more);
    Watchdog::start(&vars)
}

async fn options(watchdog: &Watchdog) -> Answer {
    let request = reqwest::Client::new().request(reqwest::Method::OPTIONS, watchdog.url("/"));
    watchdog.send(request).await
}

#[tokio::test]
async fn every_mode_pipes_the_body_through_the_process() {
    for mode in ["classic", "serializing", "streaming"] {
        let watchdog = start(mode, "cat", &[]);
        let answer = watchdog.post("/", "hello").await;
        answer.assert(200, "hello");
        assert!(answer.header("x-duration-seconds").unwrap().parse::<f64>().unwrap() >= 0.0);
        watchdog.get("/").await.assert(200, "");
    }
}

#[tokio::test]
async fn classic_prints_the_lines_that_people_look_for() {
    let watchdog = start("classic", "cat", &[]);
    watchdog.post("/", "hello world").await.assert(200, "hello world");
    watchdog.wait_log("Forking fprocess.");
    let line = watchdog.wait_log("Wrote 11 Bytes - Duration: ");
    assert!(line.ends_with('s'), "{line}");
    // 2026/11/24 21:19:30 ...
    assert_eq!((&line[4..5], &line[7..8], &line[13..14]), ("/", "/", ":"));
}

#[tokio::test]
async fn of_modes_print_their_line() {
    for mode in ["serializing", "streaming"] {
        let watchdog = start(mode, "cat", &[]);
        watchdog.post("/a?b", "hello").await.assert(200, "hello");
        watchdog.wait_log("POST /a?b - 200 - ContentLength: 5B (");
    }
}

#[tokio::test]
async fn the_request_is_in_the_environment() {
    for mode in ["classic", "serializing", "streaming"] {
        let watchdog = start(mode, "env", &[("own", "kept")]);
        let client = reqwest::Client::new();
        let request = client.put(watchdog.url("/p/q?testing=1")).header("X-Call-Id", "77");
        let answer = watchdog.send(request.body("12345")).await;
        let env: Vec<_> = answer.text().lines().collect();
        for line in [
            "Http_Method=PUT",
            "Http_Path=/p/q",
            "Http_Query=testing=1",
            "Http_X_Call_Id=77",
            "own=kept",
        ] {
            assert!(env.contains(&line), "{mode}: {line} is not in {env:#?}");
        }
        let host = env.iter().any(|line| line.starts_with("Http_Host=127.0.0.1:"));
        assert_eq!(host, mode == "classic", "{env:#?}");
        assert_eq!(env.contains(&"Http_ContentLength=5"), mode == "classic", "{env:#?}");
    }
    let watchdog = start("classic", "env", &[("cgi_headers", "false")]);
    assert!(!watchdog.get("/").await.text().contains("Http_"));
}

#[tokio::test]
async fn classic_answers_by_the_exit_status() {
    let (_dir, process) = script("echo out; echo err >&2; exit 3");
    let watchdog = start("classic", &process, &[]);
    watchdog.get("/").await.assert(500, "exit status 3\nout\nerr\n");
    let (_dir, process) = script("kill -9 $$");
    start("classic", &process, &[]).get("/").await.assert(500, "signal: killed\n");
    start("classic", "/no/such/program", &[])
        .get("/")
        .await
        .assert(500, "exec: \"/no/such/program\": executable file not found in $PATH");
}

#[tokio::test]
async fn stderr_is_part_of_the_answer_or_of_the_log() {
    let (_dir, process) = script("echo out; echo err >&2");
    start("classic", &process, &[]).get("/").await.assert(200, "out\nerr\n");
    for (mode, more) in
        [("classic", &[("combine_output", "false")][..]), ("serializing", &[]), ("streaming", &[])]
    {
        let watchdog = start(mode, &process, more);
        watchdog.get("/").await.assert(200, "out\n");
        watchdog.wait_log("stderr: err");
    }
    let watchdog = start("streaming", &process, &[("prefix_logs", "false")]);
    watchdog.get("/").await.assert(200, "out\n");
    assert_eq!(watchdog.wait_log("err"), "err");
}

#[tokio::test]
async fn write_debug_copies_the_answer_to_the_log() {
    let watchdog = start("classic", "cat", &[("write_debug", "true")]);
    watchdog.post("/", "seen in the log").await.assert(200, "seen in the log");
    watchdog.wait_log("seen in the log");
}

#[tokio::test]
async fn long_lines_are_cut_and_not_lost() {
    let (_dir, process) = script("printf '%0100d\\n' 7 >&2");
    let watchdog = start("streaming", &process, &[("log_buffer_size", "64"), ("prefix_logs", "0")]);
    watchdog.get("/").await.assert(200, "");
    watchdog.wait_log("0000000007");
    let lines = watchdog.log();
    let pieces: Vec<_> = lines.iter().filter(|l| l.bytes().all(|b| b.is_ascii_digit())).collect();
    assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [64, 36]);
}

#[tokio::test]
async fn serializing_says_500_and_streaming_has_said_200_already() {
    let (_dir, process) = script("echo out; exit 3");
    start("serializing", &process, &[]).get("/").await.assert(500, "exit status 3\nout\n");
    start("streaming", &process, &[]).get("/").await.assert(200, "out\n");
    let answer = start("streaming", "/no/such/program", &[]).get("/").await;
    assert_eq!(answer.status, 500);
}

#[tokio::test]
async fn the_content_type_is_the_set_one_or_the_callers_or_the_default() {
    for (mode, set, sent, expected) in [
        ("classic", "", "", "text/plain; charset=utf-8"),
        ("classic", "", "a/b", "a/b"),
        ("classic", "x/y", "a/b", "x/y"),
        ("serializing", "", "a/b", "application/octet-stream"),
        ("streaming", "x/y", "", "x/y"),
    ] {
        let watchdog = start(mode, "cat", &[("content_type", set)]);
        let mut request = reqwest::Client::new().post(watchdog.url("/"));
        if !sent.is_empty() {
            request = request.header("content-type", sent);
        }
        let answer = watchdog.send(request).await;
        assert_eq!(answer.header("content-type"), Some(expected), "{mode} {set} {sent}");
    }
}

#[tokio::test]
async fn classic_knows_five_methods_the_others_all() {
    assert_eq!(options(&start("classic", "cat", &[])).await.status, 405);
    assert_eq!(options(&start("streaming", "cat", &[])).await.status, 200);
}

#[tokio::test]
async fn exec_timeout_ends_the_whole_process_group() {
    // The grandchild keeps the output open: killing only the child would not be enough.
    let (dir, process) = script("echo $$ > pid; sleep 3600 & echo $! > grandchild; wait");
    let expected = [
        ("classic", 408, "Killed process.\n"),
        ("serializing", 500, "signal: killed\n"),
        ("streaming", 504, ""),
    ];
    for (mode, status, text) in expected {
        let watchdog = start(mode, &process, &[("exec_timeout", "300ms")]);
        let answer = watchdog.get("/").await;
        answer.assert(status, text);
        assert_eq!(answer.header("x-openfaas-internal"), (status == 504).then_some("of-watchdog"));
        watchdog.wait_log("Killing process: sh ");
        let pid = fs::read_to_string(watchdog.dir().join("grandchild")).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        // Gone, or a zombie that waits for somebody outside to reap it.
        until("the grandchild is gone", async || {
            fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
        })
        .await;
    }
    drop(dir);
}

#[tokio::test]
async fn a_caller_who_leaves_ends_its_process() {
    let (_dir, process) = script("echo $$ > pid; sleep 3600");
    for mode in ["classic", "streaming"] {
        let watchdog = start(mode, &process, &[]);
        let mut stream = watchdog.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let pid = watchdog.dir().join("pid");
        let written = async || fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'));
        until("the process runs", written).await;
        let pid = fs::read_to_string(&pid).unwrap();
        drop(stream);
        let proc = format!("/proc/{}", pid.trim());
        until("the process is gone", async || !exists(&proc)).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_400_and_never_taken_for_the_whole() {
    let half = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf";
    for mode in ["classic", "serializing", "streaming"] {
        let watchdog = start(mode, "sha512sum", &[("read_timeout", "300ms")]);
        let answer = watchdog.raw(half).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{mode}: {answer}");
    }
}

#[tokio::test]
async fn streaming_answers_before_the_request_has_ended() {
    let watchdog = start("streaming", "cat", &[]);
    let mut stream = watchdog.connect().await;
    let head =
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut seen = Vec::new();
    for word in ["first", "other"] {
        stream.write_all(format!("5\r\n{word}\r\n").as_bytes()).await.unwrap();
        while !String::from_utf8_lossy(&seen).contains(word) {
            assert!(within(stream.read_buf(&mut seen)).await.unwrap() > 0);
        }
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    within(stream.read_to_end(&mut seen)).await.unwrap();
    assert!(String::from_utf8_lossy(&seen).ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn a_process_that_reads_nothing_still_answers_a_large_request() {
    for mode in ["classic", "streaming"] {
        let watchdog = start(mode, "echo done", &[]);
        watchdog.post("/", vec![7; 8 * 1024 * 1024]).await.assert(200, "done\n");
    }
}

#[tokio::test]
async fn a_large_body_costs_the_watchdog_no_memory() {
    const SIZE: usize = 100 * 1024 * 1024;
    let chunks = || {
        futures::stream::iter((0..SIZE / 65536).map(|_| Ok::<_, std::io::Error>(vec![1; 65536])))
    };
    let watchdog = start("streaming", "cat", &[]);
    watchdog.post("/", "warm").await.assert(200, "warm");
    let before = watchdog.peak_kib();
    let answer = watchdog.post("/", reqwest::Body::wrap_stream(chunks())).await;
    assert_eq!((answer.status, answer.body.len()), (200, SIZE));
    let grown = watchdog.peak_kib() - before;
    assert!(grown < 8 * 1024, "{grown} KiB");

    let watchdog = start("classic", "sha512sum", &[]);
    let before = watchdog.peak_kib();
    let answer = watchdog.post("/", reqwest::Body::wrap_stream(chunks())).await;
    // printf '\1' repeated 100 MiB | sha512sum
    assert_eq!(answer.text().split(' ').next().unwrap().len(), 128);
    let grown = watchdog.peak_kib() - before;
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn an_answer_too_long_to_be_held_is_refused() {
    let watchdog = start("classic", "head -c 70000000 /dev/zero", &[]);
    let answer = watchdog.get("/").await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("use mode=streaming"), "{}", answer.text());
}

#[tokio::test]
async fn over_max_inflight_is_429() {
    let (_dir, process) = script("echo begun > begun; while ! [ -e end ]; do sleep 0.01; done");
    let watchdog = start("classic", &process, &[("max_inflight", "1")]);
    assert_eq!(watchdog.get("/_/ready").await.status, 200);
    let first = async {
        watchdog.get("/").await.assert(200, "");
    };
    let second = async {
        let begun = watchdog.dir().join("begun");
        until("the first call runs", async || begun.exists()).await;
        let answer = watchdog.get("/").await;
        answer.assert(429, "Concurrent request limit exceeded. Max concurrent requests: 1\n");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("x-openfaas-internal"), Some("faas-middleware"));
        assert_eq!(watchdog.get("/_/ready").await.status, 429);
        assert_eq!(watchdog.get("/_/health").await.status, 200);
        fs::write(watchdog.dir().join("end"), "").unwrap();
    };
    tokio::join!(first, second);
    assert_eq!(watchdog.get("/_/ready").await.status, 200);
}

#[tokio::test]
async fn health_goes_with_the_lock_file() {
    let watchdog = start("streaming", "cat", &[]);
    assert!(watchdog.lock_file().exists());
    watchdog.get("/_/health").await.assert(200, "OK");
    assert_eq!(watchdog.post("/_/health", "").await.status, 405);
    assert_eq!(watchdog.post("/_/ready", "").await.status, 405);
    fs::remove_file(watchdog.lock_file()).unwrap();
    assert_eq!(watchdog.get("/_/health").await.status, 503);
    assert_eq!(watchdog.get("/_/ready").await.status, 503);

    let watchdog = start("streaming", "cat", &[("suppress_lock", "true")]);
    assert!(!watchdog.lock_file().exists());
    watchdog.get("/_/health").await.assert(200, "OK");
}

#[tokio::test]
async fn ready_path_asks_the_function() {
    let watchdog = start("streaming", "env", &[("ready_path", "/am/i?ready=1")]);
    let answer = watchdog.get("/_/ready").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("Http_Path=/am/i\n"), "{}", answer.text());
    assert!(answer.text().contains("Http_Query=ready=1\n"), "{}", answer.text());
}

#[tokio::test]
async fn a_path_that_no_variable_can_hold_is_400() {
    let answer = start("streaming", "env", &[]).get("/a%00b").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("NUL"), "{}", answer.text());
}

#[test]
fn what_cannot_run_says_so_and_ends() {
    for (vars, says) in [
        (&[("mode", "static"), ("fprocess", "cat")][..], "mode=\"static\" is not offered"),
        (&[("mode", "http"), ("fprocess", "cat")], "mode=http needs upstream_url"),
        (&[("fprocess", "")], "set fprocess"),
        (&[("fprocess", "cat"), ("port", "1"), ("jwt_auth", "true")], "jwt_auth is set"),
        (&[("fprocess", "cat"), ("TMPDIR", "/no/such/folder")], "suppress_lock=true"),
        (
            &[("mode", "http"), ("upstream_url", "http://127.0.0.1:1"), ("fprocess", "/no/such")],
            "starting `/no/such`",
        ),
    ] {
        let (code, text) = fails(vars);
        assert_eq!(code, Some(1), "{vars:?}: {text}");
        assert!(text.contains(says), "{vars:?}: {text}");
    }
}

#[test]
fn the_flags_are_gos() {
    let run = |flag: &str, tmpdir: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_function-watchdog"));
        command.arg(flag).env("TMPDIR", tmpdir).output().unwrap()
    };
    assert!(run("-version", "/").status.success());
    assert!(run("--version", "/").stdout.starts_with(env!("CARGO_PKG_VERSION").as_bytes()));
    assert!(!run("--nonsense", "/").status.success());
    let dir = tempfile::tempdir().unwrap();
    let tmpdir = dir.path().to_str().unwrap();
    assert!(!run("-run-healthcheck", tmpdir).status.success());
    fs::write(dir.path().join(".lock"), "").unwrap();
    assert!(run("-run-healthcheck", tmpdir).status.success());
}
