//! How the supervisor finds out whether a service is ready, or sick.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Time;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET` answers with a status of 2xx.
    Http(Http),
    /// A connection is accepted.
    Tcp(Tcp),
    /// A command in the container ends with status 0.
    Exec(Exec),
}

/// What tells that a service is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answers when it is asked.
    Answer(Probe),
    /// The service says so itself: `READY=1` on the socket in `NOTIFY_SOCKET`, as sd_notify(3) does.
    Notify,
}

/// When a service is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What is waited for.
    pub sign: Sign,
    /// After so long without it the start has failed; 30 s by default.
    pub timeout: Time,
}

/// When a service is sick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// An answer that takes longer is a no; 30 s by default.
    pub timeout: Time,
    /// From one question to the next; 10 s by default.
    pub interval: Time,
    /// So many times no in a row is sick; 3 by default, at least 1.
    pub failures: u32,
}

/// `unix:/run/x.sock:/healthz` or `http://127.0.0.1:80/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Http {
    /// Who is asked.
    pub server: Server,
    /// For what, from `/` on.
    pub path: String,
}

/// Where an HTTP server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// A Unix socket, by its absolute path on the machine.
    Unix(String),
    /// An address and port.
    Tcp(SocketAddr),
}

/// `127.0.0.1:80` or `[::1]:80`: no names, nobody resolves them at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tcp(pub SocketAddr);

/// A command and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Exec(Vec<String>);

impl Exec {
    /// The command and its arguments; there is at least one.
    pub fn args(&self) -> &[String] {
        &self.0
    }
}

/// A probe that asks nothing that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InvalidProbe {
    #[error(
        "`{0}` is neither unix:/run/x.sock:/healthz nor http://127.0.0.1:80/ (an address, no name)"
    )]
    Http(String),
    #[error("`{0}` is no address with a port, like 127.0.0.1:80")]
    Tcp(String),
    #[error("`exec` has no command")]
    Exec,
    #[error("`notify` is either true or not there")]
    Notify,
    #[error("one of {0} may be set, not {1}")]
    Several(&'static str, usize),
    #[error("there is nothing to ask: set one of {0}")]
    Nothing(&'static str),
    #[error("`failures` must be at least 1")]
    Failures,
}

impl TryFrom<String> for Http {
    type Error = InvalidProbe;

    fn try_from(text: String) -> Result<Self, InvalidProbe> {
        let found = if let Some(rest) = text.strip_prefix("unix:") {
            rest.split_once(':').and_then(|(socket, path)| {
                let is_right = socket.starts_with('/') && path.starts_with('/');
                is_right.then(|| (Server::Unix(socket.to_owned()), path))
            })
        } else {
            text.strip_prefix("http://").and_then(|rest| {
                let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let with_port = || format!("{address}:80").parse();
                let address = address.parse().or_else(|_| with_port()).ok()?;
                Some((Server::Tcp(address), if path.is_empty() { "/" } else { path }))
            })
        };
        match found {
            Some((server, path)) if path.bytes().all(|it| it.is_ascii_graphic()) => {
                Ok(Self { server, path: path.to_owned() })
            }
            _ => Err(InvalidProbe::Http(text)),
        }
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Server::Unix(socket) => write!(f, "unix:{socket}:{}", self.path),
            Server::Tcp(address) => write!(f, "http://{address}{}", self.path),
        }
    }
}

impl From<Http> for String {
    fn from(http: Http) -> Self {
        http.to_string()
    }
}

impl TryFrom<String> for Tcp {
    type Error = InvalidProbe;

    fn try_from(text: String) -> Result<Self, InvalidProbe> {
        text.parse().map(Self).map_err(|_| InvalidProbe::Tcp(text))
    }
}

impl From<Tcp> for String {
    fn from(tcp: Tcp) -> Self {
        tcp.0.to_string()
    }
}

impl TryFrom<Vec<String>> for Exec {
    type Error = InvalidProbe;

    fn try_from(args: Vec<String>) -> Result<Self, InvalidProbe> {
        let has_command = args.first().is_some_and(|it| !it.is_empty());
        if has_command { Ok(Self(args)) } else { Err(InvalidProbe::Exec) }
    }
}

