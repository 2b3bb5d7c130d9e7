//! A function's folder and git directory, opened when they are used and again when they were
//! replaced; and a task that tells what happens in them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::{Error, FunctionName};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::folder::Folder;
use crate::git::{Git, GitError};
use crate::wait_file::Changes;
use crate::watch::{Event, Watcher};

/// Pause before a watch that broke is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Where a function's source is.
#[derive(Debug)]
pub struct Source {
    state: PathBuf,
    name: FunctionName,
    opened: Mutex<Option<Arc<Opened>>>,
}

/// An open folder with its git directory.
#[derive(Debug)]
pub struct Opened {
    /// The folder.
    pub folder: Folder,
    /// Its git directory.
    pub git: Git,
}

/// What happened to a function's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The folder changed, or may have changed while nobody looked.
    Saved(Instant),
    /// The folder cannot be used, for this reason: it is gone, or not the owner's.
    Lost(Error),
    /// The folder is there again.
    Back,
    /// A branch or HEAD moved.
    Branch,
}

impl Source {
    /// The source of a function below `state`.
    #[must_use]
    pub fn new(state: &Path, name: &FunctionName) -> Self {
        Self { state: state.to_owned(), name: name.clone(), opened: Mutex::new(None) }
    }

    /// The folder as it is there now. Blocks on the disk.
    ///
    /// # Errors
    /// That it is gone, or why it cannot be opened.
    pub fn open(&self) -> Result<Arc<Opened>, Error> {
        let mut opened = self.opened.lock().expect("nothing panics under this lock");
        if let Some(open) = opened.as_ref().filter(|it| !it.folder.is_gone()) {
            return Ok(Arc::clone(open));
        }
        let folder = Folder::open(&self.state, &self.name)?;
        let git = match Git::open(&self.state, &folder) {
            Err(GitError::Gone { name }) => {
                warn!(function = %name, "the git directory is gone: a new one is made");
                Git::init(&self.state, &folder)?
            }
            other => other?,
        };
        Ok(Arc::clone(opened.insert(Arc::new(Opened { folder, git }))))
    }

    /// Path of the git directory.
    #[must_use]
    pub fn git_dir(&self) -> PathBuf {
        self.state.join("git").join(format!("{}.git", self.name))
    }

    /// Makes the folder anew, empty, when it is gone.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn open_or_create(&self) -> Result<Arc<Opened>, Error> {
        match Folder::open(&self.state, &self.name) {
            Err(crate::folder::FolderError::Gone { .. }) => {
                drop(Folder::create(&self.state, &self.name)?);
            }
            other => drop(other?),
        }
        self.open()
    }

    /// Tells what happens, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken, mut tell: impl AsyncFnMut(News)) {
        let watching = async {
            let mut lost = None;
            loop {
                match self.watcher().await {
                    Ok(mut watcher) => {
                        if lost.take().is_some() {
                            tell(News::Back).await;
                        }
                        follow(&mut watcher, &self.name, &mut tell).await;
                    }
                    Err(error) => {
                        if lost.as_ref() != Some(&error) {
                            info!(function = %self.name, "the folder cannot be watched: {error}");
                            lost = Some(error.clone());
                            tell(News::Lost(error)).await;
                        }
                        self.wait().await;
                    }
                }
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    async fn watcher(self: &Arc<Self>) -> Result<Watcher, Error> {
        let this = Arc::clone(self);
        let opened =
            crate::fault::blocking("opening a function's folder", move || this.open()).await?;
        let watcher = Watcher::new(&opened.folder, &opened.git);
        watcher
            .map_err(|error| crate::fault::internal("watching a function's folder", &error.into()))
    }

    /// Waits until something happens beside the folder's place, or for a while.
    async fn wait(&self) {
        if let Ok(mut changes) = Changes::of(&self.state.join("functions"))
            && self.open().is_err()
        {
            // Also after a while: what was wrong may have been something else.
            let _ = tokio::time::timeout(RETRY, changes.next()).await;
        }
    }
}

/// Passes news on until the folder is gone or the watch breaks.
async fn follow(watcher: &mut Watcher, name: &FunctionName, tell: &mut impl AsyncFnMut(News)) {
    // What happened before the watch began has no event.
    tell(News::Saved(Instant::now())).await;
    tell(News::Branch).await;
    loop {
        match watcher.next().await {
            Ok(Event::Changed(_)) => tell(News::Saved(Instant::now())).await,
            Ok(Event::Branch) => tell(News::Branch).await,
            Ok(Event::Gone) => return,
            Err(error) => {
                warn!(function = %name, "watching the folder broke off: {error}");
                tokio::time::sleep(RETRY).await;
                return;
            }
        }
    }
}
