//! The trash, and what a crash leaves of a way there and back.

use tempfile::TempDir;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    dir: TempDir,
    store: Store,
    name: FunctionName,
}

impl World {
    /// One function with all its folders.
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        crate::folder::prepare_state(dir.path()).unwrap();
        fs::create_dir(dir.path().join("trash")).unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let world = Self { dir, store, name: "hello".parse().unwrap() };
        world.insert();
        for (path, _) in parts(&world.name) {
            fs::create_dir(world.state().join(&path)).unwrap();
            fs::write(world.state().join(path).join("file"), "mine").unwrap();
        }
        fs::create_dir_all(world.state().join("versions/hello/1")).unwrap();
        world
    }

    fn insert(&self) {
        let record = FunctionRecord {
            name: self.name.clone(),
            template: None,
            base_image: "docker.io/inplace/python3:1".to_owned(),
            image: "docker.io/inplace/python3:1".to_owned(),
            source: "/home/app/function".to_owned(),
            env: [].into(),
            labels: [].into(),
            deployment: None,
            created: OffsetDateTime::now_utc(),
            good: Some(3),
            newest: Some(3),
            revision: 2,
            replicas: 1,
            last_error: None,
        };
        self.store.insert(&record).unwrap();
    }

    fn state(&self) -> &Path {
        self.dir.path()
    }

    /// Which of the three parts are in their places, and which in the trash under an id.
    fn there(&self, id: &str) -> (Vec<&'static str>, Vec<&'static str>) {
        let whole =
            |path: PathBuf| fs::read_to_string(path.join("file")).is_ok_and(|it| it == "mine");
        let live = parts(&self.name).into_iter().filter(|(path, _)| whole(self.state().join(path)));
        let folder = self.state().join("trash").join(id);
        let trashed = parts(&self.name).into_iter().filter(|(_, part)| whole(folder.join(part)));
        (live.map(|it| it.1).collect(), trashed.map(|it| it.1).collect())
    }
}

const ALL: [&str; 3] = ["source", "git", "volume"];

#[test]
fn a_function_goes_to_the_trash_and_comes_back_whole() {
    let world = World::new();
    let id = put(&world.store, world.state(), &world.name).unwrap();
    assert_eq!(world.there(&id), (vec![], ALL.to_vec()));
    assert!(!world.state().join("versions/hello").exists());
    assert_eq!(list(&world.store).unwrap()[0].id, id);

    let record = take(&world.store, world.state(), &id).unwrap();
    assert_eq!((record.good, record.revision), (None, 2));
    assert_eq!(world.there(&id), (ALL.to_vec(), vec![]));
    assert!(list(&world.store).unwrap().is_empty());
    assert!(!world.state().join("trash").join(&id).exists());
    assert_eq!(take(&world.store, world.state(), &id).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn a_name_that_is_taken_again_keeps_what_is_in_the_trash_there() {
    let world = World::new();
    let id = put(&world.store, world.state(), &world.name).unwrap();
    world.insert();
    let error = take(&world.store, world.state(), &id).unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    tidy(&world.store, world.state(), DAY).unwrap();
    assert_eq!(world.there(&id), (vec![], ALL.to_vec()));
}

#[test]
fn a_removal_that_was_interrupted_is_finished() {
    let world = World::new();
    // A crash after the store and one of the folders.
    world
        .store
        .remove(&world.name, "hello-20260101T000000.000Z", OffsetDateTime::now_utc())
        .unwrap();
    let id = "hello-20260101T000000.000Z";
    fs::create_dir(world.state().join("trash").join(id)).unwrap();
    fs::rename(
        world.state().join("functions/hello"),
        world.state().join("trash").join(id).join("source"),
    )
    .unwrap();
    tidy(&world.store, world.state(), DAY).unwrap();
    assert_eq!(world.there(id), (vec![], ALL.to_vec()));
}

#[test]
fn a_way_back_that_was_interrupted_is_finished() {
    let world = World::new();
    let id = put(&world.store, world.state(), &world.name).unwrap();
    world.store.restore(&id).unwrap();
    tidy(&world.store, world.state(), DAY).unwrap();
    assert_eq!(world.there(&id), (ALL.to_vec(), vec![]));
}

#[test]
fn what_is_too_old_is_removed_for_good_and_nothing_else() {
    let world = World::new();
    let id = put(&world.store, world.state(), &world.name).unwrap();
    tidy(&world.store, world.state(), DAY).unwrap();
    assert_eq!(world.there(&id).1, ALL);
    tidy(&world.store, world.state(), Duration::ZERO).unwrap();
    assert!(!world.state().join("trash").join(&id).exists());
    assert!(list(&world.store).unwrap().is_empty());
}
