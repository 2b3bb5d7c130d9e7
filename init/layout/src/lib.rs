//! The agreement between the builder of an image and the machine that boots it.
//!
//! Plain data and its text forms, no effects: `xtask` writes what `init` and `supervisor` read.
//!
//! | module | what it fixes |
//! | --- | --- |
//! | [`name`] | names of containers |
//! | [`bundle`] | where a container's `config.json` and its root lie |
//! | [`manifest`] | which packages a slot mounts, and where |
//! | [`stage`] | the boot stages and the line that each prints on the console |
//! | [`supervise`] | the one key that we add to LinuxKit's yml |
//! | [`order`] | in which order services start |
pub mod bundle;
pub mod manifest;
pub mod name;
pub mod order;
pub mod stage;
pub mod supervise;

pub use bundle::{Bundle, Section};
pub use manifest::Manifest;
pub use name::ContainerName;
pub use stage::Stage;
pub use supervise::Supervise;
