//! A state folder for unit tests, as the appliance has it: `/data` of root's, functions of user 1000.

use std::path::{Path, PathBuf};

use api::FunctionName;
use tempfile::TempDir;

use super::{Folder, prepare_state};
use crate::sys::AsOwner;

/// A state folder that goes away with the value.
#[derive(Debug)]
pub(crate) struct State {
    dir: TempDir,
}

impl State {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        // Passable for the owner, as a data partition is.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(dir.path(), mode).unwrap();
        prepare_state(dir.path()).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn folder(&self, name: &str) -> Folder {
        Folder::create(self.path(), &name.parse().unwrap()).unwrap()
    }
}

/// A function's folder as an editor sees it, and what an editor does there: as the owner, in place.
#[derive(Debug)]
pub(crate) struct Editor(PathBuf);

impl Editor {
    pub(crate) fn of(folder: &Folder) -> Self {
        Self(folder.path().to_owned())
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Writes a file, and the folders on its way.
    pub(crate) fn save(&self, path: &str, content: &str) {
        let _owner = AsOwner::enter().unwrap();
        let file = self.at(path);
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(file, content).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs_err::read_to_string(self.at(path)).unwrap()
    }

    pub(crate) fn link(&self, target: &str, path: &str) {
        let _owner = AsOwner::enter().unwrap();
        fs_err::os::unix::fs::symlink(target, self.at(path)).unwrap();
    }

    pub(crate) fn chmod(&self, path: &str, mode: u32) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs_err::set_permissions(self.at(path), mode).unwrap();
    }

    pub(crate) fn mode(&self, path: &str) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        fs_err::symlink_metadata(self.at(path)).unwrap().permissions().mode() & 0o7777
    }

    pub(crate) fn remove(&self, path: &str) {
        fs_err::remove_file(self.at(path)).unwrap();
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }
}

pub(crate) fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}
