//! The order of a stop.

use fs_err as fs;

use crate::rig::{Live, Watchdog, exists, script, until};

#[tokio::test]
async fn sigterm_takes_the_health_then_drains_then_ends() {
    let (_dir, process) =
        script("echo begun > begun; while ! [ -e end ]; do sleep 0.01; done; echo done");
    let vars = [("mode", "classic"), ("fprocess", &process[..]), ("healthcheck_interval", "300ms")];
    let mut watchdog = Watchdog::start(&vars);
    let call = async { watchdog.get("/").await };
    let stop = async {
        let begun = watchdog.dir().join("begun");
        until("the call runs", async || begun.exists()).await;
        watchdog.signal("TERM");
        watchdog.wait_log("SIGTERM: no new connections in 300ms");
        assert!(!watchdog.lock_file().exists());
        // Whoever has not noticed yet is still answered.
        assert_eq!(watchdog.get("/_/health").await.status, 503);
        watchdog.wait_log("draining: 1 requests");
        assert!(reqwest::get(watchdog.url("/_/health")).await.is_err(), "a new connection");
        fs::write(watchdog.dir().join("end"), "").unwrap();
    };
    let (answer, ()) = tokio::join!(call, stop);
    answer.assert(200, "done\n");
    assert_eq!(watchdog.wait().code(), Some(0));
}

#[tokio::test]
async fn a_call_that_does_not_end_is_ended_after_the_limit() {
    let (_dir, process) = script("trap '' TERM; echo $$ > pid; while :; do sleep 0.01; done");
    let vars = [("mode", "classic"), ("fprocess", &process[..]), ("write_timeout", "20s")];
    let mut watchdog = Watchdog::start(&vars);
    let url = watchdog.url("/");
    let call = tokio::spawn(async move { reqwest::get(url).await });
    let pid = watchdog.dir().join("pid");
    let written = async || fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'));
    until("the call runs", written).await;
    let proc = format!("/proc/{}", fs::read_to_string(&pid).unwrap().trim());
    drop(call); // detached: the caller goes on waiting
    watchdog.signal("TERM");
    watchdog.wait_log("draining: 1 requests");
    assert_eq!(watchdog.wait().code(), Some(0));
    assert!(!exists(&proc));
}

#[tokio::test]
async fn a_live_watchdog_lets_python_finish_its_call() {
    let mut live = Live::start();
    let handler = "import os, time
def handle(event, context):
    open('../../begun', 'w').close()
    while not os.path.exists('../../end'):
        time.sleep(0.005)
    return 'finished'
";
    live.save_files(1, &[("handler.py", handler)]);
    live.switched(1, true).await;
    let dir = live.watchdog.dir().to_owned();
    let call = async { live.watchdog.get("/").await };
    let stop = async {
        until("the call runs", async || dir.join("begun").exists()).await;
        live.watchdog.signal("TERM");
        live.watchdog.wait_log("draining: 1 requests");
        fs::write(dir.join("end"), "").unwrap();
    };
    let (answer, ()) = tokio::join!(call, stop);
    answer.assert(200, "finished");
    assert_eq!(live.watchdog.wait().code(), Some(0));
    let children = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path().join("cmdline");
        let line = fs::read_to_string(path).ok()?;
        line.contains(dir.to_str()?).then_some(line)
    });
    assert_eq!(children.collect::<Vec<_>>(), Vec::<String>::new());
}

#[tokio::test]
async fn a_process_that_ends_at_a_stop_is_not_replaced() {
    // The replacement would come late for the request to end, and be killed after its limit.
    for _ in 0..5 {
        let mut live = Live::start();
        live.save(1, "it");
        live.switched(1, true).await;
        live.watchdog.signal("TERM");
        assert_eq!(live.watchdog.wait().code(), Some(0));
        let log = live.watchdog.log();
        assert!(!log.iter().any(|line| line.contains("were killed")), "{log:#?}");
    }
}
