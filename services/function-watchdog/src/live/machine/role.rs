//! What a worker is for.

use std::time::Instant;

use api::switch::{Times, millis};

use super::words::Ticket;

/// What a worker is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Role {
    /// Has loaded, or loads, all but the user's code.
    Spare { loaded: bool },
    /// On its way to serve.
    Starting(Starting),
    /// Gets all calls.
    Serving { version: u64, since: Instant },
    /// Finishes its last calls.
    Draining,
    /// Was told to end.
    Ending,
}

/// A worker on its way to serve.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Starting {
    pub(super) version: u64,
    /// Who asked; nobody when it replaces a worker that died.
    pub(super) ticket: Option<Ticket>,
    pub(super) asked: Instant,
    pub(super) loaded: Option<Instant>,
    pub(super) origin: Origin,
}

/// Where a starting worker came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A process of its own.
    New,
    /// A spare; `loaded`: it had loaded when it was asked.
    Spare { loaded: bool },
}

impl Starting {
    /// Where the time of a switch went. A process that never said that it had loaded counts as
    /// starting all the time.
    pub(super) fn times(&self, now: Instant) -> Times {
        let ms = |from: Instant, to: Instant| millis(to.saturating_duration_since(from));
        let loaded = self.loaded.unwrap_or(now);
        Times {
            spare: self.origin == Origin::Spare { loaded: true },
            start_ms: ms(self.asked, loaded),
            load_ms: ms(loaded, now),
            total_ms: ms(self.asked, now),
        }
    }
}
