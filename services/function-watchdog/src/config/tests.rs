//! What the environment may say, and what comes of it.

use super::*;

fn read(vars: &[(&str, &str)]) -> anyhow::Result<Config> {
    let base = [("fprocess", "cat"), ("INPLACE_RUN_DIR", "/nonexistent")];
    let vars = base.iter().chain(vars).map(|(name, value)| ((*name).into(), (*value).into()));
    Config::from_env(vars)
}

/// `what` reads the variables like this, without a note.
fn check<T: PartialEq + std::fmt::Debug>(
    what: impl Fn(&Config) -> T,
    cases: &[(&[(&str, &str)], T)],
) {
    for (vars, expected) in cases {
        let config = read(vars).unwrap_or_else(|error| panic!("{vars:?}: {error:#}"));
        assert_eq!(&what(&config), expected, "{vars:?}");
        assert!(config.notes.is_empty(), "{vars:?}: {:?}", config.notes);
    }
}

fn check_err(vars: &[(&str, &str)], message: &str) {
    let error = format!("{:#}", read(vars).expect_err(message));
    assert!(error.contains(message), "{vars:?}: {error}");
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_process_is_split_at_spaces_and_the_newer_name_wins() {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    check(
        |config| config.process.clone(),
        &[
            (&[], words("cat")),
            (&[("fprocess", "sh -c 'a  b'")], words("sh -c 'a b'")),
            (&[("function_process", "env")], words("env")),
        ],
    );
    check_err(&[("fprocess", "")], "set fprocess");
    check_err(&[("fprocess", "  ")], "nothing but spaces");
}

#[test]
fn modes_that_are_not_there_are_refused_by_name() {
    check(
        |config| config.mode.clone(),
        &[
            (&[], Mode::Streaming),
            (&[("mode", "")], Mode::Streaming),
            (&[("mode", "classic")], Mode::Classic),
            (&[("mode", "serializing")], Mode::Serializing),
        ],
    );
    for mode in ["static", "inproc", "afterburn", "HTTP"] {
        check_err(&[("mode", mode)], mode);
    }
    check_err(&[("jwt_auth", "true")], "jwt_auth");
    check_err(&[("marshal_request", "true")], "marshal_request");
}

#[test]
fn the_upstream_is_an_address_with_an_optional_prefix() {
    let upstream = |address: &str, prefix: &str| {
        Mode::Http(Upstream { address: address.parse().unwrap(), prefix: prefix.to_owned() })
    };
    let http = |url| [("mode", "http"), ("upstream_url", url)];
    check(
        |config| config.mode.clone(),
        &[
            (&http("http://127.0.0.1:5000"), upstream("127.0.0.1:5000", "")),
            (&http("http://localhost:3000/"), upstream("127.0.0.1:3000", "")),
            (&http("http://127.0.0.1"), upstream("127.0.0.1:80", "")),
            (&http("http://[::1]:9/base/"), upstream("[::1]:9", "/base")),
            (
                &[("mode", "http"), ("upstream_url", "x"), ("http_upstream_url", "http://[::1]:9")],
                upstream("[::1]:9", ""),
            ),
        ],
    );
    check_err(&[("mode", "http")], "needs upstream_url");
    check_err(&http("https://127.0.0.1"), "the scheme must be http");
    check_err(&http("http://example.com"), "an IP address or localhost");
    check_err(&http("http://"), "upstream_url=\"http://\"");
}

#[test]
fn timeouts_are_seconds_or_go_durations() {
    check(
        |config| config.exec_timeout,
        &[
            (&[], 30 * SECOND),
            (&[("mode", "classic")], Duration::ZERO),
            (&[("exec_timeout", "5")], 5 * SECOND),
            (&[("exec_timeout", "1m30s")], 90 * SECOND),
            (&[("exec_timeout", "0")], Duration::ZERO),
        ],
    );
    check(
        |config| (config.read_timeout, config.write_timeout, config.healthcheck_interval),
        &[
            (&[], (30 * SECOND, 30 * SECOND, None)),
            (
                &[("read_timeout", "1"), ("write_timeout", "2s"), ("healthcheck_interval", "3")],
                (SECOND, 2 * SECOND, Some(3 * SECOND)),
            ),
        ],
    );
    check_err(&[("write_timeout", "0")], "write_timeout");
}

#[test]
fn everything_else_has_openfaas_defaults() {
    let rest = |config: &Config| {
        (config.port, config.max_inflight, config.content_type.clone(), config.output)
    };
    let octets = Some("application/octet-stream".to_owned());
    let output = |prefix, longest| Output { prefix, longest };
    check(
        rest,
        &[
            (&[], (8080, 0, octets.clone(), output(true, 65536))),
            (&[("mode", "classic")], (8080, 0, None, output(true, 65536))),
            (
                &[("port", "9"), ("max_inflight", "3"), ("content_type", "a/b")],
                (9, 3, Some("a/b".to_owned()), output(true, 65536)),
            ),
            (
                &[("prefix_logs", "false"), ("log_buffer_size", "1000")],
                (8080, 0, octets.clone(), output(false, 1000)),
            ),
            (&[("log_buffer_size", "-1")], (8080, 0, octets, output(true, LONGEST_LINE))),
        ],
    );
    check(
        |config| (config.cgi_headers, config.combine_output, config.write_debug),
        &[
            (&[("mode", "classic")], (true, true, false)),
            (
                &[("mode", "classic"), ("cgi_headers", "false"), ("combine_output", "false")],
                (false, false, false),
            ),
            (&[("mode", "classic"), ("write_debug", "1")], (true, true, true)),
            (&[("cgi_headers", "false"), ("write_debug", "true")], (true, false, false)),
        ],
    );
    check(
        |config| config.lock.clone(),
        &[
            (&[], Some("/tmp/.lock".into())),
            (&[("TMPDIR", "/x")], Some("/x/.lock".into())),
            (&[("suppress_lock", "true")], None),
        ],
    );
    check(
        |config| (config.buffer_body, config.log_call_id, config.ready_path.clone()),
        &[
            (&[], (false, false, None)),
            (
                &[("buffer_http", "1"), ("log_callid", "1"), ("ready_path", "/up")],
                (true, true, Some("/up".to_owned())),
            ),
            (&[("http_buffer_req_body", "true")], (true, false, None)),
        ],
    );
    check_err(&[("log_buffer_size", "many")], "log_buffer_size=\"many\"");
}

#[test]
fn what_openfaas_would_not_notice_is_said() {
    let vars = [("read_timeout", "30sec"), ("max_inflight", "-1"), ("suppress_lock", "yes")];
    let config = read(&vars).unwrap();
    assert_eq!((config.read_timeout, config.max_inflight), (30 * SECOND, 0));
    assert!(config.lock.is_some());
    assert_eq!(config.notes.len(), 3, "{:?}", config.notes);
    for ((name, value), note) in vars.iter().zip(["read_timeout", "max_inflight", "suppress_lock"])
    {
        let said = |line: &String| line.contains(note) && line.contains(value);
        assert!(config.notes.iter().any(said), "{name}");
    }
}

#[test]
fn the_live_switch_is_there_when_its_folder_is() {
    assert_eq!(read(&[]).unwrap().live, None);
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().to_str().unwrap();
    let live = read(&[("INPLACE_RUN_DIR", run_dir)]).unwrap().live.unwrap();
    assert_eq!(live.run_dir, folder.path());
    assert_eq!(live.versions_dir, PathBuf::from("/inplace/versions"));
}
