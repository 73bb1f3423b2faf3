//! File access that an attacker or a power cut cannot turn against us: atomic replacement that
//! keeps owner, mode and SELinux label, bounded reads, removal that follows no link.

mod parent;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail};
use parent::Parent;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Owner and group of a file, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// root:root.
    pub const ROOT: Owner = Owner { uid: 0, gid: 0 };
}

/// What a written file shall look like.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Permission bits, e.g. 0o640. The file never exists with wider ones.
    pub mode: u32,
    /// Owner; `None` leaves it to the process (unprivileged tests).
    pub owner: Option<Owner>,
}

impl Look {
    /// A mode, owned by whoever runs.
    pub fn mode(mode: u32) -> Self {
        Look { mode, owner: None }
    }

    /// A mode and an owner; the owner is only set when we are root.
    pub fn owned(mode: u32, owner: Owner) -> Self {
        let owner = nix::unistd::geteuid().is_root().then_some(owner);
        Look { mode, owner }
    }
}

/// Reads a whole file of at most `limit` bytes; `None` when it does not exist.
pub fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    read_as(path, path, limit, 0)
}

/// As [`read`], but a link at `path`, or one on the way to it that is not root's, is an error: for
/// files in folders of the service account, where a link could lead root to a file that the account
/// must not see.
pub fn read_no_follow(path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    if path.parent().is_some_and(is_missing) {
        return Ok(None);
    }
    let parent = Parent::pin(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    read_as(&parent.path, path, limit, nix::libc::O_NOFOLLOW)
}

/// As [`read_no_follow`], as text; invalid UTF-8 is replaced.
pub fn read_text_no_follow(path: &Path, limit: usize) -> Result<Option<String>> {
    Ok(read_no_follow(path, limit)?.map(|b| String::from_utf8_lossy(&b).into_owned()))
}

/// As [`read_no_follow`], of a file that has no second name elsewhere: where the kernel does not
/// keep others from making hard links, a service account could give somebody's secret the name of
/// a file of its own, and have root read it out.
pub fn read_sole(path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    if path.parent().is_some_and(is_missing) {
        return Ok(None);
    }
    let what = || format!("cannot read `{}`", path.display());
    let parent = Parent::pin(path).with_context(what)?;
    let before = match fs::symlink_metadata(&parent.path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        found => found.with_context(what)?,
    };
    let Some(file) = open(&parent.path, path, nix::libc::O_NOFOLLOW)? else {
        return Ok(None);
    };
    let now = file.metadata().with_context(what)?;
    // Asked twice: a name that was taken away again in between was another file's before.
    let id = |m: &fs::Metadata| (m.dev(), m.ino());
    if id(&before) != id(&now) || before.nlink() != 1 || now.nlink() != 1 {
        bail!("{}: the file has other names (hard links)", what());
    }
    read_up_to(file, path, limit).map(Some)
}

/// The last `limit` bytes of a file that may be of any size, as text from the first whole line on;
/// else as [`read_text_no_follow`].
pub fn read_end_no_follow(path: &Path, limit: usize) -> Result<Option<String>> {
    if path.parent().is_some_and(is_missing) {
        return Ok(None);
    }
    let what = || format!("cannot read `{}`", path.display());
    let parent = Parent::pin(path).with_context(what)?;
    let Some(mut file) = open(&parent.path, path, nix::libc::O_NOFOLLOW)? else {
        return Ok(None);
    };
    let size = file.metadata().with_context(what)?.len();
    let begin = size.saturating_sub(limit as u64);
    file.seek(SeekFrom::Start(begin)).with_context(what)?;
    let mut bytes = Vec::new();
    let end = file.take(limit as u64).read_to_end(&mut bytes);
    end.with_context(what)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = match text.split_once('\n') {
        Some((_, after)) if begin > 0 => after,
        _ => &text,
    };
    Ok(Some(whole.to_owned()))
}

fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty()
        && fs::metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// `path` is what people know the file by, `through` where it is opened.
fn read_as(through: &Path, path: &Path, limit: usize, flags: i32) -> Result<Option<Vec<u8>>> {
    let file = open(through, path, flags)?;
    file.map(|file| read_up_to(file, path, limit)).transpose()
}

fn read_up_to(file: File, path: &Path, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    if bytes.len() > limit {
        bail!("`{}` is larger than {limit} bytes", path.display());
    }
    Ok(bytes)
}

/// A regular file; `None` when it does not exist. A pipe of that name does not make us wait.
fn open(through: &Path, path: &Path, flags: i32) -> Result<Option<File>> {
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC | flags)
        .open(through)
    {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) if flags != 0 && e.raw_os_error() == Some(nix::libc::ELOOP) => {
            bail!(
                "cannot read `{}`: it is a link, which is not followed here",
                path.display()
            )
        }
        Err(e) => return Err(e).with_context(|| format!("cannot read `{}`", path.display())),
    };
    if !file.metadata()?.is_file() {
        bail!("cannot read `{}`: not a regular file", path.display());
    }
    Ok(Some(file))
}

