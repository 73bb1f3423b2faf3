//! Faults on purpose, for tests of agents: a file tells which requests go wrong, and how. It is
//! looked at again while the hub serves.

use super::clock::Clock;
use super::http::{Head, Response};
use super::routes::Purpose;
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::wire::topology::error_body;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Largest file that is read, bytes.
const FILE_LIMIT: usize = 64 << 10;

/// Longest delay, ms: what waits holds a connection.
const DELAY_LIMIT: u64 = 10 * 60 * 1000;

/// Longest text of a reason, bytes.
const REASON_LIMIT: usize = 200;

/// One `[[fault]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    on: On,
    /// Only requests for this one.
    workspace: Option<String>,
    /// How often it applies; for ever when it is not said.
    times: Option<u64>,
    /// Nothing is done; this is answered.
    status: Option<u16>,
    /// `<Reason>`, or `Error` of an upload; with status 403 when no other is given.
    reason: Option<String>,
    /// Seconds, as a header of the answer.
    retry_after: Option<u32>,
    /// The request is left waiting so long.
    delay_ms: Option<u64>,
    close: Option<Close>,
    /// A topology heartbeat is answered so.
    update_certificate: Option<bool>,
    /// Seconds the hub's clock is ahead.
    clock_offset: Option<i32>,
    /// Seconds between topology heartbeats.
    query_interval: Option<u32>,
    /// Seconds between telemetry reports.
    telemetry_interval: Option<u32>,
}

/// Which requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum On {
    #[default]
    Any,
    Onboard,
    Heartbeat,
    Renew,
    Upload,
    Telemetry,
    Blob,
}

/// When the connection is dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Close {
    /// Before anything is done.
    Before,
    /// After everything is done.
    After,
}

impl On {
    fn is(self, purpose: Purpose) -> bool {
        let one = match self {
            On::Any => return true,
            On::Onboard => Purpose::Onboard,
            On::Heartbeat => Purpose::Heartbeat,
            On::Renew => Purpose::Renew,
            On::Upload => Purpose::Upload,
            On::Telemetry => Purpose::Telemetry,
            On::Blob => {
                return matches!(
                    purpose,
                    Purpose::BlobPlace | Purpose::BlobPut | Purpose::BlobNotice
                );
            }
        };
        one == purpose
    }
}

impl Fault {
    fn check(&self) -> Result<()> {
        if let Some(ws) = &self.workspace {
            ws.parse::<WorkspaceId>().context("`workspace`")?;
        }
        if self.status.is_some_and(|s| !(200..=599).contains(&s)) {
            bail!("`status` must be 200 to 599");
        }
        let reason = self.reason.as_deref().unwrap_or("x");
        if reason.is_empty() || reason.len() > REASON_LIMIT || reason.chars().any(char::is_control)
        {
            bail!("`reason` must have 1 to {REASON_LIMIT} bytes and no control characters");
        }
        if self.delay_ms.is_some_and(|ms| ms > DELAY_LIMIT) {
            bail!("`delay_ms` must be at most {DELAY_LIMIT}");
        }
        if self.retry_after.is_some() && self.refuses().is_none() {
            bail!("`retry_after` needs a `status`");
        }
        let bends = self.update_certificate.is_some()
            || self.query_interval.is_some()
            || self.telemetry_interval.is_some();
        if self.refuses().is_some() && (self.close.is_some() || bends) {
            bail!("`status` and `reason` do nothing else: leave out the rest, or make two faults");
        }
        if self.close == Some(Close::Before) && bends {
            bail!("`close = \"before\"` leaves no answer to change");
        }
        let idle = self.refuses().is_none() && self.close.is_none() && !bends;
        if idle && self.delay_ms.is_none() && self.clock_offset.is_none() {
            bail!("it says nothing that shall go wrong");
        }
        Ok(())
    }

    fn is_for(&self, purpose: Purpose, workspace: Option<&WorkspaceId>) -> bool {
        let here = self.workspace.as_deref().is_none_or(|wanted| {
            workspace.is_some_and(|ws| ws.as_str().eq_ignore_ascii_case(wanted))
        });
        here && self.on.is(purpose)
    }

    fn refuses(&self) -> Option<u16> {
        self.status.or(self.reason.as_ref().map(|_| 403))
    }

    /// What is answered in place of doing anything.
    pub(super) fn refusal(&self, purpose: Purpose) -> Option<Response> {
        let status = self.refuses()?;
        let response = match (&self.reason, purpose) {
            (None, _) => Response::text(status, "a fault on purpose\n"),
            (Some(reason), Purpose::Upload) => {
                let body = serde_json::json!({ "Error": reason, "Message": "a fault on purpose" });
                Response::new(status, "application/json", body.to_string())
            }
            (Some(reason), _) => {
                Response::new(status, "application/xml; charset=utf-8", error_body(reason))
            }
        };
        Some(match self.retry_after {
            Some(seconds) => response.with("Retry-After", &seconds.to_string()),
            None => response,
        })
    }

