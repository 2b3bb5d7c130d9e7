//! What a function cannot reach.

use crate::fixture::World;

/// Tries to connect to what the query names and says what happened.
const PROBE: &str = r#"
import ctypes, socket, os, json
def handle(event, context):
    q = event.query
    if "connect" in q:
        host, port = q["connect"].rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), timeout=1.5).close()
            said = "connected"
        except Exception as e:
            said = type(e).__name__
    elif "write" in q:
        try:
            open(q["write"], "w").write("x"); said = "written"
        except OSError as e:
            said = e.strerror
    elif "syscall" in q:
        number, *args = map(int, q["syscall"].split(","))
        libc = ctypes.CDLL(None, use_errno=True)
        said = "done" if libc.syscall(number, *args) >= 0 else os.strerror(ctypes.get_errno())
    elif "family" in q:
        try:
            socket.socket(int(q["family"]), socket.SOCK_STREAM).close(); said = "done"
        except OSError as e:
            said = e.strerror
    else:
        status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
        said = json.dumps({k: status[k].strip() for k in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Uid")}
            | {"pid1": open("/proc/1/cmdline").read(), "mine": os.path.realpath("/home/app/function")})
    return {"statusCode": 200, "body": said}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_has_no_rights_and_reaches_neither_others_nor_the_host() {
    let world = World::start().await;
    world.create("victim").await;
    world.create("probe").await;
    world.save_live("probe", "handler.py", PROBE).await;
    let probe = world.address("probe").await.unwrap();
    let victim = world.address("victim").await.unwrap();
    let ask = async |path: String| world.call_at(probe, &path).await.unwrap();

    let status: serde_json::Value = serde_json::from_str(&ask("/".to_owned()).await).unwrap();
    assert_eq!(status["CapEff"], "0000000000000000");
    assert_eq!(status["CapBnd"], "0000000000000000");
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Seccomp"], "2");
    assert_eq!(status["Uid"], "1000\t1000\t1000\t1000");
    assert!(status["pid1"].as_str().unwrap().contains("fwatchdog"), "{status}");
    assert!(status["mine"].as_str().unwrap().starts_with("/inplace/versions/"), "{status}");

    // getpid is done; clone of a user name space (by number and flags, SIGCHLD), unshare of one,
    // ptrace, bpf, keyctl, io_uring_setup and perf_event_open are not.
    for (call, said) in [
        ("39", "done"),
        ("56,268435473,0,0,0,0", "Operation not permitted"),
        ("272,268435456", "Operation not permitted"),
        ("101,16,1,0,0", "Operation not permitted"),
        ("321,0,0,0", "Operation not permitted"),
        ("250,0,0,0", "Operation not permitted"),
        ("425,1,0", "Operation not permitted"),
        ("298,0,0,0,0,0", "Operation not permitted"),
        ("435,0,0", "Function not implemented"),
    ] {
        assert_eq!(ask(format!("/?syscall={call}")).await, said, "system call {call}");
    }
    for (family, said) in
        [("2", "done"), ("40", "Operation not permitted"), ("38", "Operation not permitted")]
    {
        assert_eq!(ask(format!("/?family={family}")).await, said, "address family {family}");
    }

    // The host answers on these ports, so that a refusal is the rules' doing.
    let open = world.listen(&["10.62.0.1:8080", "10.62.0.1:22", "192.168.77.1:80"]);
    assert_eq!(ask("/?connect=10.62.0.1:8080".to_owned()).await, "connected");
    for target in [
        "10.62.0.1:22".to_owned(),
        "192.168.77.1:80".to_owned(),
        victim.to_string(),
        "169.254.169.254:80".to_owned(),
    ] {
        let said = ask(format!("/?connect={target}")).await;
        assert_ne!(said, "connected", "{target}");
    }
    drop(open);

    for (path, said) in [
        ("/home/app/function/x", "Read-only file system"),
        ("/x", "Read-only file system"),
        ("/etc/hosts", "Read-only file system"),
        ("/tmp/x", "written"),
        ("/data/x", "written"),
    ] {
        assert_eq!(ask(format!("/?write={path}")).await, said, "{path}");
    }
    let kept = world.state().join("volumes/probe/x");
    assert_eq!(fs_err::read_to_string(kept).unwrap(), "x");
}
