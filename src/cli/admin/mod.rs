//! `omsadmin.sh`: the words of bundle.md 1.6, the work of bundle.md 6.

mod proxy;
mod words;
mod work;

use crate::cli::copies;
use crate::cli::report::Console;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::install::recovery::{self, Purpose};
use crate::{err, out};
use std::ffi::OsString;
use words::Early;

pub use words::GRAMMAR;
pub use work::onboard_from_file;

/// Runs omsadmin.sh with the words after its name.
pub fn run(typed: &[OsString]) -> u8 {
    if !may_run() {
        out!("error\tThis script must be run as root or as the omsagent user.");
        return 1;
    }
    let parsed = match words::parse(typed) {
        Ok(parsed) => parsed,
        Err(Early::Help) => {
            out!("{}", words::usage());
            return 0;
        }
        Err(Early::Refused(code, text)) => {
            err!("{text}");
            out!("{}", words::usage());
            return code;
        }
    };
    copies::begin(&[parsed.key.as_ref(), parsed.proxy.as_ref()]);
    let host = Host::detect(Layout::new("/"));
    if parsed.asks_nothing() && !host.layout.onboarding_file().exists() {
        out!("{}", words::usage());
        return 2;
    }
    if !parsed.only_looks() && !nix::unistd::geteuid().is_root() {
        out!(
            "error\tOnly root can change workspaces: user omsagent may list them (-l) and ask for the port (-o)"
        );
        return 1;
    }
    if !parsed.asks_nothing() {
        return work::perform(&host, parsed);
    }
    match recovery::enter(&host, Purpose::Change, &mut Console) {
        Ok(_lock) => onboard_from_file(&host, parsed.ca_file, parsed.verbose),
        Err(e) => {
            err!("error\t{e:#}");
            30
        }
    }
}

fn may_run() -> bool {
    let uid = nix::unistd::geteuid();
    uid.is_root()
        || nix::unistd::User::from_name("omsagent")
            .ok()
            .flatten()
            .is_some_and(|user| user.uid == uid)
}
