//! Floor 4: install, upgrade, remove, purge: what the package's maintainer scripts do to a host,
//! and what the bundle adds around the package manager.

mod begun;
mod coexistence;
pub mod companions;
pub mod departure;
pub mod deploy;
pub mod extract;
pub mod first_boot;
mod health;
pub mod kits;
pub mod means;
pub mod migrate;
pub mod portable;
pub mod preflight;
pub mod product;
pub mod recovery;
pub mod release;
pub mod rollback;
mod strays;
mod through_manager;
mod unconfirmed;
mod upgrade;
pub mod withdraw;

use crate::plan::patience;
