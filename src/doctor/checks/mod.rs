//! The checks, by subject. Each takes the patient and adds what it finds; none changes anything.

pub mod accounts;
pub mod chain;
pub mod configuration;
pub mod delivery;
pub mod disk;
pub mod identity;
pub mod leftovers;
pub mod looks;
pub mod network;
pub mod package;
pub mod ports;
pub mod rotation;
pub mod selinux;
pub mod service;
pub mod sudo;
pub mod syslog;
