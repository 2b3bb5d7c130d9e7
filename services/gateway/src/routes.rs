//! The route table: which replicas answer for which function.
//!
//! [`table`] is the pure core: it takes the provider's updates and says what changed. [`live`]
//! holds what calls use: connections and counts of every replica. [`link`] reads the provider's
//! stream, and tells it which table is in use and which replicas are free of calls.
pub(crate) mod link;
pub(crate) mod live;
pub(crate) mod table;

pub(crate) use link::Link;
pub(crate) use live::{Call, Live, Lookup, Target};
