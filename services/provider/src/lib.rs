//! The provider: functions, their folders, live reload, commits and revisions.
//!
//! A call comes in through [`http`], finds its function in the [`provider`] and asks its [`actor`],
//! a task that owns the function's [`machine`]: events go in, actions come out, and what they
//! became of comes back as events.
//!
//! | module | holds |
//! | --- | --- |
//! | [`config`] | the command line |
//! | [`http`] | the API on the socket, one file per resource |
//! | [`provider`] | all functions: made, brought back, removed |
//! | [`shared`] | what they share |
//! | [`actor`] | one function's task |
//! | [`machine`] | its pure state machine |
//! | [`replica`] | a container that answers calls, and its watchdog's control socket |
//! | [`network`] | the bridge, a namespace and an address per replica, the rules |
//! | [`commit`], [`builds`] | from a git commit to a revision, and what the build told |
//! | [`retention`], [`images`] | which revisions are kept, and that the images of others go |
//! | [`routes`] | the route table that the gateway reads |
//! | [`logs`] | what functions print, bounded |
//! | [`templates`] | what functions are made from |
//! | [`trash`] | what was removed |
//! | [`source`] | a function's folder and git directory, opened and watched |
//! | [`folder`], [`git`], [`versions`], [`watch`] | files, commits, versions and news of a folder |
//! | [`store`] | what outlives a restart |
//! | [`sys`] | `unsafe`, and who the process is towards files |
pub mod actor;
pub mod builds;
mod clock;
pub mod commit;
pub mod config;
pub mod fault;
pub mod folder;
pub mod git;
pub mod http;
pub mod images;
pub mod logs;
pub mod machine;
pub mod network;
pub mod provider;
pub mod replica;
pub mod retention;
pub mod routes;
pub mod shared;
pub mod source;
pub mod store;
pub mod sys;
pub mod templates;
pub mod trash;
pub mod versions;
pub mod wait_file;
pub mod watch;