/// As [`read`], as text; invalid UTF-8 is replaced.
pub fn read_text(path: &Path, limit: usize) -> Result<Option<String>> {
    Ok(read(path, limit)?.map(|b| String::from_utf8_lossy(&b).into_owned()))
}

/// Puts `bytes` at `path` so that a reader, a crash or a power cut sees the old file or the new
/// one: temporary file in the same folder (created with its final mode), fsync, rename, fsync of
/// the folder. A replaced file's SELinux label is kept. A link at `path` is replaced, not followed;
/// see [`Parent`] for links on the way.
pub fn write_atomic(path: &Path, mut bytes: &[u8], look: Look) -> Result<()> {
    write_atomic_from(path, &mut bytes, look)
}

/// As [`write_atomic`], with what the reader gives.
pub fn write_atomic_from(path: &Path, from: &mut dyn Read, look: Look) -> Result<()> {
    let what = || format!("cannot write `{}`", path.display());
    let parent = Parent::pin(path).with_context(what)?;
    let (dir, path) = (parent.dir.as_path(), &parent.path);
    let name = path.file_name().with_context(what)?.to_string_lossy();
    let mut temp = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(UNFINISHED)
        .permissions(fs::Permissions::from_mode(0o600 & look.mode))
        .tempfile_in(dir)
        .with_context(what)?;
    std::io::copy(from, temp.as_file_mut()).with_context(what)?;
    if let Some(owner) = look.owner {
        std::os::unix::fs::fchown(temp.as_file(), Some(owner.uid), Some(owner.gid))
            .with_context(what)?;
    }
    temp.as_file()
        .set_permissions(fs::Permissions::from_mode(look.mode))
        .with_context(what)?;
    keep_label(path, temp.as_file());
    temp.as_file().sync_all().with_context(what)?;
    temp.persist(path).map_err(|e| e.error).with_context(what)?;
    sync_dir(dir);
    Ok(())
}

/// As [`write_atomic`] with owner and mode of the file that is there; it must exist.
pub fn replace_keeping_look(path: &Path, bytes: &[u8]) -> Result<()> {
    let meta = fs::symlink_metadata(path)
        .with_context(|| format!("cannot replace `{}`", path.display()))?;
    if !meta.is_file() {
        bail!("cannot replace `{}`: not a regular file", path.display());
    }
    let owner = Owner {
        uid: meta.uid(),
        gid: meta.gid(),
    };
    write_atomic(path, bytes, Look::owned(meta.mode() & 0o7777, owner))
}

/// Makes one folder with exactly this mode and owner, or brings an existing one to them.
/// Something else of that name (a link too) is an error. Parents must exist.
pub fn make_dir(path: &Path, look: Look) -> Result<()> {
    let what = || format!("cannot make folder `{}`", path.display());
    let parent = Parent::pin(path).with_context(what)?;
    let path = &parent.path;
    match fs::DirBuilder::new().mode(look.mode & 0o700).create(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e).with_context(what),
    }
    // Through a descriptor that follows no link, so that nobody can swap the folder meanwhile.
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(path)
        .with_context(what)?;
    if let Some(owner) = look.owner {
        std::os::unix::fs::fchown(&dir, Some(owner.uid), Some(owner.gid)).with_context(what)?;
    }
    dir.set_permissions(fs::Permissions::from_mode(look.mode))
        .with_context(what)
}

