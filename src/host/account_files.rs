//! System accounts where no tool makes them (a root with little more than a shell and dpkg):
//! the files are edited directly, under the lock that account tools honour, each replaced as a
//! whole. Fields as in passwd(5), group(5), shadow(5), gshadow(5).

use super::accounts::UserSpec;
use super::layout::Layout;
use crate::base::files::{self, Look, Owner};
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Accounts are read whole; more than this is not an account file.
const LIMIT: usize = 16 << 20;
/// Where system accounts get their numbers, from the top down, as account tools do.
const SYSTEM_IDS: std::ops::Range<u32> = 100..1000;

/// The four files, locked until dropped.
pub struct AccountFiles {
    layout: Layout,
    _lock: File,
}

impl AccountFiles {
    /// Takes the lock of lckpwdf(3), waiting for its holder.
    pub fn lock(layout: &Layout) -> Result<Self> {
        let path = layout.path("/etc/.pwd.lock");
        let what = || format!("cannot lock `{}`", path.display());
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(&path)
            .with_context(what)?;
        let whole = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as _,
            l_whence: nix::libc::SEEK_SET as _,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_SETLKW(&whole)).with_context(what)?;
        Ok(AccountFiles {
            layout: layout.clone(),
            _lock: file,
        })
    }

    /// Appends a system group.
    pub fn add_group(&self, name: &str) -> Result<()> {
        let gid = self.free_id("/etc/group")?;
        self.append("/etc/group", &format!("{name}:x:{gid}:"))?;
        self.append("/etc/gshadow", &format!("{name}:!::"))
    }

    /// Appends a system user that cannot log in; its groups must exist.
    pub fn add_user(&self, spec: &UserSpec<'_>, shell: &str) -> Result<()> {
        let uid = self.free_id("/etc/passwd")?;
        let gid = self
            .field_of("/etc/group", spec.group, 2)?
            .with_context(|| format!("group `{}` does not exist", spec.group))?;
        for group in spec.supplementary {
            for file in ["/etc/group", "/etc/gshadow"] {
                self.members(file, group, |members| members.push(spec.name.to_owned()))?;
            }
        }
        let days = jiff::Timestamp::now().as_second() / 86_400;
        let UserSpec {
            name,
            comment,
            home,
            ..
        } = spec;
        self.append("/etc/shadow", &format!("{name}:!:{days}::::::"))?;
        self.append(
            "/etc/passwd",
            &format!("{name}:x:{uid}:{gid}:{comment}:{home}:{shell}"),
        )
    }

    /// Takes a user out, of every group too.
    pub fn remove_user(&self, name: &str) -> Result<()> {
        for file in ["/etc/passwd", "/etc/shadow"] {
            self.edit(file, |lines| lines.retain(|l| first(l) != name))?;
        }
        for file in ["/etc/group", "/etc/gshadow"] {
            self.edit(file, |lines| {
                for line in lines {
                    set_members(line, |members| members.retain(|m| m != name));
                }
            })?;
        }
        Ok(())
    }

    /// Takes a group out.
    pub fn remove_group(&self, name: &str) -> Result<()> {
        for file in ["/etc/group", "/etc/gshadow"] {
            self.edit(file, |lines| lines.retain(|l| first(l) != name))?;
        }
        Ok(())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.layout.path(file)
    }

    fn lines(&self, file: &str) -> Result<Option<Vec<String>>> {
        let text = files::read_text(&self.path(file), LIMIT)?;
        Ok(text.map(|t| t.lines().map(str::to_owned).collect()))
    }

    /// Replaces the file when `change` changed something. The two shadow files may be missing:
    /// then nobody's password is kept in them.
    fn edit(&self, file: &str, change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
        let Some(mut lines) = self.lines(file)? else {
            return Ok(());
        };
        let before = lines.clone();
        change(&mut lines);
        if lines == before {
            return Ok(());
        }
        let mut text = lines.join("\n");
        text.push('\n');
        files::replace_keeping_look(&self.path(file), text.as_bytes())
    }

    fn append(&self, file: &str, line: &str) -> Result<()> {
        let path = self.path(file);
        if !path.exists() && matches!(file, "/etc/passwd" | "/etc/group") {
            files::write_atomic(&path, b"", Look::owned(0o644, Owner::ROOT))?;
        }
        self.edit(file, |lines| lines.push(line.to_owned()))
    }

    fn members(&self, file: &str, group: &str, change: impl Fn(&mut Vec<String>)) -> Result<()> {
        self.edit(file, |lines| {
            for line in lines.iter_mut().filter(|l| first(l) == group) {
                set_members(line, &change);
            }
        })
    }

    fn field_of(&self, file: &str, name: &str, n: usize) -> Result<Option<String>> {
        let lines = self.lines(file)?.unwrap_or_default();
        let line = lines.iter().find(|l| first(l) == name);
        Ok(line.and_then(|l| l.split(':').nth(n)).map(str::to_owned))
    }

    fn free_id(&self, file: &str) -> Result<u32> {
        let lines = self.lines(file)?.unwrap_or_default();
        let taken: Vec<u32> = lines
            .iter()
            .filter_map(|l| l.split(':').nth(2)?.parse().ok())
            .collect();
        SYSTEM_IDS
            .rev()
            .find(|id| !taken.contains(id))
            .with_context(|| format!("no free number below 1000 in `{file}`"))
    }
}

fn first(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

/// The last of four fields is a comma list, in group and gshadow alike.
fn set_members(line: &mut String, change: impl FnOnce(&mut Vec<String>)) {
    let Some((head, tail)) = line.rsplit_once(':') else {
        return;
    };
    let mut members: Vec<String> = tail
        .split(',')
        .filter(|m| !m.is_empty())
        .map(str::to_owned)
        .collect();
    let before = members.clone();
    change(&mut members);
    if members != before {
        *line = format!("{head}:{}", members.join(","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_and_removed_leaves_the_files_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let etc = layout.path("/etc");
        std::fs::create_dir(&etc).unwrap();
        for (file, text) in [
            (
                "passwd",
                "root:x:0:0:root:/root:/bin/sh\nx:x:999:999::/:/x\n",
            ),
            ("group", "root:x:0:\nadm:x:4:x,y\n"),
            ("shadow", "root:*:19000::::::\n"),
        ] {
            std::fs::write(etc.join(file), text).unwrap();
        }
        let all = || ["passwd", "group", "shadow"].map(|f| std::fs::read(etc.join(f)).unwrap());
        let before = all();
        let files = AccountFiles::lock(&layout).unwrap();
        files.add_group("omsagent").unwrap();
        files.add_group("omiusers").unwrap();
        files.add_user(&UserSpec::OMSAGENT, "/bin/false").unwrap();
        let text = |f: &str| std::fs::read_to_string(etc.join(f)).unwrap();
        assert!(text("passwd").ends_with(
            "\nomsagent:x:998:998:OMS agent:/var/opt/microsoft/omsagent/run:/bin/false\n"
        ));
        assert!(text("group").ends_with("\nomsagent:x:999:omsagent\nomiusers:x:998:\n"));
        assert!(text("shadow").contains("\nomsagent:!:"));
        assert!(!etc.join("gshadow").exists());
        files.remove_user("omsagent").unwrap();
        files.remove_group("omsagent").unwrap();
        files.remove_group("omiusers").unwrap();
        assert_eq!(all(), before);
    }
}
