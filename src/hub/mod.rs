//! Floor 4: the self-hosted workspace service: what an agent onboards to and posts to
//! (protocol.md 8). Interfaces and tables are described in `docs/hub.md`.
//!
//! A request goes through `connection` (TLS, deadlines) -> `http` (bytes to a head and a body) ->
//! `routes` (whom and what it is for) -> `onboarding` or `ingest` -> `store` (SQLite).

mod certificates;
mod connection;
mod folder;
mod http;
mod inflate;
mod ingest;
mod onboarding;
mod query;
mod routes;
mod schema;
mod server;
mod store;
mod table;
mod workspaces;

pub use folder::Folder;
pub use query::{Cell, Reader, Rows, StoredItem};
pub use server::{Deadlines, Options, Server, Stop};
pub use table::aligned;
pub use workspaces::{NewWorkspace, Workspace, Workspaces};

/// Now, as the database writes times: UTC, milliseconds, `2031-02-03T04:05:06.007Z`.
fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
        .to_string()
}

/// What a stranger sent, fit for a log line or a terminal: no control characters, at most 200
/// characters.
fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
