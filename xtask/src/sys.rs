//! The one call of this crate that the compiler cannot check.
#![expect(unsafe_code, reason = "a child's signal mask can only be set between fork and exec")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::SigSet;

/// The command will start with no signal blocked, whatever is blocked here: a program that is
/// started with blocked signals never hears that it should end.
pub(crate) fn unblock_signals(command: &mut Command) {
    let none = SigSet::empty();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; this makes one,
    // pthread_sigmask, on a value that is there already, and allocates nothing.
    unsafe { command.pre_exec(move || Ok(none.thread_set_mask()?)) };
}
