//! The pure core of the route table: updates in, changes out.

use std::collections::{BTreeMap, BTreeSet};

use api::FunctionName;
use api::route::{Replica, Route, Update};

/// A copy of the provider's table; unknown until the first snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    epoch: Option<u64>,
    routes: BTreeMap<FunctionName, Route>,
}

/// What one update changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Functions whose route is new, different or gone.
    pub(crate) functions: BTreeSet<FunctionName>,
    /// Identifiers of replicas that take no new calls any more.
    pub(crate) left: Vec<String>,
}

/// An update that does not follow from the table: some were missed, and it must be read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the route table is at epoch {have:?}, the provider at {got}")]
pub(crate) struct Gap {
    have: Option<u64>,
    got: u64,
}

impl Table {
    /// Takes an update over. A snapshot always fits; a delta and a ping have to follow.
    pub(crate) fn apply(&mut self, update: Update) -> Result<Changes, Gap> {
        match update {
            Update::Snapshot { epoch, routes } => {
                self.epoch = Some(epoch);
                let old = std::mem::replace(&mut self.routes, routes);
                Ok(self.changes(&old))
            }
            Update::Delta { epoch, name, route } => {
                if self.epoch.and_then(|have| have.checked_add(1)) != Some(epoch) {
                    return Err(Gap { have: self.epoch, got: epoch });
                }
                self.epoch = Some(epoch);
                let old = match route {
                    Some(route) => self.routes.insert(name.clone(), route),
                    None => self.routes.remove(&name),
                };
                let new = self.routes.get(&name);
                let mut changes = Changes::default();
                if old.as_ref() != new {
                    changes.add(&name, old.as_ref(), new);
                }
                Ok(changes)
            }
            Update::Ping { epoch } if self.epoch == Some(epoch) => Ok(Changes::default()),
            Update::Ping { epoch } => Err(Gap { have: self.epoch, got: epoch }),
        }
    }

    /// Number of the state; none before the first snapshot.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// The route of a function.
    pub(crate) fn route(&self, name: &FunctionName) -> Option<&Route> {
        self.routes.get(name)
    }

    /// Whether some function has this replica.
    pub(crate) fn has_replica(&self, id: &str) -> bool {
        self.routes.values().any(|route| has(route, id))
    }

    /// The whole table as one update; none before the first snapshot.
    pub(crate) fn snapshot(&self) -> Option<Update> {
        self.epoch.map(|epoch| Update::Snapshot { epoch, routes: self.routes.clone() })
    }

    fn changes(&self, old: &BTreeMap<FunctionName, Route>) -> Changes {
        let mut changes = Changes::default();
        let names: BTreeSet<_> = old.keys().chain(self.routes.keys()).collect();
        for name in names {
            let (old, new) = (old.get(name), self.routes.get(name));
            if old != new {
                changes.add(name, old, new);
            }
        }
        changes
    }
}

impl Changes {
    fn add(&mut self, name: &FunctionName, old: Option<&Route>, new: Option<&Route>) {
        self.functions.insert(name.clone());
        let replicas = old.map_or(&[][..], |route| &route.replicas);
        let gone = |it: &&Replica| !new.is_some_and(|route| has(route, &it.id));
        self.left.extend(replicas.iter().filter(gone).map(|it| it.id.clone()));
    }
}

fn has(route: &Route, id: &str) -> bool {
    route.replicas.iter().any(|it| it.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FunctionName {
        text.parse().unwrap()
    }

    fn route(ids: &[&str]) -> Route {
        let replica = |id: &&str| Replica { id: (*id).to_owned(), address: "127.0.0.1:1".into() };
        Route { replicas: ids.iter().map(replica).collect(), timeout_ms: 0 }
    }

    fn snapshot(epoch: u64, routes: &[(&str, &[&str])]) -> Update {
        let routes = routes.iter().map(|(it, ids)| (name(it), route(ids))).collect();
        Update::Snapshot { epoch, routes }
    }

    fn delta(epoch: u64, function: &str, ids: Option<&[&str]>) -> Update {
        Update::Delta { epoch, name: name(function), route: ids.map(route) }
    }

    /// Applies an update and compares the names of changed functions and of replicas that left.
    #[track_caller]
    fn check(table: &mut Table, update: Update, functions: &[&str], left: &[&str]) {
        let changes = table.apply(update).unwrap();
        let changed: Vec<String> = changes.functions.iter().map(ToString::to_string).collect();
        assert_eq!((&*changed, &*changes.left), (&*own(functions), &*own(left)));
    }

    fn own(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&it| it.to_owned()).collect()
    }

    #[test]
    fn deltas_follow_a_snapshot_and_tell_what_left() {
        let mut table = Table::default();
        check(&mut table, snapshot(7, &[("a", &["a1"]), ("b", &["b1", "b2"])]), &["a", "b"], &[]);
        check(&mut table, delta(8, "a", Some(&["a1", "a2"])), &["a"], &[]);
        check(&mut table, delta(9, "a", Some(&["a2"])), &["a"], &["a1"]);
        check(&mut table, delta(10, "a", Some(&["a2"])), &[], &[]);
        check(&mut table, delta(11, "b", None), &["b"], &["b1", "b2"]);
        check(&mut table, delta(12, "b", None), &[], &[]);
        check(&mut table, Update::Ping { epoch: 12 }, &[], &[]);
        assert_eq!(table.epoch(), Some(12));
        assert!(table.has_replica("a2") && !table.has_replica("b1"));
        assert_eq!(table.route(&name("a")), Some(&route(&["a2"])));
        assert_eq!(table.route(&name("b")), None);
    }

    #[test]
    fn a_snapshot_replaces_everything_even_when_its_epoch_is_lower() {
        let mut table = Table::default();
        check(&mut table, snapshot(7, &[("a", &["a1"]), ("b", &["b1"])]), &["a", "b"], &[]);
        check(&mut table, snapshot(3, &[("b", &["b1"]), ("c", &["c1"])]), &["a", "c"], &["a1"]);
        assert_eq!(table.epoch(), Some(3));
    }

    #[test]
    fn what_does_not_follow_is_a_gap_and_changes_nothing() {
        let mut table = Table::default();
        assert!(table.apply(delta(0, "a", None)).is_err(), "a delta before any snapshot");
        assert!(table.apply(Update::Ping { epoch: 0 }).is_err());
        check(&mut table, snapshot(7, &[("a", &["a1"])]), &["a"], &[]);
        let before = table.clone();
        for update in [delta(7, "a", None), delta(9, "a", None), Update::Ping { epoch: 8 }] {
            let gap = table.apply(update).unwrap_err();
            assert_eq!(gap.have, Some(7));
            assert_eq!(table, before);
        }
    }

    #[test]
    fn a_table_survives_as_its_own_snapshot() {
        assert_eq!(Table::default().snapshot(), None);
        let mut table = Table::default();
        check(&mut table, snapshot(7, &[("a", &["a1"])]), &["a"], &[]);
        let mut copy = Table::default();
        copy.apply(table.snapshot().unwrap()).unwrap();
        assert_eq!(copy, table);
    }
}