    /// How long the request waits.
    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.unwrap_or(0))
    }

    /// Whether the connection ends before anything is done.
    pub(super) fn closes_before(&self) -> bool {
        self.close == Some(Close::Before)
    }

    /// Whether the connection ends when everything is done.
    pub(super) fn closes_after(&self) -> bool {
        self.close == Some(Close::After)
    }

    /// The clock the request is judged and answered by.
    pub(super) fn clock(&self) -> Clock {
        Clock::ahead(self.clock_offset.unwrap_or(0))
    }

    /// Whether a new certificate is asked for; `usual` when the fault does not say.
    pub(super) fn update_certificate(&self, usual: bool) -> bool {
        self.update_certificate.unwrap_or(usual)
    }

    /// Intervals of topology heartbeats and of telemetry, where the fault says.
    pub(super) fn intervals(&self, usual: (Duration, Duration)) -> (Duration, Duration) {
        let said = |seconds: Option<u32>| seconds.map(|s| Duration::from_secs(s.into()));
        (
            said(self.query_interval).unwrap_or(usual.0),
            said(self.telemetry_interval).unwrap_or(usual.1),
        )
    }
}

/// The faults of a file.
#[derive(Debug, Default)]
pub(super) struct Faults {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the file looked like when it was read last; `None` when it was not there.
    look: Option<Look>,
    /// Each with how often it applied.
    faults: Vec<(Fault, u64)>,
}

/// By what a changed file is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    inode: u64,
    length: u64,
    modified: SystemTime,
}

impl Faults {
    /// Reads the file. One that is not there has no faults until it comes.
    pub(super) fn open(path: Option<PathBuf>) -> Result<Self> {
        let mut state = State::default();
        if let Some(path) = &path {
            state.look = look(path);
            state.faults = read(path)?;
            log::warn!(
                "requests fail on purpose: {} faults in `{}`",
                state.faults.len(),
                path.display()
            );
        }
        Ok(Faults {
            path,
            state: Mutex::new(state),
        })
    }

    /// The first fault that is for this request and not used up. It has applied once more.
    pub(super) fn pick(
        &self,
        purpose: Purpose,
        workspace: Option<&WorkspaceId>,
        head: &Head,
    ) -> Fault {
        let Some(path) = &self.path else {
            return Fault::default();
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.look_again(path);
        let mut numbered = (1..).zip(&mut state.faults);
        let picked = numbered.find(|(_, (fault, applied))| {
            fault.is_for(purpose, workspace) && fault.times.is_none_or(|times| *applied < times)
        });
        let Some((number, (fault, applied))) = picked else {
            return Fault::default();
        };
        *applied += 1;
        log::warn!(
            "fault {number} applied time={applied} to={purpose:?} workspace={} retry={} request={}",
            workspace.map_or("-", WorkspaceId::as_str),
            shown(head, "x-ms-client-request-retry-count"),
            shown(head, "x-request-id")
        );
        fault.clone()
    }
}

impl State {
    fn look_again(&mut self, path: &Path) {
        let look = look(path);
        if look == self.look {
            return;
        }
        self.look = look;
        match read(path) {
            Ok(faults) => {
                log::warn!("{} faults in `{}` now", faults.len(), path.display());
                self.faults = faults;
            }
            Err(error) => log::error!("keeping the faults there were: {error:#}"),
        }
    }
}

fn look(path: &Path) -> Option<Look> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Look {
        inode: meta.ino(),
        length: meta.len(),
        modified: meta.modified().ok()?,
    })
}

fn read(path: &Path) -> Result<Vec<(Fault, u64)>> {
    let text = files::read_text(path, FILE_LIMIT)?.unwrap_or_default();
    let faults = parse(&text).with_context(|| format!("in `{}`", path.display()))?;
    Ok(faults.into_iter().map(|fault| (fault, 0)).collect())
}

fn parse(text: &str) -> Result<Vec<Fault>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        fault: Vec<Fault>,
    }
    let file: File = toml::from_str(text)?;
    for (number, fault) in (1..).zip(&file.fault) {
        fault.check().with_context(|| format!("fault {number}"))?;
    }
    Ok(file.fault)
}

fn shown(head: &Head, name: &str) -> String {
    head.header(name)
        .map_or_else(|| "-".into(), super::printable)
}

#[cfg(test)]
mod tests;
