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
