//! What the tests share: a host with containerd, a small image, containers of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use containerd::containers::{NewContainer, Runtime};
use containerd::images::{Reclaim, ResolvedImage};
use containerd::tasks::{Output, Started};
use containerd::{Client, Labels, sha256};
use oci_spec::runtime::{ProcessBuilder, RootBuilder, Spec};
use serde_json::{Value, json};
use testkit::{Daemon, Host};

/// Full name of the test image.
pub(crate) const IMAGE: &str = "docker.io/inplace/busybox:test";
/// A limit that only a broken test reaches.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The cgroup of the shims.
pub(crate) const SHIMS: &str = "/shims";

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A host with containerd, and a client of it.
pub(crate) struct Rig {
    pub(crate) host: Host,
    pub(crate) client: Client,
}

impl Rig {
    pub(crate) fn start() -> Self {
        let host = Host::start(&[Daemon::Containerd]).expect("containerd starts");
        fs_err::create_dir(host.cell().path(Path::new("/sys/fs/cgroup/shims"))).unwrap();
        let client = Client::connect(&host.socket(Daemon::Containerd), "functions").unwrap();
        Self { host, client }
    }

    /// A layout of the test image below the host's folder.
    pub(crate) fn layout(&self, name: &str) -> PathBuf {
        let folder = self.host.dir().join(name);
        write_layout(&folder, IMAGE);
        folder
    }

    /// The test image, imported and unpacked.
    pub(crate) async fn image(&self) -> ResolvedImage {
        self.client.import_layout(&self.layout("layout"), |_| ()).await.unwrap();
        self.client.unpack_image(IMAGE).await.unwrap()
    }

    /// A container of that image with a created task, not started.
    pub(crate) async fn create(&self, image: &ResolvedImage, id: &str, command: &[&str]) {
        self.create_with(image, id, &spec(id, command), Labels::new()).await;
    }

    /// The same with a specification and snapshot labels of the test's own.
    pub(crate) async fn create_with(
        &self,
        image: &ResolvedImage,
        id: &str,
        spec: &Spec,
        labels: Labels,
    ) {
        let lease = self.client.lease("test", LIMIT).await.unwrap();
        let mounts = lease.prepare_snapshot(id, &image.top_chain(), labels).await.unwrap();
        let new = NewContainer {
            id,
            image: &image.name,
            snapshot: id,
            labels: [("test".to_owned(), id.to_owned())].into(),
            runtime: self.runtime(),
        };
        self.client.create_container(new, spec).await.unwrap();
        lease.release().await.unwrap();
        let output = self.output_file(id);
        self.client.create_task(id, mounts, &output, &output).await.unwrap();
    }

    /// A running container.
    pub(crate) async fn run(&self, image: &ResolvedImage, id: &str, command: &[&str]) -> Started {
        self.create(image, id, command).await;
        self.client.start_task(id).await.unwrap()
    }

    /// Runs a command in a container to its end: exit status and output. Nothing is left of it.
    pub(crate) async fn run_to_end(
        &self,
        image: &ResolvedImage,
        id: &str,
        command: &[&str],
    ) -> (u32, String) {
        let mut started = self.run(image, id, command).await;
        let exit = started.exit.within(LIMIT).await.unwrap();
        self.client.cleanup(id, LIMIT).await.unwrap();
        (exit.status, self.output(id))
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime { binary: self.host.tools().tool("crun"), shim_cgroup: SHIMS.to_owned() }
    }

    pub(crate) fn output_file(&self, id: &str) -> Output {
        Output::File(self.host.log(id))
    }

    /// What a container has printed so far.
    pub(crate) fn output(&self, id: &str) -> String {
        fs_err::read_to_string(self.host.log(id)).unwrap_or_default()
    }

    /// Waits until a container has printed `text`.
    pub(crate) async fn wait_for_output(&self, id: &str, text: &str) {
        eventually(&format!("{id} prints {text:?}"), async || self.output(id).contains(text)).await;
    }

    /// Makes containerd collect its garbage, by adding an image and removing it again.
    pub(crate) async fn collect_garbage(&self) {
        let (folder, name) = (self.host.dir().join("garbage"), "docker.io/inplace/garbage:1");
        write_layout(&folder, name);
        self.client.import_layout(&folder, |_| ()).await.unwrap();
        self.client.remove_image(name, Reclaim::Now).await.unwrap();
    }

    /// What containerd's own tool prints, for what the client has no call.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> String {
        let mut command = self.host.cell().command(self.host.tools().tool("ctr"));
        command.arg("--address").arg(self.host.socket(Daemon::Containerd));
        let output = command.args(["--namespace", "functions"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A specification that runs a command as root, its cgroup among the functions'.
pub(crate) fn spec(id: &str, command: &[&str]) -> Spec {
    let mut spec = Spec::default();
    let root = RootBuilder::default().path("rootfs").readonly(false).build().unwrap();
    spec.set_root(Some(root)).set_process(Some(process(command)));
    let mut linux = spec.linux().clone().unwrap();
    linux.set_cgroups_path(Some(PathBuf::from(format!("/functions/{id}"))));
    spec.set_linux(Some(linux));
    spec
}

/// The process of a specification or an exec.
pub(crate) fn process(command: &[&str]) -> oci_spec::runtime::Process {
    let arguments: Vec<String> = command.iter().map(ToString::to_string).collect();
    let builder = ProcessBuilder::default().args(arguments).cwd("/").terminal(false);
    builder.env(vec!["PATH=/bin".to_owned()]).no_new_privileges(true).build().unwrap()
}

/// Writes a layout with one image of two layers, busybox and `/etc/marker`, under an index that
/// also names an image for another machine, whose blobs are not there.
pub(crate) fn write_layout(folder: &Path, name: &str) {
    let layers =
        [layer(busybox), layer(|tar| append(tar, "etc/marker", b"from the image\n", 0o644))];
    let diff_ids: Vec<String> = layers.iter().map(|it| sha256(it)).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let write = |media_type: &str, bytes: &[u8]| -> Value {
        let digest = sha256(bytes);
        let blobs = folder.join("blobs/sha256");
        fs_err::create_dir_all(&blobs).unwrap();
        fs_err::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layers: Vec<Value> = layers.iter().map(|it| write(LAYER, it)).collect();
    let config = write(CONFIG, config.to_string().as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let mut ours = write(MANIFEST, manifest.to_string().as_bytes());
    ours["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let other = json!({"mediaType": MANIFEST, "digest": sha256(b"elsewhere"), "size": 9,
        "platform": {"os": "linux", "architecture": "arm64"}});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other, ours]});
    let mut entry = write(INDEX, index.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    fs_err::write(folder.join("index.json"), index.to_string()).unwrap();
    fs_err::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

type Tar = tar::Builder<Vec<u8>>;

fn layer(fill: impl FnOnce(&mut Tar)) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    fill(&mut tar);
    tar.into_inner().unwrap()
}

/// The static busybox of the host and the folders that a container needs.
fn busybox(tar: &mut Tar) {
    let path = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|it| Path::new(it).exists());
    let path = path.expect("the tests need the package busybox-static");
    for folder in ["bin/", "dev/", "etc/", "proc/", "sys/", "tmp/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, folder, std::io::empty()).unwrap();
    }
    append(tar, "bin/busybox", &fs_err::read(path).unwrap(), 0o755);
    for name in ["cat", "echo", "ls", "rm", "sh", "sleep", "stat", "touch", "true"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
}

fn append(tar: &mut Tar, path: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes).unwrap();
}
