//! What functions print: one file each, with a bound, read from its end and followed.
//!
//! containerd's shim appends to the file by itself, so no line is lost while the provider is away.
//! The bound is kept by punching a hole into the file's beginning: the space is given back, the
//! writer goes on undisturbed, and unlike with a copied or truncated file no line is lost between
//! two steps. A function can overrun its bound for a moment only, by what it prints between two
//! looks.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::FunctionName;
use fs_err as fs;
use nix::fcntl::{FallocateFlags, fallocate};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::wait_file::Changes;

/// Space that one function's log may take, in bytes.
const BOUND: u64 = 8 << 20;
/// What is kept of one that is over it.
const KEPT: u64 = 4 << 20;
/// Most that is read at once, in bytes.
const READ: u64 = 512 << 10;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The folder of all logs.
#[derive(Clone, Debug)]
pub struct Logs {
    folder: PathBuf,
}

/// Lines and the position behind them.
#[derive(Debug, Default)]
pub struct Lines {
    /// Oldest first, without their ends.
    pub lines: Vec<String>,
    /// Where the next read begins.
    pub end: u64,
}

impl Logs {
    /// Logs in that folder, which is made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: PathBuf) -> std::io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// The file of a function's log; it may not be there yet.
    #[must_use]
    pub fn path(&self, function: &FunctionName) -> PathBuf {
        self.folder.join(function.to_string())
    }

    /// The position behind what was printed so far.
    #[must_use]
    pub fn end(&self, function: &FunctionName) -> u64 {
        fs::metadata(self.path(function)).map_or(0, |it| it.len())
    }

    /// The last lines, at most `count` and 512 KiB, from `since` on.
    ///
    /// # Errors
    /// When the file cannot be read; one that is not there has no lines.
    pub fn tail(
        &self,
        function: &FunctionName,
        since: u64,
        count: usize,
    ) -> std::io::Result<Lines> {
        let Some(file) = existing(&self.path(function))? else { return Ok(Lines::default()) };
        let start = since.max(file.metadata()?.len().saturating_sub(READ));
        let mut lines = read(&file, start, start > since)?;
        lines.lines.drain(..lines.lines.len().saturating_sub(count));
        Ok(lines)
    }

    /// Complete lines from the position on, at most 512 KiB; waits until there are some.
    ///
    /// # Errors
    /// When the file cannot be made, read or watched.
    pub async fn next(&self, function: &FunctionName, from: u64) -> std::io::Result<Lines> {
        let path = self.path(function);
        // Made if the function has not printed anything yet: a file that is there can be watched.
        let file = fs::OpenOptions::new().create(true).append(true).read(true).open(&path)?;
        let file = file.into_parts().0;
        let mut changes = Changes::of(&path)?;
        loop {
            let length = file.metadata()?.len();
            // A file that is shorter than it was is a new one; what is far behind is gone.
            let from = if length < from { 0 } else { from };
            let start = if length - from > BOUND { length - KEPT } else { from };
            let lines = read(&file, start, start > from)?;
            if !lines.lines.is_empty() {
                return Ok(lines);
            }
            changes.next().await?;
        }
    }

    /// Removes a function's log.
    pub fn remove(&self, function: &FunctionName) {
        // It may never have printed anything.
        let _ = fs::remove_file(self.path(function));
    }

    /// Removes the logs of all functions but those.
    ///
    /// # Errors
    /// When the folder cannot be read, or a log not be removed.
    pub fn remove_strays(&self, functions: &HashSet<FunctionName>) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_str().and_then(|it| it.parse::<FunctionName>().ok());
            if name.is_none_or(|it| !functions.contains(&it)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Keeps all logs within their bound until `stop`.
    pub async fn keep_bounded(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = trim_all(&self.folder) {
                warn!("a log was not bounded: {error:#}");
            }
        }
    }
}

fn trim_all(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if space(&entry.metadata()?) > BOUND {
            trim(&fs::OpenOptions::new().write(true).open(entry.path())?.into_parts().0)?;
        }
    }
    Ok(())
}

fn space(status: &std::fs::Metadata) -> u64 {
    status.blocks() * 512
}

fn trim(file: &File) -> std::io::Result<()> {
    let hole = file.metadata()?.len().saturating_sub(KEPT);
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, 0, i64::try_from(hole).unwrap_or(i64::MAX))?;
    Ok(())
}

