//! What several targets need.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;

/// Hands `bytes` to `look` as an open file without a name; the same file each time.
pub fn as_file(bytes: &[u8], look: impl FnOnce(&File)) {
    thread_local!(static FILE: RefCell<Option<File>> = const { RefCell::new(None) });
    FILE.with(|slot| {
        let mut slot = slot.borrow_mut();
        let file = slot.get_or_insert_with(nameless);
        file.set_len(0).expect("cannot shorten the file");
        std::io::Seek::rewind(file).expect("cannot rewind");
        file.write_all(bytes).expect("cannot write the file");
        look(file);
    });
}

fn nameless() -> File {
    let path = format!("/dev/shm/omsagent-fuzz.{}", std::process::id());
    let mut open = File::options();
    let file = open.read(true).write(true).create_new(true).open(&path);
    std::fs::remove_file(&path).ok();
    file.expect("cannot make a file in /dev/shm")
}

/// Packed without compression: the bytes stay where a mutation can reach them.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    packed.write_all(bytes).expect("memory takes all");
    packed.finish().expect("memory takes all")
}

/// A .deb of these members, each packed by [`gzip`].
pub fn deb_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut deb = b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n".to_vec();
    for (name, bytes) in members {
        let packed = gzip(bytes);
        let size = packed.len();
        deb.extend_from_slice(format!("{name:<16}{0:<12}{0:<6}{0:<6}{0:<8}{size:<10}`\n", 0).as_bytes());
        deb.extend_from_slice(&packed);
        if size % 2 == 1 {
            deb.push(b'\n');
        }
    }
    deb
}

/// A tar of plain files.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, bytes) in files {
        let mut head = [0u8; 512];
        let size = format!("{:011o}", bytes.len());
        for (at, text) in [(0, *name), (100, "0000644"), (108, "0000000"), (116, "0000000"),
            (124, size.as_str()), (136, "00000000000"), (148, "        "), (156, "0"),
            (257, "ustar\x0000"), (265, "root"), (297, "root")]
        {
            head[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
        head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        tar.extend_from_slice(&head);
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}
