//! The state file against what a provider does in its life.

use std::collections::BTreeMap;

use api::{ErrorCode, FunctionName};
use tempfile::TempDir;
use time::macros::datetime;

use super::*;
use crate::retention::Retention;

fn open(dir: &TempDir) -> Store {
    Store::open(&dir.path().join("state.db")).unwrap()
}

fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}

fn record(text: &str) -> FunctionRecord {
    FunctionRecord {
        name: name(text),
        template: Some("python3-http".into()),
        base_image: "docker.io/inplace/python3:0123456789ab".into(),
        image: "docker.io/inplace/python3:0123456789ab".into(),
        source: "/home/app/function".into(),
        env: BTreeMap::from([("A".into(), "1".into())]),
        labels: BTreeMap::from([("inplace.reload".into(), "restart".into())]),
        deployment: Some(api::openfaas::FunctionDeployment {
            service: text.into(),
            ..Default::default()
        }),
        created: datetime!(2026-03-01 12:00:00.123456789 UTC),
        good: None,
        newest: Some(1),
        revision: 0,
        replicas: 1,
        last_error: Some(
            api::Error::new(ErrorCode::StartFailed, "it did not start").lines(vec!["x".into()]),
        ),
    }
}

fn revision(commit: &str) -> NewRevision {
    NewRevision {
        commit: commit.into(),
        image: format!("docker.io/library/hello:{commit}"),
        digest: format!("sha256:{commit}"),
        message: "m".into(),
        time: "2026-03-01T12:00:00Z".into(),
    }
}

#[test]
fn what_was_written_is_there_after_the_file_was_opened_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.insert(&record("b")).unwrap();
    store.insert(&record("a.staging")).unwrap();
    let changed = store
        .update::<StoreError>(&name("b"), |record| {
            record.good = Some(7);
            Ok(())
        })
        .unwrap();
    drop(store);
    let store = open(&dir);
    assert_eq!(store.function(&name("b")).unwrap(), Some(changed.clone()));
    assert_eq!(store.functions().unwrap(), [record("a.staging"), changed]);
    assert_eq!(store.function(&name("c")).unwrap(), None);
}

#[test]
fn a_name_is_taken_once_and_a_missing_one_is_said_so() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.insert(&record("a")).unwrap();
    let taken = api::Error::from(store.insert(&record("a")).unwrap_err());
    assert_eq!(
        (taken.code, &*taken.message),
        (ErrorCode::AlreadyExists, "there is a function `a` already")
    );
    for missing in [
        store.update::<StoreError>(&name("b"), |_| Ok(())).map(drop),
        store.add_revision(&name("b"), revision("1")).map(drop),
        store.revision(&name("a"), 1).map(drop),
        store.revision(&name("a"), u64::MAX).map(drop),
        store.remove(&name("b"), "b-1", datetime!(2026-03-01 12:00 UTC)),
        store.restore("b-1").map(drop),
        store.purge("b-1"),
    ] {
        assert_eq!(api::Error::from(missing.unwrap_err()).code, ErrorCode::NotFound);
    }
}

#[test]
fn a_change_that_fails_or_panics_changes_nothing_and_the_store_goes_on() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.insert(&record("a")).unwrap();
    let refused = store.update(&name("a"), |record| {
        record.replicas = 9;
        Err(StoreError::Number { number: 9 })
    });
    assert!(matches!(refused, Err(StoreError::Number { number: 9 })));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.update::<StoreError>(&name("a"), |record| {
            record.replicas = 9;
            panic!("in the middle")
        })
    }));
    assert!(panicked.is_err());
    let failed: Result<(), _> = store.write("testing", |tx| {
        tx.execute("DELETE FROM functions", []).unwrap();
        Err(StoreError::Number { number: 0 })
    });
    assert!(failed.is_err());
    assert_eq!(store.functions().unwrap(), [record("a")]);
    store
        .update::<StoreError>(&name("a"), |record| {
            record.name = name("z");
            Ok(())
        })
        .unwrap();
    assert_eq!(store.functions().unwrap(), [record("a")], "a name never changes");
}

