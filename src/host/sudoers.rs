//! What the agent's account may do through sudo: a drop-in where sudo reads drop-ins, else a
//! marked block in /etc/sudoers. `visudo` has the last word before anything is put in place
//! (bundle.md 4.6, S4, S14).

use super::blocks::Marks;
use super::{Change, FILE_LIMIT, Host, template};
use crate::base::command::{self, Command};
use crate::base::files::{self, Look, Owner};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Mode of sudo's files.
const MODE: u32 = 0o440;

/// Where the rules ended up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// A file of their own, e.g. /etc/sudoers.d/omsagent.
    DropIn(PathBuf),
    /// A marked block in this file.
    Block(PathBuf),
    /// Nowhere; the reason, for a person.
    Skipped(&'static str),
}

/// What [`install`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Where the rules are now.
    pub placement: Placement,
    /// Whether that took a change.
    pub change: Change,
}

/// The rules as they are shipped: restart of the syslog daemon and of the agent's services.
pub fn rules() -> String {
    // sudo matches an argument list as one shell pattern: no `*`, which would match blanks too.
    let digits = |n| "[0-9a-fA-F]".repeat(n);
    let guid = [8, 4, 4, 4, 12].map(digits).join("-");
    template::fill(
        include_str!("../../templates/host/sudoers"),
        &[("%GUID%", &guid)],
    )
}

/// Puts `text` in place, as a drop-in or as a block, after `visudo` has accepted it, and takes
/// away what an older installation left in the other place. A host without sudo is skipped.
pub fn install(host: &Host, text: &str) -> Result<Placed> {
    let main = host.layout.path("/etc/sudoers");
    let Some(current) = files::read(&main, FILE_LIMIT)? else {
        return Ok(skipped("sudo is not installed: no `/etc/sudoers`"));
    };
    if host.layout.is_live() && command::find("visudo").is_none() {
        return Ok(skipped(
            "sudo is not installed: `/etc/sudoers` is there, `visudo` is not",
        ));
    }
    let folder = host.layout.path("/etc/sudoers.d");
    if reads_drop_ins(&current) && folder.is_dir() {
        let path = drop_in(host);
        let there = files::read(&path, FILE_LIMIT)?.is_some_and(|b| b == text.as_bytes());
        let change = if there && looks_right(&path) {
            Change::AlreadyThere
        } else {
            check(host, text.as_bytes())
                .with_context(|| format!("the rules for `{}` are not accepted", path.display()))?;
            files::write_atomic(&path, text.as_bytes(), Look::owned(MODE, Owner::ROOT))?;
            Change::Made
        };
        let change = change.and(take_block_out(host, &main, &current)?);
        return Ok(Placed {
            placement: Placement::DropIn(path),
            change,
        });
    }
    let new = marks()
        .put(&current, text)
        .with_context(|| format!("cannot edit `{}`", main.display()))?;
    let change = replace_main(host, &main, &current, &new)?;
    // sudo does not read it, but a later `@includedir` would.
    let change = change.and(files::remove(&drop_in(host))?.into());
    Ok(Placed {
        placement: Placement::Block(main),
        change,
    })
}

/// Takes the rules away, whichever form they have; a block the original agent left goes too.
pub fn remove(host: &Host) -> Result<Change> {
    let dropped = Change::from(files::remove(&drop_in(host))?);
    let main = host.layout.path("/etc/sudoers");
    let Some(current) = files::read(&main, FILE_LIMIT)? else {
        return Ok(dropped);
    };
    Ok(dropped.and(take_block_out(host, &main, &current)?))
}

/// The files of which [`remove`] would not bring back what is in them now: our drop-in, and
/// /etc/sudoers when it holds a block between our marks (the original's).
pub fn holding_rules(host: &Host) -> Result<Vec<PathBuf>> {
    let drop_in = drop_in(host);
    let main = host.layout.path("/etc/sudoers");
    let mut found: Vec<PathBuf> = Some(drop_in).filter(|p| p.exists()).into_iter().collect();
    if let Some(current) = files::read(&main, FILE_LIMIT)?
        && marks()
            .take_out(&current)
            .map_or(true, |rest| rest != current)
    {
        found.push(main);
    }
    Ok(found)
}

/// Would [`install`] find nothing to do?
pub fn is_installed(host: &Host, text: &str) -> Result<bool> {
    let drop_in = drop_in(host);
    let there = files::read(&drop_in, FILE_LIMIT)?.is_some_and(|b| b == text.as_bytes());
    Ok(there && looks_right(&drop_in) && holding_rules(host)? == [drop_in])
}

