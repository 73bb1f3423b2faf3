//! The hub over real TLS connections, and as a program: `onboarding`, `uploads` and `robustness`
//! run it in-process with raw bytes; `program` runs the binary, with curl and openssl as agents.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod onboarding;
mod program;
mod robustness;
mod stage;
mod uploads;
