//! A new certificate for a workspace (protocol.md 2.2), so that no crash and no lost answer leaves
//! this host with a pair that the service does not know.
//!
//! The new pair is on the disk, as [`Stage::Offered`], before the service hears of it. It is the
//! service's word alone that decides: an answer to a heartbeat made with the new pair. From then on
//! it counts ([`Stage::Known`], one rename), and is put in the place of `oms.key` and `oms.crt`.
//! Whoever finds an offered pair asks again, the new one first: the service drops the old one at
//! the first request made with the new. An offered pair is thrown away only after the service has
//! refused it and has answered to the old one.

mod by_hand;

pub use by_hand::by_hand;

use super::exchange::{self, HeartbeatError, HeartbeatRequest, RenewError};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::{AgentGuid, WorkspaceId};
use crate::host::layout::Layout;
use crate::wire::date::Clock;
use crate::wire::http::{Client, HttpError, Options};
use crate::wire::identity::ClientIdentity;
use crate::wire::renewal::{NewPair, Stage};
use crate::wire::topology::{Telemetry, TopologyResponse};
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// A certificate with less than this left is renewed by ourselves.
pub const RENEW_BEFORE: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);
/// What a killed writer left is older than this.
const LEFT_BEHIND: Duration = Duration::from_secs(60);
/// As long as the slowest answer of the service takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service, as far as a renewal needs it.
pub trait Service {
    /// Offers `new` by a connection authenticated with `old`.
    fn offer(&self, old: &ClientIdentity, new: &ClientIdentity) -> Result<(), RenewError>;
    /// Sends a topology heartbeat with `pair`.
    fn heartbeat(&self, pair: &ClientIdentity) -> Result<TopologyResponse, HeartbeatError>;
}

/// What came of it.
#[derive(Debug)]
pub enum Renewal {
    /// There was nothing to do.
    Nothing,
    /// Another process is at it.
    Busy,
    /// The new pair is in place; what the service answered to it, if it was asked just now.
    Done(Option<Box<TopologyResponse>>),
    /// The service does not want it; the old pair stays, and the service knows it.
    Refused(String),
    /// It cannot be told yet which pair the service knows: both are kept. To be tried again.
    Unsettled(String),
}

/// What to do when no renewal was begun before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Make a new pair.
    New,
    /// Only bring to its end what was begun.
    Nothing,
}

/// Brings a renewal to its end, as far as the service lets it. `make` makes a new pair.
pub fn renew(
    certs: &Path,
    service: &dyn Service,
    begin: Begin,
    make: impl FnOnce() -> Result<ClientIdentity>,
) -> Result<Renewal> {
    let Some(_lock) = lock(certs)? else {
        return Ok(Renewal::Busy);
    };
    if put_known_in_place(certs)? {
        return Ok(Renewal::Done(None));
    }
    let old =
        ClientIdentity::load_no_follow(certs)?.context("the client certificate is missing")?;
    let offered = NewPair::load(certs, Stage::Offered, &old)?;
    let begun = offered.is_some();
    let new = match (offered, begin) {
        (Some(new), _) => new,
        (None, Begin::Nothing) => return Ok(Renewal::Nothing),
        (None, Begin::New) => {
            let new = NewPair::new(&old, make()?, Timestamp::now())?;
            let path = Stage::Offered.path(certs);
            files::write_atomic(&path, new.to_text().as_bytes(), look_of_key(certs)?)?;
            new
        }
    };
    if begun {
        match service.heartbeat(&new.pair) {
            Err(error) if error.is_refusal() => {}
            heard => return settled(certs, heard),
        }
    }
    let offer = service.offer(&old, &new.pair);
    if let Err(refusal) = &offer
        && refusal.is_refusal()
    {
        return match service.heartbeat(&old) {
            Ok(_) => {
                files::remove(&Stage::Offered.path(certs))?;
                files::sync_dir(certs);
                Ok(Renewal::Refused(refusal.to_string()))
            }
            Err(error) => Ok(Renewal::Unsettled(format!("{refusal}; {error}"))),
        };
    }
    // Also when the offer was not answered: the service may have taken it.
    match (settled(certs, service.heartbeat(&new.pair))?, offer) {
        (Renewal::Unsettled(_), Err(error)) => Ok(Renewal::Unsettled(error.to_string())),
        (outcome, _) => Ok(outcome),
    }
}

/// What a heartbeat made with the new pair says about it.
fn settled(certs: &Path, heard: Result<TopologyResponse, HeartbeatError>) -> Result<Renewal> {
    let answer = match heard {
        Ok(answer) => Some(Box::new(answer)),
        // It was taken, whatever the answer says.
        Err(HeartbeatError::NotUnderstood(_)) => None,
        Err(error) => return Ok(Renewal::Unsettled(error.to_string())),
    };
    files::remove(&Stage::Known.path(certs))?;
    files::move_to(&Stage::Offered.path(certs), &Stage::Known.path(certs))?;
    put_known_in_place(certs)?;
    Ok(Renewal::Done(answer))
}

