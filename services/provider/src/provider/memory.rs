//! Gives spare processes up when memory is short.

use std::time::Duration;

use fs_err as fs;
use tracing::{info, warn};

use super::Provider;
use crate::actor::Message;
use crate::machine::Event;

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Short is: less than a sixteenth of all memory is available, ...
const AVAILABLE: u64 = 16;
/// ... or tasks waited for memory this part of the last ten seconds, in percent.
const PRESSURE: f64 = 10.0;

/// Runs until it is dropped.
pub(super) async fn watch(provider: Provider) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut was_short = false;
    loop {
        tick.tick().await;
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        // A kernel without pressure information has no such file.
        let pressure = fs::read_to_string("/proc/pressure/memory").unwrap_or_default();
        let short = is_short(&meminfo, &pressure);
        if short {
            if !was_short {
                warn!("memory is short: spare processes are given up");
            }
            // Every time: a save meanwhile may have started another one.
            for handle in provider.list() {
                handle.send(Message::Event(Event::MemoryShort)).await;
            }
        } else if was_short {
            info!("memory is not short any more");
        }
        was_short = short;
    }
}

fn is_short(meminfo: &str, pressure: &str) -> bool {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let some = pressure
        .lines()
        .find_map(|line| line.strip_prefix("some avg10="))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    let little = match (field("MemTotal:"), field("MemAvailable:")) {
        (Some(total), Some(available)) => available < total / AVAILABLE,
        _ => false,
    };
    little || some.is_some_and(|it| it > PRESSURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_by_what_is_left_or_by_who_waits_for_it() {
        let meminfo = |available: u64| {
            format!("MemTotal: 1600 kB\nMemFree: 1 kB\nMemAvailable:  {available} kB\n")
        };
        let pressure =
            |some: &str| format!("some avg10={some} avg60=0.00\nfull avg10=99.0 avg60=0.00\n");
        assert!(!is_short(&meminfo(100), &pressure("0.00")));
        assert!(is_short(&meminfo(99), ""));
        assert!(is_short(&meminfo(1000), &pressure("10.50")));
        assert!(!is_short("", ""));
    }
}
