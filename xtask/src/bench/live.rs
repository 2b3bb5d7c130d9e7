//! From the close of a saved file to the new code answering a call.

use std::time::{Duration, Instant};

use anyhow::Result;
use api::function::{LiveParts, LiveVersion};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::figures::{Report, Series, ms};
use super::machine::Bench;

const NAME: &str = "bench-live";
/// What a person leaves at least between two saves: the next spare is there by then.
pub(super) const PAUSE: Duration = Duration::from_millis(600);

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    bench.create(NAME)?;
    // The first save after the start has no spare yet or has one: both kinds are told apart by
    // what the watchdog reports, not by what is hoped for.
    let mut all: Vec<(f64, LiveVersion)> = Vec::new();
    for round in 0..report.rounds() {
        std::thread::sleep(PAUSE);
        all.push(save(bench, round)?);
    }
    series(report, "live, with the spare", all.iter().filter(|(_, live)| live.parts.switch.spare));

    // Without: it dies before each save, as when the kernel is short of memory.
    let mut all = Vec::new();
    for round in 0..report.rounds() {
        std::thread::sleep(PAUSE);
        end_spare(bench.watchdog()?)?;
        all.push(save(bench, 10_000 + round)?);
    }
    series(
        report,
        "live, without the spare",
        all.iter().filter(|(_, live)| !live.parts.switch.spare),
    );
    bench.remove(NAME)
}

/// Saves a handler that answers a new text; the time until it does, and the API's view of it.
fn save(bench: &Bench, round: usize) -> Result<(f64, LiveVersion)> {
    let url = bench.function_url(NAME);
    let expected = format!("round {round}");
    let before = bench.function(NAME)?.live.map_or(0, |live| live.id);
    let code = format!(
        "def handle(event, context):\n    return {{\"statusCode\": 200, \"body\": \"{expected}\"}}\n"
    );
    fs_err::write(bench.folder(NAME).join("handler.py"), code)?;
    let start = Instant::now();
    bench.wait_for_body(&url, &expected)?;
    let took = ms(start.elapsed());
    // Answering comes first, being on the disk may come a little later.
    loop {
        match bench.function(NAME)?.live {
            Some(live) if live.id > before => return Ok((took, live)),
            _ => {}
        }
    }
}

/// Ends the spare process of a replica: of the watchdog's children that began as a spare, the
/// youngest, unless it is the only one and answers calls.
fn end_spare(watchdog: u32) -> Result<()> {
    let children = fs_err::read_to_string(format!("/proc/{watchdog}/task/{watchdog}/children"))?;
    let children: Vec<i32> =
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    if let [_, .., spare] = children[..] {
        kill(Pid::from_raw(spare), Signal::SIGKILL)?;
    }
    Ok(())
}

/// A name, and where its figure is.
type Part = (&'static str, fn(&LiveParts) -> f64);

fn series<'a>(
    report: &mut Report,
    name: &str,
    rounds: impl Iterator<Item = &'a (f64, LiveVersion)>,
) {
    let rounds: Vec<_> = rounds.collect();
    let parts: [Part; 5] = [
        ("making the version", |parts| parts.version_ms),
        ("process start", |parts| parts.switch.start_ms),
        ("loading the code", |parts| parts.switch.load_ms),
        ("switch, all of it", |parts| parts.switch.total_ms),
        ("sync to disk, beside it", |parts| parts.sync_ms),
    ];
    let mut total = Series::new(name);
    for (took, _) in &rounds {
        total.push(*took);
    }
    report.add(total);
    for (part, value) in parts {
        let mut series = Series::new(format!("  {part}"));
        for (_, live) in &rounds {
            series.push(value(&live.parts));
        }
        report.add(series);
    }
    let mut durable = Series::new("  event to live and durable");
    for (_, live) in &rounds {
        durable.push(live.took_ms);
    }
    report.add(durable);
}
