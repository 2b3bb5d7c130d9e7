//! What one event of inotify means: pure.

use inotify::EventMask;

use crate::folder::is_temporary;

/// Which folder an event comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `STATE/functions`, for the name of the function.
    Functions(Vec<u8>),
    /// A folder of the function, by its path below it.
    Folder(Vec<u8>),
    /// The git directory itself.
    GitDir,
    /// A folder of branches, by its path below the git directory.
    Refs(Vec<u8>),
}

impl Place {
    /// The path of what lies there.
    pub(super) fn join(&self, name: &[u8]) -> Vec<u8> {
        match self {
            Self::Functions(_) | Self::GitDir => name.to_owned(),
            Self::Folder(path) if path.is_empty() => name.to_owned(),
            Self::Folder(path) | Self::Refs(path) => [path, &b"/"[..], name].concat(),
        }
    }
}

/// What is to be done about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Nothing,
    /// The file is another one now, or gone.
    Changed,
    /// A name is new; whether that is all, or somebody is about to write, a look tells.
    Created,
    NewFolder,
    LostFolder,
    Branch,
    Gone,
}

/// What is asked of inotify in a folder of the function.
///
/// `MODIFY` is not: a reader between two writes sees half a file. `ATTRIB` is, for `chmod +x`; where
/// it says nothing new (`touch`), comparing finds nothing changed.
pub(super) fn mask() -> inotify::WatchMask {
    use inotify::WatchMask as W;
    W::CLOSE_WRITE
        | W::MOVED_TO
        | W::MOVED_FROM
        | W::CREATE
        | W::DELETE
        | W::ATTRIB
        | W::ONLYDIR
        | W::EXCL_UNLINK
}

/// Reads an event.
pub(super) fn of(place: &Place, mask: EventMask, name: Option<&[u8]>) -> Meaning {
    use EventMask as E;
    let Some(name) = name else {
        // About the watched folder itself. Deletes and moves are told by the folder above it.
        return match place {
            Place::Functions(_) | Place::Folder(_) if mask.contains(E::UNMOUNT) => Meaning::Gone,
            _ => Meaning::Nothing,
        };
    };
    let is_folder = mask.contains(E::ISDIR);
    let arrived = mask.intersects(E::CREATE | E::MOVED_TO);
    let left = mask.intersects(E::DELETE | E::MOVED_FROM);
    match place {
        Place::Functions(function) if left && name == function => Meaning::Gone,
        Place::Functions(_) => Meaning::Nothing,
        Place::Folder(_) if name == b".git" || is_temporary(name) => Meaning::Nothing,
        Place::Folder(_) if is_folder && arrived => Meaning::NewFolder,
        Place::Folder(_) if is_folder && left => Meaning::LostFolder,
        Place::Folder(_) if is_folder => Meaning::Nothing,
        Place::Folder(_) if mask.contains(E::CREATE) => Meaning::Created,
        Place::Folder(_) => Meaning::Changed,
        Place::GitDir if matches!(name, b"HEAD" | b"packed-refs") && (arrived || left) => {
            Meaning::Branch
        }
        Place::GitDir => Meaning::Nothing,
        Place::Refs(_) if is_folder && arrived => Meaning::NewFolder,
        Place::Refs(_) if is_folder && left => Meaning::LostFolder,
        Place::Refs(_) if name.ends_with(b".lock") => Meaning::Nothing,
        Place::Refs(_) if arrived || left || mask.contains(E::CLOSE_WRITE) => Meaning::Branch,
        Place::Refs(_) => Meaning::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventMask as E;

    #[track_caller]
    fn check(place: &Place, mask: EventMask, name: &str, meaning: Meaning) {
        assert_eq!(of(place, mask, Some(name.as_bytes())), meaning, "{mask:?} {name}");
    }

    #[test]
    fn in_the_folder_a_closed_file_counts_and_one_being_written_does_not() {
        let folder = Place::Folder(b"lib".to_vec());
        check(&folder, E::CLOSE_WRITE, "a.py", Meaning::Changed);
        check(&folder, E::MOVED_TO, "a.py", Meaning::Changed);
        check(&folder, E::MOVED_FROM, "a.py", Meaning::Changed);
        check(&folder, E::DELETE, "a.py", Meaning::Changed);
        check(&folder, E::ATTRIB, "a.py", Meaning::Changed);
        check(&folder, E::CREATE, "a.py", Meaning::Created);
        check(&folder, E::CREATE | E::ISDIR, "a", Meaning::NewFolder);
        check(&folder, E::MOVED_TO | E::ISDIR, "a", Meaning::NewFolder);
        check(&folder, E::MOVED_FROM | E::ISDIR, "a", Meaning::LostFolder);
        check(&folder, E::DELETE | E::ISDIR, "a", Meaning::LostFolder);
        check(&folder, E::ATTRIB | E::ISDIR, "a", Meaning::Nothing);
        assert_eq!(folder.join(b"a.py"), b"lib/a.py");
        assert_eq!(Place::Folder(Vec::new()).join(b"a.py"), b"a.py");
    }

    #[test]
    fn what_editors_and_git_do_for_themselves_is_no_news() {
        let folder = Place::Folder(Vec::new());
        for name in [".a.py.swp", "a.py~", "4913", ".inplace-00.tmp", ".git"] {
            check(&folder, E::CLOSE_WRITE, name, Meaning::Nothing);
            check(&folder, E::CREATE | E::ISDIR, name, Meaning::Nothing);
        }
    }

    #[test]
    fn only_branches_and_head_count_in_the_git_directory() {
        check(&Place::GitDir, E::MOVED_TO, "HEAD", Meaning::Branch);
        check(&Place::GitDir, E::MOVED_TO, "packed-refs", Meaning::Branch);
        check(&Place::GitDir, E::MOVED_TO, "index", Meaning::Nothing);
        check(&Place::GitDir, E::CREATE, "HEAD.lock", Meaning::Nothing);
        let refs = Place::Refs(b"refs/heads".to_vec());
        check(&refs, E::CREATE, "main.lock", Meaning::Nothing);
        check(&refs, E::MOVED_FROM, "main.lock", Meaning::Nothing);
        check(&refs, E::MOVED_TO, "main", Meaning::Branch);
        check(&refs, E::DELETE, "main", Meaning::Branch);
        check(&refs, E::CREATE | E::ISDIR, "feature", Meaning::NewFolder);
    }

    #[test]
    fn the_folder_is_gone_when_its_name_is() {
        let functions = Place::Functions(b"hello".to_vec());
        check(&functions, E::MOVED_FROM | E::ISDIR, "hello", Meaning::Gone);
        check(&functions, E::DELETE | E::ISDIR, "hello", Meaning::Gone);
        check(&functions, E::DELETE | E::ISDIR, "other", Meaning::Nothing);
        check(&functions, E::CREATE | E::ISDIR, "hello", Meaning::Nothing);
        assert_eq!(of(&Place::Folder(Vec::new()), E::UNMOUNT, None), Meaning::Gone);
    }
}
