//! Floor 4: the forwarder: inputs -> records -> disk queue -> outputs.
//!
//! Threads: `ingest` reads sockets and writes sealed frames to the queues; one sender per output
//! reads them back and posts them; `counters` looks at the host; the main thread keeps time (heartbeats, syncing, watchdog) and
//! signals. See `docs/agent.md`.

pub mod azure;
pub mod beats;
pub mod blob;
pub mod catalogue;
pub mod complaints;
pub mod config;
pub mod counters;
pub mod figures;
pub mod handover;
pub mod heartbeat;
pub mod hosts;
pub mod ingest;
pub mod journal;
pub mod link;
pub mod listen;
pub mod notify;
pub mod outlet;
pub mod output;
pub mod parcel;
pub mod pid_file;
pub mod quality;
pub mod queue;
pub mod reload;
pub mod renewal;
pub mod route;
pub mod run;
pub mod signals;
pub mod status;
pub mod syslog;
pub mod tail;
pub mod telemetry;
pub mod topology;
pub mod usage;
pub mod window;
