//! The modes that only look into the bundle: `--extract` and `--version-check`.

use super::End;
use super::session::Session;
use crate::bundle::Bundle;
use crate::host::Host;
use crate::install::extract::Target;
use crate::install::{companions, kits};
use crate::{err, out};
use std::path::Path;

/// `--extract`. A folder that cannot be made is told without the status line (bundle.md 1.3).
pub fn lay_out(bundle: &Bundle, session: &mut Session) -> End {
    let target = match Target::make(std::process::id()) {
        Ok(target) => target,
        Err(e) => {
            err!("error\t{e:#}");
            return End::silent(1);
        }
    };
    out!("Extracting OMS agent install bundle...");
    let done = target.fill(bundle);
    inside(done.map(|folder| session.facts.extracted = Some(folder)))
}

/// `--version-check`.
pub fn compare(host: &Host, bundle: &Bundle, scratch: &Path, force: bool) -> End {
    out!("Extracting OMS agent install bundle...");
    inside(companions::version_rows(host, bundle, force).map(|rows| {
        let kits = match host.image {
            false => kits::version_rows(bundle, scratch),
            true => Vec::new(),
        };
        rows.iter().chain(&kits).for_each(|row| out!("{row}"));
    }))
}

fn inside(done: anyhow::Result<()>) -> End {
    End::new(match done {
        Ok(()) => 0,
        Err(e) => {
            out!("Failed: could not extract the install bundle.");
            err!("error\t{e:#}");
            2
        }
    })
}
