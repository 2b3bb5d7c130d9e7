//! Replicas come and go under calls, and no call notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Method;
use serde_json::Value;

use crate::provider::route;
use crate::replica::{Replica, closes_without_answer};
use crate::world::{World, within};

/// Calls until told to stop; gives how many calls were answered, or the first that was not.
async fn keep_calling(
    world: Arc<World>,
    stop: Arc<AtomicBool>,
    method: Method,
) -> Result<usize, String> {
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut request = world.call(method.clone(), "/function/hello/id");
        if method == Method::POST {
            request = request.body("some body");
        }
        let answer = within(request.send()).await.map_err(|it| format!("{it:?}"))?;
        let status = answer.status();
        let said = answer.text().await.map_err(|it| format!("{it:?}"))?;
        if status != 200 {
            return Err(format!("{method}: {status} {said}"));
        }
        count += 1;
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_replicas_are_replaced_in_order() {
    let world = Arc::new(World::start(&[]).await);
    let mut replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let method = if number % 2 == 0 { Method::GET } else { Method::POST };
            tokio::spawn(keep_calling(Arc::clone(&world), Arc::clone(&stop), method))
        })
        .collect();
    for _ in 0..20 {
        let next = Replica::start().await;
        world.provider.route("hello", &[&next]).await;
        world.provider.drained(&replica.id).await;
        replica.stop().await;
        replica = next;
        // It serves before it is replaced in turn.
        replica.served(1).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut total = 0;
    for caller in callers {
        total += within(caller).await.unwrap().unwrap();
    }
    assert!(total >= 20, "{total} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_repeatable_call_fails_when_a_replica_dies_before_it_is_replaced() {
    let world = Arc::new(World::start(&[]).await);
    let mut replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| tokio::spawn(keep_calling(Arc::clone(&world), Arc::clone(&stop), Method::GET)))
        .collect();
    for _ in 0..10 {
        // Every caller had its turn: no call is hit by one death after another.
        replica.served(32).await;
        replica.kill().await;
        let next = Replica::start().await;
        world.provider.route("hello", &[&next]).await;
        replica = next;
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        within(caller).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_refused_connection_sends_the_call_with_its_body_to_another_replica() {
    let world = World::start(&[]).await;
    let (dead, alive) = (Replica::start().await, Replica::start().await);
    world.provider.route("hello", &[&dead, &alive]).await;
    dead.kill().await;
    for number in 0..6 {
        let body = format!("body {number}");
        let request = world.call(Method::POST, "/function/hello/echo").body(body.clone());
        assert_eq!(within(request.send()).await.unwrap().text().await.unwrap(), body);
    }
}

#[tokio::test]
async fn a_call_that_may_have_run_is_repeated_only_if_that_does_no_harm() {
    let world = World::start(&[]).await;
    let (closes, heads) = closes_without_answer().await;
    let mut both = route(&[]);
    both.replicas = vec![closes];
    world.provider.acked(world.provider.set_route("hello", Some(both.clone()))).await;

    let request = world.call(Method::POST, "/function/hello/id");
    let answer = within(request.send()).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["x-openfaas-internal"], "proxy");
    let said: Value = answer.json().await.unwrap();
    assert!(said["error"]["hint"].as_str().unwrap().contains("may have run"), "{said}");
    assert_eq!(heads.load(Ordering::SeqCst), 1, "it was sent once");

    // What may be repeated is, but not without end: the call may be what kills the function.
    let answer = within(world.get("/function/hello/id").send()).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(heads.load(Ordering::SeqCst), 1 + 4);

    let alive = Replica::start().await;
    both.replicas.push(alive.entry());
    world.provider.acked(world.provider.set_route("hello", Some(both))).await;
    for _ in 0..4 {
        let answer = within(world.get("/function/hello/id").send()).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), alive.id);
    }
    assert!(heads.load(Ordering::SeqCst) > 5, "some went there first");
}

#[tokio::test]
async fn a_replica_is_reported_as_drained_only_after_its_last_call() {
    let world = World::start(&[]).await;
    let (old, new) = (Replica::start().await, Replica::start().await);
    world.provider.route("hello", &[&old]).await;
    let running = tokio::spawn(world.get("/function/hello/wait").send());
    within(old.inner.arrived.notified()).await;
    world.provider.route("hello", &[&new]).await;
    let answer = within(world.get("/function/hello/id").send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), new.id);
    assert!(world.provider.all_drained().is_empty());
    old.inner.go.add_permits(1);
    let answer = within(running).await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), old.id);
    world.provider.drained(&old.id).await;
    assert_eq!(world.provider.all_drained(), [&*old.id]);
    old.stop().await;
}

#[tokio::test]
async fn calls_are_spread_over_the_replicas() {
    let world = World::start(&[]).await;
    let replicas = [Replica::start().await, Replica::start().await];
    world.provider.route("hello", &[&replicas[0], &replicas[1]]).await;
    let first = tokio::spawn(world.get("/function/hello/wait").send());
    let second = tokio::spawn(world.get("/function/hello/wait").send());
    let served = AtomicUsize::new(0);
    for replica in &replicas {
        within(replica.inner.arrived.notified()).await;
        served.fetch_add(1, Ordering::SeqCst);
        replica.inner.go.add_permits(1);
    }
    for call in [first, second] {
        assert_eq!(within(call).await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(served.load(Ordering::SeqCst), 2, "a busy replica is left out");
}
