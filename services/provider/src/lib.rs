//! The provider: functions, their folders, live reload, commits and revisions.
//!
//! | module | holds |
//! | --- | --- |
//! | [`machine`] | the pure state machine of one function: events in, actions out |
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may die of what it did not expect"))]

pub mod machine;
