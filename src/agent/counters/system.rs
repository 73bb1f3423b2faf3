//! System: the host as a whole (protocol.md 4.8).

use super::memory::Stock;
use super::sight::{Probe, Sight};
use super::value::{Instance, Value};
use crate::host::layout::Layout;
use crate::settings::scx_release;
use anyhow::{Context, Result};

/// Most sessions that are counted.
pub const LIMIT: usize = 10_000;
/// Bytes of a record of `/run/utmp`, by the C library's `struct utmp`.
const RECORD: usize = if cfg!(target_arch = "aarch64") {
    400
} else {
    384
};
/// `USER_PROCESS`: somebody is logged in.
const USER_PROCESS: i16 = 7;

/// The host, called by the full name of its system.
#[derive(Debug)]
pub struct System {
    name: String,
}

impl System {
    /// `CentOS Linux 7.0 (x86_64)`.
    pub fn of(layout: &Layout) -> System {
        let machine = nix::sys::utsname::uname();
        let machine = machine.map(|u| u.machine().to_string_lossy().into_owned());
        let (etc, usr) = (
            layout.path("/etc/os-release"),
            layout.path("/usr/lib/os-release"),
        );
        let release = layout.path("/etc/opt/microsoft/scx/conf/scx-release");
        let facts = scx_release::load(&release, &[&etc, &usr], &machine.unwrap_or_default());
        System {
            name: facts.unwrap_or_default().full_name,
        }
    }
}

impl Probe for System {
    fn look(&mut self, sight: &mut Sight<'_>) -> Result<Vec<Instance>> {
        let stock = Stock::parse(&sight.text("/proc/meminfo")?);
        let stock = stock.context("`/proc/meminfo` says nothing of MemTotal or MemAvailable")?;
        // As the C library has it: no file, nobody.
        let records = sight.bytes("/run/utmp").ok();
        let users = records.map(|r| r.map_or(0, |r| users(&r)));
        let processes = sight.processes()?.count() as u64;
        let uptime = sight.text("/proc/uptime").ok();
        let uptime = uptime.and_then(|t| t.split(['.', ' ']).next()?.parse().ok());
        let number = Value::Number;
        Ok(vec![Instance {
            name: self.name.clone(),
            values: vec![
                users.into(),
                number(processes),
                number(stock.available.saturating_add(stock.swap_free)),
                number(stock.available),
                number(stock.swap),
                number(stock.swap_free),
                uptime.into(),
            ],
        }])
    }
}

/// Sessions in the records of utmp.
fn users(records: &[u8]) -> u64 {
    let kind = |r: &&[u8]| i16::from_le_bytes([r[0], r[1]]) == USER_PROCESS;
    let records = records.chunks_exact(RECORD).take(LIMIT);
    records.filter(kind).count() as u64
}

#[cfg(test)]
mod tests {
    use super::super::sight::tests::Scene;
    use super::*;

    fn record(kind: i16) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[..2].copy_from_slice(&kind.to_le_bytes());
        record
    }

    #[test]
    fn one_instance_by_the_name_of_the_system() {
        let scene = Scene::new();
        scene.write("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
        scene.write(
            "/proc/meminfo",
            "MemTotal: 1000 kB\nMemAvailable: 600 kB\nSwapTotal: 500 kB\nSwapFree: 400 kB\n",
        );
        scene.write("/proc/uptime", "4711.99 8000.00\n");
        for pid in ["1", "22", "333"] {
            scene.folder(&format!("/proc/{pid}"));
        }
        scene.folder("/proc/sys");
        let mut system = System::of(&scene.layout);
        let found = scene.look(&mut system).unwrap();
        let texts: Vec<_> = found[0].values.iter().filter_map(|v| v.text()).collect();
        assert!(
            found[0].name.starts_with("Debian 12 ("),
            "{}",
            found[0].name
        );
        assert_eq!(texts, ["0", "3", "1000", "600", "500", "400", "4711"]);
        let mut utmp = [record(2), record(7), record(8), record(7)].concat();
        utmp.extend_from_slice(&[7, 0, 0]); // half a record
        scene.write("/run/utmp", utmp);
        let found = scene.look(&mut system).unwrap();
        assert_eq!(found[0].values[0], Value::Number(2));
    }

    #[test]
    fn no_more_sessions_than_the_limit() {
        let many = |n: usize| users(&record(7).repeat(n));
        assert_eq!((many(LIMIT), many(LIMIT + 1)), (10_000, 10_000));
    }
}
