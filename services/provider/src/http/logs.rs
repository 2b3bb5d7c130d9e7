//! What a function printed: `/v1/functions/{name}/logs` as text, `/system/logs` as OpenFaaS's lines.

use std::convert::Infallible;
use std::time::Duration;

use api::{Error, ErrorCode, FunctionName};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Uri, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::{App, Failure, Result, name, ndjson, query};
use crate::fault;
use crate::logs::Logs;

/// Lines that are given when nobody says how many.
const LINES: usize = 100;
/// Most lines of the past.
const MAX_LINES: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
}

/// OpenFaaS's query; `since` is a time as RFC 3339 has it.
#[derive(Debug, Deserialize)]
pub(super) struct OpenFaasQuery {
    name: String,
    #[serde(default)]
    namespace: String,
    tail: Option<i64>,
    since: Option<String>,
    #[serde(default)]
    follow: bool,
}

/// One line as OpenFaaS gives it.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    namespace: String,
    instance: String,
    /// Of the newest line up to here that has one; left out while none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    text: String,
}

pub(super) async fn of_function(
    State(app): State<App>,
    Path(text): Path<String>,
    uri: Uri,
) -> Result {
    let name = name(&text)?;
    let LogsQuery { tail, follow } = query(&uri)?;
    let lines = lines(&app, name, tail.unwrap_or(LINES), follow).await?;
    let text = lines.map(|line| Ok::<_, Infallible>(Bytes::from(line + "\n")));
    let text = text.take_until(app.closing.clone().cancelled_owned());
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, Body::from_stream(text)).into_response())
}

pub(super) async fn of_openfaas(State(app): State<App>, uri: Uri) -> Result {
    let OpenFaasQuery { name, namespace, tail, since, follow } = query(&uri)?;
    let since = since.as_deref().map(time).transpose()?;
    let name = FunctionName::new(&name, &namespace).map_err(Error::from)?;
    let tail = tail.and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0);
    let lines = lines(&app, name.clone(), tail.unwrap_or(MAX_LINES), follow).await?;
    let mut at = None;
    let values = lines.filter_map(move |text| {
        at = printed(&text).or(at);
        let line = is_since(at, since).then(|| Line {
            name: name.name().to_owned(),
            namespace: name.namespace().to_owned(),
            instance: String::new(),
            timestamp: at.map(crate::clock::rfc3339),
            text,
        });
        std::future::ready(line)
    });
    Ok(ndjson(&app, values))
}

fn time(text: &str) -> Result<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        let text: String = text.chars().take(100).collect();
        let message = format!("`since` is `{text}`, it must be as `2026-01-31T12:00:00Z`");
        Failure(Error::new(ErrorCode::InvalidArgument, message))
    })
}

/// When a line was printed, in seconds, if it begins with that as the watchdog's lines do.
fn printed(line: &str) -> Option<OffsetDateTime> {
    const TIME: &[BorrowedFormatItem<'_>] =
        format_description!("[year]/[month]/[day] [hour]:[minute]:[second]");
    let (stamp, _) = line.split_at_checked("2026/01/31 12:00:00".len())?;
    PrimitiveDateTime::parse(stamp, TIME).ok().map(PrimitiveDateTime::assume_utc)
}

/// Whether a line may be of that time or later: what is not known to be older is not left out.
fn is_since(printed: Option<OffsetDateTime>, since: Option<OffsetDateTime>) -> bool {
    printed.zip(since).is_none_or(|(printed, since)| printed + Duration::from_secs(1) > since)
}

async fn lines(
    app: &App,
    name: FunctionName,
    tail: usize,
    follow: bool,
) -> Result<impl Stream<Item = String> + use<>> {
    app.provider.get(&name)?;
    if tail > MAX_LINES {
        let message = format!("`tail` is at most {MAX_LINES}");
        return Err(Failure(Error::new(ErrorCode::InvalidArgument, message)));
    }
    let logs = app.provider.shared.replicas.logs.clone();
    let past = {
        let (logs, name) = (logs.clone(), name.clone());
        fault::blocking("reading a log", move || {
            logs.tail(&name, 0, tail)
                .map_err(|error| fault::internal("reading a log", &error.into()))
        })
        .await?
    };
    let end = follow.then_some(past.end);
    Ok(stream::iter(past.lines).chain(later(logs, name, end)))
}

/// Lines from a position on, without end; none when there is no position.
fn later(logs: Logs, name: FunctionName, from: Option<u64>) -> impl Stream<Item = String> {
    let batches = stream::unfold((logs, name, from), async |(logs, name, from)| {
        let batch = logs.next(&name, from?).await.ok()?;
        Some((batch.lines, (logs, name, Some(batch.end))))
    });
    batches.flat_map(stream::iter)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_line_of_the_watchdog_tells_its_time_and_others_do_not() {
        let at = Some(datetime!(2026-11-24 22:19:51 UTC));
        assert_eq!(printed("2026/11/24 22:19:51 stdout: hello"), at);
        for line in ["", "hello", "2026/13/24 22:19:51 x", "2026/11/24", "2026/11/24 22:19:5ä"] {
            assert_eq!(printed(line), None, "{line}");
        }
    }

    #[test]
    fn only_lines_that_are_older_for_sure_are_left_out() {
        let at = Some(datetime!(2026-11-24 22:19:51 UTC));
        let since = |text: &str| Some(time(text).unwrap());
        for (printed, asked, kept) in [
            (at, None, true),
            (None, since("2027-01-01T00:00:00Z"), true),
            (at, since("2026-11-24T22:19:51.900Z"), true),
            (at, since("2026-11-24T23:19:51+01:00"), true),
            (at, since("2026-11-24T22:19:52Z"), false),
        ] {
            assert_eq!(is_since(printed, asked), kept, "{printed:?} {asked:?}");
        }
        assert!(time("5m").unwrap_err().0.message.contains("`since` is `5m`"));
    }
}
