//! What calls use: every function's replicas with their connections and counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::FunctionName;
use api::route::Replica;
use http::uri::Authority;
use tokio::sync::{Semaphore, watch};
use tracing::error;

use super::table::{Changes, Table};

mod upstream;

pub(crate) use upstream::{Call, Upstream};

/// The table as calls see it. Reading takes no lock that a writer holds for long.
#[derive(Debug)]
pub(crate) struct Live {
    state: watch::Sender<Arc<State>>,
    calls: usize,
}

/// One state of the table; never changes once calls can see it.
#[derive(Clone, Debug, Default)]
struct State {
    known: bool,
    targets: HashMap<FunctionName, Arc<Target>>,
}

/// A function as calls see it.
#[derive(Debug)]
pub(crate) struct Target {
    upstreams: Vec<Arc<Upstream>>,
    /// Limit of one call's silence; none means the gateway's own.
    pub(crate) timeout: Option<Duration>,
    /// One permit for every call that the function may have at a time.
    pub(crate) permits: Arc<Semaphore>,
    turn: AtomicUsize,
}

/// What the table says of a name.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// There is such a function.
    Found(Arc<Target>),
    /// There is none.
    Unknown,
    /// There is no table yet.
    NoTable,
}

impl Live {
    /// An unknown table. A function may have `calls` calls at a time.
    pub(crate) fn new(calls: usize) -> Self {
        Self { state: watch::Sender::new(Arc::default()), calls }
    }

    /// A view that follows the table.
    pub(crate) fn view(&self) -> View {
        View(self.state.subscribe())
    }

    /// Lets calls see the table after some changes. Gives the replicas that take no new calls.
    pub(crate) fn publish(&self, table: &Table, changes: &Changes) -> Vec<Arc<Upstream>> {
        let old = Arc::clone(&self.state.borrow());
        let mut new = State { known: table.epoch().is_some(), targets: old.targets.clone() };
        let mut left = Vec::new();
        for name in &changes.functions {
            let before = old.targets.get(name);
            let after = table.route(name).map(|route| {
                let upstreams =
                    route.replicas.iter().filter_map(|it| keep_or_make(before, name, it)).collect();
                Arc::new(Target {
                    upstreams,
                    timeout: Some(route.timeout_ms).filter(|&ms| ms > 0).map(Duration::from_millis),
                    permits: before.map_or_else(
                        || Arc::new(Semaphore::new(self.calls)),
                        |it| Arc::clone(&it.permits),
                    ),
                    turn: AtomicUsize::new(0),
                })
            });
            let stays = |it: &Arc<Upstream>| {
                after.as_ref().is_some_and(|now| now.upstreams.iter().any(|up| Arc::ptr_eq(up, it)))
            };
            let upstreams = before.map_or(&[][..], |it| &it.upstreams);
            left.extend(upstreams.iter().filter(|it| !stays(it)).cloned());
            match after {
                Some(target) => new.targets.insert(name.clone(), target),
                None => new.targets.remove(name),
            };
        }
        self.state.send_replace(Arc::new(new));
        // Only now: a call that is turned away finds the new state.
        for upstream in &left {
            upstream.close();
        }
        left
    }
}

/// A reader's place in the sequence of states.
#[derive(Debug)]
pub(crate) struct View(watch::Receiver<Arc<State>>);

impl View {
    /// Looks a name up in the newest state.
    pub(crate) fn look_up(&mut self, name: &FunctionName) -> Lookup {
        let state = self.0.borrow_and_update();
        match state.targets.get(name) {
            Some(target) => Lookup::Found(Arc::clone(target)),
            None if state.known => Lookup::Unknown,
            None => Lookup::NoTable,
        }
    }

    /// Waits for a state newer than the one that was looked at last.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The table is gone because the process ends.
            std::future::pending::<()>().await;
        }
    }
}

impl Target {
    /// Begins a call on the replica with the fewest, in turn among equals, leaving out `failed`.
    pub(crate) fn pick(&self, failed: &[Arc<Upstream>]) -> Option<Call> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.upstreams.len();
        (0..count)
            .map(|step| &self.upstreams[turn.wrapping_add(step) % count])
            .filter(|it| !failed.iter().any(|other| Arc::ptr_eq(it, other)))
            .min_by_key(|it| it.in_flight())
            .and_then(Upstream::begin)
    }
}

fn keep_or_make(
    before: Option<&Arc<Target>>,
    name: &FunctionName,
    replica: &Replica,
) -> Option<Arc<Upstream>> {
    let address: Authority = match replica.address.parse::<std::net::SocketAddr>() {
        Ok(address) => address.to_string().parse().expect("a socket address is an authority"),
        Err(_) => {
            let address = &replica.address;
            error!(function = %name, replica = replica.id, address, "left out: no IP:PORT");
            return None;
        }
    };
    let kept = before.and_then(|target| {
        target.upstreams.iter().find(|it| it.id == replica.id && it.address == address)
    });
    Some(kept.cloned().unwrap_or_else(|| Arc::new(Upstream::new(replica.id.clone(), address))))
}

#[cfg(test)]
mod tests;
