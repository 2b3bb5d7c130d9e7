//! The stages of a boot, and the one line that each prints on the console.
//!
//! Tests and the benchmark wait for these lines, so the names are part of the agreement.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What every line begins with; a kernel's time stamp may stand before it.
const PREFIX: &str = "inplace: stage ";

/// How far the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// PID 1 runs, in the initramfs.
    Start,
    /// The slot is found and its manifest is read.
    Slot,
    /// The root of the slot is the root of PID 1.
    Root,
    /// File systems, cgroups and modules are there.
    System,
    /// The data partition is checked, grown and mounted.
    Data,
    /// All containers of `onboot` have ended.
    Onboot,
    /// The supervisor runs.
    Supervisor,
    /// containerd answers.
    Containerd,
    /// Every service that starts at boot is ready.
    Ready,
    /// Something that the boot cannot do without failed; a person is needed.
    Rescue,
    /// The services are being stopped.
    Stopping,
    /// All is unmounted; the machine goes off or starts anew.
    Down,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 12] = [
        Self::Start,
        Self::Slot,
        Self::Root,
        Self::System,
        Self::Data,
        Self::Onboot,
        Self::Supervisor,
        Self::Containerd,
        Self::Ready,
        Self::Rescue,
        Self::Stopping,
        Self::Down,
    ];

    /// Its name on the console and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Slot => "slot",
            Self::Root => "root",
            Self::System => "system",
            Self::Data => "data",
            Self::Onboot => "onboot",
            Self::Supervisor => "supervisor",
            Self::Containerd => "containerd",
            Self::Ready => "ready",
            Self::Rescue => "rescue",
            Self::Stopping => "stopping",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(name: &str) -> Result<Self, UnknownStage> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| UnknownStage(name.to_owned()))
    }
}

/// A name that no stage has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no boot stage is called `{0}`")]
pub struct UnknownStage(String);

/// A stage that was reached, as the console tells it: `inplace: stage containerd 2.345 s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The stage.
    pub stage: Stage,
    /// Since power-on (the kernel's monotonic clock); the line has milliseconds.
    pub at: Duration,
}

impl Reached {
    /// Finds the stage that a line of the console tells, if it tells one.
    pub fn in_line(line: &str) -> Option<Self> {
        let (_, text) = line.split_once(PREFIX)?;
        let mut words = text.split_ascii_whitespace();
        let stage = words.next()?.parse().ok()?;
        let (seconds, millis) = words.next()?.split_once('.')?;
        let is_whole = words.next() == Some("s")
            && millis.len() == 3
            && [seconds, millis].iter().all(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        let at = Duration::from_secs(seconds.parse().ok()?)
            .checked_add(Duration::from_millis(millis.parse().ok()?))?;
        is_whole.then_some(Self { stage, at })
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.at.as_secs(), self.at.subsec_millis());
        write!(f, "{PREFIX}{} {seconds}.{millis:03} s", self.stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_reads_back_from_its_line() {
        for (millis, stage) in (7..).step_by(1001).zip(Stage::ALL) {
            let reached = Reached { stage, at: Duration::from_millis(millis) };
            assert_eq!(Reached::in_line(&reached.to_string()), Some(reached));
        }
    }

    #[test]
    fn a_line_is_found_behind_what_the_console_puts_before_it() {
        let reached = Reached { stage: Stage::Containerd, at: Duration::from_millis(2345) };
        assert_eq!(reached.to_string(), "inplace: stage containerd 2.345 s");
        for (line, expected) in [
            ("[    2.350000] inplace: stage containerd 2.345 s\r", Some(reached)),
            ("\x1b[0minplace: stage containerd 2.345 s", Some(reached)),
            ("inplace: stage containerd 2.3", None),
            ("inplace: stage containerd 2.345", None),
            ("inplace: stage contain", None),
            ("inplace: stage nonsense 2.345 s", None),
            ("inplace: stage ready +2.-45 s", None),
            ("inplace: containerd 2.345 s", None),
            ("", None),
        ] {
            assert_eq!(Reached::in_line(line), expected, "{line:?}");
        }
    }
}
