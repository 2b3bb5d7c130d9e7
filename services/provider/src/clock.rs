//! Times as the API writes them.

use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// A time as every answer of ours has it: RFC 3339, UTC, always with milliseconds.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC)
        .format(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        ))
        .expect("all parts of a time are there")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_time_is_in_utc_and_always_has_three_digits_of_milliseconds() {
        for (at, text) in [
            (datetime!(2026-01-02 3:04:05 UTC), "2026-01-02T03:04:05.000Z"),
            (datetime!(2026-01-02 3:04:05.640_999 UTC), "2026-01-02T03:04:05.640Z"),
            (datetime!(2026-01-02 3:04:05.07 +2), "2026-01-02T01:04:05.070Z"),
        ] {
            assert_eq!(rfc3339(at), text);
        }
    }
}