fn skipped(reason: &'static str) -> Placed {
    Placed {
        placement: Placement::Skipped(reason),
        change: Change::AlreadyThere,
    }
}

fn drop_in(host: &Host) -> PathBuf {
    host.layout.path("/etc/sudoers.d/omsagent")
}

/// The original's marks, so that its block is found and replaced.
fn marks() -> Marks {
    Marks {
        begin: "# Begin sudo configuration for omsagent".to_owned(),
        end: "# End sudo configuration for omsagent".to_owned(),
    }
}

fn take_block_out(host: &Host, main: &Path, current: &[u8]) -> Result<Change> {
    let new = marks()
        .take_out(current)
        .with_context(|| format!("cannot edit `{}`", main.display()))?;
    replace_main(host, main, current, &new)
}

fn replace_main(host: &Host, main: &Path, current: &[u8], new: &[u8]) -> Result<Change> {
    if new == current {
        return Ok(Change::AlreadyThere);
    }
    if let Err(says) = check(host, new) {
        // Taking our lines out of a file that sudo refuses anyway makes nothing worse.
        let broken_before = check(host, current).is_err();
        if !(broken_before && new.len() < current.len()) {
            let whose = if broken_before {
                "it was invalid before: mend it with `visudo`, then try again"
            } else {
                "nothing was changed"
            };
            return Err(says.context(format!("cannot change `{}`: {whose}", main.display())));
        }
    }
    files::replace_keeping_look(main, new)?;
    Ok(Change::Made)
}

/// Asks `visudo` about a whole file. The copy lies beside /etc/sudoers, where only root can write
/// and a relative `@include` means the same.
fn check(host: &Host, text: &[u8]) -> Result<()> {
    if !host.layout.is_live() || command::find("visudo").is_none() {
        return Ok(());
    }
    let mut copy = tempfile::Builder::new()
        .prefix(".sudoers.omsagent.")
        .suffix(files::UNFINISHED)
        .tempfile_in(host.layout.path("/etc"))
        .context("cannot make a copy of the sudo rules in `/etc` for `visudo`")?;
    copy.write_all(text)
        .and_then(|()| copy.flush())
        .context("cannot write a copy of the sudo rules in `/etc` for `visudo`")?;
    let outcome = Command::new("visudo").arg("-cf").arg(copy.path()).run()?;
    if !outcome.ok() {
        let name = copy.path().to_string_lossy().into_owned();
        let says = outcome.output.trim().replace(&name, "sudoers");
        bail!("`visudo` says: {}", says.replace('\n', "; "));
    }
    Ok(())
}

fn looks_right(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| {
        let ours = !nix::unistd::geteuid().is_root() || (m.uid(), m.gid()) == (0, 0);
        m.is_file() && m.mode() & 0o7777 == MODE && ours
    })
}

