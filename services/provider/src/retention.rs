//! Which revisions are kept: the newest ones always, those of the last days within reason.

use std::time::Duration;

use api::revision::Revision;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// So many times the number that is always kept may be kept because of their age.
const MOST: usize = 10;

/// How many revisions of a function are kept.
///
/// The newest `newest` are always kept, however old they are: a function that nobody touched for
/// years can still be rolled back. Beyond these, one is kept until it is `age` old, so that what a
/// busy day replaced is not gone on the same day; but never more than ten times `newest`, so that a
/// program that commits in a loop fills no disk. What a function is on, or goes back to at this
/// moment, is kept in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Kept whatever their age; at least 1.
    pub newest: usize,
    /// How long those beyond them are kept.
    pub age: Duration,
}

impl Retention {
    /// The numbers of the revisions that go. `newest_first` are all of a function, `used` the
    /// numbers of those that something needs.
    #[must_use]
    pub fn going(&self, newest_first: &[Revision], used: &[u64], now: OffsetDateTime) -> Vec<u64> {
        let beyond = newest_first.iter().enumerate().skip(self.newest);
        beyond
            .filter(|(place, it)| {
                *place >= self.newest.saturating_mul(MOST) || is_old(&it.time, self.age, now)
            })
            .map(|(_, it)| it.number)
            .filter(|number| !used.contains(number))
            .collect()
    }
}

/// A time that cannot be read is not called old: the number of revisions has its bound anyway.
fn is_old(time: &str, age: Duration, now: OffsetDateTime) -> bool {
    OffsetDateTime::parse(time, &Rfc3339).is_ok_and(|time| now - time >= age)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-31 12:00 UTC);

    /// Revisions of these ages in days, newest first; the numbers are places from the oldest.
    fn revisions(ages: impl ExactSizeIterator<Item = i64>) -> Vec<Revision> {
        let count = ages.len() as u64;
        ages.zip(0..)
            .map(|(days, place)| Revision {
                number: count - place,
                commit: "c".into(),
                image: "i".into(),
                digest: "d".into(),
                message: "m".into(),
                time: (NOW - time::Duration::days(days)).format(&Rfc3339).unwrap(),
            })
            .collect()
    }

    #[track_caller]
    fn check((newest, days): (usize, u64), ages: &[i64], used: &[u64], going: &[u64]) {
        let keep = Retention { newest, age: Duration::from_secs(days * 24 * 3600) };
        assert_eq!(keep.going(&revisions(ages.iter().copied()), used, NOW), going);
    }

    #[test]
    fn what_is_beyond_the_newest_and_old_goes() {
        check((2, 30), &[], &[], &[]);
        check((2, 30), &[400, 500], &[], &[]);
        check((2, 30), &[1, 2, 29, 30, 31], &[], &[2, 1]);
        check((2, 0), &[0, 0, 0, 0], &[], &[2, 1]);
        check((1, 30), &[40, 50, 60], &[], &[2, 1]);
    }

    #[test]
    fn what_is_in_use_stays_however_old_it_is() {
        check((2, 30), &[1, 2, 100, 101, 102], &[1, 3], &[2]);
    }

    #[test]
    fn a_clock_that_was_set_back_removes_nothing_early() {
        check((1, 30), &[0, -10, -20], &[], &[]);
    }

    #[test]
    fn many_at_once_have_a_bound_whatever_their_age() {
        let keep = Retention { newest: 3, age: Duration::from_secs(24 * 3600) };
        assert_eq!(keep.going(&revisions([0; 33].into_iter()), &[], NOW), [3, 2, 1]);
        let mut unreadable = revisions([0; 31].into_iter());
        for revision in &mut unreadable {
            revision.time = "yesterday".into();
        }
        assert_eq!(keep.going(&unreadable, &[], NOW), [1]);
    }
}
