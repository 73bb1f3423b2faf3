//! Floor 4: install, upgrade, remove, purge: what the package's maintainer scripts do to a host,
//! and what the bundle adds around the package manager.

pub mod deploy;
pub mod extract;
mod patience;
pub mod product;
pub mod release;
pub mod withdraw;
