//! The control socket against those who do not keep to the protocol.

use std::os::unix::fs::PermissionsExt as _;

use api::switch::{MAX_LINE, Reply, Request};

use crate::rig::{Live, switch, until};

fn invalid(reply: &Reply) -> &str {
    match reply {
        Reply::Invalid { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_line_that_is_no_request_is_said_to_be_and_the_next_one_counts() {
    let live = Live::start();
    let mut control = live.control().await;
    for bad in [
        "",
        "nonsense",
        "[]",
        "{\"op\":\"dance\"}",
        "{\"op\":\"switch\"}",
        "{\"op\":\"switch\",\"version\":-1,\"ready_ms\":1,\"spare_ms\":1}",
        "{\"op\":\"switch\",\"version\":\"../1\",\"ready_ms\":1,\"spare_ms\":1}",
    ] {
        control.send_raw(format!("{bad}\n").as_bytes()).await;
        assert!(!invalid(&control.reply().await).is_empty(), "{bad}");
    }
    control.send(&Request::Status).await;
    assert!(matches!(control.reply().await, Reply::Status { version: None, .. }));
}

#[tokio::test]
async fn a_line_without_end_or_out_of_bounds_ends_the_connection_and_nothing_else() {
    let live = Live::start();
    for bytes in [vec![b'x'; MAX_LINE + 1], b"\xff\xfe\n".to_vec()] {
        let mut control = live.control().await;
        control.send_raw(&bytes).await;
        assert!(!invalid(&control.reply().await).is_empty());
        assert_eq!(control.try_reply().await, None);
    }
    assert!(matches!(live.ask(&Request::Status).await, Reply::Status { .. }));
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let live = Live::start();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(live.control().await);
    }
    let mut ninth = live.control().await;
    ninth.send(&Request::Status).await;
    // The eight are served while the ninth waits.
    for control in &mut held {
        control.send(&Request::Status).await;
        assert!(matches!(control.reply().await, Reply::Status { .. }));
    }
    drop(held.pop());
    assert!(matches!(ninth.reply().await, Reply::Status { .. }));
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let live = Live::start();
    live.save(1, "'one'");
    let mut control = live.control().await;
    control.send(&switch(1, false)).await;
    control.send(&Request::Status).await;
    control.send(&Request::DropSpare).await;
    assert!(matches!(control.reply().await, Reply::Switched { version: 1, .. }));
    assert!(matches!(control.reply().await, Reply::Status { .. }));
    assert_eq!(control.reply().await, Reply::Dropped);
}

#[tokio::test]
async fn whoever_leaves_before_the_answer_has_still_asked() {
    let live = Live::start();
    live.save(1, "'one'");
    live.control().await.send(&switch(1, false)).await;
    until("version 1 serves", async || {
        matches!(live.ask(&Request::Status).await, Reply::Status { version: Some(1), .. })
    })
    .await;
    live.watchdog.get("/").await.assert(200, "one");
}

#[tokio::test]
async fn absurd_limits_are_cut() {
    let live = Live::start();
    live.save(1, "'one'");
    let request = Request::Switch { version: 1, ready_ms: u64::MAX, spare_ms: u64::MAX };
    assert!(matches!(live.ask(&request).await, Reply::Switched { .. }));
    live.wait_spare().await;
}

#[tokio::test]
async fn the_socket_is_its_owners_and_a_left_one_is_replaced() {
    let live = Live::start();
    let socket = live.watchdog.dir().join("run/control.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let dir = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(dir.path().join("run")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("run/control.sock")).unwrap());
    let vars =
        [("mode", "http"), ("upstream_url", "http://127.0.0.1:5000"), ("fprocess", "sleep 3600")];
    let watchdog = crate::rig::Watchdog::start_in(dir, &[], &vars);
    let live = Live { watchdog };
    assert!(matches!(live.ask(&Request::Status).await, Reply::Status { .. }));
}
