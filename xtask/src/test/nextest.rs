//! The tests themselves, by cargo-nextest; its JUnit file is what is counted.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde_json::Value;

use super::report::{Report, timed};
use crate::packages::Prepared;
use crate::{children, workspace};

/// Selects what lies under a crate's `tests/`: it needs root and real daemons.
const INTEGRATION: &str = "kind(test)";

/// Which tests run.
#[derive(Debug)]
pub(crate) enum Scope {
    /// All, with what was made for them.
    All(Prepared),
    /// Unit tests only; with a reason, the others are named as not run.
    Unit {
        /// Why; `None` if nobody asked for the others.
        reason: Option<&'static str>,
    },
}

/// One run of the tests.
#[derive(Debug)]
pub(crate) struct Suite<'a> {
    /// Path of cargo-nextest.
    pub(crate) program: &'a Path,
    /// Which tests.
    pub(crate) scope: &'a Scope,
    /// Part of their names.
    pub(crate) filter: Option<&'a str>,
}

impl Suite<'_> {
    /// Runs the tests and adds them to the report; those that cannot run are added by name.
    pub(crate) fn run(&self, report: &mut Report) {
        let (seconds, outcome) = timed(|| {
            let left_out = match self.scope {
                Scope::Unit { reason: Some(_) } => self.integration_tests()?,
                _ => Vec::new(),
            };
            Ok((self.counted(!left_out.is_empty())?, left_out))
        });
        match (outcome, self.scope) {
            (Err(error), _) => report.fail("tests", seconds, &error),
            (Ok(((passed, failed), left_out)), scope) => {
                report.tests(seconds, passed, failed);
                if let Scope::Unit { reason: Some(reason) } = scope {
                    left_out.into_iter().for_each(|test| report.not_run(reason, test));
                }
            }
        }
    }

    /// Numbers of tests that passed and failed. That there are none is only right if some were left out.
    fn counted(&self, none_is_right: bool) -> Result<(u64, u64)> {
        let junit = workspace::target_dir().join("nextest/default/junit.xml");
        fs::remove_file(&junit).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let mut command = self.command("run");
        match self.scope {
            Scope::All(prepared) => {
                command.env("INPLACE_TOOLS", &prepared.tools);
                command.env("INPLACE_BASES", &prepared.bases);
                command.env("INPLACE_PROGRAMS", &prepared.programs);
            }
            Scope::Unit { reason: Some(_) } => {
                command.args(["-E", &format!("not {INTEGRATION}")]);
            }
            Scope::Unit { reason: None } => {
                command.args(["--lib", "--bins"]);
            }
        }
        command.args(["--no-tests", if none_is_right { "pass" } else { "fail" }]).args(self.filter);
        let status = children::inherit(&mut command)?;
        if none_is_right && status.success() && !junit.exists() {
            return Ok((0, 0));
        }
        // The file is written once the tests ran; without it nothing was tested.
        let Ok(text) = fs::read_to_string(&junit) else {
            bail!("cargo nextest ended with {status} before it ran a test; see above");
        };
        let (tests, failed) =
            totals(&text).with_context(|| format!("{} has no totals", junit.display()))?;
        if failed == 0 && !status.success() {
            bail!("cargo nextest ended with {status} though no test failed; see above");
        }
        Ok((tests - failed, failed))
    }

    /// Names of the integration tests that would have run.
    fn integration_tests(&self) -> Result<Vec<String>> {
        let mut command = self.command("list");
        command.args(["--message-format", "json", "-E", INTEGRATION]).args(self.filter);
        let list: Value = serde_json::from_str(&children::output(&mut command)?)
            .context("reading the list of tests")?;
        let suites = list["rust-suites"].as_object().context("the list of tests has no suites")?;
        let mut names = Vec::new();
        for suite in suites.values() {
            let package = suite["package-name"].as_str().unwrap_or_default();
            for (name, test) in suite["testcases"].as_object().into_iter().flatten() {
                if test["filter-match"]["status"] == "matches" {
                    names.push(format!("{package} {name}"));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.program);
        command.current_dir(workspace::root()).args(["nextest", verb, "--workspace", "--locked"]);
        command
    }
}

/// Tests, and failures with errors, of the attributes of JUnit's outermost element.
fn totals(junit: &str) -> Option<(u64, u64)> {
    let element = junit.split("<testsuites").nth(1)?.split('>').next()?;
    let number = |name: &str| {
        let value = element.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
        value.parse::<u64>().ok()
    };
    Some((number("tests")?, number("failures")? + number("errors")?))
}

#[cfg(test)]
mod tests {
    use super::totals;

    #[test]
    fn totals_are_those_of_the_outermost_element() {
        let text = "<?xml version=\"1.0\"?>\n<testsuites name=\"nextest-run\" tests=\"12\" failures=\"2\" errors=\"1\" \
            uuid=\"x\" time=\"1.0\">\n  <testsuite name=\"a\" tests=\"3\" disabled=\"0\" errors=\"0\" failures=\"0\">";
        assert_eq!(totals(text), Some((12, 3)));
        assert_eq!(totals("<testsuites name=\"x\">"), None);
        assert_eq!(totals(""), None);
    }
}
