//! What a probe sees: the host's files below a root, a moment, and which counters are wanted.

use super::space::Spaces;
use super::value::Instance;
use crate::base::files;
use crate::host::layout::Layout;
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Largest file that is read, bytes. `/proc/stat` of 1024 processors has some 200 KB.
pub const FILE_LIMIT: usize = 4 << 20;

/// Reads what one object's counters are made of.
pub trait Probe: Send {
    /// How it stands, and what was done since the last look. Counters of a rate are 0 at the first.
    fn look(&mut self, sight: &mut Sight<'_>) -> Result<Vec<Instance>>;
}

/// One look.
pub struct Sight<'a> {
    /// Where the host's files are.
    pub layout: &'a Layout,
    /// The moment.
    pub now: Instant,
    /// Asks file systems how full they are.
    pub spaces: &'a mut Spaces,
    /// By counter; those that are not wanted need not be read.
    pub wanted: &'a [bool],
}

impl Sight<'_> {
    /// Is the counter of this number wanted?
    pub fn wants(&self, counter: usize) -> bool {
        self.wanted.get(counter).copied().unwrap_or(true)
    }

    /// A file that is there.
    pub fn text(&self, path: &str) -> Result<String> {
        let text = files::read_text(&self.layout.path(path), FILE_LIMIT)?;
        text.with_context(|| format!("there is no `{path}`"))
    }

    /// A file that may be there.
    pub fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>> {
        files::read(&self.layout.path(path), FILE_LIMIT)
    }

    /// A folder of many small files.
    pub fn folder(&self, path: &str) -> Result<Folder> {
        let path = self.layout.path(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty());
        let folder = folder.with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Folder(folder))
    }

    /// Numbers of all processes, in any order.
    pub fn processes(&self) -> Result<impl Iterator<Item = u32> + use<>> {
        let folder = self.layout.path("/proc");
        let entries = std::fs::read_dir(&folder);
        let entries = entries.with_context(|| format!("cannot read `{}`", folder.display()))?;
        let number = |name: &std::ffi::OsStr| {
            let digits = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
            name.to_str().filter(|_| digits)?.parse().ok()
        };
        Ok(entries.filter_map(move |entry| number(&entry.ok()?.file_name())))
    }
}

/// A folder whose files are read from within: each takes three system calls.
pub struct Folder(OwnedFd);

impl Folder {
    /// The beginning of a file, if it can be had.
    pub fn small<'b>(&self, name: &str, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, name, flags, Mode::empty()).ok()?;
        let length = rustix::io::read(&file, &mut *buffer).ok()?;
        buffer.get(..length)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::time::Duration;

    /// A host that a test makes up.
    pub struct Scene {
        dir: tempfile::TempDir,
        pub layout: Layout,
        begun: Instant,
    }

    impl Default for Scene {
        fn default() -> Scene {
            let dir = tempfile::tempdir().unwrap();
            Scene {
                layout: Layout::new(dir.path()),
                dir,
                begun: Instant::now(),
            }
        }
    }

    impl Scene {
        pub fn new() -> Scene {
            Scene::default()
        }

        pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
            let path = self.layout.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }

        pub fn folder(&self, path: &str) {
            std::fs::create_dir_all(self.layout.path(path)).unwrap();
        }

        pub fn link(&self, path: &str, to: &str) {
            let path = self.layout.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, path).unwrap();
        }

        pub fn look(&self, probe: &mut dyn Probe) -> Result<Vec<Instance>> {
            self.look_at(probe, Duration::ZERO)
        }

        /// A look some time after the scene was made.
        pub fn look_at(&self, probe: &mut dyn Probe, after: Duration) -> Result<Vec<Instance>> {
            self.sight(after, &[], |sight| probe.look(sight))
        }

        pub fn look_for(&self, probe: &mut dyn Probe, wanted: &[bool]) -> Result<Vec<Instance>> {
            self.sight(Duration::ZERO, wanted, |sight| probe.look(sight))
        }

        pub fn sight<T>(
            &self,
            after: Duration,
            wanted: &[bool],
            act: impl FnOnce(&mut Sight<'_>) -> T,
        ) -> T {
            assert!(self.dir.path().is_dir());
            act(&mut Sight {
                layout: &self.layout,
                now: self.begun + after,
                spaces: &mut Spaces::default(),
                wanted,
            })
        }
    }

    #[test]
    fn a_file_may_be_as_large_as_the_limit() {
        let scene = Scene::new();
        for (length, fits) in [(FILE_LIMIT, true), (FILE_LIMIT + 1, false)] {
            scene.write("/proc/x", vec![b'a'; length]);
            scene.sight(Duration::ZERO, &[], |sight| {
                assert_eq!(sight.text("/proc/x").is_ok(), fits);
                let (mut buffer, folder) = ([0; 8], sight.folder("/proc").unwrap());
                assert_eq!(folder.small("x", &mut buffer).unwrap(), b"aaaaaaaa");
                assert_eq!(folder.small("nosuch", &mut buffer), None);
                assert!(sight.folder("/proc/x").is_err());
            });
        }
        scene.sight(Duration::ZERO, &[true], |sight| {
            let error = sight.text("/proc/y").unwrap_err().to_string();
            assert_eq!(error, "there is no `/proc/y`");
            assert!(sight.bytes("/proc/y").unwrap().is_none());
            assert!(sight.processes().unwrap().next().is_none());
            assert!(sight.wants(0) && sight.wants(9));
        });
    }
}
