//! Images of revisions in containerd's store: those that nothing names any more are removed.
//!
//! The store of the provider comes first: a revision that is not kept, or whose function left the
//! trash for good, loses its row there, and its image is then found here. So an interruption
//! between the two, or a build that broke off behind its image, leaves nothing for ever.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use anyhow::{Context, Result};
use api::FunctionName;
use containerd::Client;
use containerd::images::{Image, Reclaim};
use tokio::sync::Notify;
use tracing::info;

use crate::store::Store;

/// Where the names of images of functions, and of their bases, begin.
const REPOSITORY: &str = "docker.io/inplace/";
/// Hex digits of a commit in its image's name, and of a digest in its base's.
const SHORT: usize = 12;

/// Who uses which image while the store does not say so.
#[derive(Debug, Default)]
pub struct Images {
    /// At most as many as builds and starts at a time: the dead are removed with every new one.
    held: Mutex<Vec<Weak<str>>>,
    sweeping: tokio::sync::Mutex<()>,
    wanted: Notify,
}

/// Keeps an image from being removed, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Held {
    _name: Arc<str>,
}

impl Images {
    /// Keeps an image, be it there or about to be made. Waits for the end of a sweep.
    pub async fn hold(&self, name: &str) -> Held {
        let _no_sweep = self.sweeping.lock().await;
        let name: Arc<str> = name.into();
        let mut held = self.lock();
        held.retain(|it| it.strong_count() > 0);
        held.push(Arc::downgrade(&name));
        Held { _name: name }
    }

    /// Asks for a sweep soon.
    pub fn want_sweep(&self) {
        self.wanted.notify_one();
    }

    /// Waits until somebody asks for a sweep.
    pub async fn sweep_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Removes the images that no revision names, no container was made from and nobody holds.
    ///
    /// # Errors
    /// When the store cannot be read or containerd does not answer. The next sweep goes on.
    pub async fn sweep(&self, client: &Client, store: &Arc<Store>) -> Result<()> {
        // Nobody begins to use an image meanwhile. Those who are at it are looked at first: what
        // they let go of after this is in the store or under a container by then.
        let _alone = self.sweeping.lock().await;
        let mut used: HashSet<String> =
            self.lock().iter().filter_map(Weak::upgrade).map(|it| it.to_string()).collect();
        used.extend(client.containers(&[]).await?.into_iter().map(|it| it.image));
        let store = Arc::clone(store);
        let named = tokio::task::spawn_blocking(move || store.images()).await;
        let named: BTreeSet<String> = named.context("reading which images are in use")??;
        for image in client.images(&[&format!("name~=^{REPOSITORY}")]).await? {
            let name = &image.name;
            if !is_revision(&image) || used.contains(name) || named.contains(name) {
                continue;
            }
            match client.remove_image(name, Reclaim::Later).await {
                Ok(()) => info!(image = name, "an image of no revision is removed"),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<str>>> {
        self.held.lock().expect("nothing panics under this lock")
    }
}

/// Full name of the image of a commit.
#[must_use]
pub fn name(function: &FunctionName, commit: &str) -> String {
    format!("{REPOSITORY}{function}:{}", &commit[..SHORT.min(commit.len())])
}

/// Whether an image has a name that we give to those of commits. A base has one of the same form,
/// and may even be called like a function, but is told by its tag: it is its own digest's
/// beginning. Anything else is somebody's own.
fn is_revision(image: &Image) -> bool {
    let Some((function, tag)) =
        image.name.strip_prefix(REPOSITORY).and_then(|it| it.split_once(':'))
    else {
        return false;
    };
    let hex = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    function.parse::<FunctionName>().is_ok()
        && tag.len() == SHORT
        && tag.bytes().all(hex)
        && !image.target.digest().digest().starts_with(tag)
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{Descriptor, Digest, MediaType};

    use super::*;

    #[test]
    fn an_image_is_named_by_function_and_commit() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let name = name(&"hello.staging".parse().unwrap(), commit);
        assert_eq!(name, "docker.io/inplace/hello.staging:0123456789ab");
    }

    #[test]
    fn only_images_of_commits_are_taken_for_such() {
        let digest = format!("sha256:0123456789ab{}", "c".repeat(52));
        let check = |name: &str, revision: bool| {
            let target =
                Descriptor::new(MediaType::ImageManifest, 1, digest.parse::<Digest>().unwrap());
            let image = Image { name: name.to_owned(), target, labels: [].into() };
            assert_eq!(is_revision(&image), revision, "{name}");
        };
        check("docker.io/inplace/hello:ffffffffffff", true);
        check("docker.io/inplace/hello.staging:0123456789ff", true);
        // A base.
        check("docker.io/inplace/python3:0123456789ab", false);
        check("docker.io/inplace/hello:latest", false);
        check("docker.io/inplace/hello:FFFFFFFFFFFF", false);
        check("docker.io/inplace/hello", false);
        check("docker.io/inplace/a/b:ffffffffffff", false);
        check("docker.io/library/hello:ffffffffffff", false);
        check("example.org/docker.io/inplace/hello:ffffffffffff", false);
    }

    #[tokio::test]
    async fn what_is_held_is_known_until_it_is_let_go() {
        let images = Images::default();
        let one = images.hold("one").await;
        let two = images.hold("two").await;
        drop(one);
        let _three = images.hold("three").await;
        assert_eq!(images.lock().len(), 2);
        drop(two);
        let alive: Vec<_> = images.lock().iter().filter_map(Weak::upgrade).collect();
        assert_eq!(alive, ["three".into()]);
    }
}
