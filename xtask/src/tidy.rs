//! Rules about the tree itself. A rule that is not a test is a wish.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Which crate may use which of ours; those that are still to come stand here already.
const ARROWS: &[(&str, &[&str])] = &[
    ("layout", &[]),
    ("api", &[]),
    ("daemon", &[]),
    ("containerd", &[]),
    ("buildkit", &[]),
    ("testkit", &[]),
    ("function-watchdog", &["api"]),
    ("init", &["layout"]),
    ("supervisor", &["layout", "api", "daemon", "containerd"]),
    ("provider", &["api", "daemon", "containerd", "buildkit"]),
    ("gateway", &["api", "daemon"]),
    ("cli", &["api"]),
    // `xtask dev` runs the daemons in the same cell of the host that tests run them in.
    ("xtask", &["layout", "api", "testkit"]),
    ("qemu-tests", &["layout", "api"]),
];

/// What tests and benches of any crate may use besides.
const FOR_TESTS: &str = "testkit";

/// Longest file, in lines before its tests.
const LINES: usize = 400;
/// Longest `lib.rs`: it is a map.
const LIB_LINES: usize = 80;

#[test]
fn crates_depend_only_along_the_arrows() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for package in metadata.workspace_packages() {
        let arrows = allowed.get(package.name.as_str());
        let arrows = arrows.unwrap_or_else(|| panic!("ARROWS does not have {}", package.name));
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let is_for_tests = dependency.kind == DependencyKind::Development && name == FOR_TESTS;
            if allowed.contains_key(name) && dependency.path.is_some() && !is_for_tests {
                assert!(arrows.contains(&name), "{} may not depend on {name}", package.name);
            }
        }
    }
}

#[test]
fn the_image_holds_no_tests_and_pid_1_no_runtime() {
    let metadata = metadata();
    let banned: &[(&str, &[&str])] = &[
        ("init", &["tokio", "tonic", "axum", "hyper", "futures"]),
        ("provider", &[FOR_TESTS]),
        ("gateway", &[FOR_TESTS, "containerd-client", "bollard-buildkit-proto", "git2"]),
        ("function-watchdog", &[FOR_TESTS, "containerd-client", "rusqlite"]),
    ];
    for (from, crates) in banned {
        for name in *crates {
            assert!(!reaches(&metadata, from, name), "{from} pulls in {name}");
        }
    }
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    for package in metadata().workspace_packages() {
        let manifest = read(package.manifest_path.as_std_path());
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{}: no workspace lints",
            package.manifest_path
        );
        let versions = manifest
            .lines()
            .filter(|line| line.contains("version = \"") || line.contains("path = \".."));
        assert_eq!(versions.count(), 0, "{}: versions live at the root", package.manifest_path);
    }
}

#[test]
fn every_source_file_says_what_it_is_and_can_be_read_in_one_sitting() {
    check(|path, text| {
        let code =
            text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count();
        let is_tests =
            path.components().any(|it| it.as_os_str() == "tests") || path.ends_with("tests.rs");
        let limit = if path.ends_with("src/lib.rs") { LIB_LINES } else { LINES };
        let mut mistakes = Vec::new();
        if !text.starts_with("//! ") {
            mistakes.push("the first line must say what the file is (`//! `)".to_owned());
        }
        if code > limit && !is_tests {
            mistakes.push(format!("{code} lines before tests, {limit} are allowed; split it"));
        }
        if path.ends_with("mod.rs") {
            mistakes.push("`foo.rs` and `foo/`, not `mod.rs`".to_owned());
        }
        mistakes
    });
}

