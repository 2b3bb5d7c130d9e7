//! The link to the provider: reads the route table, and tells what became of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use api::route::{Ack, Drained, Update};
use axum::body::Body;
use daemon::client::ClientError;
use daemon::{Backoff, UnixClient};
use fs_err as fs;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::live::{Live, Upstream};
use super::table::{Changes, Table};

/// How long the provider may say nothing, not even a ping, before its stream counts as dead.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the provider may take to answer a request.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the gateway tries to report a drained replica; the provider has a limit of its own.
const REPORT: Duration = Duration::from_secs(300);
/// Longest line of the stream: a snapshot of some 50,000 functions.
const LONGEST_LINE: usize = 16 * 1024 * 1024;
/// The provider is on this machine and comes back by itself: look for it often.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Keeps [`Live`] in step with the provider.
#[derive(Debug)]
pub(crate) struct Link {
    provider: UnixClient,
    live: Arc<Live>,
    file: PathBuf,
    table: Table,
    /// The table in use; whoever acknowledges and saves it follows this.
    used: watch::Sender<Table>,
}

impl Link {
    /// Starts from the table in `file`, if there is one, so that calls are answered before the
    /// provider is.
    pub(crate) fn open(provider: UnixClient, live: Arc<Live>, file: PathBuf) -> Self {
        let mut table = Table::default();
        match saved(&file) {
            Ok(Some(update)) => {
                let changes = table.apply(update).expect("a snapshot always fits");
                live.publish(&table, &changes);
                let (epoch, functions) = (table.epoch(), changes.functions.len());
                info!(epoch, functions, "starting from the last route table");
            }
            Ok(None) => info!("no route table was saved; waiting for the provider's"),
            Err(error) => warn!("starting without a route table: {error:#}"),
        }
        Self { provider, live, file, table, used: watch::Sender::new(Table::default()) }
    }

    /// Follows the provider's table until `stop`, however often the provider comes and goes; then
    /// saves what is not saved yet.
    pub(crate) async fn follow(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let acks = tokio::spawn(acknowledge(self.provider.clone(), self.used.subscribe()));
        let saves = tokio::spawn(save(self.file.clone(), self.used.subscribe()));
        stop.run_until_cancelled(self.reconnect()).await;
        drop(self);
        acks.abort();
        saves.await.context("saving the route table")
    }

    async fn reconnect(&mut self) {
        let mut backoff = Backoff::new(LOOK.0, LOOK.1);
        let mut told = false;
        loop {
            let epoch = self.table.epoch();
            let Err(error) = self.session().await;
            if self.table.epoch() != epoch {
                (told, backoff) = (false, Backoff::new(LOOK.0, LOOK.1));
            }
            // Once an outage: it may last long.
            if told {
                debug!("no route table from the provider: {error:#}");
            } else {
                let socket = self.provider.path().display();
                warn!(%socket, "no route table from the provider, keeping the last: {error:#}");
                told = true;
            }
            sleep(backoff.next().expect("a back-off has no end")).await;
        }
    }

    /// Reads one stream until it breaks.
    async fn session(&mut self) -> anyhow::Result<std::convert::Infallible> {
        let request = Request::builder().uri("/routes").body(Body::empty())?;
        let answer = timeout(ANSWER, self.provider.send(request))
            .await
            .with_context(|| format!("no answer within {ANSWER:?}"))??;
        if !answer.status().is_success() {
            bail!("the provider answered {} to GET /routes", answer.status());
        }
        let bytes = answer.into_body().into_data_stream().map_err(std::io::Error::other);
        let codec = LinesCodec::new_with_max_length(LONGEST_LINE);
        let mut lines = FramedRead::new(StreamReader::new(bytes), codec);
        let mut first = true;
        loop {
            let line = timeout(SILENCE, lines.next())
                .await
                .with_context(|| format!("the provider said nothing for {SILENCE:?}"))?
                .context("the provider closed the stream")?
                .context("reading the route table")?;
            let update: Update = serde_json::from_str(&line)
                .with_context(|| format!("reading the update `{}`", shortened(&line)))?;
            if first && !matches!(update, Update::Snapshot { .. }) {
                bail!("the provider's stream does not begin with a snapshot");
            }
            let ping = matches!(update, Update::Ping { .. });
            let changes = self.table.apply(update)?;
            if first {
                info!(epoch = self.table.epoch(), "the route table is the provider's");
                first = false;
            }
            if !ping {
                self.publish(&changes);
            }
        }
    }

