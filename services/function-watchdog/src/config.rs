//! Environment → checked configuration, by the names that OpenFaaS's two watchdogs have.
//!
//! What those watchdogs silently replace by a default (a duration nobody can read) is replaced
//! here too, since an image that runs elsewhere must run here, but it is said in the log.
//! What they cannot run is an error that names the variable.

mod duration;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

pub(crate) use duration::parse as parse_duration;

/// Longest line of a function's output that is kept in one piece when `log_buffer_size` is
/// negative, which OpenFaaS calls unlimited. A longer one is cut into several lines.
const LONGEST_LINE: usize = 1024 * 1024;
/// Default of the three timeouts.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that the environment says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// How a call reaches the function's code.
    pub(crate) mode: Mode,
    /// Program and arguments of the function's process; never empty.
    pub(crate) process: Vec<String>,
    /// TCP port to listen on; 0 takes a free one.
    pub(crate) port: u16,
    /// A request must be here, body and all, within this time; zero means no limit.
    pub(crate) read_timeout: Duration,
    /// An answer must be gone within this time; never zero.
    pub(crate) write_timeout: Duration,
    /// The function must have answered within this time; zero means no limit.
    pub(crate) exec_timeout: Duration,
    /// How long to go on answering after the stop signal, for whoever asks for the health at such
    /// an interval; none when the environment does not say.
    pub(crate) healthcheck_interval: Option<Duration>,
    /// Calls at a time, more get 429; zero means no limit.
    pub(crate) max_inflight: usize,
    /// Content type of answers in the fork modes; none means the request's own.
    pub(crate) content_type: Option<String>,
    /// Whether headers become environment variables (`classic`; the other fork modes always do).
    pub(crate) cgi_headers: bool,
    /// Whether stderr is part of the answer (`classic`).
    pub(crate) combine_output: bool,
    /// Whether answers are copied to the log (`classic`).
    pub(crate) write_debug: bool,
    /// Whether to read a request's body whole before it goes upstream (`http`).
    pub(crate) buffer_body: bool,
    /// The lock file that shows health to an exec probe; none with `suppress_lock`.
    pub(crate) lock: Option<PathBuf>,
    /// Path that `/_/ready` asks the function for.
    pub(crate) ready_path: Option<String>,
    /// How the function's own output is logged.
    pub(crate) output: Output,
    /// Whether log lines of calls name the call (`http`).
    pub(crate) log_call_id: bool,
    /// Folders of the live switch; none where the provider has bound none in.
    pub(crate) live: Option<Live>,
    /// What was replaced by a default, one line each.
    pub(crate) notes: Vec<String>,
}

/// How a call reaches the function's code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mode {
    /// A process for every call; answered when it has ended, by its exit status.
    Classic,
    /// The same with of-watchdog's headers: stderr goes to the log.
    Serializing,
    /// A process for every call, piped both ways.
    Streaming,
    /// One process that is an HTTP server.
    Http(Upstream),
}

/// Where the function's HTTP server listens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Upstream {
    /// Address of the server.
    pub(crate) address: SocketAddr,
    /// Path put before each request's path, without a slash at its end.
    pub(crate) prefix: String,
}

/// How lines of the function's own output are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// Whether each gets the time and its stream's name.
    pub(crate) prefix: bool,
    /// Longest line in bytes; longer ones are cut.
    pub(crate) longest: usize,
}

/// Folders of the live switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// Holds the control socket and the source link.
    pub(crate) run_dir: PathBuf,
    /// Holds one folder per version.
    pub(crate) versions_dir: PathBuf,
}

