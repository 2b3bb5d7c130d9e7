//! What separates a folder from the newest version: pure, so that every case can be tested.

use std::cmp::Ordering;
use std::ffi::{CStr, CString};

use super::scan::{Began, Entry, Found, Node, Stamp};

/// What a version holds, and what is known of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Manifest {
    /// In the order of a walk.
    pub(super) items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) entry: Entry,
    /// Whether a file of the folder with this stamp has these bytes for sure.
    pub(super) sure: bool,
    /// The version for which the file was copied, as long as it may not be on the disk; else 0.
    pub(super) unsynced: u64,
}

/// What is to be done with one entry of the folder; what is not named is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is in the newest version as it is: the item at this place of its manifest.
    Keep(usize),
    /// It is, if the bytes of the file are the same.
    Compare(usize, Entry),
    /// It takes the place of something else that has its name, and is gone when this is done.
    Replace(Entry),
    /// It is new.
    Make(Entry),
}

/// The steps, and the places of what the newest version has and the folder has not (or as another
/// kind of thing). A folder that is gone comes before what it held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) gone: Vec<usize>,
    pub(super) steps: Vec<Step>,
}

impl Manifest {
    /// Of a version that lies on the disk: its bytes are known only by looking at them.
    pub(super) fn unsure(found: Found) -> Self {
        let items = found
            .entries
            .into_iter()
            .map(|entry| Item { entry, sure: false, unsynced: 0 })
            .collect();
        Self { items }
    }

    /// What must be synced for the version to be on the disk: files that were copied, and all
    /// folders, which are new in every version. Deepest first, so that a name comes after what
    /// it names.
    pub(super) fn unsynced(&self) -> Vec<CString> {
        let new = |item: &&Item| item.unsynced != 0 || item.entry.node == Node::Dir;
        self.items.iter().rev().filter(new).map(|item| item.entry.path.clone()).collect()
    }

    /// Notes that the version `id` is on the disk, and so every file that was copied up to then.
    pub(super) fn synced(&mut self, id: u64) {
        for item in self.items.iter_mut().filter(|item| item.unsynced <= id) {
            item.unsynced = 0;
        }
    }
}

impl Item {
    pub(super) fn new(entry: Entry, began: &Began, unsynced: u64) -> Self {
        let sure = match &entry.node {
            Node::File(stamp) => !began.could_repeat(stamp),
            Node::Dir | Node::Link(_) => true,
        };
        Self { entry, sure, unsynced }
    }
}

/// Compares what was found with what the newest version holds. Both are in the order of a walk.
pub(super) fn plan(before: &[Item], found: Vec<Entry>) -> Plan {
    let mut plan = Plan::default();
    let mut old = 0;
    for entry in found {
        while old < before.len() && walk_order(&before[old].entry.path, &entry.path).is_lt() {
            plan.gone.push(old);
            old += 1;
        }
        if old < before.len() && before[old].entry.path == entry.path {
            let item = &before[old];
            plan.steps.push(match (&item.entry.node, &entry.node) {
                (Node::File(a), Node::File(b)) if a == b && item.sure => Step::Keep(old),
                (Node::File(a), Node::File(b)) if may_equal(a, b) => Step::Compare(old, entry),
                (Node::Dir, Node::Dir) => Step::Keep(old),
                (Node::Link(a), Node::Link(b)) if a == b => Step::Keep(old),
                _ => {
                    plan.gone.push(old);
                    Step::Replace(entry)
                }
            });
            old += 1;
        } else {
            plan.steps.push(Step::Make(entry));
        }
    }
    plan.gone.extend(old..before.len());
    plan
}

fn may_equal(a: &Stamp, b: &Stamp) -> bool {
    a.size == b.size && a.mode == b.mode
}

