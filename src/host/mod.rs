//! Floor 3: what this machine is and has.

pub mod layout;
