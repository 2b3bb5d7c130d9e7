//! Times as the API writes them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time as every answer of ours has it.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(at.nanosecond() / 1_000_000 * 1_000_000)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}
