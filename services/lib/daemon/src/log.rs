//! Where log lines go and what they look like.
//!
//! Standard error, one line an event. `INPLACE_LOG` takes the level (`debug`) or a filter
//! (`info,gateway::proxy=debug`); `INPLACE_LOG_FORMAT` is `text` or `json`, by default `text` on a
//! terminal and `json` elsewhere.

use std::io::{self, IsTerminal};
use std::panic;

use anyhow::{Context, bail};
use tracing::error;
use tracing_subscriber::EnvFilter;

/// Takes over the process's log, and puts panics into it. `name` is in the first line.
///
/// # Errors
/// When a variable holds what it cannot hold, or the log was taken over before.
pub fn init(name: &str) -> anyhow::Result<()> {
    let json = wants_json(variable("INPLACE_LOG_FORMAT")?.as_deref(), io::stderr().is_terminal())?;
    let filter = variable("INPLACE_LOG")?.unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("reading INPLACE_LOG=`{filter}` (for example `debug`)"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let taken = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(io::stderr().is_terminal()).try_init()
    };
    taken.map_err(anyhow::Error::from_boxed).context("taking over the log")?;
    panic::set_hook(Box::new(|panic| error!(%panic, "a task panicked")));
    tracing::info!(service = name, version = env!("CARGO_PKG_VERSION"), "started");
    Ok(())
}

fn variable(name: &str) -> anyhow::Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).context(format!("reading {name}")),
    }
}

fn wants_json(format: Option<&str>, terminal: bool) -> anyhow::Result<bool> {
    Ok(match format {
        None => !terminal,
        Some("json") => true,
        Some("text") => false,
        Some(other) => bail!("INPLACE_LOG_FORMAT is `text` or `json`, not `{other}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_programs_unless_somebody_says_otherwise() {
        assert!(!wants_json(None, true).unwrap());
        assert!(wants_json(None, false).unwrap());
        assert!(wants_json(Some("json"), true).unwrap());
        assert!(!wants_json(Some("text"), false).unwrap());
        let error = wants_json(Some("xml"), false).unwrap_err();
        assert!(error.to_string().contains("not `xml`"), "{error}");
    }
}