/// Points `link` at `target`, atomically. An existing link is repointed; a file or folder of that
/// name is an error, except an empty folder, which gives way.
pub fn make_link(link: &Path, target: &Path) -> Result<()> {
    let what = || format!("cannot make link `{}`", link.display());
    let parent = Parent::pin(link).with_context(what)?;
    let link = &parent.path;
    match fs::symlink_metadata(link) {
        Ok(m) if m.is_symlink() && fs::read_link(link).is_ok_and(|t| t == target) => return Ok(()),
        Ok(m) if m.is_dir() => fs::remove_dir(link).with_context(what)?,
        Ok(m) if !m.is_symlink() => bail!("{}: a file is in the way", what()),
        _ => {}
    }
    let temp = link.with_file_name(format!(
        ".{}.{}{UNFINISHED}",
        link.file_name().unwrap_or_default().to_string_lossy(),
        uuid::Uuid::new_v4().simple()
    ));
    std::os::unix::fs::symlink(target, &temp).with_context(what)?;
    fs::rename(&temp, link).with_context(what)?;
    if let Some(dir) = link.parent() {
        sync_dir(dir);
    }
    Ok(())
}

/// Gives a file or folder another name on the same file system, atomically, following no link. What
/// is at `to` must not be there, or be an empty folder while `from` is a folder.
pub fn move_to(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("cannot move `{}` to `{}`", from.display(), to.display());
    let old = Parent::pin(from).with_context(what)?;
    let new = Parent::pin(to).with_context(what)?;
    if let Ok(there) = fs::symlink_metadata(&new.path)
        && !there.is_dir()
    {
        bail!("{}: something is there already", what());
    }
    fs::rename(&old.path, &new.path).with_context(what)?;
    sync_dir(&new.dir);
    sync_dir(&old.dir);
    Ok(())
}

/// Removes a file or link; nothing there is fine. True when something was removed.
pub fn remove(path: &Path) -> Result<bool> {
    let what = || format!("cannot remove `{}`", path.display());
    if fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(false);
    }
    match fs::remove_file(&Parent::pin(path).with_context(what)?.path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot remove `{}`", path.display())),
    }
}

/// Removes a folder and all below it, following no link (std walks by descriptor).
pub fn remove_tree(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Ok(m) if m.is_dir() => {
            let what = || format!("cannot remove folder `{}`", path.display());
            let parent = Parent::pin(path).with_context(what)?;
            fs::remove_dir_all(&parent.path).with_context(what)?;
            Ok(true)
        }
        _ => remove(path),
    }
}

/// Removes what a killed [`write_atomic`] or [`make_link`] left in `dir`: some programs read every
/// file of their folder, whatever its name. Only while nobody else can be writing there.
pub fn sweep_unfinished(dir: &Path) {
    for path in unfinished(dir) {
        let _ = fs::remove_file(path);
    }
}

/// What [`sweep_unfinished`] would remove.
pub fn unfinished(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with('.') && name.ends_with(UNFINISHED)
    };
    entries.map(|entry| entry.path()).filter(ours).collect()
}

/// Removes a folder only if it is empty. True when it is gone.
pub fn remove_dir_if_empty(path: &Path) -> bool {
    fs::remove_dir(path).is_ok()
}

/// Gives a tree to `owner`: by descriptor, no link followed, no file with several names touched
/// (a hard link planted by a service account must not hand us a foreign file). The folder itself
/// comes last, so that its owner tells whether the tree was finished.
pub fn chown_tree(path: &Path, owner: Owner) -> Result<()> {
    use nix::fcntl::OFlag;
    use nix::sys::stat::Mode;
    fn walk(dir: &mut nix::dir::Dir, owner: Owner) -> nix::Result<()> {
        let names: Vec<_> = dir
            .iter()
            .filter_map(|e| e.ok())
            .map(|e| e.file_name().to_owned())
            .filter(|n| n.to_bytes() != b"." && n.to_bytes() != b"..")
            .collect();
        for name in names {
            let at = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
            let before = match nix::sys::stat::fstatat(dir.as_fd(), name.as_c_str(), at) {
                Err(nix::errno::Errno::ENOENT) => continue,
                found => found?,
            };
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let entry = match nix::fcntl::openat(dir.as_fd(), name.as_c_str(), flags, Mode::empty())
            {
                Ok(entry) => entry,
                Err(nix::errno::Errno::ENOENT) => continue,
                Err(e) => return Err(e),
            };
            if give(&entry, &before, owner)? {
                let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let own = c".";
                let mut below = nix::dir::Dir::openat(entry.as_fd(), own, flags, Mode::empty())?;
                walk(&mut below, owner)?;
            }
        }
        Ok(())
    }
    let what = || format!("cannot change the owner of `{}`", path.display());
    let mut top = nix::dir::Dir::open(
        path,
        OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .with_context(what)?;
    walk(&mut top, owner).with_context(what)?;
    std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)).with_context(what)
}