#[test]
fn a_revision_and_what_the_function_runs_change_in_one_step() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.insert(&record("a")).unwrap();
    let first = store.add_revision(&name("a"), revision("1")).unwrap();
    let second = store.add_revision(&name("a"), revision("2")).unwrap();
    assert_eq!((first.number, second.number), (1, 2));
    let function = store.function(&name("a")).unwrap().unwrap();
    assert_eq!((function.revision, &*function.image), (2, "docker.io/library/hello:2"));
    assert_eq!(
        function,
        FunctionRecord { revision: 2, image: second.image.clone(), ..record("a") }
    );
    assert_eq!(store.revisions(&name("a")).unwrap(), [second.clone(), first.clone()]);
    assert_eq!(store.revision(&name("a"), 1).unwrap(), first);
}

#[test]
fn revisions_that_are_not_kept_go_and_those_in_use_stay() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let (a, now) = (name("a"), datetime!(2026-03-02 12:00 UTC));
    for function in ["a", "b"] {
        store.insert(&record(function)).unwrap();
        for commit in ["1", "2", "3", "4", "5"] {
            store.add_revision(&name(function), revision(commit)).unwrap();
        }
    }
    store
        .update::<StoreError>(&a, |record| {
            record.revision = 1; // rolled back
            Ok(())
        })
        .unwrap();
    let days = |days: u64| std::time::Duration::from_secs(days * 24 * 3600);
    let keep = |age| Retention { newest: 2, age };
    assert!(store.prune_revisions(&a, &keep(days(2)), None, now).unwrap().is_empty());
    assert_eq!(store.prune_revisions(&a, &keep(days(0)), Some(3), now).unwrap(), [2]);
    assert_eq!(store.prune_revisions(&a, &keep(days(0)), None, now).unwrap(), [3]);
    let left = |name| -> Vec<u64> {
        store.revisions(name).unwrap().into_iter().map(|it| it.number).collect()
    };
    assert_eq!((left(&a), left(&name("b"))), (vec![5, 4, 1], vec![5, 4, 3, 2, 1]));
    // Its number is not given out again, and it is told from one that never was.
    let gone = store.revision(&a, 3).unwrap_err();
    assert!(matches!(gone, StoreError::NotKept { .. }), "{gone:?}");
    let gone = api::Error::from(gone);
    assert_eq!(gone.code, ErrorCode::NotFound);
    assert_eq!(gone.message, "revision 3 of function `a` is not kept any more");
    assert!(gone.hint.contains("git"));
    for never in [0, 6, u64::MAX] {
        let error = store.revision(&a, never).unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    }
    assert_eq!(store.add_revision(&a, revision("6")).unwrap().number, 6);
    let missing = store.prune_revisions(&name("c"), &keep(days(0)), None, now).unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }), "{missing:?}");
}

#[test]
fn an_image_is_needed_until_the_last_row_that_names_it_is_gone() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let (a, at) = (name("a"), datetime!(2026-03-01 12:00 UTC));
    let (base, image) = (record("a").base_image, |n: u64| format!("docker.io/library/hello:{n}"));
    let images = || store.images().unwrap().into_iter().collect::<Vec<_>>();
    assert_eq!(images(), Vec::<String>::new());
    store.insert(&record("a")).unwrap();
    store.add_revision(&a, revision("1")).unwrap();
    store.add_revision(&a, revision("2")).unwrap();
    assert_eq!(images(), [base.clone(), image(1), image(2)]);
    store.remove(&a, "a-1", at).unwrap();
    assert_eq!(images(), [base.clone(), image(1), image(2)]);
    // Another function of the name, on the same commit.
    store.insert(&record("a")).unwrap();
    store.add_revision(&a, revision("2")).unwrap();
    store.purge("a-1").unwrap();
    assert_eq!(images(), [base, image(2)]);
}

