//! `supervise:`, the one key that we add to a container of LinuxKit's yml.
//!
//! The raw form mirrors the file and refuses unknown keys; the checked form cannot be wrong. Both
//! go through serde, so that the yml and `supervise.json` in a bundle are read by the same code.

mod data;
mod probe;
mod raw;
mod time;

use serde::{Deserialize, Serialize};

pub use data::{Data, InvalidData, Propagation};
pub use probe::{Exec, Health, Http, InvalidProbe, Probe, Ready, Server, Sign, Tcp};
pub use time::{InvalidTime, Time};

use crate::bundle::Section;

/// How a container is started, watched and stopped. The default is that of an absent key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "raw::Supervise", into = "raw::Supervise")]
pub struct Supervise {
    /// Who starts it.
    pub runtime: Runtime,
    /// It starts when these services are ready.
    pub after: Vec<String>,
    /// When it is started anew.
    pub restart: Restart,
    /// When it counts as ready; `None`: as soon as it runs.
    pub ready: Option<Ready>,
    /// When it counts as sick, and is restarted.
    pub health: Option<Health>,
    /// How it is stopped.
    pub stop: Stop,
    /// When it is started first.
    pub start: Start,
    /// Folders of the data partition that it gets.
    pub data: Vec<Data>,
    /// Beyond its limit of restarts the machine goes to safe mode, then reboots.
    pub critical: bool,
    /// What a failure of it does to the boot.
    pub failed: Failed,
}

impl Default for Supervise {
    fn default() -> Self {
        Self {
            runtime: Runtime::Containerd,
            after: Vec::new(),
            restart: Restart::Always,
            ready: None,
            health: None,
            stop: Stop::default(),
            start: Start::Boot,
            data: Vec::new(),
            critical: false,
            failed: Failed::Continue,
        }
    }
}

impl Supervise {
    /// Names the first key that means nothing in a section, if one is set there.
    ///
    /// Containers of `onboot` and `onshutdown` run once and in the order of the yml; only `data`,
    /// `stop` and `failed` concern them. `failed` in turn does not concern services.
    pub fn misplaced(&self, section: Section) -> Option<&'static str> {
        let default = Self::default();
        let once = [
            ("runtime", self.runtime != default.runtime),
            ("after", self.after != default.after),
            ("restart", self.restart != default.restart),
            ("ready", self.ready != default.ready),
            ("health", self.health != default.health),
            ("start", self.start != default.start),
            ("critical", self.critical),
        ];
        let service = [("failed", self.failed != default.failed)];
        let keys: &[_] = if section == Section::Services { &service } else { &once };
        keys.iter().find(|(_, is_set)| *is_set).map(|(key, _)| *key)
    }
}

/// Who starts a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// containerd.
    #[default]
    Containerd,
    /// The OCI runtime directly: what containerd itself needs.
    Oci,
}

/// When a service is started anew. Back-off 0.2 s to 60 s, reset after 60 s of health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whenever it ended and was not stopped by somebody.
    #[default]
    Always,
    /// When it ended with another status than 0.
    OnFailure,
    /// Not by itself.
    Never,
}

/// When a service is started first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the machine.
    Boot,
    /// At first use.
    OnDemand {
        /// Without use for so long, it is stopped; 15 minutes by default.
        idle: Time,
    },
}

/// How a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// What its first process gets; TERM by default.
    pub signal: Signal,
    /// After so long it gets KILL; 10 s by default.
    pub grace: Time,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: Signal::Term, grace: Time::from_secs(10) }
    }
}

/// Signals that ask a program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "signal(7) has them")]
pub enum Signal {
    Hup = 1,
    Int = 2,
    Quit = 3,
    Kill = 9,
    Usr1 = 10,
    Usr2 = 12,
    Term = 15,
    Winch = 28,
}

impl Signal {
    /// Its number on Linux.
    pub fn number(self) -> i32 {
        self as i32
    }
}

/// What a container of `onboot` or `onshutdown` that ended with another status than 0 does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failed {
    /// It is said on the console, and the next one runs.
    #[default]
    Continue,
    /// The machine stops in a rescue shell.
    Rescue,
    /// The machine goes off.
    Halt,
}

#[cfg(test)]
mod tests;
