//! What a function's processes, of the same user, cannot do to the watchdog (needs root).

use std::os::unix::fs::PermissionsExt as _;

use fs_err as fs;

use crate::rig::Watchdog;

#[tokio::test]
async fn the_function_can_neither_read_nor_trace_the_watchdog() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    // The kernel asks the same question for this as for a tracer.
    let peek = "cat /proc/$PPID/environ > /dev/null && echo read || echo refused\n";
    fs::write(dir.path().join("peek.sh"), peek).unwrap();
    let wrapper = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    let vars = [("mode", "streaming"), ("fprocess", "sh peek.sh")];
    let watchdog = Watchdog::start_in(dir, &wrapper, &vars);
    watchdog.get("/").await.assert(200, "refused\n");
}
