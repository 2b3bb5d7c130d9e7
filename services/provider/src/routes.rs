//! The route table that the gateway holds a copy of.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use api::FunctionName;
use api::route::{Route, Update};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;
use tracing::debug;

use crate::machine::ReplicaId;

/// Changes that wait for a slow reader, before it has to begin anew with a snapshot.
const BUFFER: usize = 256;

/// The table, its readers, and who waits for them.
#[derive(Debug)]
pub struct Routes {
    table: Mutex<Table>,
    updates: broadcast::Sender<Update>,
    /// Whether all replicas of before are in it: until then a reader's own copy is the better one.
    complete: watch::Sender<bool>,
    acked: watch::Sender<u64>,
}

#[derive(Debug)]
struct Table {
    epoch: u64,
    routes: BTreeMap<FunctionName, Route>,
    /// Replicas that left the table, and who wants to know when no call is left on them.
    leaving: HashMap<String, watch::Sender<bool>>,
}

impl Routes {
    /// An empty table whose epochs begin after `epoch`.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        let table = Table { epoch, routes: BTreeMap::new(), leaving: HashMap::new() };
        Self {
            table: Mutex::new(table),
            updates: broadcast::Sender::new(BUFFER),
            complete: watch::Sender::new(false),
            acked: watch::Sender::new(0),
        }
    }

    /// Lets readers in.
    pub fn set_complete(&self) {
        self.complete.send_replace(true);
    }

    /// Changes a function's route; none removes it. No change, no epoch.
    pub fn set(&self, name: &FunctionName, route: Option<Route>) {
        let mut table = self.lock();
        if table.routes.get(name) == route.as_ref() {
            return;
        }
        match &route {
            Some(route) => table.routes.insert(name.clone(), route.clone()),
            None => table.routes.remove(name),
        };
        table.epoch += 1;
        // Sent under the lock, so that readers see epochs in order. Nobody may be reading.
        let _ = self.updates.send(Update::Delta { epoch: table.epoch, name: name.clone(), route });
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// A snapshot, and all changes after it. Waits until the table is complete.
    pub async fn subscribe(&self) -> (Update, broadcast::Receiver<Update>) {
        // The sender lives as long as `self`.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
        let table = self.lock();
        let snapshot = Update::Snapshot { epoch: table.epoch, routes: table.routes.clone() };
        (snapshot, self.updates.subscribe())
    }

    /// A reader routes by this epoch now.
    pub fn ack(&self, epoch: u64) {
        self.acked.send_if_modified(|acked| {
            let newer = epoch > *acked;
            *acked = epoch.max(*acked);
            newer
        });
    }

    /// A reader has no call left on a replica.
    pub fn drained(&self, replica: &str) {
        if let Some(waiting) = self.lock().leaving.remove(replica) {
            waiting.send_replace(true);
        }
    }

    /// Waits until a replica that left the table has no call left, for at most `limit`. Without a
    /// reader nobody sends calls, and nobody is waited for.
    pub async fn leave(&self, replica: &ReplicaId, limit: Duration) {
        if self.updates.receiver_count() == 0 {
            return;
        }
        let mut waiting = {
            let mut table = self.lock();
            let sender = table.leaving.entry(replica.to_string()).or_default();
            sender.subscribe()
        };
        if timeout(limit, waiting.wait_for(|drained| *drained)).await.is_err() {
            debug!(%replica, acked = *self.acked.borrow(), "not drained within its limit");
        }
        self.lock().leaving.remove(replica.as_str());
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use api::route::Replica;

    use super::*;

    fn name(text: &str) -> FunctionName {
        text.parse().unwrap()
    }

    fn route(id: &str) -> Option<Route> {
        let replica = Replica { id: id.to_owned(), address: "10.62.0.2:8080".to_owned() };
        Some(Route { replicas: vec![replica], timeout_ms: 0 })
    }

    #[tokio::test]
    async fn a_reader_gets_a_snapshot_and_then_every_change_in_order() {
        let routes = Routes::new(100);
        routes.set(&name("a"), route("1"));
        routes.set_complete();
        let (snapshot, mut updates) = routes.subscribe().await;
        let all = [(name("a"), route("1").unwrap())].into();
        assert_eq!(snapshot, Update::Snapshot { epoch: 101, routes: all });
        routes.set(&name("a"), route("1"));
        routes.set(&name("a"), route("2"));
        routes.set(&name("a"), None);
        for (epoch, route) in [(102, route("2")), (103, None)] {
            let delta = Update::Delta { epoch, name: name("a"), route };
            assert_eq!(updates.recv().await.unwrap(), delta);
        }
        assert_eq!(routes.epoch(), 103);
    }

    #[tokio::test]
    async fn a_table_that_is_not_complete_is_shown_to_nobody() {
        let routes = Routes::new(0);
        let mut reading = std::pin::pin!(routes.subscribe());
        assert!(futures::poll!(&mut reading).is_pending());
        routes.set_complete();
        reading.await;
    }

    #[tokio::test]
    async fn a_replica_is_waited_for_until_it_is_drained_or_its_limit_is_over() {
        let routes = Routes::new(0);
        let replica = ReplicaId::new(7, 1);
        routes.leave(&replica, Duration::MAX).await; // nobody reads
        routes.set_complete();
        let _reader = routes.subscribe().await;
        {
            let mut leaving = std::pin::pin!(routes.leave(&replica, Duration::from_secs(3600)));
            assert!(futures::poll!(&mut leaving).is_pending());
            routes.ack(1);
            routes.drained("another");
            assert!(futures::poll!(&mut leaving).is_pending());
            routes.drained(replica.as_str());
            leaving.await;
        }
        routes.leave(&replica, Duration::from_millis(1)).await;
        assert!(routes.lock().leaving.is_empty());
    }
}
