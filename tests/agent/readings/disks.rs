//! Disks beside df and the files of the devices.

use super::*;

/// `/sys/dev/block/8:1/stat` of the device a path is on; its columns are those of diskstats from
/// the fourth on.
fn device_of(point: &str) -> Option<std::path::PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let dev = std::fs::metadata(point).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(dev), nix::sys::stat::minor(dev));
    std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

fn of_devices(read: &mut Reading) {
    for entry in std::fs::read_dir("/sys/class/block").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) {
            columns(&name, &text, read);
        }
    }
}

/// Mount points of file systems on a device of their own, by the table that is not ours.
fn on_devices() -> Vec<(String, String)> {
    let mounts = std::fs::read_to_string("/proc/1/mounts");
    let mounts = mounts.or_else(|_| std::fs::read_to_string("/proc/self/mounts"));
    let mounts = mounts.unwrap();
    let mut all = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let real = matches!(
            fields[2],
            "ext2" | "ext3" | "ext4" | "xfs" | "vfat" | "f2fs"
        );
        let ours = fields[0].starts_with("/dev/") && !fields[0].starts_with("/dev/loop");
        if let Some(device) = device_of(fields[1]).filter(|_| real && ours) {
            let name = device.file_name().unwrap().to_str().unwrap().to_owned();
            all.push((fields[1].to_owned(), name));
        }
    }
    all
}

#[test]
fn logical_disks_beside_df_and_the_devices_own_files() {
    let _load = Load::start();
    let read = || {
        let mut read = Reading::new();
        of_devices(&mut read);
        for (point, _) in on_devices() {
            let asked = ["-B1M", "--output=avail,used", &point];
            let space = output("df", &asked);
            columns(&point, space.lines().nth(1).unwrap(), &mut read);
            let inodes = output("df", &["--output=itotal,iavail", &point]);
            columns(
                &format!("{point} i"),
                inodes.lines().nth(1).unwrap(),
                &mut read,
            );
        }
        read
    };
    let looks = looks(Object::LogicalDisk, read);
    for (point, device) in on_devices() {
        let instance = named(&looks.found, &point);
        let check = |counter: &str, span| check(Object::LogicalDisk, instance, counter, span);
        let span = |key: &str| {
            let [_, _, a, b] = looks.read[key].0;
            Span::of(a, b)
        };
        // The writer's file comes and goes: a few MiB.
        let free = span(&format!("{point}.0")).wider(8.0);
        let used = span(&format!("{point}.1")).wider(8.0);
        check("Free Megabytes", free);
        let whole = free.plus(used);
        check("% Free Space", free.over(whole).times(100.0).wider(0.5));
        check("% Used Space", used.over(whole).times(100.0).wider(0.5));
        let (all, left) = (span(&format!("{point} i.0")), span(&format!("{point} i.1")));
        let left = match all.1 > 0.0 {
            true => left.wider(50.0).over(all).times(100.0).wider(0.5),
            false => Span(100.0, 100.0),
        };
        check("% Free Inodes", left);
        check("% Used Inodes", Span(100.0 - left.1, 100.0 - left.0));
        let rate = |column: usize, unit: f64| {
            let grown = looks.read[&format!("{device}.{column}")].grown();
            grown.times(unit).over(looks.elapsed).wider(1.0)
        };
        let (read, written) = (rate(2, 512.0), rate(6, 512.0));
        check("Disk Read Bytes/sec", read);
        check("Disk Write Bytes/sec", written);
        check("Logical Disk Bytes/sec", read.plus(written));
        let (reads, writes) = (rate(0, 1.0), rate(4, 1.0));
        check("Disk Reads/sec", reads);
        check("Disk Writes/sec", writes);
        check("Disk Transfers/sec", reads.plus(writes));
    }
    println!("{} file systems compared", on_devices().len());
}

#[test]
fn physical_disks_beside_their_own_files() {
    let _load = Load::start();
    let looks = looks(Object::PhysicalDisk, || {
        let mut read = Reading::new();
        of_devices(&mut read);
        read
    });
    let mut compared = Vec::new();
    for (point, device) in on_devices() {
        let folder = device_of(&point).unwrap();
        let disk = match folder.join("partition").exists() {
            true => folder
                .parent()
                .unwrap()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap(),
            false => device.as_str(),
        };
        if disk.starts_with("dm-") || compared.contains(&disk.to_owned()) {
            continue;
        }
        let instance = named(&looks.found, disk);
        let check = |counter: &str, span| check(Object::PhysicalDisk, instance, counter, span);
        let grown = |column: usize| looks.read[&format!("{disk}.{column}")].grown();
        let bytes = grown(2).plus(grown(6)).times(512.0).over(looks.elapsed);
        check("Physical Disk Bytes/sec", bytes.wider(1.0));
        // Six digits are written.
        let seconds = |ms: Span, count: Span| {
            let span = ms.over(count).times(0.001);
            Span(span.0 * 0.99999, span.1 * 1.00001)
        };
        check("Avg. Disk sec/Read", seconds(grown(3), grown(0)));
        check("Avg. Disk sec/Write", seconds(grown(7), grown(4)));
        let both = seconds(grown(3).plus(grown(7)), grown(0).plus(grown(4)));
        check("Avg. Disk sec/Transfer", both);
        compared.push(disk.to_owned());
    }
    println!("{} disks compared", compared.len());
}
