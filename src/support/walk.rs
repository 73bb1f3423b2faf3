//! Walking folders of which some are the service account's: by descriptor, no link followed, so that
//! nothing outside of a tree can be put into the archive by those who may write within it.

use crate::base::order;
use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{Gid, Group, Uid, User};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Deepest tree that is walked.
const DEPTH: usize = 12;
/// Most entries of one tree.
const ENTRIES: usize = 20_000;

/// Something in a tree.
pub struct Seen {
    /// Where.
    pub path: PathBuf,
    /// What stat(2) says.
    pub stat: FileStat,
    /// What a link says.
    pub target: Option<String>,
    /// SELinux's label.
    pub label: Option<String>,
    /// Its folder and its name there; the folder itself when the name is `.`.
    folder: OwnedFd,
    name: std::ffi::CString,
}

/// What was read of a file.
pub struct Text {
    /// Invalid UTF-8 is replaced.
    pub text: String,
    /// Bytes at the beginning that were left out.
    pub skipped: u64,
}

impl Seen {
    /// Is it a regular file?
    pub fn is_file(&self) -> bool {
        self.kind() == SFlag::S_IFREG
    }

    fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode) & SFlag::S_IFMT
    }

    /// The last `limit` bytes of it. A file with several names may be anybody's.
    pub fn tail(&self, limit: u64) -> Result<Text, String> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = openat(&self.folder, self.name.as_c_str(), flags, Mode::empty());
        let fd = fd.map_err(|e| e.desc().to_owned())?;
        let stat = fstat(&fd).map_err(|e| e.desc().to_owned())?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err("not a regular file".into());
        }
        if stat.st_nlink > 1 {
            return Err("has several names, of which one may be a foreign file's".into());
        }
        tail(File::from(fd), limit).map_err(|e| e.to_string())
    }

    /// As `ls -lZ` has it.
    pub fn line(&self, names: &mut Names) -> String {
        let size = self.stat.st_size;
        let time = jiff::Timestamp::from_second(self.stat.st_mtime);
        let time = time.map_or("?".to_owned(), |t| {
            t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
        });
        let target = self.target.as_ref().map(|t| format!(" -> {t}"));
        let user = names.user(self.stat.st_uid).to_owned();
        format!(
            "{} {user}:{} {size:>9} {time} {} {}{}",
            self.mode(),
            names.group(self.stat.st_gid),
            self.label.as_deref().unwrap_or("-"),
            self.path.display(),
            target.unwrap_or_default()
        )
    }

    /// `-rw-r-----`.
    fn mode(&self) -> String {
        let kind = match self.kind() {
            SFlag::S_IFDIR => 'd',
            SFlag::S_IFLNK => 'l',
            SFlag::S_IFSOCK => 's',
            SFlag::S_IFIFO => 'p',
            SFlag::S_IFREG => '-',
            _ => '?',
        };
        let mode = self.stat.st_mode;
        let mut text = String::from(kind);
        for (at, letter) in "rwxrwxrwx".chars().enumerate() {
            let set = mode & (0o400 >> at) != 0;
            let special = mode & [0o4000, 0o2000, 0o1000][at / 3] != 0 && at % 3 == 2;
            text.push(match (special, set) {
                (true, true) => [b's', b's', b't'][at / 3].into(),
                (true, false) => [b'S', b'S', b'T'][at / 3].into(),
                (false, true) => letter,
                (false, false) => '-',
            });
        }
        text
    }
}

/// The last `limit` bytes of an open file.
pub fn tail(mut file: File, limit: u64) -> std::io::Result<Text> {
    let size = file.metadata()?.len();
    let skipped = size.saturating_sub(limit);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    if skipped > 0 {
        // The first line is the end of one.
        let whole = bytes
            .iter()
            .position(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        bytes.drain(..whole);
    }
    Ok(Text {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        skipped,
    })
}

/// Names of accounts, asked for once.
#[derive(Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    fn user(&mut self, id: u32) -> &str {
        let ask = || User::from_uid(Uid::from_raw(id)).ok().flatten();
        self.users
            .entry(id)
            .or_insert_with(|| ask().map_or(id.to_string(), |u| u.name))
    }

    fn group(&mut self, id: u32) -> &str {
        let ask = || Group::from_gid(Gid::from_raw(id)).ok().flatten();
        self.groups
            .entry(id)
            .or_insert_with(|| ask().map_or(id.to_string(), |g| g.name))
    }
}

