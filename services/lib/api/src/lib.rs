//! Types that cross a process boundary, and the error codes.
//!
//! Everything here is plain data with serde: what the gateway, the provider, the watchdog inside a
//! function and the command line say to each other, and what a user of the API sees.
//!
//! | module | who speaks it |
//! | --- | --- |
//! | [`error`] | everybody: one closed set of codes |
//! | [`name`] | everybody: the name of a function |
//! | [`function`], [`build`], [`revision`], [`event`] | the `/v1` API |
//! | [`openfaas`] | the `/system` API, field names as OpenFaaS has them |
//! | [`route`] | provider → gateway: the route table |
//! | [`switch`] | provider → function-watchdog: the live switch |
//! | [`machine`] | `xtask run` and `xtask dev` → scripts: where the machine answers |
pub mod build;
pub mod error;
pub mod event;
pub mod function;
pub mod machine;
pub mod name;
pub mod openfaas;
pub mod revision;
pub mod route;
pub mod switch;

pub use error::{Error, ErrorCode};
pub use name::{FunctionName, InvalidName};