/// Does this file tell sudo to read /etc/sudoers.d? Both spellings; the path bare, quoted or
/// relative to /etc. Anything unusual is "no": a block is read in every case.
fn reads_drop_ins(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).lines().any(|line| {
        let rest = ["@includedir", "#includedir"]
            .iter()
            .find_map(|word| line.strip_prefix(word));
        let Some(rest) = rest.filter(|r| r.starts_with([' ', '\t'])) else {
            return false;
        };
        let path = rest.trim();
        let path = path
            .strip_prefix('"')
            .and_then(|p| p.strip_suffix('"'))
            .unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        matches!(path, "/etc/sudoers.d" | "sudoers.d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layout::Layout;
    use std::os::unix::fs::PermissionsExt;

    const RULES: &str = "omsagent ALL = (root) NOPASSWD: /bin/true\n";

    fn host(sudoers: Option<&[u8]>, folder: bool) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        if let Some(text) = sudoers {
            std::fs::write(etc.join("sudoers"), text).unwrap();
            std::fs::set_permissions(etc.join("sudoers"), PermissionsExt::from_mode(0o440))
                .unwrap();
        }
        if folder {
            std::fs::create_dir(etc.join("sudoers.d")).unwrap();
        }
        let host = Host::detect(Layout::new(dir.path()));
        (dir, host)
    }

    fn read(host: &Host, path: &str) -> Vec<u8> {
        std::fs::read(host.layout.path(path)).unwrap()
    }

    #[test]
    fn include_lines() {
        for yes in [
            "@includedir /etc/sudoers.d",
            "#includedir /etc/sudoers.d",
            "x\n#includedir\t /etc/sudoers.d/ \n",
            "@includedir \"/etc/sudoers.d\"\r\n",
            "@includedir sudoers.d",
        ] {
            assert!(reads_drop_ins(yes.as_bytes()), "{yes:?}");
        }
        for no in [
            "",
            "# includedir /etc/sudoers.d",
            "##includedir /etc/sudoers.d",
            "#includedir /etc/sudoers.local",
            "#includedirs /etc/sudoers.d",
            "@include /etc/sudoers.d",
            "# see \"@includedir /etc/sudoers.d\"",
        ] {
            assert!(!reads_drop_ins(no.as_bytes()), "{no:?}");
        }
    }

    #[test]
    fn a_drop_in_is_made_once_and_removed() {
        let before = b"Defaults env_reset\n@includedir /etc/sudoers.d\n";
        let (_dir, host) = host(Some(before), true);
        let placed = install(&host, RULES).unwrap();
        let path = host.layout.path("/etc/sudoers.d/omsagent");
        assert_eq!(placed.placement, Placement::DropIn(path.clone()));
        assert_eq!(placed.change, Change::Made);
        assert!(looks_right(&path));
        assert_eq!(read(&host, "/etc/sudoers.d/omsagent"), RULES.as_bytes());
        assert_eq!(install(&host, RULES).unwrap().change, Change::AlreadyThere);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(install(&host, RULES).unwrap().change, Change::Made);
        assert!(looks_right(&path));
        assert_eq!(remove(&host).unwrap(), Change::Made);
        assert_eq!(remove(&host).unwrap(), Change::AlreadyThere);
        assert_eq!(read(&host, "/etc/sudoers"), before);
        assert!(!path.exists());
    }

    #[test]
    fn without_drop_ins_a_block_comes_and_goes() {
        for before in [
            &b"root ALL=(ALL) ALL\n"[..],
            b"root ALL=(ALL) ALL",
            b"root ALL=(ALL) ALL\r\n# caf\xe9\r\n",
            b"",
        ] {
            let (_dir, host) = host(Some(before), true);
            let placed = install(&host, RULES).unwrap();
            let main = host.layout.path("/etc/sudoers");
            assert_eq!(placed.placement, Placement::Block(main.clone()));
            assert!(read(&host, "/etc/sudoers").starts_with(before));
            let mode = main.metadata().unwrap().mode() & 0o7777;
            assert_eq!(mode, MODE, "the file keeps its mode");
            assert_eq!(install(&host, RULES).unwrap().change, Change::AlreadyThere);
            assert_eq!(remove(&host).unwrap(), Change::Made);
            assert_eq!(read(&host, "/etc/sudoers"), before);
        }
    }

    #[test]
    fn the_originals_block_gives_way_to_a_drop_in() {
        let before = b"@includedir /etc/sudoers.d\n\
            # Begin sudo configuration for omsagent\n\
            nxautomation ALL=(ALL) NOPASSWD: ALL\n\
            # End sudo configuration for omsagent\nlast\n";
        let (_dir, host) = host(Some(before), true);
        assert_eq!(install(&host, RULES).unwrap().change, Change::Made);
        assert_eq!(
            read(&host, "/etc/sudoers"),
            b"@includedir /etc/sudoers.d\nlast\n"
        );
    }

    #[test]
    fn the_originals_block_is_removed_alone() {
        let before = b"a\n# Begin sudo configuration for omsagent\nx\n\
            # End sudo configuration for omsagent\nb";
        let (_dir, host) = host(Some(before), false);
        assert_eq!(remove(&host).unwrap(), Change::Made);
        assert_eq!(read(&host, "/etc/sudoers"), b"a\nb");
    }

    #[test]
    fn a_block_without_end_is_left_alone() {
        let before = b"# Begin sudo configuration for omsagent\nroot ALL=(ALL) ALL\n";
        let (_dir, host) = host(Some(before), false);
        let error = format!("{:#}", remove(&host).unwrap_err());
        assert!(error.contains("/etc/sudoers") && error.contains("line 1"));
        assert!(install(&host, RULES).is_err());
        assert_eq!(read(&host, "/etc/sudoers"), before);
    }

    #[test]
    fn no_sudo_no_rules() {
        let (_dir, host) = host(None, false);
        let placed = install(&host, RULES).unwrap();
        assert!(matches!(placed.placement, Placement::Skipped(_)));
        assert_eq!(remove(&host).unwrap(), Change::AlreadyThere);
    }

    #[test]
    fn the_shipped_rules_are_narrow() {
        let text = rules();
        let rules: String = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert!(!rules.contains('*') && !rules.contains('?') && !rules.contains('%'));
        assert_eq!(rules.matches("[0-9a-fA-F]").count(), 32);
        assert_eq!(rules.matches("/opt/microsoft/omsagent/bin/").count(), 3);
        assert!(!rules.contains("(ALL") && !rules.contains("NOPASSWD: ALL"));
    }
}
