//! `supervise:` as it is written.

use serde::{Deserialize, Serialize};

use super::probe::{MaybeHealth, MaybeReady};
use super::{Data, Failed, Restart, Runtime, Start, Stop, Time};

/// Idle time of a service on demand that names none.
const IDLE: Time = Time::from_secs(15 * 60);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Supervise {
    runtime: Runtime,
    after: Vec<String>,
    restart: Restart,
    ready: MaybeReady,
    health: MaybeHealth,
    stop: Stop,
    start: When,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<Time>,
    data: Vec<Data>,
    critical: bool,
    failed: Failed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum When {
    #[default]
    Boot,
    OnDemand,
}

/// Keys that are right one by one and wrong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Contradiction {
    #[error("`idle` stops a service that starts at boot for good: add `start: on-demand`")]
    IdleAtBoot,
    #[error("folder `{0}` of the data partition is named twice")]
    DataTwice(String),
    #[error("two folders of the data partition at `{0}`")]
    PlaceTwice(String),
    #[error("a service on demand cannot be critical: it may be stopped at any time")]
    CriticalOnDemand,
}

impl TryFrom<Supervise> for super::Supervise {
    type Error = Contradiction;

    fn try_from(raw: Supervise) -> Result<Self, Contradiction> {
        let start = match (raw.start, raw.idle) {
            (When::Boot, None) => Start::Boot,
            (When::Boot, Some(_)) => return Err(Contradiction::IdleAtBoot),
            (When::OnDemand, idle) => Start::OnDemand { idle: idle.unwrap_or(IDLE) },
        };
        if raw.critical && start != Start::Boot {
            return Err(Contradiction::CriticalOnDemand);
        }
        for (index, data) in raw.data.iter().enumerate() {
            let before = &raw.data[..index];
            if before.iter().any(|it| it.folder() == data.folder()) {
                return Err(Contradiction::DataTwice(data.folder().to_owned()));
            }
            if before.iter().any(|it| it.at() == data.at()) {
                return Err(Contradiction::PlaceTwice(data.at().to_owned()));
            }
        }
        Ok(Self {
            runtime: raw.runtime,
            after: raw.after,
            restart: raw.restart,
            ready: raw.ready.0,
            health: raw.health.0,
            stop: raw.stop,
            start,
            data: raw.data,
            critical: raw.critical,
            failed: raw.failed,
        })
    }
}

impl From<super::Supervise> for Supervise {
    fn from(checked: super::Supervise) -> Self {
        let (start, idle) = match checked.start {
            Start::Boot => (When::Boot, None),
            Start::OnDemand { idle } => (When::OnDemand, Some(idle)),
        };
        Self {
            runtime: checked.runtime,
            after: checked.after,
            restart: checked.restart,
            ready: MaybeReady(checked.ready),
            health: MaybeHealth(checked.health),
            stop: checked.stop,
            start,
            idle,
            data: checked.data,
            critical: checked.critical,
            failed: checked.failed,
        }
    }
}
