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

    /// Waits, for at most `limit`, until the reader routes by the table as it is now: whoever is
    /// told that a function answers can call it. Without a reader there is nobody to wait for.
    pub async fn settled(&self, limit: Duration) {
        let epoch = self.epoch();
        if self.updates.receiver_count() == 0 {
            return;
        }
        let mut acked = self.acked.subscribe();
        if timeout(limit, acked.wait_for(|acked| *acked >= epoch)).await.is_err() {
            debug!(epoch, "not acknowledged within its limit");
        }
    }

    /// A reader has no call left on a replica.
    pub fn drained(&self, replica: &str) {
        if let Some(waiting) = self.lock().leaving.remove(replica) {
            waiting.send_replace(true);
        }
    }

    /// Begins to listen for the word that no call is left on a replica. To be called *before* the
    /// replica leaves the table: the word may come at once.
    pub fn drain(&self, replica: &ReplicaId) -> Drain {
        let replica = replica.to_string();
        // Without a reader nobody sends calls, and nobody is waited for.
        if self.updates.receiver_count() == 0 {
            return Drain { replica, drained: None };
        }
        let leaving = &mut self.lock().leaving;
        leaving.retain(|_, sender| sender.receiver_count() > 0);
        let drained = leaving.entry(replica.clone()).or_default().subscribe();
        Drain { replica, drained: Some(drained) }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics under this lock")
    }
}

/// Waits for the calls of a replica that leaves the table.
#[derive(Debug)]
#[must_use]
pub struct Drain {
    replica: String,
    drained: Option<watch::Receiver<bool>>,
}

impl Drain {
    /// Waits until no call is left, for at most `limit`.
    pub async fn wait(self, limit: Duration) {
        let Some(mut drained) = self.drained else { return };
        if timeout(limit, drained.wait_for(|drained| *drained)).await.is_err() {
            debug!(replica = self.replica, "not drained within its limit");
        }
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
    async fn a_table_is_settled_when_its_reader_has_acknowledged_it() {
        let routes = Routes::new(100);
        routes.settled(Duration::MAX).await; // nobody reads
        routes.set_complete();
        let _reader = routes.subscribe().await;
        routes.set(&name("a"), route("1"));
        let mut settled = std::pin::pin!(routes.settled(Duration::from_secs(3600)));
        assert!(futures::poll!(&mut settled).is_pending());
        routes.ack(100);
        assert!(futures::poll!(&mut settled).is_pending());
        routes.ack(101);
        settled.await;
    }

    #[tokio::test]
    async fn a_replica_is_waited_for_until_it_is_drained_or_its_limit_is_over() {
        let routes = Routes::new(0);
        let replica = ReplicaId::new(7, 1);
        routes.drain(&replica).wait(Duration::MAX).await; // nobody reads
        routes.set_complete();
        let _reader = routes.subscribe().await;
        {
            let drain = routes.drain(&replica).wait(Duration::from_secs(3600));
            let mut drain = std::pin::pin!(drain);
            assert!(futures::poll!(&mut drain).is_pending());
            routes.ack(1);
            routes.drained("another");
            assert!(futures::poll!(&mut drain).is_pending());
            routes.drained(replica.as_str());
            drain.await;
        }
        // The word came before anybody waited for it.
        let drain = routes.drain(&replica);
        routes.drained(replica.as_str());
        drain.wait(Duration::MAX).await;

        routes.drain(&replica).wait(Duration::from_millis(1)).await;
        assert_eq!(routes.lock().leaving.len(), 1);
        let _other = routes.drain(&ReplicaId::new(7, 2));
        assert_eq!(routes.lock().leaving.len(), 1, "what nobody waits for is forgotten");
    }
}