impl From<Exec> for Vec<String> {
    fn from(exec: Exec) -> Self {
        exec.0
    }
}

/// `ready:`, where `{}` is nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "RawReady", into = "RawReady")]
pub(crate) struct MaybeReady(pub(crate) Option<Ready>);

/// `health:`, where `{}` is nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "RawHealth", into = "RawHealth")]
pub(crate) struct MaybeHealth(pub(crate) Option<Health>);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawReady {
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Http>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Tcp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<Exec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Time>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawHealth {
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Http>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Tcp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<Exec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
}

const READY_KINDS: &str = "http, tcp, exec, notify";
const HEALTH_KINDS: &str = "http, tcp, exec";
const TIMEOUT: Time = Time::from_secs(30);
const INTERVAL: Time = Time::from_secs(10);
const FAILURES: u32 = 3;

/// The one that is set; none is fine where nothing else is set either.
fn one<T>(
    keys: impl IntoIterator<Item = Option<T>>,
    kinds: &'static str,
    is_tuned: bool,
) -> Result<Option<T>, InvalidProbe> {
    let mut set: Vec<T> = keys.into_iter().flatten().collect();
    match set.len() {
        0 if is_tuned => Err(InvalidProbe::Nothing(kinds)),
        0 | 1 => Ok(set.pop()),
        several => Err(InvalidProbe::Several(kinds, several)),
    }
}

impl TryFrom<RawReady> for MaybeReady {
    type Error = InvalidProbe;

    fn try_from(raw: RawReady) -> Result<Self, InvalidProbe> {
        if raw.notify == Some(false) {
            return Err(InvalidProbe::Notify);
        }
        let probes =
            [raw.http.map(Probe::Http), raw.tcp.map(Probe::Tcp), raw.exec.map(Probe::Exec)];
        let signs = probes.map(|it| it.map(Sign::Answer)).into_iter();
        let signs = signs.chain([raw.notify.map(|_| Sign::Notify)]);
        let sign = one(signs, READY_KINDS, raw.timeout.is_some())?;
        Ok(Self(sign.map(|sign| Ready { sign, timeout: raw.timeout.unwrap_or(TIMEOUT) })))
    }
}

impl From<MaybeReady> for RawReady {
    fn from(checked: MaybeReady) -> Self {
        let Some(ready) = checked.0 else { return Self::default() };
        let mut raw = Self { timeout: Some(ready.timeout), ..Self::default() };
        match ready.sign {
            Sign::Answer(Probe::Http(http)) => raw.http = Some(http),
            Sign::Answer(Probe::Tcp(tcp)) => raw.tcp = Some(tcp),
            Sign::Answer(Probe::Exec(exec)) => raw.exec = Some(exec),
            Sign::Notify => raw.notify = Some(true),
        }
        raw
    }
}

impl TryFrom<RawHealth> for MaybeHealth {
    type Error = InvalidProbe;

    fn try_from(raw: RawHealth) -> Result<Self, InvalidProbe> {
        if raw.failures == Some(0) {
            return Err(InvalidProbe::Failures);
        }
        let is_tuned = raw.timeout.is_some() || raw.interval.is_some() || raw.failures.is_some();
        let keys = [raw.http.map(Probe::Http), raw.tcp.map(Probe::Tcp), raw.exec.map(Probe::Exec)];
        let probe = one(keys, HEALTH_KINDS, is_tuned)?;
        Ok(Self(probe.map(|probe| Health {
            probe,
            timeout: raw.timeout.unwrap_or(TIMEOUT),
            interval: raw.interval.unwrap_or(INTERVAL),
            failures: raw.failures.unwrap_or(FAILURES),
        })))
    }
}

impl From<MaybeHealth> for RawHealth {
    fn from(checked: MaybeHealth) -> Self {
        let Some(health) = checked.0 else { return Self::default() };
        let mut raw = Self {
            timeout: Some(health.timeout),
            interval: Some(health.interval),
            failures: Some(health.failures),
            ..Self::default()
        };
        match health.probe {
            Probe::Http(http) => raw.http = Some(http),
            Probe::Tcp(tcp) => raw.tcp = Some(tcp),
            Probe::Exec(exec) => raw.exec = Some(exec),
        }
        raw
    }
}
