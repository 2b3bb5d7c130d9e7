//! The two origins: which path goes where, and who may.
//!
//! [`functions`] is open to everybody but for `/system`; [`console`] is the owner's. A page that a
//! function serves must not act as the owner, so what browsers say of a request's [`origin`] is
//! looked at before its credentials.
pub(crate) mod console;
pub(crate) mod functions;
mod origin;

use std::net::{IpAddr, Ipv4Addr};

use api::{Error, ErrorCode};
use axum::body::Body;
use daemon::Peer;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::answer;
use crate::login::Login;
use crate::proxy::function::Functions;
use crate::proxy::provider::Provider;

/// What is behind the doors.
#[derive(Debug)]
pub(crate) struct House {
    /// The functions.
    pub(crate) functions: Functions,
    /// The API.
    pub(crate) provider: Provider,
    /// Who is the owner.
    pub(crate) login: Login,
}

/// Whether a path is `folder` or below it.
fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The address of the other end.
fn peer(request: &Request<Incoming>) -> IpAddr {
    match request.extensions().get() {
        Some(Peer::Tcp(address)) => address.ip(),
        Some(Peer::Unix) | None => Ipv4Addr::LOCALHOST.into(),
    }
}

/// The host that a request asks for: there has to be exactly one (RFC 9112, 3.2).
fn host(request: &Request<Incoming>) -> Result<HeaderValue, Error> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (request.uri().authority(), hosts.next(), hosts.next()) {
        (None, Some(host), None) => Ok(host.clone()),
        (Some(authority), Some(_), None) => HeaderValue::from_str(authority.as_str())
            .map_err(|_| Error::new(ErrorCode::InvalidArgument, "the address has no valid host")),
        _ => Err(Error::new(ErrorCode::InvalidArgument, "the request names no host, or several")),
    }
}

/// Answers whoever asks whether the gateway is up.
fn health(method: &Method) -> Response<Body> {
    if matches!(*method, Method::GET | Method::HEAD) {
        answer::text(StatusCode::OK, "OK")
    } else {
        answer::wrong_verb("GET, HEAD")
    }
}

/// Too many wrong passwords came from there.
fn later(wait: std::time::Duration) -> Response<Body> {
    let seconds = wait.as_secs() + 1;
    let error = Error::new(ErrorCode::ResourceExhausted, "too many wrong passwords from there")
        .hint(format!("try again in {seconds} s"));
    let mut answer = answer::error(&error);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    answer
}
