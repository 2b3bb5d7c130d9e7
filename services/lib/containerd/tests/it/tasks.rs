//! Containers that run: output, exit, exec, signals, pause.

use std::path::Path;

use containerd::tasks::{Output, SIGKILL, SIGTERM, TaskStatus};
use tokio::io::AsyncReadExt;

use crate::support::{LIMIT, Rig, SHIMS, eventually, process};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_with_its_output_and_exit_status() {
    let rig = Rig::start();
    let image = rig.image().await;
    let script = "echo out; echo err >&2; cat /etc/marker; exit 7";
    let (status, output) = rig.run_to_end(&image, "one", &["sh", "-c", script]).await;
    assert_eq!(status, 7);
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "from the image", "out"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_of_a_process_arrive_wherever_they_go() {
    let rig = Rig::start();
    let image = rig.image().await;
    let _task = rig.run(&image, "one", &["sleep", "1000"]).await;
    let script =
        "echo out; exec >&-; i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo err $i >&2; done";
    let command = process(&["sh", "-c", script]);
    let file = |name: &str| Output::File(rig.host.dir().join(name));
    let run = async |name: &str, stdout: Output, stderr: Output| {
        let started = rig.client.exec("one", name, &command, &stdout, &stderr).await.unwrap();
        started.exit.await.unwrap();
        rig.client.delete_exec("one", name).await.unwrap();
    };
    let read = |name: &str| fs_err::read_to_string(rig.host.dir().join(name)).unwrap();

    run("same", file("same"), file("same")).await;
    let same = read("same");
    // All of both, in whatever order the two arrived.
    assert!(same.contains("out\n") && same.lines().count() == 51, "{same}");
    run("apart", file("a"), file("b")).await;
    assert_eq!((read("a").as_str(), read("b").lines().count()), ("out\n", 50));
    run("half", Output::Null, file("c")).await;
    assert_eq!(read("c"), read("b"));

    let fifo = rig.host.dir().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
    run("fifo", Output::Fifo(fifo), Output::Null).await;
    let mut text = String::new();
    reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "out\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_exit_is_not_missed() {
    let rig = Rig::start();
    let image = rig.image().await;
    for round in 0..10 {
        let (status, _) = rig.run_to_end(&image, &format!("fast-{round}"), &["true"]).await;
        assert_eq!(status, 0);
    }
    // Nor by one who asks only after the exit.
    rig.run(&image, "late", &["true"]).await.exit.await.unwrap();
    let exit = rig.client.watch_task("late").within(LIMIT).await.unwrap();
    assert_eq!(exit.status, 0);
    assert!(exit.at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_listed_with_its_record_its_shim_in_its_own_cgroup() {
    let rig = Rig::start();
    let image = rig.image().await;
    rig.create(&image, "one", &["sleep", "1000"]).await;
    assert_eq!(rig.client.task("one").await.unwrap().status, TaskStatus::Created);
    let started = rig.client.start_task("one").await.unwrap();

    let task = rig.client.task("one").await.unwrap();
    assert_eq!((task.pid, task.status), (started.pid, TaskStatus::Running));
    assert_eq!(rig.client.tasks().await.unwrap(), [task]);
    assert_eq!(rig.client.task_pids("one").await.unwrap(), [started.pid]);
    let container = rig.client.container("one").await.unwrap();
    assert_eq!(
        (container.snapshot.as_str(), container.image.as_str()),
        ("one", image.name.as_str())
    );
    assert_eq!(rig.client.containers(&["labels.test==one"]).await.unwrap(), [container]);
    assert_eq!(rig.client.containers(&["labels.test==two"]).await.unwrap(), []);

    let shims = Path::new("/sys/fs/cgroup").join(&SHIMS[1..]).join("cgroup.procs");
    let shims = fs_err::read_to_string(rig.host.cell().path(&shims)).unwrap();
    assert!(!shims.trim().is_empty(), "no shim is in its cgroup");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_wait_for_an_exit_hold_up_nobody() {
    let rig = Rig::start();
    let image = rig.image().await;
    let _task = rig.run(&image, "one", &["sleep", "1000"]).await;
    let waiting: Vec<_> = (0..500).map(|_| rig.client.watch_task("one")).collect();
    assert_eq!(rig.client.task("one").await.unwrap().status, TaskStatus::Running);
    rig.client.kill_task("one", SIGKILL).await.unwrap();
    for mut exit in waiting {
        assert_eq!(exit.within(LIMIT).await.unwrap().status, 137);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_has_its_own_output_and_exit() {
    let rig = Rig::start();
    let image = rig.image().await;
    let _task = rig.run(&image, "one", &["sleep", "1000"]).await;
    let output = rig.output_file("exec");
    let command = process(&["sh", "-c", "echo inside; exit 3"]);
    let mut started = rig.client.exec("one", "e1", &command, &output, &Output::Null).await.unwrap();
    assert_eq!(started.exit.within(LIMIT).await.unwrap().status, 3);
    assert_eq!(rig.client.delete_exec("one", "e1").await.unwrap().status, 3);
    assert_eq!(rig.output("exec"), "inside\n");

    let command = process(&["sleep", "1000"]);
    let mut started =
        rig.client.exec("one", "e2", &command, &Output::Null, &Output::Null).await.unwrap();
    rig.client.kill_exec("one", "e2", SIGKILL).await.unwrap();
    assert_eq!(started.exit.within(LIMIT).await.unwrap().status, 137);
    rig.client.delete_exec("one", "e2").await.unwrap();
    assert_eq!(rig.client.task("one").await.unwrap().status, TaskStatus::Running);

    // A program that is not there is an error, and its name can be used again.
    let missing = process(&["/bin/missing"]);
    for _ in 0..2 {
        let error =
            rig.client.exec("one", "e3", &missing, &Output::Null, &Output::Null).await.unwrap_err();
        assert!(!error.is_already_exists(), "{error}");
    }
    let error = rig.client.exec("none", "e", &missing, &output, &output).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("`none`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_task_stands_still_and_goes_on() {
    let rig = Rig::start();
    let image = rig.image().await;
    let script = "while :; do echo tick; sleep 0.01; done";
    let _task = rig.run(&image, "one", &["sh", "-c", script]).await;
    rig.wait_for_output("one", "tick").await;
    rig.client.pause_task("one").await.unwrap();
    assert_eq!(rig.client.task("one").await.unwrap().status, TaskStatus::Paused);
    let state = rig.host.cell().path("/sys/fs/cgroup/functions/one/cgroup.events".as_ref());
    let state = || fs_err::read_to_string(&state).unwrap();
    eventually("all is frozen", async || state().contains("frozen 1")).await;
    let before = rig.output("one").len();
    rig.client.resume_task("one").await.unwrap();
    eventually("nothing is frozen", async || state().contains("frozen 0")).await;
    eventually("the output goes on", async || rig.output("one").len() > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_end_a_task_and_a_missing_one_is_named() {
    let rig = Rig::start();
    let image = rig.image().await;
    let script = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.01; done";
    let mut started = rig.run(&image, "polite", &["sh", "-c", script]).await;
    rig.wait_for_output("polite", "up").await;
    rig.client.kill_task("polite", SIGTERM).await.unwrap();
    assert_eq!(started.exit.within(LIMIT).await.unwrap().status, 5);
    assert_eq!(rig.client.delete_task("polite").await.unwrap().status, 5);

    let mut started = rig.run(&image, "deaf", &["sleep", "1000"]).await;
    rig.client.kill_task("deaf", SIGKILL).await.unwrap();
    assert_eq!(started.exit.within(LIMIT).await.unwrap().status, 137);

    let error = rig.client.kill_task("none", SIGKILL).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("`none`"), "{error}");
}
