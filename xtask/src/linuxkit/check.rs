//! From what is written to what is meant, with every mistake on the way.

mod container;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use layout::Section;
use layout::order::OrderError;

use super::raw::{self, Id, Yml};
use super::spec::{Content, File, Image, Kernel, Package, Spec, Volume};
use crate::yaml::{Place, Placed};

/// Number of the first container; the next ones follow, and names in `uid` mean these.
const FIRST_ID: u32 = 100;

/// What is wrong, and what a person should know, each at its place.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) mistakes: Vec<(Place, String)>,
    pub(super) warnings: Vec<(Place, String)>,
}

/// Checks all; the spec is whole only if there are no mistakes.
///
/// If not all could be read (`is_whole`), what is missing is no mistake: it may stand there.
pub(super) fn check(
    yml: Yml,
    dirs: &[PathBuf],
    packages: &[Package],
    is_whole: bool,
) -> (Spec, Notes) {
    let sections = [
        (Section::Onboot, &yml.onboot),
        (Section::Onshutdown, &yml.onshutdown),
        (Section::Services, &yml.services),
    ];
    let names = sections.iter().flat_map(|(_, list)| list.iter());
    let ids = (FIRST_ID..)
        .zip(names)
        .filter_map(|(id, container)| Some((container.value.name.as_ref()?.value.clone(), id)));
    // Of two with one name the last counts, as in LinuxKit.
    let ids = ids.collect();
    let volumes = yml.volumes.iter().map(|it| (it.value.name.value.clone(), it.value.readonly));
    let volumes = volumes.collect();
    let mut check = Check { ids, volumes, dirs, packages, is_whole, notes: Notes::default() };
    if let Some(trust) = &yml.trust {
        check
            .warn(trust.at(), "`trust` has no effect, as in LinuxKit: images are pinned by digest");
    }
    let mut spec = Spec {
        kernel: check.kernel(&yml.kernel),
        init: yml.init.iter().filter_map(|it| check.image(it)).collect(),
        volumes: check.volumes(&yml.volumes),
        files: yml.files.iter().filter_map(|it| check.file(it)).collect(),
        containers: Vec::new(),
    };
    check.services(&yml.services);
    for (section, list) in [
        (Section::Onboot, yml.onboot),
        (Section::Onshutdown, yml.onshutdown),
        (Section::Services, yml.services),
    ] {
        for (index, raw) in list.into_iter().enumerate() {
            spec.containers.extend(check.container(section, index, raw));
        }
    }
    (spec, check.notes)
}

struct Check<'a> {
    ids: BTreeMap<String, u32>,
    /// Whether each volume is read-only.
    volumes: BTreeMap<String, bool>,
    dirs: &'a [PathBuf],
    packages: &'a [Package],
    is_whole: bool,
    notes: Notes,
}

