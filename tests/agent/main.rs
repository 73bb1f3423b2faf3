//! The agent as a program: real processes, real sockets, real TLS; against the real hub, and
//! against a server that misbehaves as told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod counters;
mod delivery;
mod footprint;
mod hub;
mod life;
mod readings;
mod reload;
mod renewal;
mod sink;
mod stage;
mod tail;
mod telemetry;
mod with_hub;
