//! Has a running agent read its files anew (docs/agent.md): the same process goes on.

use super::services;
use super::{Host, unit};
use crate::base::ids::WorkspaceName;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// SIGHUP to the agent of `name`; false when none runs.
pub fn reread(host: &Host, name: &WorkspaceName) -> Result<bool> {
    let Some(pid) = services::main_pid(host, &unit::name(name))? else {
        return Ok(false);
    };
    let target = Pid::from_raw(i32::try_from(pid).context("pid")?);
    match kill(target, Signal::SIGHUP) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(errno) => bail!("cannot signal the agent of workspace {name} (pid {pid}): {errno}"),
    }
}
