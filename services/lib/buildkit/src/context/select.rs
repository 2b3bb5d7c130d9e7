//! Which entries of a tree BuildKit asked for: include, exclude and follow patterns.

use std::collections::{BTreeSet, HashMap};

use super::{Entry, Kind};
use crate::patterns::{BadPattern, Glob, Inherited, Patterns, clean, has_wildcard};

/// What BuildKit's request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// If there are any, only what they match.
    pub(crate) include: Vec<String>,
    /// Not what they match.
    pub(crate) exclude: Vec<String>,
    /// More to include, with every link on the way and what it leads to.
    pub(crate) follow: Vec<String>,
}

/// A folder on the way to the entry at hand.
struct Parent {
    index: usize,
    include: Inherited,
    exclude: Inherited,
    chosen: bool,
}

/// Indices of the chosen entries, in order; the folders that lead to a chosen entry are chosen too.
pub(crate) fn select(entries: &[Entry], wanted: &Selection) -> Result<Vec<usize>, BadPattern> {
    let mut include = wanted.include.clone();
    if !wanted.follow.is_empty()
        && let Some(more) = follow(entries, &wanted.follow)
    {
        include.extend(more);
    }
    let include = Patterns::new(&include)?;
    let exclude = Patterns::new(&wanted.exclude)?;
    let mut chosen = Vec::new();
    let mut parents: Vec<Parent> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let above = |parent: &Parent| is_below(&entry.path, &entries[parent.index].path);
        while parents.last().is_some_and(|it| !above(it)) {
            parents.pop();
        }
        let (included, include_below) = match parents.last() {
            Some(parent) => include.matches(&entry.path, &parent.include),
            None => include.matches(&entry.path, &include.top()),
        };
        let (excluded, exclude_below) = match parents.last() {
            Some(parent) => exclude.matches(&entry.path, &parent.exclude),
            None => exclude.matches(&entry.path, &exclude.top()),
        };
        let take = (included || include.is_empty()) && !excluded;
        if take {
            for parent in parents.iter_mut().filter(|it| !it.chosen) {
                parent.chosen = true;
                chosen.push(parent.index);
            }
            chosen.push(index);
        }
        if entry.kind == Kind::Folder {
            parents.push(Parent {
                index,
                include: include_below,
                exclude: exclude_below,
                chosen: take,
            });
        }
    }
    Ok(chosen)
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The paths themselves and all that links among them lead to, shortest only; `None` means the
/// whole tree.
fn follow(entries: &[Entry], paths: &[String]) -> Option<Vec<String>> {
    let by_path = entries.iter().map(|it| (it.path.as_str(), &it.kind)).collect();
    let links = Links { entries, by_path };
    let mut found = BTreeSet::new();
    let mut pending: Vec<String> = paths.to_vec();
    while let Some(path) = pending.pop() {
        // Rooted while it is cleaned, so that nothing climbs out of the tree.
        let path = clean(&format!("/{path}"));
        let path = &path[1..];
        let ends = path.match_indices('/').map(|it| it.0).chain([path.len()]);
        for end in ends {
            let (current, rest) = path.split_at(end);
            let targets = links.targets(current);
            if rest.is_empty() || targets.is_some() {
                // Links may lead in a circle: each place is left once.
                if found.insert(current.to_owned()) {
                    pending.extend(targets.into_iter().flatten().map(|it| format!("{it}{rest}")));
                }
                break;
            }
        }
    }
    if found.contains("") {
        return None;
    }
    let mut shortest: Vec<String> = Vec::new();
    for path in found {
        if !shortest.last().is_some_and(|it| is_below(&path, it)) {
            shortest.push(path);
        }
    }
    Some(shortest)
}

struct Links<'a> {
    entries: &'a [Entry],
    by_path: HashMap<&'a str, &'a Kind>,
}

