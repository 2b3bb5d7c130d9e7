//! The route table: read from the provider, kept without it.

use fs_err as fs;
use nix::sys::signal::Signal;

use crate::replica::Replica;
use crate::world::{Gateway, World, until, within};

/// Calls `hello` and gives the replica that answered.
async fn answers(world: &World) -> String {
    let answer = within(world.get("/function/hello/id").send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

#[tokio::test]
async fn the_table_follows_the_provider_and_is_acknowledged() {
    let world = World::start(&[]).await;
    let (one, two) = (Replica::start().await, Replica::start().await);
    world.provider.route("hello", &[&one]).await;
    assert_eq!(answers(&world).await, one.id);
    world.provider.route("hello", &[&two]).await;
    assert_eq!(answers(&world).await, two.id);
    world.provider.acked(world.provider.set_route("hello", None)).await;
    assert_eq!(within(world.get("/function/hello/id").send()).await.unwrap().status(), 404);
    world.provider.drained(&two.id).await;
}

#[tokio::test]
async fn a_gap_in_the_stream_makes_the_gateway_read_anew() {
    let world = World::start(&[]).await;
    let (lost, other) = (Replica::start().await, Replica::start().await);
    world.provider.read(1).await;
    world.provider.set_unheard("hello", &[&lost]);
    world.provider.route("other", &[&other]).await;
    world.provider.read(2).await;
    assert_eq!(answers(&world).await, lost.id);
}

#[tokio::test]
async fn calls_go_on_without_the_provider_and_the_table_is_read_anew_when_it_is_back() {
    let mut world = World::start(&[]).await;
    let (one, two) = (Replica::start().await, Replica::start().await);
    world.provider.route("hello", &[&one]).await;
    world.provider.vanish().await;
    assert_eq!(answers(&world).await, one.id);
    let epoch = world.provider.set("hello", &[&two]);
    assert_eq!(answers(&world).await, one.id);
    world.provider.appear();
    world.provider.acked(epoch).await;
    assert_eq!(answers(&world).await, two.id);
    world.provider.drained(&one.id).await;
}

#[tokio::test]
async fn a_killed_gateway_comes_back_with_its_table_and_without_the_provider() {
    let mut world = World::start(&[]).await;
    let replica = Replica::start().await;
    world.provider.route("hello", &[&replica]).await;
    // Kept on the disk at once, not only in an orderly stop.
    let file = world.dir.path().join("run/routes.json");
    let saved = async || fs::read_to_string(&file).is_ok_and(|text| text.contains(&replica.id));
    until(saved).await;
    world.provider.vanish().await;
    world.gateway.signal(Signal::SIGKILL);
    world.gateway.ended().await;
    world.gateway = Gateway::start(world.dir.path(), &[]).await;
    assert_eq!(answers(&world).await, replica.id);
    // What the saved table does not know is unknown, not held.
    assert_eq!(within(world.get("/function/other").send()).await.unwrap().status(), 404);
}

#[tokio::test]
async fn before_the_first_table_a_call_is_held_even_if_the_saved_one_is_damaged() {
    let mut world = World::without_provider(&["--hold", "0"]).await;
    let answer = within(world.get("/function/hello/id").send()).await.unwrap();
    assert_eq!(answer.status(), 503, "nobody knows whether there is such a function");
    world.gateway.signal(Signal::SIGKILL);
    world.gateway.ended().await;

    fs::write(world.dir.path().join("run/routes.json"), "{\"type\":\"snap").unwrap();
    world.gateway = Gateway::start(world.dir.path(), &[]).await;
    let held = tokio::spawn(world.get("/function/hello/id").send());
    let replica = Replica::start().await;
    world.provider.set("hello", &[&replica]);
    world.provider.appear();
    let answer = within(held).await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), replica.id);
}
