//! What the provider is told on its command line or in its environment.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::network::Subnet;
use crate::retention::Retention;

/// Functions: lifecycle, folders, live reload, commits, revisions.
#[derive(Clone, Debug, Parser)]
#[command(name = "provider", version, about, long_about = None)]
pub struct Config {
    /// Folder of all that outlives a restart: sources, git, versions, volumes, trash, state
    #[arg(long, value_name = "DIR", env = "INPLACE_STATE", default_value = "/data")]
    pub state: PathBuf,

    /// Folder of the API's socket and of what running functions need
    #[arg(long, value_name = "DIR", env = "INPLACE_RUN", default_value = "/run/provider")]
    pub run: PathBuf,

    /// Folder of base images and templates
    #[arg(
        long,
        value_name = "DIR",
        env = "INPLACE_BASES",
        default_value = "/usr/share/inplace/bases"
    )]
    pub bases: PathBuf,

    /// containerd's socket
    #[arg(
        long,
        value_name = "SOCKET",
        env = "INPLACE_CONTAINERD",
        default_value = "/run/containerd/containerd.sock"
    )]
    pub containerd: PathBuf,

    /// buildkitd's socket
    #[arg(
        long,
        value_name = "SOCKET",
        env = "INPLACE_BUILDKIT",
        default_value = "/run/buildkit/buildkitd.sock"
    )]
    pub buildkit: PathBuf,

    /// OCI runtime that runs functions
    #[arg(long, value_name = "PATH", env = "INPLACE_CRUN", default_value = "/usr/bin/crun")]
    pub crun: PathBuf,

    /// cgroup of the shims, below the root; it must exist. Without it they share containerd's
    #[arg(long, value_name = "CGROUP", env = "INPLACE_SHIM_CGROUP", default_value = "")]
    pub shim_cgroup: String,

    /// Program that loads the functions' network rules
    #[arg(long, value_name = "PATH", env = "INPLACE_NFT", default_value = "nft")]
    pub nft: PathBuf,

    /// Bridge of the functions; its name is also that of the table of rules
    #[arg(long, value_name = "NAME", env = "INPLACE_BRIDGE", default_value = "inplace0", value_parser = bridge)]
    pub bridge: String,

    /// Addresses of the bridge (the first one) and of the functions
    #[arg(long, value_name = "SUBNET", env = "INPLACE_SUBNET", default_value = "10.62.0.0/16")]
    pub subnet: Subnet,

    /// The gateway's port on the bridge's address, the only one of this host that functions reach
    #[arg(long, value_name = "PORT", env = "INPLACE_GATEWAY_PORT", default_value_t = 8080)]
    pub gateway_port: u16,

    /// Nameserver of the functions; by default the host's first one that is not the host itself
    #[arg(long, value_name = "IP", env = "INPLACE_DNS")]
    pub dns: Option<Ipv4Addr>,

    /// Whether a host on which limits cannot be enforced is good enough
    #[arg(long, env = "INPLACE_LIMITS", value_enum, default_value_t = Limits::Available)]
    pub limits: Limits,

    /// Seconds that a function's new process may take until it is ready
    #[arg(long, value_name = "SECONDS", env = "INPLACE_READY_SECONDS", default_value_t = 30)]
    pub ready_seconds: u64,

    /// Seconds after a save for which a spare process is kept; 0 keeps none
    #[arg(long, value_name = "SECONDS", env = "INPLACE_SPARE_SECONDS", default_value_t = 300)]
    pub spare_seconds: u64,

    /// Seconds that running calls may take after their replica was replaced
    #[arg(long, value_name = "SECONDS", env = "INPLACE_DRAIN_SECONDS", default_value_t = 60)]
    pub drain_seconds: u64,

    /// Days for which removed functions can be taken back
    #[arg(long, value_name = "DAYS", env = "INPLACE_TRASH_DAYS", default_value_t = 30)]
    pub trash_days: u64,

    /// Revisions of a function that are always kept, however old; older ones go at the next commit
    #[arg(long, value_name = "NUMBER", env = "INPLACE_KEEP_REVISIONS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_revisions: u32,

    /// Days for which revisions beyond these are kept, but never more than ten times their number
    #[arg(long, value_name = "DAYS", env = "INPLACE_KEEP_DAYS", default_value_t = 90)]
    pub keep_days: u64,

    /// Stop all functions and remove their network at exit; else they run on without the provider
    #[arg(long, env = "INPLACE_STOP_FUNCTIONS_AT_EXIT")]
    pub stop_functions_at_exit: bool,
}

/// Whether limits must be enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Limits {
    /// A host without the needed cgroup controllers is refused.
    Required,
    /// What the host has is used.
    Available,
}

impl Config {
    /// How long a new process may take until it is ready.
    #[must_use]
    pub fn ready_limit(&self) -> Duration {
        Duration::from_secs(self.ready_seconds)
    }

    /// How long a spare process is kept.
    #[must_use]
    pub fn spare(&self) -> Duration {
        Duration::from_secs(self.spare_seconds)
    }

    /// How long calls may go on where no new ones arrive.
    #[must_use]
    pub fn drain_limit(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// How long the trash is kept.
    #[must_use]
    pub fn trash_kept(&self) -> Duration {
        days(self.trash_days)
    }

    /// Which revisions are kept.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let newest = usize::try_from(self.keep_revisions).unwrap_or(usize::MAX);
        Retention { newest, age: days(self.keep_days) }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Available => "available",
        })
    }
}

fn days(number: u64) -> Duration {
    Duration::from_secs(number.saturating_mul(24 * 3600))
}

/// A name that both the kernel and `nft` take as it is.
fn bridge(text: &str) -> Result<String, String> {
    let letter = |it: char| it.is_ascii_alphanumeric() || it == '_';
    if text.len() > 15
        || !text.starts_with(|it: char| it.is_ascii_alphabetic())
        || !text.chars().all(letter)
    {
        return Err("a bridge's name is a letter and up to 14 letters, digits or `_`".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn at_least_one_revision_is_kept() {
        let parse = |number: &str| Config::try_parse_from(["provider", "--keep-revisions", number]);
        assert_eq!(parse("1").unwrap().retention().newest, 1);
        assert!(parse("0").is_err());
    }

    #[test]
    fn a_bridge_has_a_name_that_cannot_be_more_than_a_name() {
        assert_eq!(bridge("inplace0").unwrap(), "inplace0");
        for name in ["", "0a", "a b", "a;b", "a-b", "abcdefghijklmnop"] {
            assert!(bridge(name).is_err(), "{name}");
        }
    }
}
