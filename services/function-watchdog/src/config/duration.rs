//! Go's notation of durations: `300ms`, `1.5h`, `2h45m`.

use std::time::Duration;

/// Reads a duration in Go's notation; `None` for anything else, and for a negative one, which no
/// timeout can be.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let (seconds, tail) = unit(tail)?;
        let value: f64 = number.parse().ok()?;
        sum = sum.checked_add(Duration::try_from_secs_f64(value * seconds).ok()?)?;
        rest = tail;
    }
    Some(sum)
}

/// The unit at the start of `text` in seconds, and what follows it. Longer names come first:
/// `m` begins `ms`.
fn unit(text: &str) -> Option<(f64, &str)> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    UNITS.iter().find_map(|(name, seconds)| Some((*seconds, text.strip_prefix(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, seconds) in [
            ("0", 0.0),
            ("0s", 0.0),
            ("30s", 30.0),
            ("+5s", 5.0),
            ("300ms", 0.3),
            ("1.5h", 5400.0),
            ("2h45m", 9900.0),
            ("1m0.5s", 60.5),
            ("100us", 0.0001),
            ("100µs", 0.0001),
            ("7ns", 7e-9),
            (".5s", 0.5),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_go_duration_is_refused() {
        for text in ["", "s", "30", "30sec", "-5s", "1..5s", "1 s", "5s ", "abc", "1e400h", "."] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
