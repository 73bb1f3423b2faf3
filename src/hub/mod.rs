//! Floor 4: the self-hosted workspace service: what an agent onboards to and posts to
//! (protocol.md 8). Interfaces and tables are described in `docs/hub.md`.
//!
//! A request goes through `connection` (TLS, deadlines) -> `http` (bytes to a head and a body) ->
//! `routes` (whom and what it is for) -> `onboarding`, `renewal`, `telemetry` or `ingest` ->
//! `roster` (who the agents are) and `store` (SQLite). `workspaces` and `agents` are the owner's.

mod access;
mod agents;
mod blobs;
mod certificates;
mod clock;
mod connection;
mod faults;
mod folder;
mod http;
mod inflate;
mod ingest;
mod keys;
mod onboarding;
mod query;
mod renewal;
mod roster;
mod routes;
mod schema;
mod server;
mod store;
mod table;
mod telemetry;
mod workspaces;

pub use agents::{Agents, KnownAgent};
pub use folder::Folder;
pub use keys::Which;
pub use query::{Cell, Reader, Rows, StoredItem};
pub use server::{Deadlines, Options, Server, Stop};
pub use table::aligned;
pub use workspaces::{NewWorkspace, Removed, Workspace, Workspaces};

/// Now, as the database writes times.
fn now() -> String {
    timestamp(jiff::Timestamp::now())
}

/// UTC, milliseconds, `2031-02-03T04:05:06.007Z`.
fn timestamp(moment: jiff::Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// What a stranger sent, fit for a log line or a terminal: no control characters, at most 200
/// characters.
fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
