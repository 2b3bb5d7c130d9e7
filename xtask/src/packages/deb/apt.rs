//! A private apt root: another suite than the host's, from wherever the host's own apt gets its own.
//!
//! It has its own sources, state and cache; the host's configuration (proxies, certificates,
//! credentials, keys) stays in force and the host itself is not touched. No root is needed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::children;
use crate::packages::lock::Pin;
use crate::progress::Progress;

/// The host's keys of Debian's archive; they hold those of the suites after it, too.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt for one suite.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
    suite: String,
    /// Lines of a `sources.list`; the host's own, for this suite, unless given.
    sources: Option<String>,
    updated: Cell<bool>,
}

impl Apt {
    /// apt for `suite`, with its state in `dir`. Nothing is done until it is needed.
    pub(crate) fn new(dir: &Path, suite: &str) -> Self {
        Self {
            dir: dir.join(suite),
            suite: suite.to_owned(),
            sources: None,
            updated: Cell::new(false),
        }
    }

    /// apt for an archive of one's own.
    #[cfg(test)]
    pub(crate) fn with_sources(dir: &Path, suite: &str, sources: String) -> Self {
        Self { sources: Some(sources), ..Self::new(dir, suite) }
    }

    /// Fetches the suite's index, once in the life of this value.
    pub(crate) fn update(&self, progress: &Progress) -> Result<()> {
        if self.updated.get() {
            return Ok(());
        }
        let step = progress.step("debian", &format!("reading the index of {}", self.suite));
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.dir.join(dir))?;
        }
        fs::write(self.dir.join("status"), "")?;
        fs::write(self.dir.join("apt.conf"), configuration(&self.dir)?)?;
        let sources = match &self.sources {
            Some(sources) => sources.clone(),
            None => host_sources(&self.suite)?,
        };
        fs::write(self.dir.join("sources.list"), sources)?;
        children::output(self.command("apt-get").arg("update"))
            .with_context(|| format!("reading the index of Debian {}", self.suite))?;
        self.updated.set(true);
        step.done("index read");
        Ok(())
    }

    /// All packages, with versions, that these packages need, themselves included.
    pub(crate) fn resolve(&self, packages: &[String]) -> Result<Vec<(String, String)>> {
        let plan = children::output(
            self.command("apt-get").args(["--simulate", "install"]).args(packages),
        )
        .with_context(|| format!("asking Debian {} for {}", self.suite, packages.join(", ")))?;
        Ok(installed(&plan))
    }

    /// All versions of each package, with their checksums, that the suite has.
    pub(crate) fn available(&self, names: &[String]) -> Result<BTreeMap<String, Vec<Pin>>> {
        // Fails if one of the names is not there any more; those are simply not in the answer.
        let mut command = self.command("apt-cache");
        command.arg("show").args(names);
        match children::output(&mut command) {
            Ok(text) => Ok(versions(&text)),
            Err(_) if names.len() > 1 => {
                let mut found = BTreeMap::new();
                for name in names {
                    if let Ok(text) =
                        children::output(self.command("apt-cache").args(["show", name]))
                    {
                        found.extend(versions(&text));
                    }
                }
                Ok(found)
            }
            Err(_) => Ok(BTreeMap::new()),
        }
    }

    /// Downloads packages, by name and version, into an empty folder; the files by name.
    pub(crate) fn download(
        &self,
        packages: &BTreeMap<String, Pin>,
        dir: &Path,
    ) -> Result<BTreeMap<String, PathBuf>> {
        let specs = packages.iter().map(|(name, pin)| format!("{name}={}", pin.version));
        children::output(self.command("apt-get").arg("download").args(specs).current_dir(dir))
            .with_context(|| format!("downloading packages of Debian {}", self.suite))?;
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(file.split('_').next().unwrap_or_default().to_owned(), path);
        }
        Ok(files)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.dir.join("apt.conf")).arg("-qq").env("LC_ALL", "C");
        command
    }
}

/// What differs from the host: where everything lies, and nothing of the host's own hooks.
fn configuration(dir: &Path) -> Result<String> {
    let dir =
        dir.to_str().filter(|it| !it.contains('"')).context("the cache's path is unfit for apt")?;
    let mut text = String::new();
    for hook in
        ["APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success"]
    {
        text += &format!("#clear {hook};\n");
    }
    for target in
        ["", "-icons", "-icons-small", "-icons-hidpi", "-icons-large", "-icons-large-hidpi"]
    {
        text += &format!("#clear Acquire::IndexTargets::deb::DEP-11{target};\n");
    }
    for (key, value) in [
        ("Dir::State", dir),
        ("Dir::State::lists", &format!("{dir}/lists")),
        ("Dir::State::status", &format!("{dir}/status")),
        ("Dir::Cache", &format!("{dir}/cache")),
        ("Dir::Etc::sourcelist", &format!("{dir}/sources.list")),
        ("Dir::Etc::sourceparts", "/dev/null"),
        ("Dir::Etc::preferences", "/dev/null"),
        ("Dir::Etc::preferencesparts", "/dev/null"),
        ("APT::Architecture", "amd64"),
        ("APT::Install-Recommends", "false"),
        ("APT::Sandbox::User", "root"),
        ("Acquire::Languages", "none"),
        ("Acquire::Retries", "3"),
    ] {
        text += &format!("{key} \"{value}\";\n");
    }
    Ok(text + "#clear APT::Architectures;\nAPT::Architectures { \"amd64\"; };\n")
}

