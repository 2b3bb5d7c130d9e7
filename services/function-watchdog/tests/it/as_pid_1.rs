//! As PID 1 of a PID namespace (needs root, or unprivileged user namespaces).

use fs_err as fs;

use crate::rig::{Watchdog, exists, until};

#[tokio::test]
async fn orphans_are_reaped_and_sigterm_ends_all() {
    let dir = tempfile::tempdir().unwrap();
    // The orphan's parent ends at once, so that PID 1 inherits it.
    fs::write(dir.path().join("orphan.sh"), "(sleep 0.2 & echo $!)\n").unwrap();
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let vars = [("mode", "streaming"), ("fprocess", "sh orphan.sh")];
    let mut watchdog = Watchdog::start_in(dir, &wrapper, &vars);
    let answer = watchdog.get("/").await;
    let orphan = answer.text().trim().to_owned();

    // From outside: the namespace's PID 1 is the only child of unshare.
    let children = format!("/proc/{0}/task/{0}/children", watchdog.pid());
    let first = fs::read_to_string(children).unwrap().trim().to_owned();
    let proc = format!("/proc/{first}/root/proc/{orphan}");
    until("the orphan is reaped", async || !exists(&proc)).await;
    assert!(exists(format!("/proc/{first}/root/proc/1")), "this looks in the right place");

    // To PID 1 itself: unshare forwards no signal.
    let kill = std::process::Command::new("kill").args(["-s", "TERM", &first]).status();
    assert!(kill.unwrap().success());
    assert_eq!(watchdog.wait().code(), Some(0));
}
