//! In which order services start: each behind all that it comes after.

use std::collections::{BTreeMap, BTreeSet};

/// An order that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A service comes after one that is not there.
    #[error("`{service}` comes after `{after}`, but there is no service of that name")]
    Unknown {
        /// Which service says so.
        service: String,
        /// The name that nobody has.
        after: String,
    },
    /// Services wait for each other.
    #[error("services wait for each other: {}", .0.join(" after "))]
    Cycle(
        /// The way round; the first name stands at the end once more.
        Vec<String>,
    ),
}

/// Sorts services, given as `(name, after)`, so that each stands behind all that it comes after.
///
/// Among those that could be next, the one that stands first in `services` is taken, so the same
/// services give the same order. Names are unique.
pub fn order<'a>(services: &[(&'a str, &'a [String])]) -> Result<Vec<&'a str>, OrderError> {
    let after: BTreeMap<&str, &[String]> = services.iter().copied().collect();
    for (service, names) in services {
        if let Some(missing) = names.iter().find(|it| !after.contains_key(it.as_str())) {
            let (service, after) = ((*service).to_owned(), missing.clone());
            return Err(OrderError::Unknown { service, after });
        }
    }
    let mut placed = BTreeSet::new();
    let mut order = Vec::with_capacity(services.len());
    while order.len() < services.len() {
        let next = services.iter().find(|(name, names)| {
            !placed.contains(name) && names.iter().all(|it| placed.contains(it.as_str()))
        });
        let Some((name, _)) = next else { return Err(OrderError::Cycle(cycle(&after, &placed))) };
        placed.insert(*name);
        order.push(*name);
    }
    Ok(order)
}

/// Walks from one unplaced service to one that it waits for, until one comes up again.
fn cycle(after: &BTreeMap<&str, &[String]>, placed: &BTreeSet<&str>) -> Vec<String> {
    let is_left = |name: &&str| !placed.contains(name);
    let mut way: Vec<&str> = Vec::new();
    let mut at = after.keys().copied().find(is_left);
    while let Some(name) = at {
        if let Some(start) = way.iter().position(|it| *it == name) {
            let round = way.drain(start..).chain([name]);
            return round.map(str::to_owned).collect();
        }
        way.push(name);
        at = after.get(name).and_then(|it| it.iter().map(String::as_str).find(is_left));
    }
    way.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(services: &[(&str, &[&str])], expected: Result<&[&str], &str>) {
        let after: Vec<Vec<String>> =
            services.iter().map(|it| it.1.iter().map(ToString::to_string).collect()).collect();
        let services: Vec<(&str, &[String])> =
            services.iter().zip(&after).map(|(it, after)| (it.0, after.as_slice())).collect();
        let found = order(&services).map_err(|error| error.to_string());
        assert_eq!(found.as_deref(), expected.map_err(str::to_owned).as_ref().map(|it| *it));
    }

    #[test]
    fn each_service_stands_behind_all_that_it_comes_after() {
        check(&[], Ok(&[]));
        check(&[("b", &[]), ("a", &[])], Ok(&["b", "a"]));
        check(&[("a", &["b"]), ("b", &[])], Ok(&["b", "a"]));
        check(
            &[
                ("gateway", &["provider"]),
                ("provider", &["containerd"]),
                ("x", &[]),
                ("containerd", &[]),
            ],
            Ok(&["x", "containerd", "provider", "gateway"]),
        );
        check(&[("a", &["b", "b"]), ("b", &[])], Ok(&["b", "a"]));
    }

    #[test]
    fn an_order_that_cannot_be_names_the_services() {
        check(&[("a", &["a"])], Err("services wait for each other: a after a"));
        check(
            &[("x", &["c"]), ("a", &["b"]), ("b", &["ok", "c"]), ("c", &["a"]), ("ok", &[])],
            Err("services wait for each other: a after b after c after a"),
        );
        check(
            &[("a", &["b"]), ("b", &["c"]), ("c", &["b"])],
            Err("services wait for each other: b after c after b"),
        );
        check(&[("a", &["bb"])], Err("`a` comes after `bb`, but there is no service of that name"));
    }
}
