//! Events, and what stays when containerd is killed.

use containerd::events::{Event, Events};
use containerd::tasks::{Output, SIGKILL, TaskStatus};
use nix::sys::signal::Signal;
use testkit::Daemon;

use crate::support::{IMAGE, LIMIT, Rig, eventually, process};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_does_is_told_in_order() {
    let rig = Rig::start();
    let image = rig.image().await;
    let mut events = rig.client.events(&["^/tasks/"]);
    assert_eq!(next(&mut events).await, Event::Connected);
    let mut task = rig.run(&image, "one", &["sleep", "1000"]).await;
    rig.client.pause_task("one").await.unwrap();
    rig.client.resume_task("one").await.unwrap();
    let (command, null) = (process(&["sh", "-c", "exit 4"]), Output::Null);
    let exec = rig.client.exec("one", "e1", &command, &null, &null).await.unwrap();
    let exec_pid = exec.pid;
    exec.exit.await.unwrap();
    rig.client.kill_task("one", SIGKILL).await.unwrap();
    task.exit.within(LIMIT).await.unwrap();

    let container = || "one".to_owned();
    let other = |topic: &str| Event::Other { topic: topic.to_owned() };
    let exec = Some("e1".to_owned());
    for expected in [
        Event::TaskCreated { container: container(), pid: task.pid },
        Event::TaskStarted { container: container(), pid: task.pid },
        Event::TaskPaused { container: container() },
        Event::TaskResumed { container: container() },
        other("/tasks/exec-added"),
        other("/tasks/exec-started"),
        Event::TaskExited { container: container(), exec, pid: exec_pid, status: 4 },
        Event::TaskExited { container: container(), exec: None, pid: task.pid, status: 137 },
    ] {
        assert_eq!(next(&mut events).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_containerd_was_killed_tasks_run_on_and_are_in_hand_again() {
    let mut rig = Rig::start();
    let image = rig.image().await;
    let mut events = rig.client.events(&["^/tasks/"]);
    assert_eq!(next(&mut events).await, Event::Connected);
    let script = "while :; do echo tick; sleep 0.05; done";
    let mut started = rig.run(&image, "one", &["sh", "-c", script]).await;
    rig.wait_for_output("one", "tick").await;

    rig.host.stop_daemon(Daemon::Containerd, Signal::SIGKILL).unwrap();
    let error = rig.client.tasks().await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    let before = rig.output("one").len();
    eventually("the task runs on", async || rig.output("one").len() > before).await;
    rig.host.start_daemon(Daemon::Containerd).unwrap();
    rig.client.wait_ready(LIMIT).await.unwrap();

    // Events of the time before may still come; then the call to list anew.
    while next(&mut events).await != Event::Connected {}
    let tasks = rig.client.tasks().await.unwrap();
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].pid, tasks[0].status), (started.pid, TaskStatus::Running));
    rig.client.kill_task("one", SIGKILL).await.unwrap();
    // The exit that was registered before the kill -9 arrives all the same.
    assert_eq!(started.exit.within(LIMIT).await.unwrap().status, 137);
    let exited = Event::TaskExited {
        container: "one".to_owned(),
        exec: None,
        pid: started.pid,
        status: 137,
    };
    assert_eq!(next(&mut events).await, exited);
    rig.client.cleanup("one", LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_too_slow_is_told_to_list_anew() {
    let rig = Rig::start();
    rig.client.import_layout(&rig.layout("layout"), |_| ()).await.unwrap();
    let target = rig.client.image(IMAGE).await.unwrap().target;
    let mut events = rig.client.events(&[]);
    assert_eq!(next(&mut events).await, Event::Connected);
    let lease = rig.client.lease("test", LIMIT).await.unwrap();
    // One more than the buffer holds.
    for _ in 0..1025 {
        lease.put_image(IMAGE, &target).await.unwrap();
    }
    lease.release().await.unwrap();
    let update = Event::Other { topic: "/images/update".to_owned() };
    for _ in 0..1024 {
        assert_eq!(next(&mut events).await, update);
    }
    assert_eq!(next(&mut events).await, Event::Connected);
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(LIMIT, events.next()).await.expect("an event comes")
}
