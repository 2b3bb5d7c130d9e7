//! What a caller asks for: plain data, checked before anything is started.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use crate::patterns::clean;

/// One build: a commit, what to make of it, and what to call it.
#[derive(Clone, Debug)]
pub struct Build {
    /// Where the files come from.
    pub source: Source,
    /// Names whose last sync this one builds on, so that only changed files travel; one per
    /// function. ASCII, without control characters.
    pub shared_key: String,
    /// What to make of the files.
    pub recipe: Recipe,
    /// Full names of the image in containerd's store, for example `docker.io/inplace/hello:1a2b3c4`.
    pub names: Vec<String>,
    /// What steps may mount with `--mount=type=secret`, by id.
    pub secrets: Secrets,
    /// How long all of it may take.
    pub limit: Duration,
}

/// A commit in a git directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The git directory: a bare repository, or the one a `.git` file names.
    pub git_dir: PathBuf,
    /// The commit, 40 hex digits.
    pub commit: String,
}

/// How files become an image.
#[derive(Clone, Debug)]
pub enum Recipe {
    /// Base image, the commit's files in the place of its source folder, nothing else.
    Commit(Commit),
    /// A Dockerfile among the files, by BuildKit's built-in frontend.
    Dockerfile(Dockerfile),
}

/// The files of a commit over a base image. The same commit gives the same digest, as long as
/// there is no dependency step.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Full name of the base image; it must be in the store.
    pub base: String,
    /// The base image's own configuration (the JSON that its manifest's `config` names). The new
    /// image keeps all of it.
    pub config: serde_json::Value,
    /// Absolute path in the image that the files replace, for example `/home/app/function`.
    pub path: String,
    /// User and group that own the files in the image.
    pub owner: u32,
    /// What to run before, when the function has dependencies.
    pub dependencies: Option<Dependencies>,
}

/// A step that sees one file of the commit only, so that it is run again only when that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependencies {
    /// The file within the commit, for example `requirements.txt`.
    pub file: String,
    /// Absolute path of the folder in the image that the file is copied to and that the command
    /// runs in.
    pub folder: String,
    /// Program and arguments, run as root.
    pub command: Vec<String>,
    /// `NAME=value`, after the base image's own environment.
    pub env: Vec<String>,
    /// What the command can reach.
    pub network: Network,
    /// A folder that outlives the build, such as a package manager's cache.
    pub cache: Option<Cache>,
}

/// A folder that is kept between builds and is not part of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Steps with the same id share the folder.
    pub id: String,
    /// Absolute path of the folder for the command.
    pub path: String,
}

/// A Dockerfile and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// Path within the commit, mostly `Dockerfile`.
    pub file: String,
    /// The stage to build; the last one if none.
    pub target: Option<String>,
    /// Values of `ARG`s.
    pub build_args: BTreeMap<String, String>,
    /// What `RUN` steps can reach.
    pub network: Network,
}

/// What a step's process can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing but its own loopback.
    #[default]
    None,
    /// Whatever the daemon's `networkMode` gives: on a development host that is the host's.
    Daemon,
}

/// Secrets by id. Their values are never printed.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<String, Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What a build leaves in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the manifest (`sha256:...`).
    pub digest: String,
    /// Digest of the configuration.
    pub config_digest: String,
}

impl Build {
    /// Checks all that can be checked without files and daemon.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.names.is_empty() {
            return Err(Error::refused("the image has no name"));
        }
        for name in &self.names {
            check_image_name(name)?;
        }
        if self.shared_key.is_empty() || !self.shared_key.chars().all(|it| it.is_ascii_graphic()) {
            return Err(Error::refused(format!(
                "shared key {:?} is not plain ASCII",
                self.shared_key
            )));
        }
        match &self.recipe {
            Recipe::Commit(commit) => commit.check(),
            Recipe::Dockerfile(dockerfile) => check_relative("Dockerfile", &dockerfile.file),
        }
    }
}

impl Commit {
    fn check(&self) -> Result<(), Error> {
        check_image_name(&self.base)?;
        check_absolute("source path", &self.path)?;
        let Some(dependencies) = &self.dependencies else { return Ok(()) };
        check_relative("dependency file", &dependencies.file)?;
        check_absolute("dependency folder", &dependencies.folder)?;
        if let Some(cache) = &dependencies.cache {
            check_absolute("cache folder", &cache.path)?;
        }
        if dependencies.command.is_empty() {
            return Err(Error::refused("the dependency step has no command"));
        }
        Ok(())
    }
}

/// BuildKit finds an image in the store only by its full name, and reads commas as separators.
fn check_image_name(name: &str) -> Result<(), Error> {
    let full = name.split_once('/').is_some_and(|(host, rest)| {
        let host_like = host.contains(['.', ':']) || host == "localhost";
        let last = rest.rsplit('/').next().unwrap_or(rest);
        host_like && !last.starts_with(':') && last.contains([':', '@'])
    });
    if !full || name.contains(|char: char| char == ',' || !char.is_ascii_graphic()) {
        return Err(Error::refused(format!(
            "image name {name:?} is not a full one, such as docker.io/library/python:3"
        )));
    }
    Ok(())
}

fn check_absolute(what: &str, path: &str) -> Result<(), Error> {
    if path == "/" || !path.starts_with('/') || clean(path) != path {
        return Err(Error::refused(format!("{what} {path:?} is not an absolute path below /")));
    }
    Ok(())
}

fn check_relative(what: &str, path: &str) -> Result<(), Error> {
    let climbs = path == ".." || path.starts_with("../");
    if path == "." || climbs || path.starts_with('/') || clean(path) != path {
        return Err(Error::refused(format!("{what} {path:?} is not a path within the commit")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit() -> Build {
        Build {
            source: Source { git_dir: "/git".into(), commit: "0".repeat(40) },
            shared_key: "hello".into(),
            recipe: Recipe::Commit(Commit {
                base: "docker.io/inplace/python3:abc".into(),
                config: serde_json::json!({}),
                path: "/home/app/function".into(),
                owner: 1000,
                dependencies: None,
            }),
            names: vec!["docker.io/inplace/hello:1".into()],
            secrets: Secrets::default(),
            limit: Duration::from_secs(1),
        }
    }

    #[test]
    fn image_names_must_be_full() {
        for (name, good) in [
            ("docker.io/library/python:3", true),
            ("localhost/x@sha256:ab", true),
            ("127.0.0.1:5000/x:1", true),
            ("python:3", false),
            ("library/python:3", false),
            ("docker.io/library/python", false),
            ("docker.io/a:1,docker.io/b:1", false),
            ("docker.io/a b:1", false),
        ] {
            let build = Build { names: vec![name.into()], ..commit() };
            assert_eq!(build.check().is_ok(), good, "{name}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for (path, good) in [("/home/app", true), ("/", false), ("app", false), ("/a/../b", false)]
        {
            assert_eq!(check_absolute("path", path).is_ok(), good, "{path}");
        }
        for (path, good) in [
            ("Dockerfile", true),
            ("a/b", true),
            (".docker", true),
            ("../a", false),
            ("..", false),
            ("/a", false),
            (".", false),
        ] {
            assert_eq!(check_relative("file", path).is_ok(), good, "{path}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let secrets = Secrets([("token".to_owned(), b"hidden".to_vec())].into());
        assert_eq!(format!("{secrets:?}"), "{\"token\"}");
    }
}
