//! What the sections came to: a line for each as it ends, everything that failed at the end.

use std::fmt;
use std::time::Instant;

use anyhow::Result;

use crate::progress::Progress;

/// The outcome so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: u64,
    failed: u64,
    sections: Vec<Section>,
    not_run: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Section {
    name: String,
    seconds: f64,
    failure: Option<String>,
}

/// Something failed, and all about it has been said.
#[derive(Debug)]
pub(crate) struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something failed")
    }
}

impl std::error::Error for Failed {}

impl Report {
    /// Runs a section that passes or fails as a whole.
    pub(crate) fn section(&mut self, name: &str, run: impl FnOnce() -> Result<()>) {
        let step = Progress::new().step(name, "running");
        let (seconds, result) = timed(run);
        match &result {
            Ok(()) => step.done("ok"),
            Err(_) => step.done("FAILED"),
        }
        self.add(name, seconds, result);
    }

    /// Counts a section that ran elsewhere, and passes on what it made.
    pub(crate) fn add<T>(&mut self, name: &str, seconds: f64, result: Result<T>) -> Option<T> {
        match result {
            Ok(made) => {
                self.passed += 1;
                self.sections.push(Section { name: name.to_owned(), seconds, failure: None });
                Some(made)
            }
            Err(error) => {
                self.fail(name, seconds, &error);
                None
            }
        }
    }

    /// Counts a section that failed.
    pub(crate) fn fail(&mut self, name: &str, seconds: f64, error: &anyhow::Error) {
        self.failed += 1;
        self.sections.push(Section {
            name: name.to_owned(),
            seconds,
            failure: Some(format!("{error:#}")),
        });
    }

    /// Counts the tests, whose runner has told about each failure itself.
    pub(crate) fn tests(&mut self, seconds: f64, passed: u64, failed: u64) {
        self.passed += passed;
        self.failed += failed;
        let failure = (failed > 0).then(|| format!("{failed} failed; their output is above"));
        self.sections.push(Section { name: "tests".to_owned(), seconds, failure });
    }

    /// A test that was not run, and why.
    pub(crate) fn not_run(&mut self, reason: &'static str, test: String) {
        self.not_run.push((reason, test));
    }

    /// Prints all of it; the counts are the last line.
    pub(crate) fn close(self) -> Result<()> {
        print!("{self}");
        if self.failed > 0 {
            return Err(Failed.into());
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for section in &self.sections {
            if let Some(failure) = &section.failure {
                writeln!(f, "---- {} ----\n{failure}\n", section.name)?;
            }
        }
        for section in &self.sections {
            let outcome = if section.failure.is_some() { "FAILED" } else { "ok" };
            writeln!(f, "{:10} {outcome:8} {:7.1} s", section.name, section.seconds)?;
        }
        for (reason, test) in &self.not_run {
            writeln!(f, "not run: {reason}: {test}")?;
        }
        writeln!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed,
            self.not_run.len()
        )
    }
}

/// Runs something and says how many seconds it took.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let result = run();
    (started.elapsed().as_secs_f64(), result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_sections_and_tests_and_what_was_not_run() {
        let mut report = Report::default();
        report.add("fmt", 0.5, Ok(()));
        assert_eq!(
            report.add::<()>("clippy", 61.0, Err(anyhow::anyhow!("warning: a\n --> b"))),
            None
        );
        report.tests(3.0, 40, 2);
        report.not_run("needs root", "provider commit::a_commit_is_live".to_owned());
        assert_eq!(
            report.to_string(),
            "\n---- clippy ----\nwarning: a\n --> b\n\n\
             ---- tests ----\n2 failed; their output is above\n\n\
             fmt        ok           0.5 s\n\
             clippy     FAILED      61.0 s\n\
             tests      FAILED       3.0 s\n\
             not run: needs root: provider commit::a_commit_is_live\n\
             41 passed, 3 failed, 1 skipped\n"
        );
        assert!(report.close().unwrap_err().is::<Failed>());
    }

    #[test]
    fn nothing_failed_is_success() {
        let mut report = Report::default();
        report.tests(1.0, 2, 0);
        assert!(report.to_string().ends_with("\n2 passed, 0 failed, 0 skipped\n"));
        report.close().unwrap();
    }
}
