//! Physical Disk: whole disks with a mounted file system (protocol.md 4.5).

use super::block::{Before, Devices, Done, SECTOR, Work, disks_of};
use super::mounts;
use super::sight::{Probe, Sight};
use super::value::{Instance, Value, per_second};
use anyhow::Result;
use std::time::Duration;

/// What disks did between two looks.
#[derive(Debug, Default)]
pub struct PhysicalDisks {
    before: Before,
}

impl Probe for PhysicalDisks {
    fn look(&mut self, sight: &mut Sight<'_>) -> Result<Vec<Instance>> {
        let devices = Devices::read(sight)?;
        let mut disks: Vec<String> = Vec::new();
        for mount in mounts::read(sight)? {
            let name = devices.name_of(&mount, sight);
            for disk in name.iter().flat_map(|n| disks_of(n, sight)) {
                if !disks.contains(&disk) {
                    disks.push(disk);
                }
            }
        }
        let since = self.before.exchange(&devices, sight);
        let work = |disk: String| Some((since.work(&disk, &devices)?, disk));
        let disks: Vec<_> = disks.into_iter().filter_map(work).collect();
        Ok(values(&disks, since.elapsed))
    }
}

/// In the order of 4.9, and their sum at the end.
fn values(disks: &[(Work, String)], elapsed: Duration) -> Vec<Instance> {
    let rate = |w: &Work| {
        let sectors = w.read.sectors.saturating_add(w.written.sectors);
        per_second(sectors.saturating_mul(SECTOR), elapsed)
    };
    let instance = |name: &str, rate: u64, work: Work| {
        let both = Done {
            count: work.read.count.saturating_add(work.written.count),
            sectors: 0,
            ms: work.read.ms.saturating_add(work.written.ms),
        };
        Instance {
            name: name.to_owned(),
            values: vec![
                Value::Number(rate),
                seconds(work.read),
                seconds(work.written),
                seconds(both),
            ],
        }
    };
    let mut found: Vec<Instance> = disks
        .iter()
        .map(|(work, name)| instance(name, rate(work), *work))
        .collect();
    if !found.is_empty() {
        let rates = disks.iter().map(|(work, _)| rate(work));
        let all = disks.iter().fold(Work::default(), |sum, d| sum.plus(d.0));
        found.push(instance("_Total", rates.fold(0, u64::saturating_add), all));
    }
    found
}

/// How long one operation took, on average.
fn seconds(done: Done) -> Value {
    Value::Real(match done.count {
        0 => 0.0,
        count => done.ms as f64 / count as f64 / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::block::tests::{STATS, disks};
    use super::super::sight::tests::Scene;
    use super::*;

    #[test]
    fn disks_with_something_mounted_and_their_sum() {
        let scene = Scene::new();
        disks(&scene);
        scene.write("/proc/diskstats", STATS);
        scene.write(
            "/proc/1/mountinfo",
            "1 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n2 1 8:1 / /b rw - ext4 /dev/sda1 rw\n\
             3 1 0:7 / /s rw - fuse.sshfs a@b:/x rw\n",
        );
        let mut probe = PhysicalDisks::default();
        let texts = |i: &Instance| -> Vec<String> {
            let values = i.values.iter().filter_map(|v| v.text());
            std::iter::once(i.name.clone()).chain(values).collect()
        };
        let found = scene.look_at(&mut probe, Duration::ZERO).unwrap();
        assert_eq!(texts(&found[0]), ["nvme0n1", "0", "0", "0", "0"]);
        // sda: 81 reads of 2100 sectors in 100 ms, no write; nvme0n1: 1 write of 3 sectors in 2 ms.
        scene.write(
            "/proc/diskstats",
            STATS
                .replace("sda 100 1 2000 400", "sda 181 1 4100 500")
                .replace(
                    "nvme0n1 10 1 200 40 5 2 100 30",
                    "nvme0n1 10 1 200 40 6 2 103 32",
                ),
        );
        let found = scene.look_at(&mut probe, Duration::from_secs(10)).unwrap();
        let all: Vec<_> = found.iter().map(texts).collect();
        assert_eq!(all[0], ["nvme0n1", "153", "0", "0.002", "0.002"]);
        assert_eq!(all[1], ["sda", "107520", "0.00123457", "0", "0.00123457"]);
        assert_eq!(
            all[2],
            ["_Total", "107673", "0.00123457", "0.002", "0.0012439"]
        );
        assert_eq!(all.len(), 3);
        scene.write("/proc/1/mountinfo", "");
        assert_eq!(scene.look(&mut probe).unwrap(), [], "nothing is mounted");
    }
}