impl Check<'_> {
    fn fail(&mut self, at: Place, message: impl Into<String>) {
        self.notes.mistakes.push((at, message.into()));
    }

    /// Something is missing: a mistake only if all could be read.
    fn lacks(&mut self, at: Place, message: impl Into<String>) {
        if self.is_whole {
            self.fail(at, message);
        }
    }

    fn warn(&mut self, at: Place, message: impl Into<String>) {
        self.notes.warnings.push((at, message.into()));
    }

    /// The value, or a note of why there is none.
    fn take<T>(&mut self, at: Place, found: Result<T, String>) -> Option<T> {
        found.map_err(|message| self.fail(at, message)).ok()
    }

    fn kernel(&mut self, raw: &raw::Kernel) -> Option<Kernel> {
        let Some(image) = &raw.image else {
            let others = [&raw.cmdline, &raw.binary, &raw.tar, &raw.ucode];
            if let Some(key) = others.into_iter().flatten().next() {
                self.lacks(key.at(), "`kernel` has no `image`");
            }
            return None;
        };
        let text = |it: &Option<Placed<String>>| it.as_ref().map(|it| it.value.clone());
        let set = |it: Option<String>| it.filter(|it| !it.is_empty() && it != "none");
        Some(Kernel {
            image: self.image(image)?.name,
            cmdline: text(&raw.cmdline).unwrap_or_default(),
            binary: text(&raw.binary).unwrap_or_else(|| "kernel".to_owned()),
            tar: set(text(&raw.tar).or_else(|| Some("kernel.tar".to_owned()))),
            ucode: set(text(&raw.ucode)),
        })
    }

    /// An image: a package of the tree (`inplace/NAME`, `@pkg:DIR`) or one from elsewhere.
    fn image(&mut self, raw: &Placed<String>) -> Option<Image> {
        let packages = self.packages;
        if let Some(dir) = raw.value.strip_prefix("@pkg:") {
            let file = usize::try_from(raw.at().file).ok();
            let base = file.and_then(|it| self.dirs.get(it)).map(PathBuf::as_path);
            let dir = plain(&base.unwrap_or(Path::new("")).join(dir));
            let Some(package) = packages.iter().find(|it| it.dir == dir) else {
                self.fail(raw.at(), format!("no package lies in {}", dir.display()));
                return None;
            };
            let name = format!("docker.io/inplace/{}", package.name);
            return Some(Image { name, config: Some(package.config.clone()) });
        }
        let name = self.take(raw.at(), words::image(&raw.value))?;
        let ours = name.strip_prefix("docker.io/inplace/");
        let package = ours.and_then(|name| packages.iter().find(|it| it.name == name));
        Some(Image { name, config: package.map(|it| it.config.clone()) })
    }

    fn volumes(&mut self, raw: &[Placed<raw::Volume>]) -> Vec<Volume> {
        let mut seen = BTreeSet::new();
        let mut volumes = Vec::new();
        for volume in raw.iter().map(|it| &it.value) {
            let name = &volume.name.value;
            let is_word = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
            if name.is_empty() || !name.bytes().all(|it| is_word(it) || matches!(it, b'_' | b'-')) {
                self.fail(
                    volume.name.at(),
                    format!("volume `{name}` may have a-z, 0-9, _ and - only"),
                );
            }
            if !seen.insert(name.clone()) {
                self.fail(volume.name.at(), format!("a second volume `{name}`"));
            }
            let image = volume.image.as_ref().and_then(|it| self.image(it)).map(|it| it.name);
            for platform in &volume.platforms {
                if !matches!(platform.value.split('/').collect::<Vec<_>>().as_slice(), [os, arch, ..] if !os.is_empty() && !arch.is_empty())
                {
                    let message = format!("platform `{}` is not OS/ARCH", platform.value);
                    self.fail(platform.at(), message);
                }
            }
            volumes.push(Volume {
                name: name.clone(),
                image,
                dir: volume_dir(name),
                readonly: volume.readonly,
                format: volume.format,
                platforms: volume.platforms.iter().map(|it| it.value.clone()).collect(),
            });
        }
        volumes
    }

    fn file(&mut self, raw: &Placed<raw::File>) -> Option<File> {
        let (at, raw) = (raw.at(), &raw.value);
        let path = raw.path.value.trim_start_matches('/').trim_end_matches('/');
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let message = format!("path `{}` leads nowhere below the root", raw.path.value);
            self.fail(raw.path.at(), message);
        }
        if let Some(source) = raw.source.as_ref().filter(|it| !it.value.starts_with(['/', '~'])) {
            let message = "`source` is relative to the working directory, as in LinuxKit";
            self.warn(source.at(), message);
        }
        let mut contents = Vec::new();
        contents.extend(raw.directory.then_some(Content::Directory(true)));
        contents.extend(raw.symlink.clone().map(Content::Symlink));
        contents.extend(raw.contents.clone().map(Content::Contents));
        contents.extend(raw.source.as_ref().map(|it| Content::Source(it.value.clone())));
        contents.extend(raw.metadata.as_ref().map(|it| Content::Metadata(it.value)));
        if contents.len() != 1 {
            let kinds = "directory, symlink, contents, source, metadata";
            let message = format!("a file has exactly one of {kinds}");
            if contents.is_empty() { self.lacks(at, message) } else { self.fail(at, message) }
        }
        let content = contents.pop()?;
        let default = if raw.directory { 0o700 } else { 0o600 };
        let mode = raw
            .mode
            .as_ref()
            .map_or(Some(default), |it| self.take(it.at(), words::mode(&it.value)))?;
        Some(File {
            path: path.to_owned(),
            content,
            optional: raw.optional,
            mode: format!("{mode:04o}"),
            uid: self.id(raw.uid.as_ref())?,
            gid: self.id(raw.gid.as_ref())?,
        })
    }

    /// A number; the name of a container means that container's.
    fn id(&mut self, raw: Option<&Placed<Id>>) -> Option<u32> {
        let Some(raw) = raw else { return Some(0) };
        match &raw.value {
            Id::Number(number) => Some(*number),
            Id::Name(name) if name.is_empty() || name == "root" => Some(0),
            Id::Name(name) => {
                let id = self.ids.get(name).copied();
                if id.is_none() {
                    let known: Vec<&str> = self.ids.keys().map(String::as_str).collect();
                    let message = crate::yaml::unknown("container", name, &known);
                    self.lacks(raw.at(), message);
                }
                id
            }
        }
    }

    /// What concerns all services together: names are unique, and the order can be kept.
    fn services(&mut self, raw: &[Placed<raw::Container>]) {
        let mut services: Vec<(&str, &[String])> = Vec::new();
        let mut places = BTreeMap::new();
        for container in raw {
            let Some(name) = &container.value.name else { continue };
            let supervise = container.value.supervise.as_ref();
            let at = supervise.map_or(name.at(), Placed::at);
            if places.insert(name.value.as_str(), at).is_some() {
                self.fail(name.at(), format!("a second service `{}`", name.value));
                continue;
            }
            services.push((&name.value, supervise.map_or(&[], |it| it.value.after.as_slice())));
        }
        let known: Vec<&str> = places.keys().copied().collect();
        let mut all_known = true;
        for (service, after) in &services {
            for name in after.iter().filter(|it| !known.contains(&it.as_str())) {
                let message = crate::yaml::unknown("service", name, &known);
                self.lacks(places[service], format!("`after`: {message}"));
                all_known = false;
            }
        }
        match layout::order::order(&services) {
            Err(error) if all_known => {
                let first = match &error {
                    OrderError::Cycle(names) => names.first(),
                    OrderError::Unknown { service, .. } => Some(service),
                };
                let at = first.and_then(|it| places.get(it.as_str()));
                self.fail(at.copied().unwrap_or_default(), error.to_string());
            }
            _ => {}
        }
    }
}

/// Where the machine sees a volume.
fn volume_dir(name: &str) -> String {
    format!("/containers/volumes/{name}")
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
