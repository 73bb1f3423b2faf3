//! Floor 4: one workspace on this host.

pub mod exchange;