impl Config {
    /// Reads and checks the environment.
    pub(crate) fn from_env(
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> anyhow::Result<Self> {
        let text = |part: OsString| part.to_string_lossy().into_owned();
        let vars = vars.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        let mut env = Env { vars, notes: Vec::new() };
        for name in ["jwt_auth", "marshal_request"] {
            ensure!(
                !env.flag(name, false),
                "{name} is set, which this watchdog does not offer: unset it, or use the image's own watchdog"
            );
        }
        let mode = env.mode()?;
        let write_timeout = env.duration("write_timeout", TIMEOUT);
        ensure!(!write_timeout.is_zero(), "write_timeout must be over 0s");
        let exec_default = if mode == Mode::Classic { Duration::ZERO } else { TIMEOUT };
        let interval = env.duration("healthcheck_interval", write_timeout);
        Ok(Self {
            process: env.process()?,
            port: env.number("port", 8080),
            read_timeout: env.duration("read_timeout", TIMEOUT),
            write_timeout,
            exec_timeout: env.duration("exec_timeout", exec_default),
            healthcheck_interval: env.get("healthcheck_interval").map(|_| interval),
            max_inflight: env.number("max_inflight", 0),
            content_type: match env.get("content_type") {
                None if mode == Mode::Classic => None,
                None => Some("application/octet-stream".to_owned()),
                Some(set) => Some(set.to_owned()),
            },
            cgi_headers: env.flag("cgi_headers", true) || mode != Mode::Classic,
            combine_output: env.flag("combine_output", true) && mode == Mode::Classic,
            write_debug: env.flag("write_debug", false) && mode == Mode::Classic,
            buffer_body: env.flag("http_buffer_req_body", false) || env.flag("buffer_http", false),
            lock: (!env.flag("suppress_lock", false)).then(|| lock_path(env.get("TMPDIR"))),
            ready_path: env.get("ready_path").map(str::to_owned),
            output: Output { prefix: env.flag("prefix_logs", true), longest: env.longest_line()? },
            log_call_id: env.flag("log_callid", false) || env.flag("log_call_id", false),
            live: env.live(),
            mode,
            notes: env.notes,
        })
    }
}

/// Where the lock file lies, given `TMPDIR`.
pub(crate) fn lock_path(tmpdir: Option<&str>) -> PathBuf {
    PathBuf::from(tmpdir.unwrap_or("/tmp")).join(".lock")
}

/// The environment while it is read, with what had to be replaced.
struct Env {
    vars: HashMap<String, String>,
    notes: Vec<String>,
}

impl Env {
    /// A variable that is set and not empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn read<T>(&mut self, name: &str, default: T, parse: impl Fn(&str) -> Option<T>) -> T {
        let Some(value) = self.get(name) else { return default };
        if let Some(parsed) = parse(value) {
            return parsed;
        }
        self.notes.push(format!("{name}={value:?} cannot be read, its default is used"));
        default
    }

    fn duration(&mut self, name: &str, default: Duration) -> Duration {
        self.read(name, default, |text| match text.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => duration::parse(text),
        })
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        self.read(name, default, |text| match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        })
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str, default: T) -> T {
        self.read(name, default, |text| text.parse().ok())
    }

    fn mode(&self) -> anyhow::Result<Mode> {
        match self.get("mode").unwrap_or("streaming") {
            "classic" => Ok(Mode::Classic),
            "serializing" => Ok(Mode::Serializing),
            "streaming" => Ok(Mode::Streaming),
            "http" => Ok(Mode::Http(self.upstream()?)),
            other => bail!(
                "mode={other:?} is not offered by this watchdog: it has classic, serializing, streaming and http"
            ),
        }
    }

    fn upstream(&self) -> anyhow::Result<Upstream> {
        let (name, url) = ["http_upstream_url", "upstream_url"]
            .into_iter()
            .find_map(|name| Some((name, self.get(name)?)))
            .context("mode=http needs upstream_url, for example http://127.0.0.1:5000")?;
        parse_upstream(url).with_context(|| format!("reading {name}={url:?}"))
    }

    /// Split at spaces without quoting, as OpenFaaS does; the newer name wins.
    fn process(&self) -> anyhow::Result<Vec<String>> {
        let line = self
            .get("function_process")
            .or_else(|| self.get("fprocess"))
            .context("no process for the function: set fprocess, for example fprocess=cat")?;
        let parts: Vec<_> = line.split(' ').filter(|p| !p.is_empty()).map(str::to_owned).collect();
        ensure!(!parts.is_empty(), "fprocess holds nothing but spaces");
        Ok(parts)
    }

    fn longest_line(&self) -> anyhow::Result<usize> {
        let Some(text) = self.get("log_buffer_size") else { return Ok(64 * 1024) };
        let size: i64 =
            text.parse().with_context(|| format!("reading log_buffer_size={text:?}"))?;
        Ok(usize::try_from(size).unwrap_or(LONGEST_LINE).clamp(64, LONGEST_LINE))
    }

    /// The live switch is there when its folder is. The two variables exist for hosts that are no
    /// container.
    fn live(&self) -> Option<Live> {
        let path = |name, default: &str| PathBuf::from(self.get(name).unwrap_or(default));
        let live = Live {
            run_dir: path("INPLACE_RUN_DIR", api::switch::RUN_DIR),
            versions_dir: path("INPLACE_VERSIONS_DIR", api::switch::VERSIONS_DIR),
        };
        live.run_dir.is_dir().then_some(live)
    }
}

/// `http://HOST[:PORT][/PREFIX]`. The program is static and asks no name service, so the host is
/// an address or `localhost`.
fn parse_upstream(url: &str) -> anyhow::Result<Upstream> {
    let uri: hyper::Uri = url.parse().context("this is no URL")?;
    ensure!(uri.scheme_str() == Some("http"), "the scheme must be http");
    let host = uri.host().context("the host is missing")?.trim_matches(['[', ']']);
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => other.parse().context("the host must be an IP address or localhost")?,
    };
    Ok(Upstream {
        address: SocketAddr::new(ip, uri.port_u16().unwrap_or(80)),
        prefix: uri.path().trim_end_matches('/').to_owned(),
    })
}
