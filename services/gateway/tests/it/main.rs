//! The real gateway, as a process, between real HTTP clients and servers.
//!
//! No root is needed. Small servers of [`provider`] and [`replica`] stand where the provider's
//! socket and the functions' containers stand, and speak the types of `api::route`.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests say why they end")]

mod attacks;
mod bodies;
mod calls;
mod doors;
mod provider;
mod replica;
mod routes;
mod stop;
mod switching;
mod world;
