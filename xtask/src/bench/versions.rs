//! A save in a tree of 5,000 files, one of which changed.

use std::time::Duration;

use anyhow::{Result, bail};

use super::figures::{Report, Series};
use super::live::PAUSE;
use super::machine::Bench;

const NAME: &str = "bench-versions";
const FILES: usize = 5_000;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    bench.create(NAME)?;
    let folder = bench.folder(NAME);
    for number in 0..FILES {
        let dir = folder.join(format!("data/{:02}", number / 100));
        if number % 100 == 0 {
            fs_err::create_dir_all(&dir)?;
        }
        fs_err::write(dir.join(format!("{number}.txt")), format!("file {number}\n"))?;
    }
    let mut making = Series::new("version of 5,000 files, one changed");
    for round in 0..report.rounds() {
        let before = bench.function(NAME)?.live.map_or(0, |live| live.id);
        std::thread::sleep(PAUSE);
        fs_err::write(folder.join("data/00/7.txt"), format!("round {round}\n"))?;
        let start = std::time::Instant::now();
        let live = loop {
            match bench.function(NAME)?.live {
                Some(live) if live.id > before => break live,
                _ if start.elapsed() > Duration::from_secs(30) => {
                    bail!("the save is not live after 30 s")
                }
                _ => {}
            }
        };
        // The first rounds still bring in the 5,000 new files.
        if round > 1 {
            making.push(live.parts.version_ms);
        }
    }
    report.add(making);
    bench.remove(NAME)
}