/// Completes what a crash cut short on this host, without asking anybody. True: a new pair is in
/// place now. For the start, before anybody presents a certificate.
pub fn recover(certs: &Path) -> Result<bool> {
    let Some(_lock) = lock(certs)? else {
        return Ok(false);
    };
    sweep(certs);
    put_known_in_place(certs)
}

/// A renewal is begun, and it is not settled yet.
pub fn is_begun(certs: &Path) -> bool {
    [Stage::Offered, Stage::Known]
        .iter()
        .any(|stage| std::fs::symlink_metadata(stage.path(certs)).is_ok())
}

fn put_known_in_place(certs: &Path) -> Result<bool> {
    let known = Stage::Known.path(certs);
    if !is_begun(certs) {
        return Ok(false);
    }
    let Some(current) = ClientIdentity::load_no_follow(certs)? else {
        return Ok(false);
    };
    let Some(new) = NewPair::load(certs, Stage::Known, &current)? else {
        // Of a pair that was replaced in another way meanwhile.
        files::remove(&known)?;
        if NewPair::load(certs, Stage::Offered, &current)?.is_none() {
            files::remove(&Stage::Offered.path(certs))?;
        }
        return Ok(false);
    };
    // The certificate comes last: as long as it is the old one, the file beside says what counts.
    let key = new.pair.key_pem.expose().as_bytes();
    files::write_atomic(&certs.join("oms.key"), key, look_of_key(certs)?)?;
    files::replace_keeping_look(&certs.join("oms.crt"), new.pair.cert_pem.as_bytes())?;
    files::remove(&known)?;
    files::remove(&Stage::Offered.path(certs))?;
    files::sync_dir(certs);
    Ok(true)
}

/// As long as it is held, nobody renews the certificate in this folder.
pub struct Held {
    _lock: Flock<File>,
}

/// Waits for a renewal that is under way, and keeps the next one away: whoever writes a pair by
/// itself must not write it over one that the service took meanwhile. `None`: there is no folder.
pub fn hold(certs: &Path) -> Result<Option<Held>> {
    if !certs.is_dir() {
        return Ok(None);
    }
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(lock) = lock(certs)? {
            return Ok(Some(Held { _lock: lock }));
        }
        if Instant::now() > until {
            bail!(
                "the certificate in `{}` is being renewed for more than {} s: try again later",
                certs.display(),
                PATIENCE.as_secs()
            );
        }
        std::thread::sleep(PATIENCE / 600);
    }
}

/// Nobody else may renew meanwhile; `None` when somebody does.
fn lock(certs: &Path) -> Result<Option<Flock<File>>> {
    let what = || format!("cannot open folder `{}`", certs.display());
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_CLOEXEC)
        .open(certs)
        .with_context(what)?;
    match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => bail!("cannot lock folder `{}`: {errno}", certs.display()),
    }
}

/// Whom the old key belongs to, the new one does, and nobody else can read it.
fn look_of_key(certs: &Path) -> Result<Look> {
    let key = certs.join("oms.key");
    let meta = std::fs::symlink_metadata(&key)
        .with_context(|| format!("cannot look at `{}`", key.display()))?;
    let owner = Owner {
        uid: meta.uid(),
        gid: meta.gid(),
    };
    Ok(Look::owned(meta.mode() & 0o640, owner))
}

/// Key files that a killed writer did not put in place. A young one may still be somebody's work.
fn sweep(certs: &Path) {
    let old = |path: &Path| {
        let changed = std::fs::symlink_metadata(path).and_then(|m| m.modified());
        let age = changed.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        age.is_ok_and(|age| age > LEFT_BEHIND)
    };
    for path in files::unfinished(certs).iter().filter(|path| old(path)) {
        let _ = files::remove(path);
    }
}

/// The real service.
pub struct Online<'a> {
    /// How to connect; its identity is not used.
    pub options: Options,
    /// Which workspace.
    pub workspace: &'a WorkspaceId,
    /// Top-level domain, perhaps with a port.
    pub tld: &'a str,
    /// This agent.
    pub guid: &'a AgentGuid,
    /// Where a new certificate is sent ([`exchange::renewal_url`]).
    pub url: &'a str,
    /// Where the host's facts are read.
    pub layout: &'a Layout,
    /// Use of the agent's process.
    pub telemetry: Telemetry,
}

impl Online<'_> {
    fn client(&self, pair: &ClientIdentity) -> Result<Client, HttpError> {
        Client::new(Options {
            identity: Some(pair.clone()),
            ..self.options.clone()
        })
    }
}

impl Service for Online<'_> {
    fn offer(&self, old: &ClientIdentity, new: &ClientIdentity) -> Result<(), RenewError> {
        exchange::renew(&self.client(old)?, self.url, new)
    }

    fn heartbeat(&self, pair: &ClientIdentity) -> Result<TopologyResponse, HeartbeatError> {
        let request = HeartbeatRequest {
            workspace: self.workspace,
            tld: self.tld,
            guid: self.guid,
            identity: pair,
            layout: self.layout,
            telemetry: self.telemetry,
            clock: &Clock::System,
        };
        exchange::heartbeat(&self.client(pair)?, &request)
    }
}

#[cfg(test)]
mod tests;
