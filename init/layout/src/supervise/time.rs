//! Spans of time as a person writes them: `200ms`, `10s`, `15m`, `1h`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Units, in milliseconds, the largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Longest span: 30 days. More is a mistake, and would overflow deadlines.
const LONGEST: u64 = 30 * 24 * 3_600_000;

/// A span of more than nothing and at most 30 days, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(u64);

/// A text that is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no span of time: write a whole number above 0 and ms, s, m or h, like 10s (at most 30 days)"
)]
pub struct InvalidTime(String);

impl Time {
    /// So many seconds.
    pub(crate) const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000)
    }

    /// The span for clocks and timers.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, millis)| self.0.is_multiple_of(*millis));
        let (unit, millis) = unit.unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", self.0 / millis)
    }
}

impl TryFrom<String> for Time {
    type Error = InvalidTime;

    fn try_from(text: String) -> Result<Self, InvalidTime> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let millis = UNITS.iter().find(|(name, _)| *name == unit).and_then(|(_, millis)| {
            let total = number.parse::<u64>().ok()?.checked_mul(*millis)?;
            (1..=LONGEST).contains(&total).then_some(total)
        });
        millis.map(Self).ok_or(InvalidTime(text))
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_a_person_writes_them() {
        for (text, millis, shown) in [
            ("1ms", 1, "1ms"),
            ("200ms", 200, "200ms"),
            ("10s", 10_000, "10s"),
            ("90s", 90_000, "90s"),
            ("60s", 60_000, "1m"),
            ("15m", 900_000, "15m"),
            ("720h", LONGEST, "720h"),
        ] {
            let time = Time::try_from(text.to_owned()).unwrap();
            assert_eq!(time.duration(), Duration::from_millis(millis));
            assert_eq!(time.to_string(), shown);
        }
        for bad in
            ["", "s", "10", "0s", "-1s", "1.5s", "10 s", "10S", "721h", "99999999999999999999h"]
        {
            assert_eq!(Time::try_from(bad.to_owned()), Err(InvalidTime(bad.to_owned())));
        }
    }
}
