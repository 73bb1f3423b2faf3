//! What an image does when it boots for the first time: it becomes a host of its own.

use crate::base::files;
use crate::host::services::{self, ServiceManager};
use crate::host::{Host, unit};
use crate::plan::backup::Backups;
use crate::plan::undo::{Undo, UnitBefore};
use crate::plan::{Report, Step};
use anyhow::Result;

/// In an image: the unit that onboards when it boots for the first time, with the onboarding file
/// that lies there by then. Nothing of a host's identity is made before (bundle.md 3).
pub struct PrepareFirstBoot {
    host: Host,
}

impl PrepareFirstBoot {
    /// In the image `host`.
    pub fn new(host: &Host) -> Self {
        PrepareFirstBoot { host: host.clone() }
    }
}

impl Step for PrepareFirstBoot {
    fn describe(&self) -> String {
        format!("have {} onboard at the first boot", unit::FIRST_BOOT)
    }
    fn satisfied(&self) -> Result<bool> {
        let path = services::unit_dir(&self.host.layout).join(unit::FIRST_BOOT);
        let there = files::read_text(&path, 64 << 10)?;
        let same = there.is_some_and(|text| text == unit::first_boot());
        Ok(same && services::is_enabled(&self.host, unit::FIRST_BOOT)?)
    }
    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        let path = services::unit_dir(&self.host.layout).join(unit::FIRST_BOOT);
        let before = match path.exists() {
            false => None,
            true => Some(UnitBefore {
                file: Box::new(backups.snapshot(&path)?),
                enabled: services::is_enabled(&self.host, unit::FIRST_BOOT)?,
                active: false,
            }),
        };
        Ok(Undo::Unit {
            name: unit::FIRST_BOOT.into(),
            before,
        })
    }
    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        let _ = services::install_unit(&self.host, unit::FIRST_BOOT, unit::first_boot())?;
        let _ = services::enable(&self.host, unit::FIRST_BOOT)?;
        Ok(())
    }
}

/// Who onboards what lies in an image: a line for the person who made it.
pub fn who_onboards(host: &Host) -> String {
    let file = host.layout.onboarding_file();
    let how = match host.services {
        ServiceManager::Systemd => format!("{} does it at the first boot", unit::FIRST_BOOT),
        ServiceManager::SysV | ServiceManager::None => {
            let tool = host.layout.bin().join("omsadmin.sh");
            format!(
                "no systemd in this image: run {} at the first boot",
                tool.display()
            )
        }
    };
    format!("{} is onboarded later: {how}.", file.display())
}
