//! The end of a gateway: in order, or at once.

use fs_err as fs;
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::replica::Replica;
use crate::world::{World, change, twice, until, within};

/// Waits until nobody listens on the functions' origin.
async fn closed(world: &World) {
    until(async || TcpStream::connect(world.gateway.functions).await.is_err()).await;
}

#[tokio::test]
async fn a_stop_lets_running_calls_end_and_cuts_streams_that_have_no_end() {
    let mut world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let parts = replica.next_stream();
    parts.send("data: 1\n\n".into()).await.unwrap();
    let mut endless = within(world.get("/function/hello/stream").send()).await.unwrap();
    within(endless.chunk()).await.unwrap().unwrap();
    let running = tokio::spawn(world.get("/function/hello/wait").send());
    within(replica.inner.arrived.notified()).await;

    world.gateway.signal(Signal::SIGTERM);
    assert!(within(endless.chunk()).await.is_err(), "it is cut, not ended");
    closed(&world).await;
    // The provider is still listened to: calls that end now are reported.
    world.provider.route("hello", &[]).await;
    replica.inner.go.add_permits(1);
    let answer = within(running).await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), replica.id);
    assert!(world.gateway.ended().await.success());
}

#[tokio::test]
async fn a_stop_cuts_changed_connections_without_waiting_for_them() {
    let mut world = World::start(&["--drain", "3600"]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let (mut stream, _) = change(world.gateway.functions, "/function/hello/upgrade", "").await;
    twice(&mut stream).await;
    world.gateway.signal(Signal::SIGTERM);
    let rest = within(stream.read_to_end(&mut Vec::new())).await;
    assert_eq!(rest.unwrap_or(0), 0);
    assert!(world.gateway.ended().await.success());
}

#[tokio::test]
async fn a_stop_has_a_limit_and_tells_what_it_cut() {
    let mut world = World::start(&["--drain", "0"]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let running = tokio::spawn(world.get("/function/hello/wait").send());
    within(replica.inner.arrived.notified()).await;
    world.gateway.signal(Signal::SIGTERM);
    assert!(within(running).await.unwrap().is_err());
    assert_eq!(world.gateway.ended().await.code(), Some(1));
    let log = fs::read_to_string(world.dir.path().join("gateway.log")).unwrap();
    assert!(log.contains("cut 1 connections with calls still running"), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut world = World::start(&["--drain", "3600"]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let running = tokio::spawn(world.get("/function/hello/wait").send());
    within(replica.inner.arrived.notified()).await;
    world.gateway.signal(Signal::SIGINT);
    closed(&world).await;
    world.gateway.signal(Signal::SIGINT);
    assert_eq!(world.gateway.ended().await.code(), Some(1));
    assert!(within(running).await.unwrap().is_err());
}

#[tokio::test]
async fn what_it_cannot_start_with_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = |flags: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["--functions", "127.0.0.1:0", "--console", "127.0.0.1:0"])
            .args(["--run".as_ref(), dir.path().as_os_str()])
            .args(flags)
            .output()
            .unwrap()
    };
    let said = run(&["--password-file", "/nowhere/password"]);
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("reading the password") && text.contains("/nowhere/password"), "{text}");
    let said = run(&[]);
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("--password-file"));
}
