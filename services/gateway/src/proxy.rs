//! A call on its way: what is taken from it, what is added, and who answers it.
//!
//! [`function`] calls a function and is the hot path, by one [`attempt`] after another if need be;
//! [`provider`] passes API requests on. Both
//! stream [`body`]s both ways, follow the rules of [`headers`], and end in a [`tunnel`] when the
//! connection changes its protocol. [`path`] reads addresses.
mod attempt;
pub(crate) mod body;
pub(crate) mod function;
pub(crate) mod headers;
pub(crate) mod path;
pub(crate) mod provider;
pub(crate) mod tunnel;
