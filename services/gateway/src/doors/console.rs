//! The console's origin: the owner's API.

use std::time::Instant;

use api::{Error, ErrorCode};
use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use serde_json::json;

use super::{House, health, host, is_in, later, origin, peer};
use crate::answer;
use crate::login::Verdict;

/// Answers one request.
pub(crate) async fn answer(house: &House, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == "/healthz" {
        return health(request.method());
    }
    let passes = host(&request).and_then(|host| origin::check_console(request.headers(), &host));
    if let Err(error) = passes {
        return answer::error(&error);
    }
    match house.login.check(request.headers(), peer(&request), Instant::now()) {
        Verdict::Welcome => owner(house, request).await,
        Verdict::Missing => challenge("this needs the owner's login"),
        Verdict::Wrong => challenge("the user or the password is wrong"),
        Verdict::Later(wait) => later(wait),
    }
}

async fn owner(house: &House, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if is_in(path, "/v1") {
        house.provider.pass(request).await
    } else if path != "/" {
        answer::no_path(path, "the API is at /v1; GET / lists its parts")
    } else if matches!(*request.method(), Method::GET | Method::HEAD) {
        index()
    } else {
        answer::wrong_verb("GET, HEAD")
    }
}

/// What is here, for a program or a person with curl.
fn index() -> Response<Body> {
    answer::json(&json!({
        "name": "inplace",
        "version": env!("CARGO_PKG_VERSION"),
        "functions": "/v1/functions",
        "events": "/v1/events",
        "trash": "/v1/trash",
        "health": "/healthz",
    }))
}

fn challenge(message: &str) -> Response<Body> {
    let error = Error::new(ErrorCode::Unauthenticated, message)
        .hint("log in as `admin` with the password that was printed at the first start");
    let mut answer = answer::error(&error);
    let basic = HeaderValue::from_static(r#"Basic realm="Inplace", charset="UTF-8""#);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    answer
}
