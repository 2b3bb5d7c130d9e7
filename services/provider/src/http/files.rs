//! `/v1/functions/{name}/files/{path}`: the quick edit.

use std::sync::Arc;

use api::{Error, ErrorCode};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use futures::TryStreamExt;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

use super::{App, Failure, Result, name};
use crate::fault;
use crate::folder::{FilePath, Precondition};
use crate::source::Source;

/// Largest file that is read or written, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Most entries of a listing.
const MAX_ENTRIES: usize = 10_000;
/// Says that a listing left something out.
const INCOMPLETE: HeaderName = HeaderName::from_static("x-incomplete");

pub(super) async fn list(State(app): State<App>, Path(text): Path<String>) -> Result {
    let source = source(&app, &text)?;
    let list = move || Ok::<_, Error>(source.open()?.folder.list(None, MAX_ENTRIES)?);
    let listing = fault::blocking("listing a folder", list).await?;
    let incomplete = if listing.complete { "false" } else { "true" };
    Ok(([(INCOMPLETE, incomplete)], Json(listing.entries)).into_response())
}

pub(super) async fn read(
    State(app): State<App>,
    Path((text, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result {
    let (source, path) = (source(&app, &text)?, file_path(&path)?);
    let read = move || Ok::<_, Error>(source.open()?.folder.read(&path, MAX_FILE)?);
    let content = fault::blocking("reading a file", read).await?;
    let etag = content.etag.as_str().to_owned();
    if text_of(&headers, &header::IF_NONE_MATCH).is_some_and(|it| content.etag.is_in(it)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let about = [
        (header::ETAG, etag),
        (header::CONTENT_LENGTH, content.size.to_string()),
        // Whatever it is, a browser shall not run it in the console's origin.
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    let file = tokio::fs::File::from_std(content.file);
    let body = ReaderStream::new(tokio::io::AsyncReadExt::take(file, content.size));
    Ok((about, Body::from_stream(body)).into_response())
}

pub(super) async fn write(
    State(app): State<App>,
    Path((text, path)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result {
    let (source, path) = (source(&app, &text)?, file_path(&path)?);
    let condition = condition(&headers)?;
    let length = text_of(&headers, &header::CONTENT_LENGTH).and_then(|it| it.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_FILE) {
        // Before the body is read, so that nobody waits for what will be refused.
        let message = format!("`{path}` is larger than {MAX_FILE} bytes");
        return Err(Failure(Error::new(ErrorCode::TooLarge, message)));
    }
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    let mut body = SyncIoBridge::new(StreamReader::new(stream));
    let write = move || {
        let opened = source.open()?;
        Ok::<_, Error>(opened.folder.write(&path, &mut body, MAX_FILE, &condition)?)
    };
    let written = fault::blocking("writing a file", write).await?;
    let status = if written.created { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
    Ok((status, [(header::ETAG, written.etag.as_str().to_owned())]).into_response())
}

pub(super) async fn remove(
    State(app): State<App>,
    Path((text, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result {
    let (source, path) = (source(&app, &text)?, file_path(&path)?);
    let condition = condition(&headers)?;
    let remove = move || Ok::<_, Error>(source.open()?.folder.remove(&path, &condition)?);
    fault::blocking("removing a file", remove).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn source(app: &App, text: &str) -> Result<Arc<Source>> {
    Ok(app.provider.get(&name(text)?)?.source)
}

fn file_path(text: &str) -> Result<FilePath> {
    text.parse().map_err(|error| Failure(crate::folder::FolderError::Path(error).into()))
}

fn condition(headers: &HeaderMap) -> Result<Precondition> {
    let (if_match, if_none) =
        (text_of(headers, &header::IF_MATCH), text_of(headers, &header::IF_NONE_MATCH));
    Ok(Precondition::from_headers(if_match, if_none)?)
}

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
