//! Floor 4: install, upgrade, remove, purge: what the package's maintainer scripts do to a host,
//! and what the bundle adds around the package manager.

mod coexistence;
pub mod companions;
pub mod departure;
pub mod deploy;
pub mod extract;
pub mod kits;
pub mod migrate;
mod patience;
pub mod product;
pub mod release;
pub mod withdraw;
