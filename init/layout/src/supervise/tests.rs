//! What `supervise:` accepts, what it means, and what it says to the rest.

use super::*;

#[track_caller]
fn read(json: &str) -> Supervise {
    let checked: Supervise = serde_json::from_str(json).unwrap();
    let again = serde_json::to_string(&checked).unwrap();
    assert_eq!(serde_json::from_str::<Supervise>(&again).unwrap(), checked, "{again}");
    checked
}

#[track_caller]
fn check_mistake(json: &str, expected: &str) {
    let error = serde_json::from_str::<Supervise>(json).expect_err(json).to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(read("{}"), Supervise::default());
    let spelled_out = r#"{"runtime": "containerd", "after": [], "restart": "always", "ready": {},
        "health": {}, "stop": {"signal": "TERM", "grace": "10s"}, "start": "boot", "data": [],
        "critical": false, "failed": "continue"}"#;
    assert_eq!(read(spelled_out), Supervise::default());
}

#[test]
fn every_key_is_read() {
    let default = Supervise::default;
    let time = |text: &str| Time::try_from(text.to_owned()).unwrap();
    let cases = [
        (r#"{"runtime": "oci"}"#, Supervise { runtime: Runtime::Oci, ..default() }),
        (
            r#"{"after": ["a", "b"]}"#,
            Supervise { after: vec!["a".into(), "b".into()], ..default() },
        ),
        (r#"{"restart": "on-failure"}"#, Supervise { restart: Restart::OnFailure, ..default() }),
        (r#"{"restart": "never"}"#, Supervise { restart: Restart::Never, ..default() }),
        (
            r#"{"stop": {"signal": "INT"}}"#,
            Supervise { stop: Stop { signal: Signal::Int, grace: time("10s") }, ..default() },
        ),
        (
            r#"{"stop": {"grace": "1m"}}"#,
            Supervise { stop: Stop { signal: Signal::Term, grace: time("60s") }, ..default() },
        ),
        (
            r#"{"start": "on-demand"}"#,
            Supervise { start: Start::OnDemand { idle: time("15m") }, ..default() },
        ),
        (
            r#"{"start": "on-demand", "idle": "1h"}"#,
            Supervise { start: Start::OnDemand { idle: time("1h") }, ..default() },
        ),
        (
            r#"{"data": ["buildkit:/var/lib/buildkit:rw,rshared"]}"#,
            Supervise {
                data: vec![
                    Data::try_from("buildkit:/var/lib/buildkit:rw,rshared".to_owned()).unwrap(),
                ],
                ..default()
            },
        ),
        (r#"{"critical": true}"#, Supervise { critical: true, ..default() }),
        (r#"{"failed": "halt"}"#, Supervise { failed: Failed::Halt, ..default() }),
    ];
    for (json, expected) in cases {
        assert_eq!(read(json), expected, "{json}");
    }
    assert_eq!(Signal::Winch.number(), 28);
}

#[test]
fn every_probe_is_read() {
    let http = |text: &str| Probe::Http(Http::try_from(text.to_owned()).unwrap());
    let exec = ["test", "-e", "/x"].map(str::to_owned).to_vec();
    let cases = [
        (r#"{"http": "unix:/run/x.sock:/healthz"}"#, http("unix:/run/x.sock:/healthz")),
        (r#"{"http": "http://127.0.0.1:80/"}"#, http("http://127.0.0.1")),
        (r#"{"http": "http://[::1]:8080/a?b"}"#, http("http://[::1]:8080/a?b")),
        (r#"{"tcp": "127.0.0.1:80"}"#, Probe::Tcp(Tcp("127.0.0.1:80".parse().unwrap()))),
        (r#"{"exec": ["test", "-e", "/x"]}"#, Probe::Exec(Exec::try_from(exec).unwrap())),
    ];
    for (json, probe) in cases {
        let ready = read(&format!(r#"{{"ready": {json}}}"#)).ready.unwrap();
        assert_eq!(ready.sign, Sign::Answer(probe.clone()));
        assert_eq!(ready.timeout.to_string(), "30s");
        let health = read(&format!(r#"{{"health": {json}}}"#)).health.unwrap();
        assert_eq!(health.probe, probe);
        assert_eq!((health.interval.to_string(), health.failures), ("10s".to_owned(), 3));
    }
    let ready = read(r#"{"ready": {"notify": true, "timeout": "1m"}}"#).ready.unwrap();
    assert_eq!((ready.sign, ready.timeout.to_string()), (Sign::Notify, "1m".to_owned()));
    let health =
        read(r#"{"health": {"tcp": "[::1]:1", "timeout": "2s", "interval": "1m", "failures": 1}}"#);
    let health = health.health.unwrap();
    assert_eq!(
        (health.timeout.to_string(), health.interval.to_string(), health.failures),
        ("2s".to_owned(), "1m".to_owned(), 1)
    );
}

#[test]
fn a_mistake_is_named_with_the_way_out() {
    for (json, expected) in [
        (r#"{"restrat": "always"}"#, "unknown field `restrat`, expected one of `runtime`"),
        (r#"{"restart": "sometimes"}"#, "unknown variant `sometimes`, expected one of `always`, "),
        (r#"{"ready": {"htp": "x"}}"#, "unknown field `htp`, expected one of `http`"),
        (r#"{"health": {"notify": true}}"#, "unknown field `notify`, expected one of `http`"),
        (r#"{"stop": {"signal": "SIGTERM"}}"#, "unknown variant `SIGTERM`, expected one of `HUP`"),
        (r#"{"stop": {"grace": "10"}}"#, "`10` is no span of time: write a whole number"),
        (r#"{"ready": {"timeout": "1s"}}"#, "there is nothing to ask: set one of http, tcp, exec"),
        (r#"{"ready": {"tcp": "[::1]:1", "notify": true}}"#, "one of http, tcp, exec, notify may"),
        (r#"{"ready": {"notify": false}}"#, "`notify` is either true or not there"),
        (r#"{"ready": {"exec": []}}"#, "`exec` has no command"),
        (r#"{"ready": {"tcp": "localhost:80"}}"#, "`localhost:80` is no address with a port"),
        (r#"{"ready": {"http": "https://127.0.0.1/"}}"#, "`https://127.0.0.1/` is neither unix:"),
        (r#"{"ready": {"http": "http://localhost/"}}"#, "`http://localhost/` is neither unix:"),
        (r#"{"ready": {"http": "unix:x:/"}}"#, "`unix:x:/` is neither unix:"),
        (r#"{"ready": {"http": "unix:/x"}}"#, "`unix:/x` is neither unix:"),
        (r#"{"ready": {"http": "http://127.0.0.1/ x"}}"#, "`http://127.0.0.1/ x` is neither"),
        (r#"{"health": {"tcp": "[::1]:1", "failures": 0}}"#, "`failures` must be at least 1"),
        (r#"{"idle": "15m"}"#, "`idle` stops a service that starts at boot for good: add"),
        (r#"{"start": "on-demand", "critical": true}"#, "a service on demand cannot be critical"),
        (r#"{"data": ["a:/b", "a:/c"]}"#, "folder `a` of the data partition is named twice"),
        (r#"{"data": ["a:/b", "c:/b"]}"#, "two folders of the data partition at `/b`"),
    ] {
        check_mistake(json, expected);
    }
}

#[test]
fn a_key_that_means_nothing_in_a_section_is_named() {
    for (json, onboot, services) in [
        ("{}", None, None),
        (r#"{"after": ["a"]}"#, Some("after"), None),
        (r#"{"runtime": "oci"}"#, Some("runtime"), None),
        (r#"{"start": "on-demand"}"#, Some("start"), None),
        (r#"{"ready": {"notify": true}}"#, Some("ready"), None),
        (r#"{"critical": true}"#, Some("critical"), None),
        (r#"{"failed": "rescue"}"#, None, Some("failed")),
        (r#"{"data": ["a:/b"], "stop": {"signal": "KILL"}}"#, None, None),
    ] {
        let supervise = read(json);
        assert_eq!(supervise.misplaced(Section::Onboot), onboot, "{json}");
        assert_eq!(supervise.misplaced(Section::Onshutdown), onboot, "{json}");
        assert_eq!(supervise.misplaced(Section::Services), services, "{json}");
    }
}