#[test]
fn unsafe_code_lives_in_one_file_of_a_crate() {
    check(|path, text| {
        let opens = text.lines().any(|line| line.contains("expect(unsafe_code"));
        let allowed =
            path.file_name().is_some_and(|it| it == "sys.rs") || path.ends_with("tidy.rs");
        if opens && !allowed { vec!["unsafe code belongs into sys.rs".to_owned()] } else { vec![] }
    });
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_switched_off() {
    // Put together here, so that this file does not hold what it forbids.
    let marks = [["to", "do!("], ["unimple", "mented!("], ["FIX", "ME"], ["#[ign", "ore"]]
        .map(|it| it.concat());
    check(|_, text| {
        let found = marks.iter().filter(|mark| text.contains(mark.as_str()));
        found.map(|mark| format!("holds `{mark}`")).collect()
    });
}

#[test]
fn no_place_of_one_machine_stands_in_the_tree() {
    // A registry is reached by its client's own configuration, a path by the environment.
    let names = [
        ["deb.deb", "ian.org"],
        ["crates", ".io/"],
        ["proxy.gol", "ang.org"],
        ["registry.np", "mjs.org"],
    ];
    let mut names: Vec<_> = names.map(|it| it.concat()).to_vec();
    names.extend([["files.python", "hosted.org"], ["pypi", ".org/"]].map(|it| it.concat()));
    names.push(format!("{}/", root().display()));
    let mut mistakes = Vec::new();
    for path in tracked() {
        let Ok(text) = fs_err::read_to_string(root().join(&path)) else { continue };
        let is_lock = path.file_name().is_some_and(|it| it == "Cargo.lock");
        for name in names.iter().filter(|name| !is_lock && text.contains(name.as_str())) {
            mistakes.push(format!("{}: `{name}`", path.display()));
        }
    }
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

#[test]
fn every_package_of_the_tree_reads_and_the_lock_answers_it() {
    let lock = crate::packages::Lock::load(&crate::packages::lock_path()).unwrap();
    for package in crate::packages::all().unwrap() {
        let Some(deb) = package.debs() else { continue };
        let closure = lock.packages.get(&package.name);
        assert!(
            closure.is_some_and(|it| it.answers(deb)),
            "{}: run `cargo xtask lock`",
            package.name
        );
    }
}

/// Applies a rule to every Rust file and tells all that break it.
#[track_caller]
fn check(rule: impl Fn(&Path, &str) -> Vec<String>) {
    let mut mistakes = Vec::new();
    for path in tracked() {
        if path.extension().is_some_and(|it| it == "rs") && root().join(&path).exists() {
            let found = rule(&path, &read(&root().join(&path)));
            mistakes.extend(found.into_iter().map(|it| format!("{}: {it}", path.display())));
        }
    }
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

/// Files of the tree, whether committed yet or not, relative to its root.
fn tracked() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut work = vec![root().to_owned()];
    while let Some(dir) = work.pop() {
        for entry in fs_err::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "node_modules") {
                    work.push(path);
                }
            } else {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn root() -> &'static Path {
    crate::workspace::root()
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).unwrap()
}

fn metadata() -> Metadata {
    let platform = ["--offline", "--filter-platform", crate::workspace::TARGET].map(str::to_owned);
    MetadataCommand::new().current_dir(root()).other_options(platform).exec().unwrap()
}

/// Whether a crate stands on another, development dependencies left out; one that is not there yet stands on nothing.
fn reaches(metadata: &Metadata, from: &str, to: &str) -> bool {
    let resolve = metadata.resolve.as_ref().unwrap();
    let find = |package: &&Package| package.name.as_str() == from;
    let Some(root) = metadata.packages.iter().find(find) else { return false };
    let mut seen = BTreeSet::new();
    let mut work = vec![root.id.clone()];
    while let Some(id) = work.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        if metadata[&id].name.as_str() == to {
            return true;
        }
        let node = resolve.nodes.iter().find(|node| node.id == id).unwrap();
        let is_used = |dep: &&cargo_metadata::NodeDep| {
            dep.dep_kinds.iter().any(|it| it.kind != DependencyKind::Development)
        };
        work.extend(node.deps.iter().filter(is_used).map(|dep| dep.pkg.clone()));
    }
    false
}
