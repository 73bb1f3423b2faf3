//! What the bundle's words do while they are still being read (bundle.md 1.2, "immediate").

use super::args::{Half, Immediate};
use crate::bundle::{ENV_RUNDIR, STUB_SIZE};
use crate::cli::report::Console;
use crate::plan::State;
use crate::{err, out};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Its presence opens port 1270 when omi's packages are configured (bundle.md 1.2).
const OPSMGR_MARKER: &str = "/etc/scxagent-enable-port";

/// The real thing.
pub struct OnThisHost<'a> {
    /// The bundle's name as it was typed.
    pub argv0: &'a str,
}

impl Immediate for OnThisHost<'_> {
    fn line(&mut self, text: &str) {
        out!("{text}");
    }

    fn debug(&mut self) {
        let here = std::env::current_dir().unwrap_or_default();
        let folder = Path::new(self.argv0).parent().unwrap_or(Path::new(""));
        err!("Starting shell debug mode.");
        err!("Bundle:          {}", self.argv0);
        err!("Bundle's folder: {}", here.join(folder).display());
        err!("Current folder:  {}", here.display());
        let runner = std::env::var(ENV_RUNDIR).unwrap_or_default();
        err!("Runs from:       {runner}");
    }

    fn sources(&mut self) -> Result<Vec<String>, String> {
        super::open_bundle().map(|bundle| bundle.header().sources.clone())
    }

    fn write_half(&mut self, half: Half, to: &Path) -> Result<(), String> {
        // Not only these bytes: a damaged bundle is not handed on in parts.
        super::open_bundle()?;
        let mut bundle = File::open(super::BUNDLE_FD)
            .map_err(|e| format!("cannot read the bundle again: {e}"))?;
        let skipped = match half {
            Half::Script => 0,
            Half::Binary => STUB_SIZE,
        };
        let copied = bundle.seek(SeekFrom::Start(skipped)).and_then(|_| {
            let mut file = File::create(to)?;
            match half {
                Half::Script => std::io::copy(&mut bundle.take(STUB_SIZE), &mut file),
                Half::Binary => std::io::copy(&mut bundle, &mut file),
            }
        });
        copied
            .map(|_| ())
            .map_err(|e| format!("cannot write `{}`: {e}", to.display()))
    }

    fn mark_opsmgr(&mut self) -> Result<(), String> {
        super::open_bundle()?;
        mark_opsmgr()
    }
}

/// What [`mark_opsmgr`] would do, and whether there is anything to do.
pub fn marking_of_opsmgr() -> (String, bool) {
    let there = Path::new(OPSMGR_MARKER).symlink_metadata().is_ok();
    (format!("make {OPSMGR_MARKER}"), !there)
}

/// Makes the marker, unless it is there.
pub fn mark_opsmgr() -> Result<(), String> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(OPSMGR_MARKER);
    match made {
        Ok(_) => {
            Console.one_step(&marking_of_opsmgr().0, State::Done);
            Ok(())
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(format!(
            "cannot make `{OPSMGR_MARKER}`, which --enable-opsmgr asks for: {e}"
        )),
    }
}
