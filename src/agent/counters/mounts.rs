//! Mounted file systems that count: `/proc/PID/mountinfo` (protocol.md 4.6).

use super::sight::Sight;
use anyhow::Result;

/// Most file systems that are looked at.
pub const LIMIT: usize = 4096;

/// Types of file systems that are no disk's.
const IGNORED: [&str; 58] = [
    "autofs",
    "bdev",
    "binfmt_misc",
    "cachefs",
    "cdfs",
    "cdrfs",
    "cgroup",
    "cifs",
    "configfs",
    "ctfs",
    "debugfs",
    "devfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "eventpollfs",
    "fd",
    "ffs",
    "fifofs",
    "fuse.lxcfs",
    "fusectl",
    "futexfs",
    "hsfs",
    "hugetlbfs",
    "inotifyfs",
    "iso9660",
    "lofs",
    "mntfs",
    "mqueue",
    "mvfs",
    "namefs",
    "none",
    "objfs",
    "pipefs",
    "proc",
    "procfs",
    "pstore",
    "ramfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sharefs",
    "sockfs",
    "specfs",
    "subfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "udev",
    "udfs",
    "usbfs",
    "vmblock",
    "vmhgfs",
    "vmware-hgfs",
    "zfs",
    // Written so as well.
    "cgroup2",
    "overlay",
];

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: String,
    /// The device, as it was named.
    pub device: String,
    /// Its number; major 0: none of its own (btrfs).
    pub number: (u32, u32),
}

/// Those of the host. The service manager may have given us a view of our own, with folders
/// mounted that are no file systems to anybody else: the first process has the host's.
pub fn read(sight: &Sight<'_>) -> Result<Vec<Mount>> {
    let text = match sight.text("/proc/1/mountinfo") {
        Ok(text) => text,
        Err(_) => sight.text("/proc/self/mountinfo")?,
    };
    Ok(parse(&text))
}

/// Those that count, in the order of the table; of several at one place the last, which is seen.
pub fn parse(text: &str) -> Vec<Mount> {
    let mut found: Vec<Mount> = Vec::new();
    for mount in text.lines().filter_map(line) {
        found.retain(|m| m.point != mount.point);
        if found.len() < LIMIT {
            found.push(mount);
        }
    }
    found
}

fn line(line: &str) -> Option<Mount> {
    if line.contains("loop=") || line.contains("/dev/loop") {
        return None;
    }
    let (mounted, system) = line.split_once(" - ")?;
    let mut mounted = mounted.split(' ').skip(2);
    let (major, minor) = mounted.next()?.split_once(':')?;
    let point = mounted.nth(1)?;
    let mut system = system.split(' ');
    let (kind, device) = (system.next()?, system.next()?);
    if !device.contains('/') || is_ignored(kind) {
        return None;
    }
    Some(Mount {
        point: unescaped(point),
        device: unescaped(device),
        number: (major.parse().ok()?, minor.parse().ok()?),
    })
}

fn is_ignored(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    IGNORED.contains(&kind.as_str()) || kind.starts_with("nfs") || kind.contains("gvfs")
}

/// `\040` is a blank, and so on.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = rest.get(1..4).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::sight::tests::Scene;
    use super::*;
    use std::time::Duration;

    const TABLE: &str = "\
22 28 0:21 / /proc rw,nosuid - proc proc rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
29 28 0:5 / /dev rw - devtmpfs udev rw
31 28 254:2 / /boot\\040old rw shared:2 master:1 - ext4 /dev/vda2 rw
40 28 7:0 / /snap/x ro - squashfs /dev/loop0 ro
41 28 0:44 / /mnt/nfs rw - nfs4 server:/export rw
42 28 0:45 / /mnt/share rw - CIFS //server/share rw
43 28 0:46 / /mnt/gvfs rw - fuse.gvfsd-fuse a/b rw
44 28 0:47 / /mnt/ssh rw - fuse.sshfs me@host:/home rw
45 28 0:33 /@home /home rw - btrfs /dev/mapper/vg-root rw,subvol=/@home
46 28 0:48 / /run/docker/x rw - overlay overlay rw,lowerdir=/a
47 28 254:3 / /data rw - xfs /dev/disk/by-uuid/00-11 rw
48 28 254:4 / /data rw - xfs /dev/vdb rw
49 28 0:49 / /pool rw - ZFS tank/data rw
";

    #[test]
    fn what_is_a_disks() {
        let found = parse(TABLE);
        let points: Vec<_> = found.iter().map(|m| m.point.as_str()).collect();
        assert_eq!(points, ["/", "/boot old", "/mnt/ssh", "/home", "/data"]);
        assert_eq!(found[0].number, (254, 1));
        assert_eq!(found[3].device, "/dev/mapper/vg-root");
        assert_eq!(found[4].device, "/dev/vdb", "the one that is seen");
    }

    #[test]
    fn the_hosts_table_goes_before_our_own() {
        let scene = Scene::new();
        let points = || {
            scene.sight(Duration::ZERO, &[], |sight| {
                read(sight).map(|all| all.iter().map(|m| m.point.clone()).collect::<Vec<_>>())
            })
        };
        assert!(points().is_err());
        scene.write(
            "/proc/self/mountinfo",
            "1 1 8:1 / /own rw - ext4 /dev/sda1 rw\n",
        );
        assert_eq!(points().unwrap(), ["/own"]);
        scene.write("/proc/1/mountinfo", "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        assert_eq!(points().unwrap(), ["/"]);
    }

    #[test]
    fn odd_lines_and_limits() {
        for bad in [
            "",
            "x",
            "1 2 3:4 / /x rw",
            "1 2 3 / /x rw - ext4 /d rw",
            "1 2 3:4 / - ext4",
        ] {
            assert_eq!(parse(bad), [], "{bad}");
        }
        assert_eq!(unescaped("a\\011b\\134\\9\\"), "a\tb\\\\9\\");
        let many = |n: usize| {
            let line = |i| format!("1 1 8:1 / /m{i} rw - ext4 /dev/sda1 rw\n");
            parse(&(0..n).map(line).collect::<String>()).len()
        };
        assert_eq!((many(LIMIT), many(LIMIT + 1)), (LIMIT, LIMIT));
        assert!(is_ignored("TmpFS") && is_ignored("nfs") && !is_ignored("xfs"));
    }
}
