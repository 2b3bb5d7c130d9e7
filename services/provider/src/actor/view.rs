//! What others see of a function: the API's words, and its route.

use std::sync::Arc;

use api::event::Event;
use api::function::{Function, LiveVersion};
use api::route::{Replica, Route};
use api::switch::millis;

use super::{Actor, DirtyCheck, Measure, Message, View};
use crate::clock::rfc3339;
use crate::config::Config;
use crate::git::CommitId;
use crate::machine::Machine;
use crate::store::FunctionRecord;

impl Actor {
    /// Tells everybody when something that can be seen has changed.
    pub(super) fn publish(&mut self) {
        let serving = self.machine.serving().map(|(_, version)| version);
        let measure = serving.and_then(|version| self.measures.get(&version));
        let new = view(&self.machine, &self.record, measure, self.dirty, &self.shared.config);
        if self.view.send_if_modified(|view| {
            let changed = *view != new;
            *view = new.clone();
            changed
        }) {
            self.shared.tell(Event::Function(Box::new(new.function)));
        }
    }

    /// Puts the replica that takes calls into the route table.
    pub(super) fn publish_route(&self) {
        let replicas = self.machine.serving().and_then(|(replica, _)| {
            let address = self.members.get(replica)?.address.to_string();
            Some(Replica { id: replica.to_string(), address })
        });
        let route = Route { replicas: replicas.into_iter().collect(), timeout_ms: 0 };
        self.shared.routes.set(&self.name, Some(route));
    }

    /// Finds out whether the folder differs from the current revision.
    pub(super) fn check_dirty(&mut self) {
        if self.dirty_check != DirtyCheck::Idle {
            self.dirty_check = DirtyCheck::Again;
            return;
        }
        self.dirty_check = DirtyCheck::Running;
        let (source, shared) = (Arc::clone(&self.source), Arc::clone(&self.shared));
        let (name, number, before) = (self.name.clone(), self.record.revision, self.dirty);
        self.work(async move {
            let compare = move || -> Result<bool, api::Error> {
                if number == 0 {
                    return Ok(true);
                }
                let commit: CommitId = shared.store.revision(&name, number)?.commit.parse()?;
                Ok(source.open()?.git.dirty(Some(commit))?)
            };
            let dirty = crate::fault::blocking("comparing a folder", compare).await;
            Some(Message::Dirty(dirty.unwrap_or(before)))
        });
    }

    pub(super) fn dirty_known(&mut self, dirty: bool) {
        self.dirty = dirty;
        let again = self.dirty_check == DirtyCheck::Again;
        self.dirty_check = DirtyCheck::Idle;
        if again {
            self.check_dirty();
        }
    }
}

/// A function as the API shows it.
pub(super) fn view(
    machine: &Machine,
    record: &FunctionRecord,
    measure: Option<&Measure>,
    dirty: bool,
    config: &Config,
) -> View {
    let measure = measure.copied().unwrap_or_default();
    let live = machine.serving().map(|(_, id)| LiveVersion {
        id,
        since: rfc3339(measure.answering.unwrap_or(record.created)),
        took_ms: millis(measure.took),
        // Known together, once the version is on the disk.
        parts: if measure.took.is_zero() { Default::default() } else { measure.parts },
    });
    let name = record.name.clone();
    let function = Function {
        state: machine.state(),
        template: record.template.clone(),
        image: machine.image().to_owned(),
        revision: record.revision,
        dirty,
        live,
        url: format!("/function/{name}"),
        last_error: machine.error().cloned(),
        labels: record.labels.clone(),
        limits: config.limits.to_string(),
        created: rfc3339(record.created),
        name,
    };
    View { function, good: record.good.is_some(), record: Arc::new(record.clone()) }
}
