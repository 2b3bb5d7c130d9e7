//! What a person sees while long work runs: bars on a terminal, plain lines elsewhere.
//!
//! Everything goes to standard error, so that standard output stays for results.

use std::io::IsTerminal as _;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The running steps of one command.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
}

/// The one set of bars of this process: two would write over each other.
static BARS: LazyLock<Option<MultiProgress>> =
    LazyLock::new(|| std::io::stderr().is_terminal().then(MultiProgress::new));

impl Progress {
    /// Bars if standard error is a terminal, lines otherwise.
    pub(crate) fn new() -> Self {
        Self { bars: BARS.clone() }
    }

    /// Starts a step. Elsewhere than on a terminal it prints a line now and one at its end.
    pub(crate) fn step(&self, name: &str, what: &str) -> Step {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            let style =
                ProgressStyle::with_template("{spinner:.cyan} {prefix:16} {elapsed:>4} {wide_msg}");
            bar.set_style(style.expect("the template is well formed"));
            bar.set_prefix(name.to_owned());
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() {
            eprintln!("{name}: {what}");
        }
        Step {
            progress: self.clone(),
            name: name.to_owned(),
            started: Instant::now(),
            bar,
            open: true,
        }
    }

    /// A line that stays, whatever else runs.
    pub(crate) fn note(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

/// One running step; dropped without [`done`](Step::done) it says that it stopped.
#[derive(Debug)]
pub(crate) struct Step {
    progress: Progress,
    name: String,
    started: Instant,
    bar: Option<ProgressBar>,
    open: bool,
}

impl Step {
    /// What the step is doing at the moment; only a terminal shows it.
    pub(crate) fn say(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// The step ended well.
    pub(crate) fn done(mut self, what: &str) {
        self.close(what);
    }

    fn close(&mut self, what: &str) {
        self.open = false;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64();
        self.progress.note(&format!("{}: {what} ({seconds:.1} s)", self.name));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.open {
            self.close("stopped");
        }
    }
}
