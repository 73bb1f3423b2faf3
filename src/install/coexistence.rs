//! What a removal leaves to others: the Azure diagnostics extensions share omsagent, omi and scx,
//! and Operations Manager uses omi and scx (bundle.md 2.5).

use crate::base::files;
use crate::host::Host;
use crate::host::packages::PackageManager;
use crate::plan::Report;
use anyhow::Result;

const OMISERVER_CONF: &str = "/etc/opt/omi/conf/omiserver.conf";
const CONF_LIMIT: usize = 1 << 20;

/// Who else uses our packages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// `lad-mdsd`: uses omsagent, omi and scx.
    pub lad: bool,
    /// `azsec-mdsd`: uses omi and scx.
    pub azsec: bool,
    /// Operations Manager reaches omi through an open port.
    pub operations_manager: bool,
}

impl Neighbours {
    /// Looks.
    pub fn find(host: &Host, manager: PackageManager) -> Result<Neighbours> {
        let conf = host.layout.path(OMISERVER_CONF);
        let conf = files::read_text(&conf, CONF_LIMIT).ok().flatten();
        Ok(Neighbours {
            lad: manager.installed_version("lad-mdsd")?.is_some(),
            azsec: manager.installed_version("azsec-mdsd")?.is_some(),
            operations_manager: conf.is_some_and(|text| opens_a_port(&text)),
        })
    }

    /// Do the diagnostics extensions use omi and scx?
    pub fn mdsd(self) -> bool {
        self.lad || self.azsec
    }

    /// The block before a purge that goes ahead all the same.
    pub fn warn_before_purge(self, report: &mut dyn Report) {
        if self.mdsd() {
            for line in [
                "---------- PURGE WARNING: lad-mdsd or azsec-mdsd was detected ----------",
                "They use packages that are purged now, and will not work as before:",
                "install them again afterwards, or use --remove, which leaves these packages.",
                "-------------------------------------------------------------------------",
            ] {
                report.line(line);
            }
        }
    }
}

/// A port other than 0 in the last `httpsport=` line: 0 is omi's word for none.
fn opens_a_port(conf: &str) -> bool {
    let ports = conf.lines().rev().find_map(|line| {
        line.trim()
            .strip_prefix("httpsport")?
            .trim()
            .strip_prefix('=')
    });
    ports.is_some_and(|ports| {
        ports
            .split(',')
            .any(|port| port.trim().parse::<u16>().is_ok_and(|port| port != 0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::Kept;

    #[test]
    fn an_open_port_is_one_that_is_not_0() {
        assert!(!opens_a_port(""));
        assert!(!opens_a_port("httpsport=0\n"));
        assert!(!opens_a_port("#httpsport=1270\nhttpport=0\n"));
        assert!(opens_a_port("httpsport=1270\n"));
        assert!(opens_a_port(" httpsport = 0,1270\n"));
        assert!(!opens_a_port("httpsport=1270\nhttpsport=0\n"));
    }

    #[test]
    fn the_warning_is_for_mdsd_only() {
        let mut kept = Kept::default();
        Neighbours::default().warn_before_purge(&mut kept);
        assert!(kept.0.is_empty());
        let azsec = Neighbours {
            azsec: true,
            ..Neighbours::default()
        };
        azsec.warn_before_purge(&mut kept);
        assert_eq!(
            kept.0[0],
            "---------- PURGE WARNING: lad-mdsd or azsec-mdsd was detected ----------"
        );
    }
}
