//! Bad input: a clear error, and nothing changed.

use api::ErrorCode;
use api::build::BuildEvent;
use api::function::{FileEntry, Function};
use axum::body::Body;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::fixture::{World, handler};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_function_can_be_made_from_is_refused_by_name() {
    let world = World::start().await;
    world.create("taken").await;
    for (body, code, why) in [
        (
            json!({"name": "No_Label", "template": "python3-http"}),
            ErrorCode::InvalidArgument,
            "`No_Label`",
        ),
        (
            json!({"name": "../x", "template": "python3-http"}),
            ErrorCode::InvalidArgument,
            "not a function name",
        ),
        (json!({"name": "a", "template": "cobol"}), ErrorCode::InvalidArgument, "`cobol`"),
        (json!({"name": "a", "template": "../bases"}), ErrorCode::InvalidArgument, "no template"),
        (json!({"name": "a"}), ErrorCode::InvalidArgument, "`template`"),
        (json!({"name": "a", "image": "docker.io/x:1"}), ErrorCode::InvalidArgument, "image"),
        (
            json!({"name": "a", "template": "python3-http", "restore": "a-1"}),
            ErrorCode::InvalidArgument,
            "exactly one of",
        ),
        (json!([]), ErrorCode::InvalidArgument, "an array"),
        (json!({"name": "a", "restore": "a-1"}), ErrorCode::NotFound, "`a-1`"),
        (
            json!({"name": "a", "template": "python3-http", "x": 1}),
            ErrorCode::InvalidArgument,
            "`x`",
        ),
        (
            json!({"name": "a", "template": "python3-http", "env": {"A=B": "c"}}),
            ErrorCode::InvalidArgument,
            "`A=B`",
        ),
        (json!({"name": "taken", "template": "python3-http"}), ErrorCode::AlreadyExists, "`taken`"),
    ] {
        let error = world.post::<Function>("/v1/functions", body.clone()).await.unwrap_err().error;
        assert_eq!(error.code, code, "{body}: {error}");
        assert!(error.message.contains(why), "{body}: {error}");
    }
    let unknown = json!({"name": "a", "template": "cobol"});
    let error = world.post::<Function>("/v1/functions", unknown).await.unwrap_err().error;
    assert!(error.hint.contains("python3-http"), "{}", error.hint);
    for path in ["/v1/functions/absent", "/v1/builds/1-1", "/v1/nothing", "/system/function/absent"]
    {
        let error = world.get::<Value>(path).await.unwrap_err().error;
        assert_eq!(error.code, ErrorCode::NotFound, "{path}");
    }
    for (method, path, status, why) in [
        ("GET", "/v1/nothing", StatusCode::NOT_FOUND, "there is no `/v1/nothing` to GET"),
        ("PATCH", "/v1/functions", StatusCode::METHOD_NOT_ALLOWED, "has no method PATCH"),
        ("GET", "/v1/functions/%ff", StatusCode::BAD_REQUEST, "%ff` is not UTF-8"),
        ("GET", "/v1/functions/taken/files/%ff", StatusCode::BAD_REQUEST, "is not UTF-8"),
        ("GET", "/v1/functions?x=1", StatusCode::BAD_REQUEST, "unknown field `x`"),
        ("GET", "/v1/functions/taken/logs?tial=3", StatusCode::BAD_REQUEST, "`tial`"),
        ("POST", "/v1/functions/taken/commit?wiat=true", StatusCode::BAD_REQUEST, "`wiat`"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let (got, headers, text) = world.raw(request).await;
        assert_eq!(got, status, "{method} {path}: {text}");
        let said: api::error::ErrorBody = serde_json::from_str(&text).unwrap();
        assert!(said.error.message.contains(why), "{method} {path}: {text}");
        if status == StatusCode::METHOD_NOT_ALLOWED {
            assert_eq!(headers[header::ALLOW], "GET,HEAD,POST");
        }
    }
    let functions: Vec<Function> = world.get("/v1/functions").await.unwrap();
    assert_eq!(functions.len(), 1);
    assert!(world.containers().len() == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_whose_first_start_fails_leaves_nothing() {
    let world = World::start().await;
    let body =
        json!({"name": "hello", "template": "python3-http", "env": {"fprocess": "/bin/false"}});
    let error = world.post::<Function>("/v1/functions", body).await.unwrap_err().error;
    assert_eq!(error.code, ErrorCode::StartFailed, "{error}");
    assert!(!world.folder("hello").exists());
    assert!(world.containers().is_empty());
    let names = |part: &str| -> Vec<_> {
        fs_err::read_dir(world.state().join(part))
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect()
    };
    for part in ["functions", "git", "versions", "volumes", "trash"] {
        assert!(names(part).is_empty(), "{part}: {:?}", names(part));
    }
    world.create("hello").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_written_by_who_saw_the_newest_and_never_outside() {
    let world = World::start().await;
    world.create("hello").await;
    let path = "/v1/functions/hello/files/deep/note.txt";
    let etag = world.put(path, "one").await.unwrap();
    let request = |method: &str, path: &str, header: Option<(&str, &str)>, body: &str| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let (status, headers, text) = world.raw(request("GET", path, None, "")).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "one"));
    assert_eq!(headers[header::ETAG], etag.as_str());
    let seen = Some(("if-match", etag.as_str()));
    let (status, ..) = world.raw(request("PUT", path, seen, "two")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _, text) = world.raw(request("PUT", path, seen, "lost")).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{text}");
    let absent = Some(("if-none-match", "*"));
    let (_, _, text) = world.raw(request("PUT", path, absent, "lost")).await;
    assert!(text.contains("`deep/note.txt` exists already"), "{text}");
    let (present, other) = (Some(("if-match", "*")), "/v1/functions/hello/files/other");
    let (_, _, text) = world.raw(request("PUT", other, present, "lost")).await;
    assert!(text.contains("`other` does not exist"), "{text}");
    let (_, _, text) = world.raw(request("GET", path, None, "")).await;
    assert_eq!(text, "two");
    let files: Vec<FileEntry> = world.get("/v1/functions/hello/files/").await.unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["deep", "deep/note.txt", "handler.py"]);

    std::os::unix::fs::symlink("/etc/passwd", world.folder("hello").join("link")).unwrap();
    std::os::unix::fs::symlink("/etc", world.folder("hello").join("etc")).unwrap();
    for (method, path) in [
        ("GET", "link"),
        ("GET", "etc/passwd"),
        ("PUT", "etc/inplace-test"),
        ("PUT", "..%2Fescape"),
        ("GET", "..%2F..%2F..%2Fetc%2Fpasswd"),
        ("PUT", ".git"),
        ("GET", ".git/config"),
        ("DELETE", "%2Fetc%2Fpasswd"),
    ] {
        let uri = format!("/v1/functions/hello/files/{path}");
        let (status, _, text) = world.raw(request(method, &uri, None, "x")).await;
        assert!(status.is_client_error(), "{method} {path}: {status} {text}");
        assert!(!text.contains("root:"), "{method} {path}: {text}");
    }
    assert!(!std::path::Path::new("/etc/inplace-test").exists());
    let too_long = Request::put("/v1/functions/hello/files/big")
        .header(header::CONTENT_LENGTH, 1u64 << 40)
        .body(
            Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>()),
        );
    let (status, _, text) = world.raw(too_long.unwrap()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{text}");
    let (status, _, text) =
        world.raw(request("POST", "/v1/functions", None, &"x".repeat(2 << 20))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{text}");
    let (status, ..) = world.raw(request("DELETE", path, None, "")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_and_roll_backs_that_cannot_be_change_nothing() {
    let world = World::start().await;
    world.create("hello").await;
    let first = world.committed("hello", "first").await;
    let error =
        world.post::<Value>("/v1/functions/hello/commit", json!({})).await.unwrap_err().error;
    assert_eq!(error.code, ErrorCode::FailedPrecondition);
    assert!(error.message.contains("nothing has changed since revision 1"), "{error}");

    let roll_back = |revision: u64| {
        world.post::<Value>("/v1/functions/hello/rollback", json!({"revision": revision}))
    };
    assert_eq!(roll_back(7).await.unwrap_err().error.code, ErrorCode::NotFound);

    world.save_live("hello", "handler.py", &handler("second")).await;
    world.committed("hello", "second").await;
    world.ctr(&["images", "rm", "--sync", &first.image]);
    let error = roll_back(1).await.unwrap_err().error;
    assert_eq!(error.code, ErrorCode::FailedPrecondition, "{error}");
    assert!(error.message.contains(&first.image), "{error}");
    let function = world.function("hello").await;
    assert_eq!((function.revision, function.dirty), (2, false));
    assert_eq!(world.call("hello").await, "second");

    // A revision that was committed although it does not start is no way back.
    world.save("hello", "handler.py", "raise SystemExit(3)\n");
    world.until_state("hello", api::function::State::Degraded).await;
    let broken = world.committed("hello", "broken").await;
    world.save_live("hello", "handler.py", &handler("third")).await;
    let error = roll_back(broken.number).await.unwrap_err().error;
    assert_eq!(error.code, ErrorCode::StartFailed, "{error}");
    assert!(error.message.contains("revision 3 does not start"), "{error}");
    let text = fs_err::read_to_string(world.folder("hello").join("handler.py")).unwrap();
    assert_eq!(text, handler("third"));
    assert_eq!(world.call("hello").await, "third");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_fails_says_why_and_can_be_tried_again() {
    let world = World::start().await;
    world.create("hello").await;
    // The base is not in the store, and not where bases come from either.
    let base = world.function("hello").await.image;
    world.ctr(&["images", "rm", "--sync", &base]);
    let (there, aside) = (world.bases().join("python3"), world.bases().join("aside"));
    fs_err::rename(&there, &aside).unwrap();
    let events = world.commit("hello", "without a base").await;
    let Some(BuildEvent::Failed(error)) = events.last() else { panic!("{events:?}") };
    assert_eq!(error.code, ErrorCode::FailedPrecondition, "{error}");
    assert!(error.message.contains(&base), "{error}");
    assert_eq!(world.function("hello").await.revision, 0);

    // With the base in its place again the same commit is built.
    fs_err::rename(&aside, &there).unwrap();
    let revision = world.committed("hello", "").await;
    assert_eq!((revision.number, world.function("hello").await.revision), (1, 1));
}
