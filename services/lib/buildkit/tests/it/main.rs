//! Builds against the real containerd and buildkitd; needs root.

mod commit;
mod dockerfile;
mod failures;
mod fixture;
