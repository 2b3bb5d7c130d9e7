//! Tells whoever started us that we are ready, as sd_notify(3) does.

use std::env;
use std::os::unix::net::UnixDatagram;

use anyhow::Context;

/// Sends `READY=1` and `STATUS=<status>` (one line) to the socket that `NOTIFY_SOCKET` names.
/// Without that variable nobody waits, and nothing is done.
///
/// # Errors
/// When the socket is named but does not take the message.
pub fn ready(status: &str) -> anyhow::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let message = format!("READY=1\nSTATUS={}\n", status.replace('\n', " "));
    UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(message.as_bytes(), &path))
        .with_context(|| format!("notifying `{}`", path.display()))?;
    Ok(())
}
