//! Modes `classic`, `serializing` and `streaming`: a process for every call.
//!
//! The request's body is piped to the process as it comes in all three, so that its size costs no
//! memory. They differ in the answer: `streaming` pipes it out, the other two hold it until the
//! process has ended, because its exit status decides on the answer's.

mod cgi;
mod running;

use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::body::{Answer, ProcessOutput};
use crate::config::{Config, Mode};
use crate::logs::{Logs, Stream, pump};
use crate::process::{Exit, Group, Processes};
use crate::server::{Slot, duration_header, internal_error, plain_error};
pub(crate) use running::Running;

/// Longest answer that is held until the process has ended.
const HELD_ANSWER: usize = 64 * 1024 * 1024;
/// What one read takes at most while an answer is held.
const CHUNK: usize = 64 * 1024;

/// What a call in these modes needs.
#[derive(Debug)]
pub(crate) struct Fork {
    config: Arc<Config>,
    logs: Logs,
    processes: Processes,
}

/// How a held answer came out.
enum Held {
    Ended(Exit, Bytes),
    BadBody(String),
    TooLong,
    Unreadable(std::io::Error),
}

impl Fork {
    pub(crate) fn new(config: Arc<Config>, logs: Logs, processes: Processes) -> Self {
        Self { config, logs, processes }
    }

