//! Tests of the way from status messages to events.

use super::*;

fn vertex(name: &str, ended: bool, cached: bool, error: &str) -> Vertex {
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    Vertex {
        digest: format!("sha256:{name}"),
        name: name.into(),
        started: at(10),
        completed: if ended { at(12) } else { None },
        cached,
        error: error.into(),
        ..Vertex::default()
    }
}

fn log(step: &str, stream: i64, text: &str) -> VertexLog {
    let vertex = format!("sha256:{step}");
    VertexLog { vertex, stream, msg: text.as_bytes().to_vec(), timestamp: None }
}

fn vertexes(vertexes: &[Vertex]) -> StatusResponse {
    StatusResponse { vertexes: vertexes.to_vec(), ..StatusResponse::default() }
}

fn logs(logs: &[VertexLog]) -> StatusResponse {
    StatusResponse { logs: logs.to_vec(), ..StatusResponse::default() }
}

/// The events of all messages, in one word or so each.
fn told(steps: &mut Steps, messages: Vec<StatusResponse>) -> Vec<String> {
    let events = messages.into_iter().flat_map(|message| steps.apply(message));
    events
        .map(|event| match event {
            Event::Step { name, status, took } => {
                format!("{name} {status:?} {}", took.map_or(0, |it| it.as_secs()))
            }
            Event::Log { step, line } => format!("{step}: {line}"),
            Event::Progress { step, what, current, total } => {
                format!("{step} {what} {current}/{total}")
            }
            Event::Skipped { lines } => format!("{lines} skipped"),
        })
        .collect()
}

#[test]
fn a_step_is_told_once_for_each_place_it_is_at() {
    let mut steps = Steps::default();
    let planned = Vertex { started: None, ..vertex("a", false, false, "") };
    let messages = vec![
        vertexes(&[planned]),
        vertexes(&[vertex("a", false, false, ""), vertex("a", false, false, "")]),
        vertexes(&[vertex("a", true, false, ""), vertex("b", true, true, "")]),
        vertexes(&[vertex("a", true, false, "")]),
    ];
    assert_eq!(told(&mut steps, messages), ["a Running 0", "a Done 2", "b Cached 2"]);
    assert!(steps.failure().is_none());
}

#[test]
fn lines_are_put_together_again_per_stream_and_end_with_the_step() {
    let mut steps = Steps::default();
    let messages = vec![
        vertexes(&[vertex("a", false, false, "")]),
        logs(&[log("a", 1, "one\r\ntw"), log("a", 2, "err\n"), log("a", 1, "o\n\nlast")]),
        vertexes(&[vertex("a", true, false, "")]),
    ];
    let expected = ["a Running 0", "a: one", "a: err", "a: two", "a: ", "a: last", "a Done 2"];
    assert_eq!(told(&mut steps, messages), expected);
}

#[test]
fn a_line_without_end_comes_in_pieces_that_are_still_utf8() {
    let mut steps = Steps::default();
    let text = "ä".repeat(MAX_LINE) + "\n";
    let messages = vec![vertexes(&[vertex("a", false, false, "")]), logs(&[log("a", 1, &text)])];
    let lines = told(&mut steps, messages);
    assert_eq!(lines.len(), 1 + 2);
    assert!(lines.iter().all(|it| it.len() <= MAX_LINE + 3 && !it.contains('\u{fffd}')));
}

#[test]
fn the_failure_is_the_step_that_failed_by_itself_with_its_last_lines() {
    let mut steps = Steps::default();
    let many: String = (0..100).map(|it| format!("line {it}\n")).collect();
    let mut last = logs(&[log("bad", 2, &many)]);
    last.vertexes = vec![
        vertex("other", true, false, "context canceled"),
        vertex("bad", true, false, "exit code: 3"),
    ];
    told(
        &mut steps,
        vec![vertexes(&[vertex("bad", false, false, ""), vertex("slow", false, false, "")]), last],
    );
    let failure = steps.failure().unwrap();
    assert_eq!((failure.step.as_str(), failure.reason.as_str()), ("bad", "exit code: 3"));
    assert_eq!(failure.lines.len(), Error::LINES);
    assert_eq!(failure.lines.last().unwrap(), "line 99");
    assert_eq!(steps.running(), ["slow"]);
}

#[test]
fn progress_names_what_moves() {
    let mut steps = Steps::default();
    let status = VertexStatus {
        id: "transferring context:".into(),
        vertex: "sha256:a".into(),
        current: 7,
        total: -1,
        ..VertexStatus::default()
    };
    let message =
        StatusResponse { statuses: vec![status], ..vertexes(&[vertex("a", false, false, "")]) };
    assert_eq!(told(&mut steps, vec![message])[1], "a transferring context 7/0");
}
