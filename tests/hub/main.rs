//! The hub over real TLS connections, and as a program: `onboarding`, `renewal`, `telemetry`,
//! `uploads`, `faults` and `robustness` run it in-process with raw bytes; `program` and `owner` run
//! the binary, with curl and openssl as agents.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod blobs;
mod curl;
mod faults;
mod onboarding;
mod owner;
mod program;
mod renewal;
mod robustness;
mod stage;
mod telemetry;
mod uploads;
