//! The functions' origin: functions for everybody, OpenFaaS's API for the owner's programs.

use std::time::Instant;

use axum::body::Body;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{House, health, host, is_in, later, origin, peer};
use crate::answer;
use crate::login::Verdict;

/// Answers one request.
pub(crate) async fn answer(house: &House, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if path == "/healthz" {
        return health(request.method());
    }
    let host = match host(&request) {
        Ok(host) => host,
        Err(error) => return answer::error(&error),
    };
    if path.starts_with("/function/") {
        let peer = peer(&request);
        house.functions.call(request, &host, peer).await
    } else if is_in(path, "/system") {
        system(house, request).await
    } else {
        answer::no_path(path, "functions answer at /function/NAME")
    }
}

async fn system(house: &House, request: Request<Incoming>) -> Response<Body> {
    if let Err(error) = origin::check_program(request.headers()) {
        return answer::error(&error);
    }
    match house.login.check(request.headers(), peer(&request), Instant::now()) {
        Verdict::Welcome => house.provider.pass(request).await,
        // No challenge: a browser would show a form, and keep what was typed for every page of
        // this origin. The text is what faas-cli looks for.
        Verdict::Missing | Verdict::Wrong => {
            answer::text(StatusCode::UNAUTHORIZED, "invalid credentials")
        }
        Verdict::Later(wait) => later(wait),
    }
}
