//! Block devices: what they did (`/proc/diskstats`) and which disk they are part of (`/sys`)
//! (protocol.md 4.5, 4.6).

use super::mounts::Mount;
use super::sight::Sight;
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// Most devices that are looked at.
pub const LIMIT: usize = 16_384;
/// Volumes in volumes.
const DEPTH_LIMIT: usize = 8;
/// Bytes in a sector, whatever the disk says.
pub const SECTOR: u64 = 512;

/// What a device did, of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Operations.
    pub count: u64,
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Milliseconds that they took, all together.
    pub ms: u64,
}

/// What a device did since the start of the host, or between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// From it.
    pub read: Done,
    /// To it.
    pub written: Done,
}

impl Work {
    /// What was done after `then`.
    pub fn since(self, then: Work) -> Work {
        let of = |now: Done, then: Done| Done {
            count: now.count.saturating_sub(then.count),
            sectors: now.sectors.saturating_sub(then.sectors),
            ms: now.ms.saturating_sub(then.ms),
        };
        Work {
            read: of(self.read, then.read),
            written: of(self.written, then.written),
        }
    }

    /// Of two devices.
    pub fn plus(self, other: Work) -> Work {
        let of = |a: Done, b: Done| Done {
            count: a.count.saturating_add(b.count),
            sectors: a.sectors.saturating_add(b.sectors),
            ms: a.ms.saturating_add(b.ms),
        };
        Work {
            read: of(self.read, other.read),
            written: of(self.written, other.written),
        }
    }
}

/// All devices.
#[derive(Debug, Clone, Default)]
pub struct Devices(Vec<Device>);

/// A line of `/proc/diskstats`.
#[derive(Debug, Clone)]
struct Device {
    name: String,
    number: Option<(u32, u32)>,
    work: Work,
}

impl Devices {
    /// Reads `/proc/diskstats`.
    pub fn read(sight: &Sight<'_>) -> Result<Devices> {
        Ok(Devices::parse(&sight.text("/proc/diskstats")?))
    }

