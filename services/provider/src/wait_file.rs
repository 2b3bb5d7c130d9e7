//! Waits for changes of one file or folder.

use std::io;
use std::path::Path;

use inotify::{Inotify, WatchMask};
use tokio::io::unix::AsyncFd;

/// Changes of a file's content, or of what a folder holds, from when it was made.
#[derive(Debug)]
pub struct Changes {
    inotify: AsyncFd<Inotify>,
}

impl Changes {
    /// Begins to look.
    ///
    /// # Errors
    /// When the path is not there, or the user's inotify limits are reached.
    pub fn of(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ATTRIB | WatchMask::MODIFY;
        inotify.watches().add(path, mask)?;
        Ok(Self { inotify: crate::sys::readable(inotify)? })
    }

    /// Returns when something changed since the last call. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the kernel says so.
    pub async fn next(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let mut ready = self.inotify.readable_mut().await?;
            match ready.try_io(|inotify| inotify.get_mut().read_events(&mut buffer).map(drop)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}
