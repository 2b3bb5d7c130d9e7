//! The control socket against watchdogs that lie.

use tokio::net::UnixListener;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A watchdog that answers the first request with `answer`, whatever it is.
async fn check(answer: impl Into<Vec<u8>>) -> Result<Outcome, ControlError> {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(NAME)).unwrap();
    let answer = answer.into();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = String::new();
        BufReader::new(&mut stream).read_line(&mut request).await.unwrap();
        assert_eq!(
            serde_json::from_str::<Request>(&request).unwrap(),
            Request::Switch { version: 4, ready_ms: 1000, spare_ms: 2000 }
        );
        // It may be cut off in the middle of what nobody wants to read.
        let _ = stream.write_all(&answer).await;
    });
    let outcome = Control::new(folder.path().into()).switch(4, SECOND, 2 * SECOND).await;
    server.await.unwrap();
    outcome
}

#[tokio::test]
async fn answers_about_the_version_that_was_asked_for_are_taken() {
    let times = r#"{"spare":true,"start_ms":0.0,"load_ms":3.0,"total_ms":3.5}"#;
    let answer = format!("{{\"result\":\"switched\",\"version\":4,\"times\":{times}}}\n");
    assert!(matches!(check(answer).await, Ok(Outcome::Switched(it)) if it.total_ms == 3.5));
    let answer = "{\"result\":\"refused\",\"version\":4,\"reason\":\"r\",\"lines\":[\"a\"]}\n";
    let refused = Outcome::Refused("r".to_owned(), vec!["a".to_owned()]);
    assert_eq!(check(answer).await.unwrap(), refused);
    let answer = "{\"result\":\"superseded\",\"version\":4}\n";
    assert_eq!(check(answer).await.unwrap(), Outcome::Superseded);
}

#[tokio::test]
async fn a_lie_nonsense_or_a_flood_is_an_error() {
    for answer in [
        "{\"result\":\"superseded\",\"version\":5}\n".to_owned(),
        "{\"result\":\"dropped\"}\n".to_owned(),
        "{\"result\":\"superseded\",\"version\":-1}\n".to_owned(),
        "{\"result\":\"superseded\",\"version\":4}".to_owned(),
        "\n".to_owned(),
        String::new(),
        "x".repeat(4 * MAX_LINE),
    ] {
        let error = check(answer.as_str()).await.unwrap_err();
        assert!(matches!(error, ControlError::Nonsense(_)), "{error:?}");
        assert!(error.to_string().len() < 500);
    }
}

#[tokio::test]
async fn a_link_in_the_sockets_place_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("other.sock");
    let _listener = UnixListener::bind(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.path().join(NAME)).unwrap();
    let error = Control::new(folder.path().into()).version().await.unwrap_err();
    assert!(matches!(error, ControlError::Connect(_)), "{error:?}");
}

#[tokio::test]
async fn waiting_ends_when_the_socket_appears_and_after_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::new(folder.path().into());
    let late = control.wait(Duration::from_millis(10)).await;
    assert!(matches!(late, Err(ControlError::Late(_))), "{late:?}");
    let path = folder.path().join(NAME);
    let (ready, _listener) = tokio::join!(control.wait(60 * SECOND), async {
        fs_err::write(folder.path().join("noise"), "").unwrap();
        UnixListener::bind(&path).unwrap()
    });
    ready.unwrap();
}
