//! The provider: functions, their folders, live reload, commits and revisions.
//!
//! | module | holds |
//! | --- | --- |
//! | [`machine`] | the pure state machine of one function: events in, actions out |
//! | [`network`] | the bridge, a namespace and an address per replica, the rules |

pub mod machine;
pub mod network;
pub mod folder;
pub mod git;
pub mod store;
pub mod sys;
pub mod versions;
pub mod watch;
