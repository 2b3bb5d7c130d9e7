//! Stories against `cargo xtask dev`: the real daemons, provider and gateway on this host, played
//! from outside as a script or a person would. They need root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod base;
mod kills;
mod load;
mod machine;
mod story;
