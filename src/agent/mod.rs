//! Floor 4: the forwarder: inputs -> records -> disk queue -> outputs.

pub mod queue;
pub mod syslog;