    /// Answers one call.
    pub(crate) async fn call(
        &self,
        request: Request<Incoming>,
        started: Instant,
        slot: Slot,
    ) -> Response<Answer> {
        let classic = self.config.mode == Mode::Classic;
        if classic && !classic_method(request.method()) {
            return plain_error(StatusCode::METHOD_NOT_ALLOWED, String::new(), started, Some(slot));
        }
        let note = running::Note::of(&request);
        let content_type = self.content_type(&request);
        if classic {
            self.logs.say(format_args!("Forking fprocess."));
        }
        let (running, stdout) = match self.start(request, started, note) {
            Ok(begun) => begun,
            Err((status, why)) => {
                self.logs.say(format_args!("Starting the process failed: {why}"));
                return plain_error(status, why, started, Some(slot));
            }
        };
        let mut response = match self.config.mode {
            Mode::Streaming => self.stream(running, stdout, started, slot).await,
            _ => self.hold(running, stdout, started, slot).await,
        };
        if response.status() == StatusCode::OK {
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        response
    }

    /// Starts the process, and the tasks that feed it and log its stderr.
    fn start(
        &self,
        request: Request<Incoming>,
        started: Instant,
        note: running::Note,
    ) -> Result<(Running, pipe::Receiver), (StatusCode, String)> {
        let failed = |error: std::io::Error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    format!(
                        "exec: {:?}: executable file not found in $PATH",
                        self.config.process[0]
                    )
                }
                _ => error.to_string(),
            };
            (StatusCode::INTERNAL_SERVER_ERROR, why)
        };
        let mut command = Command::new(&self.config.process[0]);
        command.args(&self.config.process[1..]).stdin(Stdio::piped());
        if self.config.cgi_headers {
            let classic = self.config.mode == Mode::Classic;
            let set = cgi::environment(&request, classic);
            command.envs(set.map_err(|why| (StatusCode::BAD_REQUEST, why))?);
        }
        let (ours, theirs) = std::io::pipe().map_err(failed)?;
        if self.config.combine_output {
            command.stderr(theirs.try_clone().map_err(failed)?);
        } else {
            command.stderr(Stdio::piped());
        }
        command.stdout(theirs);
        let begun = self.processes.spawn(&mut command, None, Group::Stays).map_err(failed)?;
        // The command holds the writing end: with it open, the output would never end.
        drop(command);
        let pid = begun.pid;
        let mut child = begun.child;
        let mut running = Running::new(self.processes.clone(), self.logs.clone(), begun.exit, pid);
        running.note = Some((note, started));

        if let Some(stderr) = child.stderr.take() {
            let stderr = pipe::Receiver::from_owned_fd(stderr.into()).map_err(failed)?;
            tokio::spawn(pump(self.logs.clone(), Stream::Stderr, stderr, self.config.output, None));
        }
        let stdin = child.stdin.take().expect("stdin was asked for as a pipe");
        let stdin = pipe::Sender::from_owned_fd(stdin.into()).map_err(failed)?;
        let read = self.config.read_timeout;
        let until = if read.is_zero() { None } else { started.checked_add(read) };
        running.feed(request.into_body(), stdin, until);
        let stdout = pipe::Receiver::from_owned_fd(ours.into()).map_err(failed)?;
        Ok((running, stdout))
    }

    /// Modes `classic` and `serializing`.
    async fn hold(
        &self,
        mut running: Running,
        mut stdout: pipe::Receiver,
        started: Instant,
        slot: Slot,
    ) -> Response<Answer> {
        let held = with_deadline(self.until(started), hold(&mut running, &mut stdout)).await;
        let classic = self.config.mode == Mode::Classic;
        let (status, text) = match held {
            Some(Held::Ended(exit, output)) if exit.success() => {
                return self.held_answer(running, output, started, slot);
            }
            Some(Held::Ended(exit, output)) => {
                let mut text = format!("{exit}\n").into_bytes();
                text.extend_from_slice(&output);
                (StatusCode::INTERNAL_SERVER_ERROR, text)
            }
            Some(Held::BadBody(why)) => (StatusCode::BAD_REQUEST, format!("{why}\n").into_bytes()),
            Some(Held::Unreadable(error)) => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("reading the output: {error}\n").into())
            }
            Some(Held::TooLong) => {
                let why = format!(
                    "the answer is over {HELD_ANSWER} bytes: use mode=streaming for long ones\n"
                );
                (StatusCode::INTERNAL_SERVER_ERROR, why.into())
            }
            None => {
                let process = self.config.process.join(" ");
                self.logs.say(format_args!("Killing process: {process}"));
                match self.exec_timeout_is_over(started) {
                    true if classic => (StatusCode::REQUEST_TIMEOUT, "Killed process.\n".into()),
                    true => (StatusCode::INTERNAL_SERVER_ERROR, "signal: killed\n".into()),
                    false => return internal_error(StatusCode::GATEWAY_TIMEOUT, started),
                }
            }
        };
        plain_error(status, text, started, Some(slot))
    }

    /// A good answer, and its lines in the log.
    fn held_answer(
        &self,
        mut running: Running,
        output: Bytes,
        started: Instant,
        slot: Slot,
    ) -> Response<Answer> {
        let seconds = started.elapsed().as_secs_f64();
        if self.config.mode != Mode::Classic {
            running.wrote(output.len());
            running.log();
        } else if self.config.write_debug {
            self.logs.say(format_args!("{}", String::from_utf8_lossy(&output)));
            self.logs.say(format_args!("Duration: {seconds:.6}s"));
        } else {
            let size = output.len();
            self.logs.say(format_args!("Wrote {size} Bytes - Duration: {seconds:.6}s"));
        }
        let mut response = Response::new(Answer::full(output, Some(slot)));
        response.headers_mut().insert("x-duration-seconds", duration_header(started));
        response
    }

    /// Mode `streaming`: the status is 200 from the first byte on, whatever comes after it.
    async fn stream(
        &self,
        mut running: Running,
        mut stdout: pipe::Receiver,
        started: Instant,
        slot: Slot,
    ) -> Response<Answer> {
        let until = self.until(started);
        let mut first = BytesMut::with_capacity(CHUNK);
        let begun = with_deadline(until, async {
            let read = stdout.read_buf(&mut first).await;
            if matches!(read, Ok(0)) {
                // No output: what is wrong with the request's body can still be said.
                return running.end().await.1;
            }
            read.map(|_| ()).map_err(|error| format!("reading the output: {error}"))
        });
        match begun.await {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                return plain_error(StatusCode::BAD_REQUEST, why, started, Some(slot));
            }
            None => {
                let process = self.config.process.join(" ");
                self.logs.say(format_args!("Killing process: {process}"));
                return internal_error(StatusCode::GATEWAY_TIMEOUT, started);
            }
        }
        let first = Some(first.freeze()).filter(|bytes| !bytes.is_empty());
        let body = if first.is_none() {
            running.log();
            Answer::full(Bytes::new(), Some(slot))
        } else {
            Answer::process(ProcessOutput { first, stdout, running }, until, slot)
        };
        let mut response = Response::new(body);
        response.headers_mut().insert("x-duration-seconds", duration_header(started));
        response
    }

    /// When the process must have ended: after `write_timeout` nobody could read its answer.
    fn until(&self, started: Instant) -> Option<Instant> {
        let (exec, write) = (self.config.exec_timeout, self.config.write_timeout);
        started.checked_add(if exec.is_zero() { write } else { exec.min(write) })
    }

    fn exec_timeout_is_over(&self, started: Instant) -> bool {
        !self.config.exec_timeout.is_zero() && started.elapsed() >= self.config.exec_timeout
    }

    fn content_type(&self, request: &Request<Incoming>) -> HeaderValue {
        let set = self.config.content_type.as_deref().and_then(|t| HeaderValue::from_str(t).ok());
        set.or_else(|| request.headers().get(CONTENT_TYPE).cloned())
            .unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8"))
    }
}

/// Reads all output, then waits for the end of the process and of the request's body.
async fn hold(running: &mut Running, stdout: &mut pipe::Receiver) -> Held {
    let mut output = BytesMut::new();
    loop {
        output.reserve(CHUNK);
        match stdout.read_buf(&mut output).await {
            Ok(0) => break,
            Ok(_) if output.len() > HELD_ANSWER => return Held::TooLong,
            Ok(_) => {}
            Err(error) => return Held::Unreadable(error),
        }
    }
    match running.end().await {
        (_, Err(why)) => Held::BadBody(why),
        (exit, Ok(())) => Held::Ended(exit, output.freeze()),
    }
}

async fn with_deadline<T>(until: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(at) => tokio::time::timeout_at(at, work).await.ok(),
        None => Some(work.await),
    }
}

/// The methods that the classic watchdog knows.
fn classic_method(method: &Method) -> bool {
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method)
}