/// Shows `top` and everything below it to `each`, in the order of names. What cannot be looked at
/// is told to `gap` with the reason. `top` itself may be a link only when its folder is root's.
pub fn walk(top: &Path, each: &mut dyn FnMut(&Seen), gap: &mut dyn FnMut(&Path, String)) {
    let (Some(folder), Some(name)) = (top.parent(), top.file_name()) else {
        return;
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = match nix::fcntl::open(folder, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(nix::errno::Errno::ENOENT) => return,
        Err(e) => return gap(top, e.desc().to_owned()),
    };
    let mut left = ENTRIES;
    let Ok(name) = std::ffi::CString::new(name.as_bytes()) else {
        return;
    };
    one(&folder, name, top.to_owned(), DEPTH, &mut left, each, gap);
}

fn one(
    folder: &OwnedFd,
    name: std::ffi::CString,
    path: PathBuf,
    depth: usize,
    left: &mut usize,
    each: &mut dyn FnMut(&Seen),
    gap: &mut dyn FnMut(&Path, String),
) {
    if *left == 0 || depth == 0 {
        return gap(&path, "too much, or too deep, to be listed".into());
    }
    *left -= 1;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let looked = openat(folder, name.as_c_str(), flags, Mode::empty()).and_then(|fd| {
        Ok((
            fstat(&fd)?,
            label(&fd),
            folder.as_fd().try_clone_to_owned().ok(),
        ))
    });
    let (stat, label, own) = match looked {
        Ok((stat, label, Some(own))) => (stat, label, own),
        Ok(_) => return gap(&path, "too many open files".into()),
        Err(nix::errno::Errno::ENOENT) => return,
        Err(e) => return gap(&path, e.desc().to_owned()),
    };
    let target = readlinkat(folder, name.as_c_str()).ok();
    let seen = Seen {
        stat,
        label,
        target: target.map(|t| t.to_string_lossy().into_owned()),
        folder: own,
        name,
        path,
    };
    each(&seen);
    if seen.kind() != SFlag::S_IFDIR {
        return;
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(folder, seen.name.as_c_str(), flags, Mode::empty());
    let listed = opened.and_then(|fd| {
        let own = fd
            .as_fd()
            .try_clone_to_owned()
            .map_err(|_| nix::errno::Errno::EMFILE)?;
        Ok((own, Dir::from_fd(fd)?))
    });
    let (fd, mut dir) = match listed {
        Ok(opened) => opened,
        Err(e) => return gap(&seen.path, e.desc().to_owned()),
    };
    let names = dir
        .iter()
        .filter_map(Result::ok)
        .map(|e| e.file_name().to_owned());
    let mut names: Vec<_> = names
        .filter(|n| !matches!(n.to_bytes(), b"." | b".."))
        .collect();
    order::ascending(&mut names);
    drop(dir);
    for name in names {
        let path = seen.path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        one(&fd, name, path, depth - 1, left, each, gap);
    }
}

fn label(fd: &OwnedFd) -> Option<String> {
    use std::os::fd::AsRawFd;
    // What was opened with O_PATH has no attributes of its own.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut label = [0u8; 256];
    let size = rustix::fs::getxattr(path, "security.selinux", &mut label[..]).ok()?;
    let label = String::from_utf8_lossy(&label[..size]);
    Some(label.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_is_shown_and_not_left() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "s").unwrap();
        let top = dir.path().join("top");
        std::fs::create_dir_all(top.join("a")).unwrap();
        std::fs::write(top.join("a/f"), "one\ntwo\nthree\n").unwrap();
        symlink(&outside, top.join("folder")).unwrap();
        symlink(outside.join("secret"), top.join("link")).unwrap();
        std::fs::hard_link(outside.join("secret"), top.join("name")).unwrap();
        nix::unistd::mkfifo(&top.join("pipe"), Mode::S_IRUSR).unwrap();
        let mut names = Names::default();
        let (mut lines, mut texts) = (Vec::new(), Vec::new());
        let mut gaps = Vec::new();
        walk(
            &top,
            &mut |seen| {
                lines.push(seen.line(&mut names));
                let name = seen
                    .path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                texts.push((name, seen.tail(8).map(|t| (t.text, t.skipped))));
            },
            &mut |path, why| gaps.push((path.to_owned(), why)),
        );
        assert_eq!(lines.len(), 7, "{lines:?}");
        assert!(lines.iter().all(|l| !l.contains("outside/secret ")));
        assert!(
            lines[3].starts_with('l') && lines[3].contains(" -> /"),
            "{lines:?}"
        );
        let text = |name: &str| texts.iter().find(|t| t.0 == name).unwrap().1.clone();
        assert_eq!(text("f"), Ok(("three\n".into(), 6)));
        for refused in ["link", "name", "pipe", "folder", "a"] {
            assert!(text(refused).is_err(), "{refused}");
        }
        assert!(gaps.is_empty());
        walk(
            &dir.path().join("none/x"),
            &mut |_| panic!(),
            &mut |_, _| panic!(),
        );
    }
}
