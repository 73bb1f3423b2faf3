//! Floor 1: files, commands, the root prefix, ids, secrets. Knows nothing of the product.

pub mod argv;
pub mod command;
pub mod files;
#[cfg(test)]
pub mod form;
pub mod glob;
pub mod ids;
pub mod order;
pub mod out;
pub mod secret;
pub mod spent;