#[test]
fn numbers_are_never_given_out_twice_over_removal_and_restoring() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let at = datetime!(2026-03-01 12:00:05 UTC);
    let a = name("a");
    store.insert(&record("a")).unwrap();
    let mut versions = vec![store.next_version(&a).unwrap(), store.next_version(&a).unwrap()];
    let mut numbers = vec![store.add_revision(&a, revision("1")).unwrap().number];
    let first = store.function(&a).unwrap().unwrap();
    store.remove(&a, "a-1", at).unwrap();
    assert_eq!(store.functions().unwrap(), []);
    store.insert(&record("a")).unwrap();
    versions.push(store.next_version(&a).unwrap());
    numbers.push(store.add_revision(&a, revision("2")).unwrap().number);
    assert!(matches!(store.restore("a-1"), Err(StoreError::AlreadyExists { .. })));
    store.remove(&a, "a-2", at + time::Duration::seconds(1)).unwrap();
    let trash: Vec<_> = store.trash().unwrap().into_iter().map(|t| (t.id, t.removed)).collect();
    assert_eq!(trash, [("a-2".into(), at + time::Duration::seconds(1)), ("a-1".into(), at)]);
    assert_eq!(store.restore("a-1").unwrap(), first);
    assert_eq!(store.revisions(&a).unwrap().len(), 1);
    assert!(matches!(store.remove(&a, "a-2", at), Err(StoreError::AlreadyExists { .. })));
    store.purge("a-2").unwrap();
    store.remove(&a, "a-3", at).unwrap();
    store.purge("a-3").unwrap();
    assert_eq!(store.trash().unwrap(), []);
    drop(store);
    let store = open(&dir);
    store.insert(&record("a")).unwrap();
    versions.push(store.next_version(&a).unwrap());
    numbers.push(store.add_revision(&a, revision("3")).unwrap().number);
    assert_eq!((versions, numbers), (vec![1, 2, 3, 4], vec![1, 2, 3]));
    assert_eq!(store.next_version(&name("b")).unwrap(), 1);
}

#[test]
fn counters_grow_over_restarts_and_blocks_do_not_overlap() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    assert_eq!(
        (store.reserve_epochs(1000).unwrap(), store.reserve_epochs(1000).unwrap()),
        (1, 1001)
    );
    assert_eq!((store.next_replica().unwrap(), store.next_replica().unwrap()), (1, 2));
    drop(store);
    let store = open(&dir);
    assert_eq!((store.reserve_epochs(1).unwrap(), store.next_replica().unwrap()), (2001, 3));
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state.db");
    fs_err::write(&path, "this is no database, and long enough to be looked at".repeat(100))
        .unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(api::Error::from(error).hint.contains("copy"));
    assert!(fs_err::read_to_string(&path).unwrap().starts_with("this is no"));
}

#[test]
fn a_page_that_is_torn_is_found_at_the_start() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&dir);
    for n in 0..200 {
        store.insert(&record(&format!("f{n}"))).unwrap();
    }
    drop(store);
    let mut bytes = fs_err::read(&path).unwrap();
    assert!(bytes.len() > 8 * 4096, "{}", bytes.len());
    bytes[5 * 4096..6 * 4096].fill(0x5a);
    fs_err::write(&path, bytes).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_file_of_a_later_release_is_refused_by_its_form() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let db = Connection::open(dir.path().join("state.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let error = Store::open(&dir.path().join("state.db")).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, known: 1, .. }), "{error:?}");
}

#[test]
fn a_file_that_another_has_open_is_refused() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let error = Store::open(&dir.path().join("state.db")).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    assert_eq!(store.functions().unwrap(), []);
}

#[test]
fn a_write_waits_for_the_disk() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let (mode, sync): (String, i64) = store
        .read("testing", |db| {
            Ok((
                db.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
                db.pragma_query_value(None, "synchronous", |row| row.get(0))?,
            ))
        })
        .unwrap();
    assert_eq!((&*mode, sync), ("wal", 2));
}