/// The order of a walk: as if `/` were the first of all letters.
fn walk_order(a: &CStr, b: &CStr) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let letters = |path: &CStr| {
        path.to_bytes().iter().map(|&b| if b == b'/' { 0 } else { b }).collect::<Vec<_>>()
    };
    letters(a).cmp(&letters(b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    use proptest::prelude::*;

    type Model = BTreeMap<&'static str, (char, u64)>;

    /// A tree as `(kind, number)` by path; the number is a file's size and inode or a link's target.
    fn entries(model: &Model) -> Vec<Entry> {
        let mut entries: Vec<_> = model
            .iter()
            .map(|(path, (kind, number))| Entry {
                path: CString::new(*path).unwrap(),
                node: match kind {
                    'd' => Node::Dir,
                    'l' => Node::Link(CString::new(number.to_string()).unwrap()),
                    _ => Node::File(Stamp {
                        size: number % 3,
                        mode: 0o444,
                        inode: *number,
                        modified: 0,
                        changed: 0,
                    }),
                },
            })
            .collect();
        entries.sort_by(|a, b| walk_order(&a.path, &b.path));
        entries
    }

    fn items(model: &Model) -> Vec<Item> {
        let items = entries(model).into_iter();
        items.map(|entry| Item { entry, sure: true, unsynced: 0 }).collect()
    }

    fn paths(plan: &Plan, before: &[Item]) -> (Vec<String>, Vec<String>) {
        let text = |path: &CStr| path.to_str().unwrap().to_owned();
        let gone = plan.gone.iter().map(|at| text(&before[*at].entry.path)).collect();
        let steps = plan
            .steps
            .iter()
            .map(|step| match step {
                Step::Keep(at) => format!("keep {}", text(&before[*at].entry.path)),
                Step::Compare(_, entry) => format!("compare {}", text(&entry.path)),
                Step::Replace(entry) => format!("replace {}", text(&entry.path)),
                Step::Make(entry) => format!("make {}", text(&entry.path)),
            })
            .collect();
        (gone, steps)
    }

    #[track_caller]
    fn check(before: &Model, after: &Model, gone: &[&str], steps: &[&str]) {
        let before = items(before);
        let plan = plan(&before, entries(after));
        let (found_gone, found_steps) = paths(&plan, &before);
        assert_eq!((found_gone, found_steps), (own(gone), own(steps)));
    }

    fn own(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_did_not_change_is_kept_and_the_rest_named() {
        let before =
            Model::from([("a", ('f', 1)), ("b", ('d', 0)), ("b/c", ('f', 2)), ("l", ('l', 1))]);
        check(&before, &before, &[], &["keep a", "keep b", "keep b/c", "keep l"]);
        let after =
            Model::from([("a", ('f', 4)), ("b", ('d', 0)), ("b/d", ('f', 2)), ("l", ('l', 2))]);
        check(&before, &after, &["b/c", "l"], &["compare a", "keep b", "make b/d", "replace l"]);
        check(&before, &Model::new(), &["a", "b", "b/c", "l"], &[]);
        check(&Model::new(), &before, &[], &["make a", "make b", "make b/c", "make l"]);
    }

    #[test]
    fn a_folder_that_became_a_file_goes_with_all_it_held() {
        let before = Model::from([("b", ('d', 0)), ("b/c", ('f', 2)), ("b.py", ('f', 3))]);
        let after = Model::from([("b", ('f', 9)), ("b.py", ('f', 3))]);
        check(&before, &after, &["b", "b/c"], &["replace b", "keep b.py"]);
        check(&after, &before, &["b"], &["replace b", "make b/c", "keep b.py"]);
    }

    #[test]
    fn a_stamp_that_may_repeat_is_compared_by_bytes() {
        let model = Model::from([("a", ('f', 1))]);
        let mut before = items(&model);
        before[0].sure = false;
        let plan = plan(&before, entries(&model));
        assert_eq!(paths(&plan, &before).1, ["compare a"]);
    }

    fn model() -> impl Strategy<Value = Model> {
        let names = vec!["a", "a.b", "a/b", "a/b/c", "a-", "ab", "b", "b/a", "b/a!"];
        prop::collection::btree_map(prop::sample::select(names), ("[fl]", 0u64..6), 0..9).prop_map(
            |chosen| {
                let mut model: Model = chosen
                    .iter()
                    .map(|(path, (kind, number))| (*path, (kind.chars().next().unwrap(), *number)))
                    .collect();
                for path in ["a", "a/b", "b"] {
                    let below = format!("{path}/");
                    if model.keys().any(|other| other.starts_with(&below)) {
                        model.insert(path, ('d', 0));
                    }
                }
                model
            },
        )
    }

    proptest! {
        #[test]
        fn carrying_a_plan_out_turns_one_tree_into_the_other(before in model(), after in model()) {
            let old = items(&before);
            let plan = plan(&old, entries(&after));
            let mut result: Vec<Entry> = old.iter().map(|item| item.entry.clone()).collect();
            let gone: Vec<_> = plan.gone.iter().map(|at| old[*at].entry.clone()).collect();
            result.retain(|entry| !gone.contains(entry));
            for step in &plan.steps {
                match step {
                    Step::Keep(at) => prop_assert!(result.contains(&old[*at].entry)),
                    Step::Compare(at, entry) => {
                        prop_assert_eq!(&old[*at].entry.path, &entry.path);
                        result.retain(|other| other.path != entry.path);
                        result.push(entry.clone());
                    }
                    Step::Make(entry) | Step::Replace(entry) => {
                        prop_assert!(result.iter().all(|other| other.path != entry.path));
                        result.push(entry.clone());
                    }
                }
            }
            result.sort_by(|a, b| walk_order(&a.path, &b.path));
            prop_assert_eq!(result, entries(&after));
        }
    }
}
