//! What all functions stand on.

use std::sync::Arc;

use api::event::Event;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::builds::Builds;
use crate::config::Config;
use crate::replica::Replicas;
use crate::routes::Routes;
use crate::store::Store;
use crate::templates::Templates;

/// Changes that wait for a slow reader before it has to begin anew.
pub(crate) const EVENTS: usize = 1024;

/// What all functions stand on.
#[derive(Debug)]
pub struct Shared {
    /// As it was started.
    pub config: Config,
    /// What outlives a restart.
    pub store: Arc<Store>,
    /// Where replicas are made.
    pub replicas: Arc<Replicas>,
    /// The builder.
    pub buildkit: buildkit::Client,
    /// What functions are made from.
    pub templates: Templates,
    /// Who takes which calls.
    pub routes: Routes,
    /// What is and was built.
    pub builds: Builds,
    /// Cancelled when all ends.
    pub stop: CancellationToken,
    /// All that changes.
    pub(crate) events: broadcast::Sender<Event>,
}

impl Shared {
    /// Tells whoever listens.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(event); // nobody may be listening
    }

    /// All that changes from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