    /// Lines with too few numbers (partitions on old kernels) are left out.
    pub fn parse(text: &str) -> Devices {
        let mut devices = Devices::default();
        for line in text.lines().take(LIMIT) {
            let mut fields = line.split_whitespace();
            let (Some(major), Some(minor), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let numbers: Vec<u64> = fields.map_while(|f| f.parse().ok()).take(8).collect();
            let [rc, _, rs, rm, wc, _, ws, wm] = numbers[..] else {
                continue;
            };
            let done = |count, sectors, ms| Done { count, sectors, ms };
            let work = Work {
                read: done(rc, rs, rm),
                written: done(wc, ws, wm),
            };
            devices.0.push(Device {
                name: name.to_owned(),
                number: major.parse().ok().zip(minor.parse().ok()),
                work,
            });
        }
        devices
    }

    /// What the device of that name did.
    pub fn work(&self, name: &str) -> Option<Work> {
        let found = self.0.iter().find(|d| d.name == name);
        found.map(|device| device.work)
    }

    /// The kernel's name of the device that a file system is on.
    pub fn name_of(&self, mount: &Mount, sight: &Sight<'_>) -> Option<String> {
        let numbered = self.0.iter().find(|d| d.number == Some(mount.number));
        if let Some(device) = numbered {
            return Some(device.name.clone());
        }
        let known = |name: String| self.work(&name).map(|_| name);
        let name = mount.device.strip_prefix("/dev/")?;
        if let Some(volume) = name.strip_prefix("mapper/") {
            return self.mapped(volume, sight);
        }
        // Names with a slash have a `!` in its place.
        known(name.replace('/', "!")).or_else(|| {
            let target = std::fs::read_link(sight.layout.path(&mount.device)).ok()?;
            known(last(&target)?)
        })
    }

    /// The `dm-N` of a volume.
    fn mapped(&self, volume: &str, sight: &Sight<'_>) -> Option<String> {
        let names = self.0.iter().map(|device| &device.name);
        let mut all = names.filter(|name| name.starts_with("dm-"));
        let called = |name: &&String| {
            let text = sight.text(&format!("/sys/class/block/{name}/dm/name"));
            text.is_ok_and(|t| t.trim() == volume)
        };
        all.find(called).cloned()
    }
}

/// The whole disks that a device is part of: that of a partition, those below a volume.
pub fn disks_of(name: &str, sight: &Sight<'_>) -> Vec<String> {
    let mut disks = Vec::new();
    below(name, sight, 0, &mut disks);
    disks
}

fn below(name: &str, sight: &Sight<'_>, depth: usize, disks: &mut Vec<String>) {
    let folder = sight.layout.path(format!("/sys/class/block/{name}"));
    if name.starts_with("dm-") && depth < DEPTH_LIMIT {
        let members = std::fs::read_dir(folder.join("slaves"));
        let members = members.into_iter().flatten().flatten();
        let mut names: Vec<String> = Vec::new();
        for name in members.filter_map(|m| last(&m.path())).take(LIMIT) {
            names.insert(names.partition_point(|n| *n < name), name);
        }
        names
            .iter()
            .for_each(|name| below(name, sight, depth + 1, disks));
        return;
    }
    let disk = match folder.join("partition").is_file() {
        true => std::fs::read_link(&folder)
            .ok()
            .and_then(|place| last(place.parent()?)),
        false => Some(name.to_owned()),
    };
    if let Some(disk) = disk
        && !disks.contains(&disk)
    {
        disks.push(disk);
    }
}

fn last(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// What devices did at an earlier look.
#[derive(Debug, Default)]
pub struct Before {
    at: Option<std::time::Instant>,
    devices: Devices,
}

impl Before {
    /// What each device has done since; nothing at the first look.
    pub fn exchange(&mut self, now: &Devices, sight: &Sight<'_>) -> Since {
        let elapsed = self.at.map_or(Duration::ZERO, |at| sight.now - at);
        let then = std::mem::replace(&mut self.devices, now.clone());
        self.at = Some(sight.now);
        Since { then, elapsed }
    }
}

/// The time between two looks.
#[derive(Debug)]
pub struct Since {
    then: Devices,
    /// How long it was.
    pub elapsed: Duration,
}

impl Since {
    /// What a device did in it; `None` when there is no such device.
    pub fn work(&self, name: &str, now: &Devices) -> Option<Work> {
        let now = now.work(name)?;
        Some(now.since(self.then.work(name).unwrap_or(now)))
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::sight::tests::Scene;
    use super::*;

    /// A partitioned disk, one called otherwise, a volume on two of them, and one that lies in it.
    pub fn disks(scene: &Scene) {
        for (name, place) in [
            ("sda", "pci/sda"),
            ("sda1", "pci/sda/sda1"),
            ("nvme0n1", "pci/nvme0n1"),
            ("nvme0n1p2", "pci/nvme0n1/nvme0n1p2"),
            ("dm-0", "virtual/dm-0"),
            ("dm-1", "virtual/dm-1"),
        ] {
            scene.folder(&format!("/sys/devices/{place}"));
            scene.link(
                &format!("/sys/class/block/{name}"),
                &format!("../../devices/{place}"),
            );
        }
        for part in ["pci/sda/sda1", "pci/nvme0n1/nvme0n1p2"] {
            scene.write(&format!("/sys/devices/{part}/partition"), "1\n");
        }
        for (volume, name, members) in [
            ("dm-0", "vg-root\n", &["sda1", "nvme0n1p2"][..]),
            ("dm-1", "crypt\n", &["dm-0"]),
        ] {
            let folder = format!("/sys/devices/virtual/{volume}");
            scene.write(&format!("{folder}/dm/name"), name);
            for member in members {
                scene.link(&format!("{folder}/slaves/{member}"), "../x");
            }
        }
    }

    pub const STATS: &str = "\
   8       0 sda 100 1 2000 400 50 2 1000 300 0 7 8 0 0
   8       1 sda1 100 1 2000 400 50 2 1000 300 0 7 8
 259       0 nvme0n1 10 1 200 40 5 2 100 30 0 7 8 0 0
 259       2 nvme0n1p2 10 1 200 40 5 2 100 30 0 7 8 0 0
 253       0 dm-0 1 0 8 1 1 0 8 1 0 0 0
 253       1 dm-1 2 0 8 1 1 0 8 1 0 0 0
   8       3 sda3 10 20 30 40
";

    fn on(device: &str, number: (u32, u32)) -> Mount {
        Mount {
            point: "/x".into(),
            device: device.into(),
            number,
        }
    }

    #[test]
    fn names_of_devices_and_of_their_disks() {
        let scene = Scene::new();
        disks(&scene);
        scene.link("/dev/disk/by-uuid/00-11", "../../sda1");
        let devices = Devices::parse(STATS);
        assert_eq!(devices.work("sda3"), None, "an old kernel's partition");
        let work = devices.work("sda1").unwrap();
        assert_eq!(
            (work.read.sectors, work.written.count, work.written.ms),
            (2000, 50, 300)
        );
        scene.sight(Duration::ZERO, &[], |sight| {
            let name = |mount: Mount| devices.name_of(&mount, sight);
            assert_eq!(name(on("/dev/root", (8, 1))).unwrap(), "sda1");
            assert_eq!(name(on("/dev/sda1", (0, 33))).unwrap(), "sda1");
            assert_eq!(name(on("/dev/mapper/crypt", (0, 33))).unwrap(), "dm-1");
            assert_eq!(
                name(on("/dev/disk/by-uuid/00-11", (0, 33))).unwrap(),
                "sda1"
            );
            for nowhere in ["/dev/mapper/x", "/dev/sdq", "me@host:/x", "/dev/../sda1"] {
                assert_eq!(name(on(nowhere, (0, 9))), None, "{nowhere}");
            }
            assert_eq!(disks_of("sda1", sight), ["sda"]);
            assert_eq!(disks_of("nvme0n1p2", sight), ["nvme0n1"]);
            assert_eq!(disks_of("dm-1", sight), ["nvme0n1", "sda"]);
            assert_eq!(disks_of("vda", sight), ["vda"], "without a line in /sys");
        });
    }

    #[test]
    fn volumes_that_lie_in_themselves_come_to_an_end() {
        let scene = Scene::new();
        scene.link("/sys/class/block/dm-7/slaves/dm-7", "../x");
        scene.sight(Duration::ZERO, &[], |sight| {
            assert_eq!(disks_of("dm-7", sight), ["dm-7"]);
        });
    }

    #[test]
    fn no_more_devices_than_the_limit() {
        let many = |n: usize| {
            let line = |i| format!("8 {i} sd{i} 1 2 3 4 5 6 7 8 9\n");
            Devices::parse(&(0..n).map(line).collect::<String>())
                .0
                .len()
        };
        assert_eq!((many(LIMIT), many(LIMIT + 1)), (LIMIT, LIMIT));
    }
}