    fn publish(&self, changes: &Changes) {
        let left = self.live.publish(&self.table, changes);
        self.used.send_replace(self.table.clone());
        for upstream in left {
            tokio::spawn(report(self.provider.clone(), upstream, self.used.subscribe()));
        }
        debug!(epoch = self.table.epoch(), functions = changes.functions.len(), "routes changed");
    }
}

/// Tells the provider which table is in use: always the newest, without holding up the stream.
async fn acknowledge(provider: UnixClient, mut used: watch::Receiver<Table>) {
    while used.changed().await.is_ok() {
        let Some(epoch) = used.borrow_and_update().epoch() else { continue };
        // A lost one needs no repeat: the next connection begins with a snapshot to acknowledge.
        if let Err(error) = post(&provider, "/routes/ack", &Ack { epoch }).await {
            debug!(epoch, "acknowledging the route table failed: {error:#}");
        }
    }
}

/// Writes the table in use where the next gateway looks for it, until there are no more.
async fn save(file: PathBuf, mut used: watch::Receiver<Table>) {
    while used.changed().await.is_ok() {
        let Some(update) = used.borrow_and_update().snapshot() else { continue };
        let file = file.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec(&update).context("encoding the route table")?;
            daemon::file::replace(&file, 0o600, &text).context("saving the route table")
        });
        match saved.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("{error:#}"),
            Err(error) => warn!("saving the route table: {error}"),
        }
    }
}

/// Waits until a replica that left the table has no call, and tells the provider.
async fn report(provider: UnixClient, upstream: Arc<Upstream>, used: watch::Receiver<Table>) {
    upstream.drained().await;
    let replica = upstream.id.clone();
    drop(upstream);
    let told = timeout(REPORT, async {
        for wait in Backoff::new(LOOK.0, LOOK.1) {
            if used.borrow().has_replica(&replica) {
                return debug!(replica, "not reported as drained: it is back in the table");
            }
            let drained = Drained { replica: replica.clone() };
            match post(&provider, "/routes/drained", &drained).await {
                Ok(()) => return debug!(replica, "drained"),
                Err(error @ ClientError::Status { .. }) => {
                    return warn!(
                        replica,
                        "the provider refused to hear of a drained replica: {error:#}"
                    );
                }
                Err(error) => debug!(replica, "reporting a drained replica failed: {error:#}"),
            }
            sleep(wait).await;
        }
    });
    if told.await.is_err() {
        warn!(replica, "not reported as drained within {REPORT:?}");
    }
}

async fn post(
    provider: &UnixClient,
    path: &str,
    body: &impl serde::Serialize,
) -> Result<(), ClientError> {
    let call = provider.call::<Option<serde_json::Value>>(Method::POST, path, Some(body));
    match timeout(ANSWER, call).await {
        Ok(answer) => answer.map(|_| ()),
        Err(late) => Err(ClientError::Answer { path: path.to_owned(), source: late.into() }),
    }
}

fn saved(file: &std::path::Path) -> anyhow::Result<Option<Update>> {
    let text = match fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let update = serde_json::from_slice(&text)
        .with_context(|| format!("reading the table in `{}`", file.display()))?;
    match update {
        Update::Snapshot { .. } => Ok(Some(update)),
        _ => bail!("`{}` holds no whole table", file.display()),
    }
}

/// The beginning of a line, for an error.
fn shortened(line: &str) -> &str {
    let end = line.char_indices().nth(200).map_or(line.len(), |(at, _)| at);
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &[u8], expect: Result<bool, &str>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("routes.json");
        fs::write(&file, content).unwrap();
        let found = saved(&file).map(|it| it.is_some()).map_err(|it| format!("{it:#}"));
        match (&found, expect) {
            (Ok(some), Ok(expect)) => assert_eq!(*some, expect),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            _ => panic!("{found:?} is not {expect:?}"),
        }
    }

    #[test]
    fn a_saved_table_is_taken_only_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert!(saved(&dir.path().join("absent.json")).unwrap().is_none());
        check(br#"{"type":"snapshot","epoch":1,"routes":{"a":{"replicas":[]}}}"#, Ok(true));
        check(br#"{"type":"snapshot","epoch":1,"rou"#, Err("routes.json"));
        check(br#"{"type":"ping","epoch":1}"#, Err("holds no whole table"));
    }

    #[test]
    fn a_long_line_is_shortened_between_characters() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"ä".repeat(300)), "ä".repeat(200));
    }
}