/// The sources of the host, for another suite.
fn host_sources(suite: &str) -> Result<String> {
    let codename = codename(&fs::read_to_string("/etc/os-release")?)?;
    let uris = children::output(Command::new("apt-get").args(["--print-uris", "update"]))?;
    let sources = sources(&uris, &codename, suite, Path::new(KEYRING).exists());
    if sources.is_empty() {
        bail!(
            "the host's apt knows no archive of Debian {codename} to take {suite} from; see /etc/apt/sources.list.d"
        );
    }
    Ok(sources)
}

fn codename(os_release: &str) -> Result<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(line
        .context("/etc/os-release names no VERSION_CODENAME: is this Debian?")?
        .trim_matches('"')
        .to_owned())
}

/// The host's sources for another suite, from what `apt-get --print-uris update` would fetch:
/// it knows every place and form in which sources are configured.
fn sources(uris: &str, codename: &str, suite: &str, keyring: bool) -> String {
    let mut lines = BTreeSet::new();
    for line in uris.lines() {
        let uri = line.trim_start_matches('\'').split('\'').next().unwrap_or_default();
        let Some((base, rest)) = uri.split_once("/dists/") else { continue };
        let Some((host_suite, _)) = rest.split_once("/main/binary-amd64/") else { continue };
        let Some(tail) = host_suite.strip_prefix(codename) else { continue };
        let options = if keyring { format!("[signed-by={KEYRING}] ") } else { String::new() };
        lines.insert(format!("deb {options}{base} {suite}{tail} main\n"));
    }
    lines.into_iter().collect()
}

/// `Inst NAME (VERSION ...)` lines of a simulated installation.
fn installed(plan: &str) -> Vec<(String, String)> {
    let parse = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    };
    plan.lines().filter_map(parse).collect()
}

/// The stanzas of `apt-cache show`.
fn versions(text: &str) -> BTreeMap<String, Vec<Pin>> {
    let mut found: BTreeMap<String, Vec<Pin>> = BTreeMap::new();
    for stanza in text.split("\n\n") {
        let field = |key: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(key)).map(|it| it.trim().to_owned())
        };
        if let (Some(name), Some(version), Some(sha256)) =
            (field("Package:"), field("Version:"), field("SHA256:"))
        {
            found.entry(name).or_default().push(Pin { version, sha256 });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_another_suite_come_from_the_hosts_own() {
        let uris = "'http://mirror.example/debian/dists/bookworm/InRelease' mirror_InRelease 0 \n\
            'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0 \n\
            'http://mirror.example/debian/dists/bookworm/main/binary-all/Packages.xz' x 0 \n\
            'http://mirror.example/sec/dists/bookworm-security/main/binary-amd64/Packages.xz' x 0 \n\
            'https://other.example/apt/dists/stable/main/binary-amd64/Packages.gz' x 0 \n";
        assert_eq!(
            sources(uris, "bookworm", "trixie", false),
            "deb http://mirror.example/debian trixie main\ndeb http://mirror.example/sec trixie-security main\n"
        );
        assert_eq!(sources(uris, "noble", "trixie", false), "");
        assert!(
            sources(uris, "bookworm", "trixie", true)
                .starts_with("deb [signed-by=/usr/share/keyrings/")
        );
    }

    #[test]
    fn what_apt_prints_is_read() {
        let plan = "Reading package lists...\nInst libc6 (2.41-12+deb13u5 Debian:13.8/stable [amd64]) []\n\
            Inst crun (1.21-1 Debian:13.8/stable [amd64])\nConf crun (1.21-1 Debian:13.8/stable [amd64])\n";
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(installed(plan), [pair("libc6", "2.41-12+deb13u5"), pair("crun", "1.21-1")]);

        let show = "Package: crun\nVersion: 1.21-1\nSize: 1\nSHA256: aa\n\nPackage: crun\nVersion: 1.20-1\nSHA256: bb\n";
        let pin = |version: &str, sha256: &str| Pin {
            version: version.to_owned(),
            sha256: sha256.to_owned(),
        };
        assert_eq!(versions(show)["crun"], [pin("1.21-1", "aa"), pin("1.20-1", "bb")]);

        assert_eq!(codename("NAME=\"Debian\"\nVERSION_CODENAME=bookworm\n").unwrap(), "bookworm");
        assert!(codename("NAME=Arch\n").is_err());
    }
}
