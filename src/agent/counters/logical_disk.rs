//! Logical Disk: mounted file systems (protocol.md 4.6).

use super::block::{Before, Devices, SECTOR, Work};
use super::mounts::{self, Mount};
use super::sight::{Probe, Sight};
use super::space::Space;
use super::value::{Instance, Value, per_second, percent};
use anyhow::Result;
use std::time::Duration;

/// The first counters are of space, those after them rates.
const OF_SPACE: usize = 5;
const MIB: u128 = 1 << 20;

/// How full file systems are, and what was done to their devices between two looks.
#[derive(Debug, Default)]
pub struct LogicalDisks {
    before: Before,
}

/// What is known of one.
#[derive(Debug)]
struct Known {
    mount: Mount,
    space: Option<Space>,
    work: Option<Work>,
}

impl Probe for LogicalDisks {
    fn look(&mut self, sight: &mut Sight<'_>) -> Result<Vec<Instance>> {
        let mounts = mounts::read(sight)?;
        // Where there are no such figures, space is told still.
        let devices = Devices::read(sight).unwrap_or_default();
        let since = self.before.exchange(&devices, sight);
        let asks = (0..OF_SPACE).any(|counter| sight.wants(counter));
        let known = mounts.into_iter().map(|mount| {
            let name = devices.name_of(&mount, sight);
            let space = match asks {
                true => sight.spaces.of(&mount.point, sight.layout),
                false => None,
            };
            Known {
                work: name.and_then(|n| since.work(&n, &devices)),
                mount,
                space,
            }
        });
        let known: Vec<Known> = known.collect();
        Ok(values(&known, since.elapsed))
    }
}

/// Free and used MiB, rounded up.
fn mebibytes(space: Space) -> (u64, u64) {
    let mib = |blocks: u64| {
        let bytes = u128::from(blocks) * u128::from(space.block);
        u64::try_from(bytes.div_ceil(MIB)).unwrap_or(u64::MAX)
    };
    let used = space.blocks.saturating_sub(space.free);
    (mib(space.available), mib(used))
}

fn of_space(space: Option<(u64, u64)>, inodes: Option<(u64, u64)>) -> [Value; OF_SPACE] {
    let of = |value: fn(u64, u64) -> u64, pair: Option<(u64, u64)>| {
        Value::from(pair.map(|(part, rest)| value(part, rest)))
    };
    [
        of(|free, _| free, space),
        of(|free, used| percent(free, free.saturating_add(used)), space),
        of(|free, used| percent(used, free.saturating_add(used)), space),
        of(free_inodes, inodes),
        of(|free, all| 100 - free_inodes(free, all), inodes),
    ]
}

fn free_inodes(free: u64, all: u64) -> u64 {
    match all {
        0 => 100,
        all => percent(free, all),
    }
}

/// Bytes and operations of each direction, by the second.
fn rates(work: Work, elapsed: Duration) -> [u64; 4] {
    let bytes = |sectors: u64| per_second(sectors.saturating_mul(SECTOR), elapsed);
    [
        bytes(work.read.sectors),
        bytes(work.written.sectors),
        per_second(work.read.count, elapsed),
        per_second(work.written.count, elapsed),
    ]
}

fn of_rates(rates: Option<[u64; 4]>) -> [Value; 6] {
    let Some([rb, wb, r, w]) = rates else {
        return [Value::Missing; 6];
    };
    let all = [rb.saturating_add(wb), rb, wb, r.saturating_add(w), r, w];
    all.map(Value::Number)
}

