//! The live switch: new code answers, old calls end well, a bad save harms nothing.

use fs_err as fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use api::switch::{Reply, Request, Times};

use crate::rig::{LIMIT, Live, UPSTREAM, exists, switch, until};

fn times(reply: &Reply) -> Times {
    match reply {
        Reply::Switched { times, .. } => *times,
        other => panic!("{other:?}"),
    }
}

fn refused(reply: Reply) -> (String, String) {
    match reply {
        Reply::Refused { reason, lines, .. } => (reason, lines.join("\n")),
        other => panic!("{other:?}"),
    }
}

async fn serving(live: &Live) -> Option<u64> {
    match live.ask(&Request::Status).await {
        Reply::Status { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn before_the_first_version_nothing_answers_and_a_spare_waits() {
    let live = Live::start();
    assert_eq!(live.watchdog.get("/_/health").await.status, 503);
    assert_eq!(live.watchdog.get("/_/ready").await.status, 503);
    let answer = live.watchdog.get("/").await;
    assert_eq!((answer.status, answer.header("x-openfaas-internal")), (503, Some("of-watchdog")));
    live.wait_spare().await;
    assert_eq!(serving(&live).await, None);

    live.save(1, "'one'");
    assert!(times(&live.switch(1, false).await).spare);
    live.watchdog.get("/").await.assert(200, "one");
    live.watchdog.get("/_/health").await.assert(200, "OK");
    assert_eq!(fs::read_link(live.link()).unwrap(), live.folder(1));
}

#[tokio::test]
async fn a_switch_with_and_without_a_spare_runs_the_new_code() {
    let live = Live::start();
    live.save(1, "'one'");
    live.save(2, "'two'");
    live.save(3, "'three'");
    live.switched(1, false).await;
    let cold = times(&live.switch(2, true).await);
    assert!(!cold.spare && cold.start_ms > 0.0 && cold.load_ms > 0.0, "{cold:?}");
    assert!(cold.total_ms >= cold.start_ms + cold.load_ms - 0.001, "{cold:?}");
    live.watchdog.get("/").await.assert(200, "two");
    live.wait_spare().await;
    let warm = times(&live.switch(3, true).await);
    assert!(warm.spare && warm.start_ms == 0.0, "{warm:?}");
    live.watchdog.get("/").await.assert(200, "three");
}

#[tokio::test]
async fn a_spare_ends_when_its_time_is_over_or_it_is_dropped() {
    let live = Live::start();
    live.save(1, "'one'");
    live.switched(1, true).await;
    live.wait_spare().await;
    assert_eq!(live.ask(&Request::DropSpare).await, Reply::Dropped);
    let spare =
        async || matches!(live.ask(&Request::Status).await, Reply::Status { spare: true, .. });
    assert!(!spare().await);

    live.save(2, "'two'");
    let request = Request::Switch { version: 2, ready_ms: 20_000, spare_ms: 400 };
    assert!(matches!(live.ask(&request).await, Reply::Switched { .. }));
    until("the spare is gone", async || {
        !spare().await && live.watchdog.log().iter().any(|line| line.contains("signal: killed"))
    })
    .await;
    live.watchdog.get("/").await.assert(200, "two");
}

#[tokio::test]
async fn a_save_that_does_not_start_is_refused_with_its_lines_and_the_old_one_serves() {
    let live = Live::start();
    live.save(1, "'one'");
    live.switched(1, true).await;
    live.save_files(2, &[("handler.py", "def handle(event, context)\n    return 'two'\n")]);
    live.save_files(3, &[("handler.py", "print('so far')\nimport no_such_module\n")]);
    live.save_files(4, &[("other.py", "")]);
    live.save_files(5, &[("handler.py", "handle = 7\n")]);
    for (version, says) in [
        (2, "SyntaxError"),
        (3, "so far"),
        (3, "No module named 'no_such_module'"),
        (4, "No module named 'function.handler'"),
        (5, "has no function handle(event, context)"),
    ] {
        let (reason, lines) = refused(live.switch(version, version % 2 == 0).await);
        assert_eq!(reason, "the process ended before it was ready (exit status 1)");
        assert!(lines.contains(says), "{says} is not in {lines}");
        assert!(!lines.contains("importlib"), "this is not the user's code: {lines}");
        live.watchdog.get("/").await.assert(200, "one");
        assert_eq!(fs::read_link(live.link()).unwrap(), live.folder(1));
        assert_eq!(serving(&live).await, Some(1));
    }
    let (reason, _) = refused(live.switch(77, false).await);
    assert!(reason.contains("there is no folder"), "{reason}");
    live.save(6, "'six'");
    live.switched(6, true).await;
    live.watchdog.get("/").await.assert(200, "six");
}

#[tokio::test]
async fn a_save_that_hangs_is_refused_after_its_limit() {
    let live = Live::start();
    live.save(1, "'one'");
    live.switched(1, false).await;
    live.save_files(
        2,
        &[("handler.py", "print('waiting', flush=True)\nimport time\ntime.sleep(3600)\n")],
    );
    let request = Request::Switch { version: 2, ready_ms: 700, spare_ms: 0 };
    let (reason, lines) = refused(live.ask(&request).await);
    assert_eq!(reason, "its code was not loaded within 700 ms");
    assert_eq!(lines, "waiting");
    live.watchdog.get("/").await.assert(200, "one");
}

#[tokio::test]
async fn the_first_save_may_be_bad_and_the_second_repairs_it() {
    let live = Live::start();
    live.save_files(1, &[("handler.py", "1/0\n")]);
    let (_, lines) = refused(live.switch(1, true).await);
    assert!(lines.contains("ZeroDivisionError"), "{lines}");
    assert_eq!(live.watchdog.get("/_/health").await.status, 503);
    live.save(2, "'two'");
    live.switched(2, true).await;
    live.watchdog.get("/").await.assert(200, "two");
}

#[tokio::test]
async fn a_newer_save_supersedes_one_in_the_making() {
    let live = Live::start();
    live.save_files(1, &[("handler.py", "import time\ntime.sleep(3600)\n")]);
    live.save(2, "'two'");
    let mut control = live.control().await;
    control.send(&switch(1, false)).await;
    control.send(&switch(2, false)).await;
    assert_eq!(control.reply().await, Reply::Superseded { version: 1 });
    assert!(matches!(control.reply().await, Reply::Switched { version: 2, .. }));
    live.watchdog.get("/").await.assert(200, "two");
    // On another connection, too.
    live.save_files(3, &[("handler.py", "import time\ntime.sleep(3600)\n")]);
    live.save(4, "'four'");
    control.send(&switch(3, false)).await;
    until("version 3 is being loaded", async || {
        fs::read_link(live.link()).unwrap() == live.folder(3)
    })
    .await;
    live.switched(4, false).await;
    assert_eq!(control.reply().await, Reply::Superseded { version: 3 });
}

#[tokio::test]
async fn a_call_that_arrived_on_the_old_process_ends_on_it() {
    let live = Live::start();
    let old = "import os, time
def handle(event, context):
    open('../../begun', 'w').close()
    while not os.path.exists('../../end'):
        time.sleep(0.005)
    return 'old'
";
    live.save_files(1, &[("handler.py", old)]);
    live.save(2, "'new'");
    live.switched(1, true).await;
    let dir = live.watchdog.dir().to_owned();
    let call = async { live.watchdog.get("/").await };
    let save = async {
        until("the call runs", async || dir.join("begun").exists()).await;
        live.switched(2, true).await;
        live.watchdog.get("/").await.assert(200, "new");
        fs::write(dir.join("end"), "").unwrap();
    };
    let (answer, ()) = tokio::join!(call, save);
    answer.assert(200, "old");
    live.watchdog.wait_log("has ended: exit status 0");
}

#[tokio::test]
async fn the_source_path_follows() {
    let live = Live::start();
    let link = live.link().display().to_string();
    let handler = format!(
        "AT_LOAD = open({link:?} + '/data').read()
def handle(event, context):
    return ' '.join([AT_LOAD, open({link:?} + '/data').read(), open('data').read()])
"
    );
    for version in ["1", "2"] {
        let number = version.parse().unwrap();
        live.save_files(number, &[("handler.py", &handler), ("data", version)]);
        live.switched(number, true).await;
        live.watchdog.get("/").await.assert(200, &format!("{version} {version} {version}"));
    }
    live.save_files(3, &[("handler.py", "1/0"), ("data", "3")]);
    refused(live.switch(3, true).await);
    live.watchdog.get("/").await.assert(200, "2 2 2");
}

#[tokio::test]
async fn a_process_that_dies_is_replaced_on_the_good_version() {
    let live = Live::start();
    live.save(1, "__import__('os')._exit(7) if event.path == '/die' else 'one'");
    live.save_files(2, &[("handler.py", "1/0")]);
    live.switched(1, false).await;
    refused(live.switch(2, false).await);
    for _ in 0..3 {
        let answer = live.watchdog.get("/die").await;
        assert_eq!(
            (answer.status, answer.header("x-openfaas-internal")),
            (500, Some("of-watchdog"))
        );
        until("it answers again", async || live.watchdog.get("/").await.status == 200).await;
        assert_eq!(live.watchdog.get("/_/health").await.status, 200);
        live.watchdog.get("/").await.assert(200, "one");
    }
    live.watchdog.wait_log("has ended: exit status 7");
}

#[tokio::test]
async fn a_server_that_does_not_know_the_protocol_is_switched_by_its_port() {
    let folder = tempfile::tempdir().unwrap();
    let process = format!("/usr/bin/python3 {UPSTREAM} {} 0", folder.path().display());
    let live = Live::start_with(&process, &[]);
    live.save(1, "");
    live.save(2, "");
    for version in [1, 2] {
        live.switched(version, true).await;
        assert_eq!(live.watchdog.get("/").await.status, 200);
        assert_eq!(serving(&live).await, Some(version));
    }
}

#[tokio::test]
async fn nothing_of_a_process_outlives_it() {
    let live = Live::start();
    let handler = "import subprocess
child = subprocess.Popen(['sleep', '3600'])
def handle(event, context):
    return str(child.pid)
";
    live.save_files(1, &[("handler.py", handler)]);
    live.save(2, "'two'");
    live.switched(1, false).await;
    let proc = format!("/proc/{}/stat", live.watchdog.get("/").await.text());
    assert!(exists(&proc));
    live.switched(2, false).await;
    // Gone, or a zombie that waits for somebody outside to reap it.
    until("its child is gone", async || {
        fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

/// Constant callers, over connections that are kept and over new ones.
struct Callers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Callers {
    /// Each answer must be 200 and begin with `prefix`.
    fn start(live: &Live, prefix: &'static str) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..8).map(|number| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let url = live.watchdog.url("/");
            tokio::spawn(async move {
                let kept = if number % 2 == 0 { 8 } else { 0 };
                let client = reqwest::Client::builder().pool_max_idle_per_host(kept);
                let client = client.timeout(LIMIT).build().unwrap();
                let mut failures = Vec::new();
                while !stop.load(SeqCst) {
                    let answer = async {
                        let response = client.post(&url).body("x").send().await?;
                        Ok::<_, reqwest::Error>((response.status(), response.text().await?))
                    };
                    match answer.await {
                        Ok((status, text)) if status == 200 && text.starts_with(prefix) => {}
                        other => failures.push(format!("{other:?}")),
                    }
                    answered.fetch_add(1, SeqCst);
                }
                failures
            })
        });
        let tasks = tasks.collect();
        Self { stop, answered, tasks }
    }

    /// Waits until some more calls were answered.
    async fn some_more(&self, calls: u64) {
        let goal = self.answered.load(SeqCst) + calls;
        until("calls are answered", async || self.answered.load(SeqCst) >= goal).await;
    }

    async fn end(self) {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            assert_eq!(task.await.unwrap(), Vec::<String>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_during_twenty_switches_and_broken_saves() {
    let live = Live::start();
    live.save(1, "'version 1'");
    live.switched(1, true).await;
    let callers = Callers::start(&live, "version ");
    for version in 2..=21 {
        callers.some_more(50).await;
        live.save(version, &format!("'version {version}'"));
        live.switched(version, version % 3 > 0).await;
        let broken = version + 1000;
        live.save_files(broken, &[("handler.py", "this is no python\n")]);
        refused(live.switch(broken, version % 2 > 0).await);
    }
    callers.some_more(50).await;
    callers.end().await;
    live.watchdog.get("/").await.assert(200, "version 21");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_a_file_is_being_typed() {
    let live = Live::start();
    live.save(1, "'typed'");
    live.switched(1, true).await;
    let callers = Callers::start(&live, "typed");
    let whole = "def handle(event, context):\n    word = 'ty' + 'ped'\n    return word\n";
    let mut control = live.control().await;
    let mut asked = 0;
    for (version, end) in (2..).zip((4..=whole.len()).step_by(3).chain([whole.len()])) {
        live.save_files(version, &[("handler.py", &whole[..end])]);
        control.send(&switch(version, true)).await;
        asked += 1;
        callers.some_more(5).await;
    }
    let mut last = None;
    for _ in 0..asked {
        last = Some(control.reply().await);
    }
    assert!(matches!(last, Some(Reply::Switched { .. })), "{last:?}");
    callers.some_more(20).await;
    callers.end().await;
}
