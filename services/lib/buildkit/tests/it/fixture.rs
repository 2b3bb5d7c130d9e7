//! Daemons, a base image, git repositories, and a look at what came out.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use buildkit::{
    Build, Client, Commit, Dockerfile, Error, Event, EventReader, Image, Network, Recipe, Secrets,
    Source,
};
use serde_json::Value;
use testkit::{Daemon, Host};

/// Where the function's files are in the base image.
pub(crate) const PATH: &str = "/home/app/function";
/// When every commit of the tests was made.
pub(crate) const TIME: i64 = 1_700_000_000;
/// Longer than any build here takes, also on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Both daemons with the base image `python3` in the store.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) client: Client,
    /// Full name of the base image.
    pub(crate) base: String,
    /// The base image's configuration.
    pub(crate) config: Value,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        let host = Host::start(&[Daemon::Containerd, Daemon::Buildkitd])?;
        let client = Client::connect(host.socket(Daemon::Buildkitd));
        client.wait_ready(LIMIT).await?;
        let layout = host.tools().bases.join("python3");
        let index: Value =
            serde_json::from_str(&fs_err::read_to_string(layout.join("index.json"))?)?;
        let entry = &index["manifests"][0];
        let base = entry["annotations"]["org.opencontainers.image.ref.name"].as_str();
        let base = base.context("the base has no name")?.to_owned();
        let mut world = Self { host, client, base, config: Value::Null };
        world.import(&layout)?;
        world.config = world.image_config(&world.base)?;
        Ok(world)
    }

    fn import(&self, layout: &Path) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(layout).args(["-cf", "-", "."]).stdout(Stdio::piped());
        let mut tar = tar.spawn()?;
        let mut import = self.ctr_command(&["images", "import", "--no-unpack", "-"]);
        import.stdin(tar.stdout.take().context("tar has no output")?);
        output(&mut import)?;
        ensure!(tar.wait()?.success(), "tar of {} failed", layout.display());
        Ok(())
    }

    fn ctr_command(&self, args: &[&str]) -> Command {
        let mut command = self.host.cell().command(self.host.tools().tool("ctr"));
        command.arg("-a").arg(self.host.socket(Daemon::Containerd)).args(["-n", "functions"]);
        command.args(args);
        command
    }

    /// Output of `ctr` in the namespace of the functions.
    pub(crate) fn ctr(&self, args: &[&str]) -> Result<String> {
        output(&mut self.ctr_command(args))
    }

    /// Throws away everything that BuildKit could reuse.
    pub(crate) fn prune(&self) -> Result<()> {
        let mut command = self.host.cell().command(self.host.tools().tool("buildctl"));
        let socket = self.host.socket(Daemon::Buildkitd);
        command.arg("--addr").arg(format!("unix://{}", socket.display())).args(["prune", "--all"]);
        output(&mut command).map(drop)
    }

    /// The configuration of an image in the store.
    pub(crate) fn image_config(&self, name: &str) -> Result<Value> {
        let listed = self.ctr(&["images", "ls", &format!("name=={name}")])?;
        let digest = listed.split_whitespace().find(|it| it.starts_with("sha256:"));
        let digest = digest.with_context(|| format!("{name} is not in the store"))?;
        let manifest: Value = serde_json::from_str(&self.ctr(&["content", "get", digest])?)?;
        let digest = manifest["config"]["digest"].as_str().context("no config in the manifest")?;
        Ok(serde_json::from_str(&self.ctr(&["content", "get", digest])?)?)
    }

    /// What an image has below a path, by path.
    pub(crate) fn files(&self, name: &str, below: &str) -> Result<BTreeMap<String, File>> {
        let target =
            self.host.dir().join(format!("mount-{}", fs_err::read_dir(self.host.dir())?.count()));
        fs_err::create_dir(&target)?;
        let target_text = target.to_str().context("path is not UTF-8")?;
        self.ctr(&["images", "mount", name, target_text])?;
        let root = self.host.cell().path(&target).join(below.trim_start_matches('/'));
        let mut files = BTreeMap::new();
        walk(&root, &root, &mut files)?;
        Ok(files)
    }

    /// A build of the commit over the base.
    pub(crate) fn commit(&self, repository: &Repository, source: &Source) -> Build {
        let recipe = Recipe::Commit(Commit {
            base: self.base.clone(),
            config: self.config.clone(),
            path: PATH.into(),
            owner: 1000,
            dependencies: None,
        });
        build(repository, source, recipe)
    }

    /// Runs a build to its end.
    pub(crate) async fn run(&self, build: Build) -> (Result<Image, Error>, Vec<Event>) {
        let (events, reader) = buildkit::channel(4096);
        tokio::join!(self.client.solve(build, events), collect(reader))
    }

    /// Runs a build that must succeed.
    pub(crate) async fn done(&self, build: Build) -> Result<(Image, Vec<Event>)> {
        let (image, events) = self.run(build).await;
        Ok((image?, events))
    }
}

