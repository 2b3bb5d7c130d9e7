//! Flags and environment.

use std::net::SocketAddr;
use std::num::ParseIntError;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// The only door of the machine: login, routing and the proxy to functions.
///
/// Functions answer at /function/NAME on the functions' origin. The API (/v1) is on the console's
/// origin, OpenFaaS's (/system) on the functions' origin, both for the user `admin`.
/// INPLACE_LOG sets the log's level (`debug`), INPLACE_LOG_FORMAT its form (`text`, `json`).
#[derive(Clone, Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Config {
    /// Address of the functions' origin
    #[arg(
        long,
        env = "INPLACE_FUNCTIONS",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) functions: SocketAddr,

    /// Address of the console's origin
    #[arg(long, env = "INPLACE_CONSOLE", value_name = "IP:PORT", default_value = "127.0.0.1:8443")]
    pub(crate) console: SocketAddr,

    /// Socket of the provider
    #[arg(
        long,
        env = "INPLACE_PROVIDER_SOCKET",
        value_name = "PATH",
        default_value = "/run/provider/api.sock"
    )]
    pub(crate) provider: PathBuf,

    /// File with the password of the user `admin`; white space around it does not count
    #[arg(long, env = "INPLACE_PASSWORD_FILE", value_name = "PATH")]
    pub(crate) password_file: PathBuf,

    /// Folder for the last route table, which a new gateway starts from
    #[arg(long, env = "INPLACE_GATEWAY_RUN", value_name = "DIR", default_value = "/run/gateway")]
    pub(crate) run: PathBuf,

    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// What calls may hold.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Longest silence of a call, if its function says nothing else: from the end of the request
    /// to the answer, and between two parts of either
    #[arg(long, env = "INPLACE_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// How long a call waits for a replica that is ready
    #[arg(long, env = "INPLACE_HOLD", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) hold: Duration,

    /// How many calls may wait for a replica at a time
    #[arg(long, env = "INPLACE_HELD", value_name = "CALLS", default_value = "1024")]
    pub(crate) held: usize,

    /// How many calls one function may have at a time
    #[arg(long, env = "INPLACE_CALLS", value_name = "CALLS", default_value = "1024")]
    pub(crate) calls: usize,

    /// How many connections each origin takes at a time; further ones wait
    #[arg(long, env = "INPLACE_CONNECTIONS", value_name = "CONNECTIONS", default_value = "4096")]
    pub(crate) connections: usize,

    /// Largest body of a request
    #[arg(long, env = "INPLACE_BODY_LIMIT", value_name = "BYTES", default_value = "4294967296")]
    pub(crate) body_limit: u64,

    /// How long running calls may take when the gateway is asked to stop
    #[arg(long, env = "INPLACE_DRAIN", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) drain: Duration,
}

fn seconds(text: &str) -> Result<Duration, ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_defaults_parse() {
        Config::command().debug_assert();
        let config = Config::parse_from(["gateway", "--password-file", "/p"]);
        assert_eq!(config.functions, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.limits.timeout, Duration::from_secs(60));
    }
}
