//! omsagent: one static binary that is a self-extracting bundle, the admin tools it installs,
//! a forwarding agent and a workspace hub, compatible with the OMS Agent for Linux.
//!
//! The rooms and the floors they stand on are described in `docs/architecture.md`.
//! A room may call the rooms below it, never one above it.

pub mod base;

pub mod bundle;
pub mod package;
pub mod settings;

pub mod host;
pub mod plan;
pub mod wire;

pub mod agent;
pub mod doctor;
pub mod hub;
pub mod install;
pub mod support;
pub mod workspace;

pub mod cli;