/// In the order of 4.9, and their sum at the end, each device once.
fn values(known: &[Known], elapsed: Duration) -> Vec<Instance> {
    let instance = |name: &str, space: [Value; OF_SPACE], rates: [Value; 6]| Instance {
        name: name.to_owned(),
        values: space.into_iter().chain(rates).collect(),
    };
    let mut found = Vec::new();
    let (mut counted, mut whole): (Vec<&Mount>, _) = (Vec::new(), (0_u64, 0_u64));
    let mut sum: Option<[u64; 4]> = None;
    for one in known {
        let space = one.space.map(mebibytes);
        let inodes = one.space.map(|s| (s.inodes_free, s.inodes));
        let rates = one.work.map(|work| rates(work, elapsed));
        let values = (of_space(space, inodes), of_rates(rates));
        found.push(instance(&one.mount.point, values.0, values.1));
        let same = |m: &&Mount| m.number == one.mount.number && m.device == one.mount.device;
        if counted.iter().any(same) {
            continue;
        }
        counted.push(&one.mount);
        let (free, used) = space.unwrap_or_default();
        whole = (whole.0.saturating_add(free), whole.1.saturating_add(used));
        if let Some(rates) = rates {
            let mut all = sum.unwrap_or_default();
            all.iter_mut()
                .zip(rates)
                .for_each(|(all, rate)| *all = all.saturating_add(rate));
            sum = Some(all);
        }
    }
    if !found.is_empty() {
        // The original says 100 and 0 of the inodes of all.
        let space = of_space(Some(whole), Some((0, 0)));
        found.push(instance("_Total", space, of_rates(sum)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::block::Done;
    use super::super::sight::tests::Scene;
    use super::*;

    fn known(point: &str, minor: u32, space: Option<Space>, work: Option<Work>) -> Known {
        Known {
            mount: Mount {
                point: point.into(),
                device: format!("/dev/sda{minor}"),
                number: (8, minor),
            },
            space,
            work,
        }
    }

    fn space(block: u64, blocks: u64, free: u64, available: u64, inodes: (u64, u64)) -> Space {
        Space {
            block,
            blocks,
            free,
            available,
            inodes: inodes.1,
            inodes_free: inodes.0,
        }
    }

    fn texts(instance: &Instance) -> Vec<String> {
        let text = |v: &Value| v.text().unwrap_or("-".into());
        instance.values.iter().map(text).collect()
    }

    #[test]
    fn mebibytes_go_up_and_devices_count_once() {
        let done = |count, sectors| Done {
            count,
            sectors,
            ms: 1,
        };
        let work = Work {
            read: done(5, 436),
            written: done(12, 596),
        };
        let root = space(4096, 25_000_000, 21_834_753, 21_834_753, (950, 1000));
        let all = [
            known("/", 1, Some(root), Some(work)),
            known("/again", 1, Some(root), Some(work)),
            known("/boot", 2, Some(space(1024, 1025, 1, 1, (0, 0))), None),
            known("/gone", 3, None, Some(work)),
        ];
        let found = values(&all, Duration::from_secs(60));
        // 436 and 596 sectors in a minute.
        let root = [
            "85293", "87", "13", "95", "5", "8805", "3720", "5085", "0", "0", "0",
        ];
        assert_eq!(texts(&found[0]), root);
        assert_eq!(texts(&found[1]), texts(&found[0]));
        let boot = ["1", "50", "50", "100", "0", "-", "-", "-", "-", "-", "-"];
        assert_eq!(texts(&found[2]), boot);
        assert_eq!(texts(&found[3])[..5], ["-"; 5]);
        let total = [
            "85294", "87", "13", "100", "0", "17610", "7440", "10170", "0", "0", "0",
        ];
        assert_eq!(texts(&found[4]), total);
        assert_eq!(found[4].name, "_Total");
        assert_eq!(values(&[], Duration::ZERO), []);
    }

    #[test]
    fn a_table_of_a_host() {
        let scene = Scene::new();
        scene.folder("/data");
        scene.write(
            "/proc/1/mountinfo",
            "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /data rw - xfs /dev/sda2 rw\n\
             3 1 8:3 / /nosuch rw - xfs /dev/sda3 rw\n",
        );
        let mut probe = LogicalDisks::default();
        // Without /proc/diskstats there are no rates.
        let found = scene.look(&mut probe).unwrap();
        let names: Vec<_> = found.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["/", "/data", "/nosuch", "_Total"]);
        assert_eq!(texts(&found[0])[5..], ["-"; 6]);
        assert_eq!(texts(&found[2])[..5], ["-"; 5]);
        scene.write("/proc/diskstats", "8 1 sda1 1 0 8 1 2 0 16 1 0 0 0\n");
        scene.look_at(&mut probe, Duration::ZERO).unwrap();
        scene.write("/proc/diskstats", "8 1 sda1 41 0 88 1 22 0 36 1 0 0 0\n");
        let found = scene.look_at(&mut probe, Duration::from_secs(10)).unwrap();
        assert_eq!(
            texts(&found[0])[5..],
            ["5120", "4096", "1024", "6", "4", "2"]
        );
        assert_eq!(texts(&found[1])[5..], ["-"; 6]);
        let mut wanted = [false; 11];
        wanted[7] = true;
        let found = scene.look_for(&mut probe, &wanted).unwrap();
        assert_eq!(texts(&found[0])[..5], ["-"; 5], "nobody asked");
    }
}