/// Complete lines from `start` on. `within` says that it may lie within a line, which is left out.
fn read(mut file: &File, start: u64, within: bool) -> std::io::Result<Lines> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(READ).read_to_end(&mut bytes)?;
    let full = bytes.len() as u64 == READ;
    let Some(last) = bytes.iter().rposition(|&it| it == b'\n') else {
        // One line that is longer than all that is read at once is given in pieces.
        let lines = if full { vec![text(&bytes)] } else { Vec::new() };
        return Ok(Lines { end: start + if full { READ } else { 0 }, lines });
    };
    let skipped = if within { bytes.iter().position(|&it| it == b'\n') } else { None };
    let from = skipped.map_or(0, |at| at + 1);
    let lines = if from > last {
        Vec::new()
    } else {
        bytes[from..last].split(|&it| it == b'\n').map(text).collect()
    };
    Ok(Lines { lines, end: start + last as u64 + 1 })
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()
}

fn existing(path: &Path) -> std::io::Result<Option<File>> {
    match fs::File::open(path) {
        Ok(file) => Ok(Some(file.into_parts().0)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn logs() -> (tempfile::TempDir, Logs, FunctionName) {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path().join("logs")).unwrap();
        (folder, logs, "hello".parse().unwrap())
    }

    #[test]
    fn the_last_lines_are_given_without_one_that_has_no_end_yet() {
        let (_folder, logs, name) = logs();
        assert!(logs.tail(&name, 0, 10).unwrap().lines.is_empty());
        fs::write(logs.path(&name), "one\r\ntwo\n\nfour\nfiv").unwrap();
        let all = logs.tail(&name, 0, 10).unwrap();
        assert_eq!(all.lines, ["one", "two", "", "four"]);
        assert_eq!(all.end, 15);
        assert_eq!(logs.tail(&name, 0, 2).unwrap().lines, ["", "four"]);
        assert_eq!(logs.tail(&name, 9, 9).unwrap().lines, ["", "four"]);
    }

    #[test]
    fn a_log_over_its_bound_gives_space_back_and_loses_no_new_line() {
        let (_folder, logs, name) = logs();
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(logs.path(&name)).unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..10 << 10 {
            file.write_all(line.as_bytes()).unwrap();
        }
        trim_all(&logs.folder).unwrap();
        file.write_all(b"last\n").unwrap();
        assert!(space(&fs::metadata(logs.path(&name)).unwrap()) <= KEPT + (1 << 20));
        assert_eq!(logs.tail(&name, 0, 1).unwrap().lines, ["last"]);
    }

    #[test]
    fn logs_of_functions_that_are_gone_are_removed_and_no_other() {
        let (_folder, logs, name) = logs();
        let gone: FunctionName = "gone".parse().unwrap();
        for function in [&name, &gone] {
            fs::write(logs.path(function), "line\n").unwrap();
        }
        logs.remove_strays(&[name.clone(), "silent".parse().unwrap()].into()).unwrap();
        assert_eq!(logs.tail(&name, 0, 9).unwrap().lines, ["line"]);
        assert!(!logs.path(&gone).exists());
    }

    #[tokio::test]
    async fn a_follower_that_is_far_behind_goes_on_where_lines_are_left() {
        let (_folder, logs, name) = logs();
        let line = format!("{}\n", "x".repeat(1023));
        fs::write(logs.path(&name), line.repeat(10 << 10)).unwrap();
        trim_all(&logs.folder).unwrap();
        let lines = logs.next(&name, 7).await.unwrap();
        assert_eq!(lines.lines[0].len(), 1023);
        assert!(lines.lines.iter().all(|it| it.starts_with('x')));
    }

    #[tokio::test]
    async fn a_follower_gets_what_is_printed_later() {
        let (_folder, logs, name) = logs();
        let (lines, ()) = tokio::join!(logs.next(&name, 0), async {
            tokio::task::yield_now().await;
            fs::write(logs.path(&name), "a\nb\n").unwrap();
        });
        let lines = lines.unwrap();
        assert_eq!((lines.lines, lines.end), (vec!["a".to_owned(), "b".to_owned()], 4));
    }

    #[test]
    fn a_line_that_is_longer_than_a_read_comes_in_pieces() {
        let (_folder, logs, name) = logs();
        fs::write(logs.path(&name), "y".repeat(600 << 10)).unwrap();
        let file = existing(&logs.path(&name)).unwrap().unwrap();
        assert_eq!(read(&file, 0, false).unwrap().end, READ);
    }
}
