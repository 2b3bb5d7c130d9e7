//! The table as calls see it, without any replica behind it.

use std::collections::BTreeMap;

use api::route::{Route, Update};
use futures::FutureExt;

use super::*;

fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}

fn update(epoch: u64, routes: &[(&str, &[&str])]) -> Update {
    let replica = |id: &&str| Replica { id: (*id).to_owned(), address: "127.0.0.1:1".into() };
    let route = |ids: &[&str]| Route { replicas: ids.iter().map(replica).collect(), timeout_ms: 0 };
    let routes: BTreeMap<_, _> = routes.iter().map(|(it, ids)| (name(it), route(ids))).collect();
    Update::Snapshot { epoch, routes }
}

/// A table and what calls see of it, kept in step.
struct Both {
    table: Table,
    live: Live,
}

impl Both {
    fn new() -> Self {
        Self { table: Table::default(), live: Live::new(8) }
    }

    fn set(&mut self, epoch: u64, routes: &[(&str, &[&str])]) -> Vec<Arc<Upstream>> {
        let changes = self.table.apply(update(epoch, routes)).unwrap();
        self.live.publish(&self.table, &changes)
    }

    fn target(&self, function: &str) -> Arc<Target> {
        match self.live.view().look_up(&name(function)) {
            Lookup::Found(target) => target,
            other => panic!("{function}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_name_is_unknown_only_once_there_is_a_table() {
    let mut both = Both::new();
    let mut view = both.live.view();
    assert!(matches!(view.look_up(&name("a")), Lookup::NoTable));
    both.set(1, &[("a", &[])]);
    view.changed().now_or_never().expect("the view sees the change");
    assert!(matches!(view.look_up(&name("a")), Lookup::Found(_)));
    assert!(matches!(view.look_up(&name("b")), Lookup::Unknown));
    assert!(view.changed().now_or_never().is_none(), "what was seen is not new");
}

#[tokio::test]
async fn calls_go_to_the_replica_with_the_fewest_and_in_turn_among_equals() {
    let mut both = Both::new();
    both.set(1, &[("a", &["1", "2", "3"])]);
    let target = both.target("a");
    let calls: Vec<Call> = (0..6).map(|_| target.pick(&[]).unwrap()).collect();
    assert!(target.upstreams.iter().all(|it| it.in_flight() == 2));
    let busy: Vec<Call> = calls.into_iter().filter(|call| call.0.id != "2").collect();
    assert_eq!(target.pick(&[]).unwrap().0.id, "2");
    drop(busy);
    let mut ids: Vec<String> = (0..3).map(|_| target.pick(&[]).unwrap().0.id.clone()).collect();
    ids.sort();
    assert_eq!(ids, ["1", "2", "3"], "equals take turns");

    let failed = [Arc::clone(&target.upstreams[0]), Arc::clone(&target.upstreams[2])];
    assert_eq!(target.pick(&failed).unwrap().0.id, "2");
    assert!(target.pick(&target.upstreams).is_none());
}

#[tokio::test]
async fn a_replica_that_left_is_drained_when_its_last_call_ends() {
    let mut both = Both::new();
    both.set(1, &[("a", &["old"])]);
    let before = both.target("a");
    let calls = [before.pick(&[]).unwrap(), before.pick(&[]).unwrap()];
    let left = both.set(2, &[("a", &["new"])]);
    assert_eq!(left.iter().map(|it| &*it.id).collect::<Vec<_>>(), ["old"]);
    assert!(before.pick(&[]).is_none(), "a call that saw the old table is turned away");
    assert_eq!(both.target("a").pick(&[]).unwrap().0.id, "new");

    let [first, second] = calls;
    drop(first);
    assert!(left[0].drained().now_or_never().is_none());
    drop(second);
    left[0].drained().now_or_never().expect("no call is left");
}

#[tokio::test]
async fn an_idle_replica_is_drained_at_once_and_one_that_stays_keeps_its_count() {
    let mut both = Both::new();
    both.set(1, &[("a", &["1", "2"])]);
    let call = both.target("a").pick(&[]).unwrap();
    let (busy, idle) = if call.0.id == "1" { ("1", "2") } else { ("2", "1") };
    let left = both.set(2, &[("a", &[busy])]);
    assert_eq!(left[0].id, idle);
    left[0].drained().now_or_never().expect("it had no call");
    assert_eq!(both.target("a").upstreams[0].in_flight(), 1, "the same replica, the same count");
    assert_eq!(both.set(3, &[]).len(), 1);
}

#[tokio::test]
async fn a_replica_whose_address_is_none_is_left_out() {
    let mut both = Both::new();
    let mut broken = update(1, &[("a", &["1", "2"])]);
    if let Update::Snapshot { routes, .. } = &mut broken {
        routes.get_mut(&name("a")).unwrap().replicas[0].address = "example.com:80".into();
    }
    let changes = both.table.apply(broken).unwrap();
    both.live.publish(&both.table, &changes);
    assert_eq!(both.target("a").upstreams.len(), 1);
}
