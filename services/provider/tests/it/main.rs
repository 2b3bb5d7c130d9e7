//! The provider as a process, with the real containerd, buildkitd, git and Python; needs root.

mod fixture;
mod the_loop;