impl Links<'_> {
    /// Where the link, or the links that a wildcard in the last part stands for, lead to.
    fn targets(&self, path: &str) -> Option<Vec<String>> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !has_wildcard(name) {
            return self.target(path).map(|it| vec![it]);
        }
        let glob = Glob::new(name).ok()?;
        let children = self.entries.iter().map(|it| it.path.as_str()).filter(|it| {
            let (parent, name) = it.rsplit_once('/').unwrap_or(("", it));
            parent == folder && glob.matches(name)
        });
        let targets: Vec<String> = children.filter_map(|it| self.target(it)).collect();
        (!targets.is_empty()).then_some(targets)
    }

    fn target(&self, path: &str) -> Option<String> {
        let Some(Kind::Link(target)) = self.by_path.get(path) else { return None };
        let folder = path.rsplit_once('/').map_or("", |it| it.0);
        Some(if target.starts_with('/') {
            clean(target)
        } else {
            clean(&format!("/{folder}/{target}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use git2::Oid;

    use super::*;

    /// A tree out of paths: `name/` is a folder, `name -> target` a link.
    fn tree(paths: &[&str]) -> Vec<Entry> {
        let entry = |text: &&str| {
            let (path, kind) = match text.split_once(" -> ") {
                Some((path, target)) => (path, Kind::Link(target.to_owned())),
                None => match text.strip_suffix('/') {
                    Some(path) => (path, Kind::Folder),
                    None => (*text, Kind::File { executable: false, size: 1 }),
                },
            };
            Entry { path: path.to_owned(), kind, id: Oid::ZERO_SHA1 }
        };
        paths.iter().map(entry).collect()
    }

    fn check(
        paths: &[&str],
        include: &[&str],
        exclude: &[&str],
        follow: &[&str],
        expected: &[&str],
    ) {
        let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
        let entries = tree(paths);
        let wanted =
            Selection { include: owned(include), exclude: owned(exclude), follow: owned(follow) };
        let chosen = select(&entries, &wanted).unwrap();
        let chosen: Vec<&str> = chosen.into_iter().map(|it| entries[it].path.as_str()).collect();
        assert_eq!(chosen, expected, "{wanted:?}");
    }

    const TREE: &[&str] = &[
        ".dockerignore",
        "Dockerfile",
        "a/",
        "a/b/",
        "a/b/x.md",
        "a/b/y.py",
        "a/z.py",
        "a.txt",
        "link -> a/b",
        "loop -> loop2",
        "loop2 -> loop",
        "out -> /a.txt",
        "up -> ../a.txt",
    ];

    #[test]
    fn everything_is_chosen_when_nothing_is_asked_for() {
        let all: Vec<&str> =
            TREE.iter().map(|it| it.split(" -> ").next().unwrap().trim_end_matches('/')).collect();
        check(TREE, &[], &[], &[], &all);
        check(TREE, &[], &[], &["."], &all);
    }

    #[test]
    fn folders_that_lead_to_a_chosen_entry_come_before_it() {
        check(TREE, &["a/b/*.py"], &[], &[], &["a", "a/b", "a/b/y.py"]);
        check(TREE, &["a"], &["**/*.md"], &[], &["a", "a/b", "a/b/y.py", "a/z.py"]);
        check(TREE, &[], &["*", "!a/b/x.md"], &[], &["a", "a/b", "a/b/x.md"]);
        check(TREE, &[], &["*", "!a"], &[], &["a", "a/b", "a/b/x.md", "a/b/y.py", "a/z.py"]);
    }

    #[test]
    fn what_the_dockerfile_frontend_asks_for_is_found() {
        check(
            TREE,
            &[],
            &[],
            &["Dockerfile", "Dockerfile.dockerignore", "dockerfile"],
            &["Dockerfile"],
        );
        check(TREE, &[], &[], &[".dockerignore"], &[".dockerignore"]);
        check(TREE, &[], &[], &["a/*.py"], &["a", "a/z.py"]);
        check(TREE, &[], &[], &["none"], &[]);
    }

    #[test]
    fn links_are_followed_within_the_tree() {
        check(TREE, &[], &[], &["link/x.md"], &["a", "a/b", "a/b/x.md", "link"]);
        check(TREE, &[], &[], &["l*k"], &["a", "a/b", "a/b/x.md", "a/b/y.py", "link"]);
        check(TREE, &[], &[], &["out"], &["a.txt", "out"]);
        check(TREE, &[], &[], &["up"], &["a.txt", "up"]);
        check(TREE, &[], &[], &["loop/x"], &["loop", "loop2"]);
    }

    #[test]
    fn a_bad_pattern_is_an_error() {
        let wanted = Selection { exclude: vec!["[".into()], ..Selection::default() };
        assert!(select(&tree(TREE), &wanted).is_err());
    }
}
