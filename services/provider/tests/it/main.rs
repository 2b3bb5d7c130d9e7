//! The provider as a process, with the real containerd, buildkitd, git and Python; needs root.
#![expect(clippy::unwrap_used, reason = "a test may die of what it did not expect")]

mod faults;
mod fixture;
mod inputs;
mod isolation;
mod other_doors;
mod retention;
mod saves;
mod the_loop;
