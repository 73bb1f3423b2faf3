//! Floor 4: the forwarder: inputs -> records -> disk queue -> outputs.

pub mod config;
pub mod queue;
pub mod route;
pub mod syslog;
