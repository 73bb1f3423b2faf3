//! `omsagent maintainer`: what the packages' maintainer scripts call (bundle.md 4.2). Hidden from
//! the help: people use dpkg and rpm.

use crate::cli::admin;
use crate::cli::report::Console;
use crate::err;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::install::recovery::{self, Purpose};
use crate::install::{migrate, portable, product};
use anyhow::{Result, bail};
use std::ffi::OsString;

/// `postinst|posttrans|prerm` and the script's own arguments; for rpm the first of them is `rpm`.
pub fn run(words: &[OsString]) -> Result<u8> {
    let words: Vec<&str> = words.iter().filter_map(|w| w.to_str()).collect();
    let host = Host::detect(Layout::new("/"));
    match words.as_slice() {
        ["postinst", "rpm", ..] if migrate::files_are_there(&host.layout) => {
            migrate::put_off(&host.layout)?;
            Ok(0)
        }
        ["posttrans", "rpm", ..] if !migrate::is_due(&host.layout) => Ok(0),
        ["postinst" | "posttrans", "rpm", ..] => {
            let done = configure(&host);
            // rpm goes on and ends well: the bundle that called it, or the next one, sees to it.
            if !matches!(done, Ok(0)) && host.layout.bin().join("omsagent").exists() {
                migrate::failed(&host.layout)?;
            }
            done
        }
        ["postinst", "configure", ..] => configure(&host),
        ["postinst", abort, ..] if abort.starts_with("abort-") => configure(&host),
        ["prerm", "rpm", "0"] | ["prerm", "remove", ..] => {
            let _lock = recovery::enter(&host, Purpose::Remove, &mut Console)?;
            let made = product::made(&host.layout).unwrap_or_default();
            product::withdraw(&host, &made, &mut Console);
            Ok(0)
        }
        // An upgrade keeps everything; the new version restarts the services.
        ["prerm", ..] => Ok(0),
        other => bail!("unknown maintainer script call: {other:?}"),
    }
}

fn configure(host: &Host) -> Result<u8> {
    let lock = recovery::enter(host, Purpose::Configure, &mut Console)?;
    // Somebody who held the lock may have removed the package while we waited.
    if !host.layout.bin().join("omsagent").exists() {
        bail!("package omsagent was removed meanwhile");
    }
    portable::hand_over(&host.layout)?;
    if let Err(broken) = product::configure(host, &mut Console) {
        err!("error\t{}: {broken}", broken.step);
        for line in &broken.left_behind {
            err!("error\tnot taken back: {line}");
        }
        return Ok(1);
    }
    // The lock is ours still; onboarding takes none of its own below it. A bundle that holds it
    // onboards by itself, after us.
    if !lock.is_parents() && host.is_live() && host.layout.onboarding_file().exists() {
        // A workspace that cannot be reached must not fail the package; the file stays for the
        // next attempt (bundle.md 3).
        let code = admin::onboard_from_file(host, None, false);
        if code != 0 {
            err!(
                "error\tThe package is installed, the workspace is NOT onboarded (code {code}); mend the cause, then run omsadmin.sh"
            );
        }
    }
    drop(lock);
    Ok(0)
}