/// A build of the Dockerfile in the commit.
pub(crate) fn dockerfile(repository: &Repository, source: &Source) -> Build {
    let recipe = Recipe::Dockerfile(Dockerfile {
        file: "Dockerfile".into(),
        target: None,
        build_args: BTreeMap::new(),
        network: Network::None,
    });
    build(repository, source, recipe)
}

fn build(repository: &Repository, source: &Source, recipe: Recipe) -> Build {
    Build {
        source: source.clone(),
        shared_key: repository.name.clone(),
        recipe,
        names: vec![repository.image()],
        secrets: Secrets::default(),
        limit: LIMIT,
    }
}

async fn collect(mut reader: EventReader) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = reader.recv().await {
        events.push(event);
    }
    events
}

/// What an image has at a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Content of a file, `-> target` of a link, nothing for a folder.
    pub(crate) content: String,
    /// The lowest nine bits, and the kind's first letter: `d`, `f`, `l`.
    pub(crate) mode: (char, u32),
    pub(crate) uid: u32,
    pub(crate) time: i64,
}

fn walk(root: &Path, at: &Path, files: &mut BTreeMap<String, File>) -> Result<()> {
    let metadata = fs_err::symlink_metadata(at)?;
    let (kind, content) = if metadata.is_dir() {
        ('d', String::new())
    } else if metadata.is_symlink() {
        ('l', format!("-> {}", fs_err::read_link(at)?.display()))
    } else {
        ('f', String::from_utf8_lossy(&fs_err::read(at)?).into_owned())
    };
    let name = at.strip_prefix(root)?.to_str().context("name is not UTF-8")?.to_owned();
    let mode = (kind, metadata.mode() & 0o777);
    files.insert(name, File { content, mode, uid: metadata.uid(), time: metadata.mtime() });
    if metadata.is_dir() {
        for entry in fs_err::read_dir(at)? {
            walk(root, &entry?.path(), files)?;
        }
    }
    Ok(())
}

/// A function's folder with its git directory apart.
pub(crate) struct Repository {
    pub(crate) name: String,
    dir: tempfile::TempDir,
}

impl Repository {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let repository = Self { name: name.to_owned(), dir: tempfile::tempdir()? };
        fs_err::create_dir(repository.folder())?;
        let separate = format!("--separate-git-dir={}", repository.git_dir().display());
        repository.git(&["init", "-q", &separate])?;
        Ok(repository)
    }

    /// Where the files are.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("folder")
    }

    fn git_dir(&self) -> PathBuf {
        self.dir.path().join("separate.git")
    }

    /// Name of the image that is built from it.
    pub(crate) fn image(&self) -> String {
        format!("docker.io/inplace/{}:latest", self.name)
    }

    pub(crate) fn write(&self, path: &str, content: &str) -> Result<()> {
        let path = self.folder().join(path);
        fs_err::create_dir_all(path.parent().context("no parent")?)?;
        Ok(fs_err::write(path, content)?)
    }

    /// Commits all that is in the folder.
    pub(crate) fn commit(&self) -> Result<Source> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "-q", "--allow-empty", "-m", "test"])?;
        let commit = self.git(&["rev-parse", "HEAD"])?.trim().to_owned();
        Ok(Source { git_dir: self.git_dir(), commit })
    }

    /// Writes files and commits them.
    pub(crate) fn committed(name: &str, files: &[(&str, &str)]) -> Result<(Self, Source)> {
        let repository = Self::new(name)?;
        for (path, content) in files {
            repository.write(path, content)?;
        }
        let source = repository.commit()?;
        Ok((repository, source))
    }

    pub(crate) fn git(&self, args: &[&str]) -> Result<String> {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.folder()).args(["-c", "user.name=t", "-c", "user.email=t@t"]);
        let date = format!("{TIME} +0100");
        git.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        output(git.args(args))
    }
}

/// Standard output of a command that must succeed.
fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn()?.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", error.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// The lines that steps printed.
pub(crate) fn lines(events: &[Event]) -> Vec<&str> {
    let texts = events.iter().filter_map(|event| match event {
        Event::Log { line, .. } => Some(line.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Whether a step whose name holds `part` was told to be at `status`.
pub(crate) fn step_is(events: &[Event], part: &str, status: buildkit::StepStatus) -> bool {
    events.iter().any(|event| {
        matches!(event, Event::Step { name, status: at, .. } if name.contains(part) && *at == status)
    })
}
