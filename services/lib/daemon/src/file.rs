//! A write that is there whole after a power cut, or not at all.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use fs_err as fs;

/// Replaces `path` by `content` with permissions `mode` (further cut by the umask).
///
/// Readers see the old file or the new one. When this returns, the new one is on the disk.
/// Blocks; call it from `spawn_blocking` in async code.
///
/// # Errors
/// What the file system says, with the path; the old file is then still there.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let (folder, name) = path
        .parent()
        .zip(path.file_name())
        .ok_or_else(|| io::Error::other(format!("`{}` names no file", path.display())))?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut temporary = name.to_owned();
    temporary.push(".new");
    let temporary = folder.join(temporary);

    let written = write_synced(&temporary, mode, content)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| fs::File::open(folder)?.sync_all());
    if written.is_err() {
        // The first error is the one to tell; a leftover is overwritten by the next attempt.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_synced(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    // Made anew, so that the mode holds and a link is not followed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    options.options_mut().mode(mode);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_made_and_replaced_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.json");
        replace(&path, 0o600, b"one").unwrap();
        replace(&path, 0o600, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, dir.path().join("table.json.new")).unwrap();
        replace(&dir.path().join("table.json"), 0o600, b"new").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    }

    #[test]
    fn an_error_names_the_path_and_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = replace(&dir.path().join("absent/table.json"), 0o600, b"x").unwrap_err();
        assert!(error.to_string().contains("absent/table.json"), "{error}");

        let taken = dir.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        replace(&taken, 0o600, b"x").unwrap_err();
        assert!(taken.join("inside").is_dir());
        assert!(!dir.path().join("taken.new").exists());
    }
}