/// Gives one file to `owner`; none there is fine. Links are not followed, as in [`write_atomic`].
pub fn chown_file(path: &Path, owner: Owner) -> Result<()> {
    let what = || format!("cannot change the owner of `{}`", path.display());
    if is_missing(path) || path.parent().is_some_and(is_missing) {
        return Ok(());
    }
    let parent = Parent::pin(path).with_context(what)?;
    let before = nix::sys::stat::lstat(&parent.path).with_context(what)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH | nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(&parent.path)
        .with_context(what)?;
    give(&file, &before, owner).with_context(what)?;
    Ok(())
}

/// Gives what `entry` (opened with O_PATH) is to `owner`, unless it has several names, or had
/// `before` it was opened. True for a folder. What was looked at is what is changed: nobody can put
/// another file in its place.
fn give(entry: &impl AsFd, before: &nix::sys::stat::FileStat, owner: Owner) -> nix::Result<bool> {
    use nix::sys::stat::{SFlag, fstat};
    use nix::unistd::{Gid, Uid, fchownat};
    let meta = fstat(entry.as_fd())?;
    let kind = SFlag::from_bits_truncate(meta.st_mode) & SFlag::S_IFMT;
    let is_dir = kind == SFlag::S_IFDIR;
    let wanted = (meta.st_uid, meta.st_gid) != (owner.uid, owner.gid);
    let same = (before.st_dev, before.st_ino) == (meta.st_dev, meta.st_ino);
    let sole = same && before.st_nlink == 1 && meta.st_nlink == 1;
    if wanted && (is_dir || sole) {
        fchownat(
            entry.as_fd(),
            c"",
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
            nix::fcntl::AtFlags::AT_EMPTY_PATH,
        )?;
    }
    Ok(is_dir)
}

/// Is this path one that only root can have put there: it and every folder above it owned by
/// root and not writable by group or world? Asked before root executes or trusts a file.
pub fn only_root_can_change(path: &Path) -> bool {
    let Ok(full) = fs::canonicalize(path) else {
        return false;
    };
    full.ancestors().all(|p: &Path| {
        fs::metadata(p).is_ok_and(|m| {
            m.uid() == 0 && (m.mode() & 0o022 == 0 || (m.is_dir() && m.mode() & 0o1000 != 0))
        })
    })
}

/// fsync of a folder, so that a rename or unlink in it is on the disk. Best effort: some file
/// systems refuse it.
pub fn sync_dir(dir: &Path) {
    if let Ok(handle) = File::open(dir) {
        let _ = handle.sync_all();
    }
}

/// A folder inside `dir` that nobody could have guessed or made before (0700).
pub fn private_dir(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let temp = tempfile::Builder::new()
        .prefix(prefix)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(dir)
        .with_context(|| format!("cannot make a folder in `{}`", dir.display()))?;
    Ok(temp.keep())
}

/// How the names of files end that were begun and not put in place yet.
pub const UNFINISHED: &str = ".omsagent-new";

const LABEL: &str = "security.selinux";

fn keep_label(old: &Path, new: &File) {
    let mut label = [0u8; 1024];
    let Ok(n) = rustix::fs::lgetxattr(old, LABEL, &mut label[..]) else {
        return; // no such file, or no SELinux: the folder's default applies
    };
    let _ = rustix::fs::fsetxattr(new, LABEL, &label[..n], rustix::fs::XattrFlags::empty());
}
