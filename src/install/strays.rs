//! Files of the package below /usr, and what a killed package manager leaves beside them: nobody owns
//! either when an installation was killed before the package manager wrote it down.

use crate::base::files;
use crate::host::layout::Layout;
use anyhow::Result;
use std::path::Path;

/// The package's folder of documents.
const DOCUMENTS: &str = "/usr/share/doc/omsagent";
/// Its other files and links below /usr/share.
const STRAYS: &[&str] = &[
    "/usr/share/bash-completion/completions/configure_syslog.sh",
    "/usr/share/bash-completion/completions/omsadmin.sh",
    "/usr/share/bash-completion/completions/omsagent",
    "/usr/share/bash-completion/completions/service_control",
    "/usr/share/fish/vendor_completions.d/configure_syslog.sh.fish",
    "/usr/share/fish/vendor_completions.d/omsadmin.sh.fish",
    "/usr/share/fish/vendor_completions.d/omsagent.fish",
    "/usr/share/fish/vendor_completions.d/service_control.fish",
    "/usr/share/lintian/overrides/omsagent",
    "/usr/share/man/man1/omsagent-bundle.1.gz",
    "/usr/share/man/man1/omsagent.1.gz",
    "/usr/share/man/man5/omsagent.conf.5.gz",
    "/usr/share/man/man8/configure_syslog.sh.8.gz",
    "/usr/share/man/man8/omsadmin.sh.8.gz",
    "/usr/share/man/man8/omsagent-hub.8.gz",
    "/usr/share/man/man8/service_control.8.gz",
    "/usr/share/zsh/site-functions/_omsagent",
    "/usr/share/zsh/vendor-completions/_omsagent",
];
/// Folders that come with the package where the shell itself is not there.
const SHELLS: [&str; 7] = [
    "share/bash-completion",
    "share/bash-completion/completions",
    "share/fish",
    "share/fish/vendor_completions.d",
    "share/zsh",
    "share/zsh/site-functions",
    "share/zsh/vendor-completions",
];

/// The command's link and what it says.
const LINK: (&str, &str) = ("/usr/bin/omsagent", "/opt/microsoft/omsagent/bin/omsagent");

/// Is there any of them?
pub(super) fn are_there(layout: &Layout) -> bool {
    let paths = STRAYS.iter().chain([&DOCUMENTS]);
    let link = std::fs::read_link(layout.path(LINK.0));
    link.is_ok_and(|target| target == Path::new(LINK.1))
        || paths
            .map(|path| layout.path(path))
            .any(|path| path.symlink_metadata().is_ok())
}

/// Removes them all.
pub(super) fn remove(layout: &Layout) -> Result<()> {
    sweep(layout);
    let link = layout.path(LINK.0);
    if std::fs::read_link(&link).is_ok_and(|target| target == Path::new(LINK.1)) {
        files::remove(&link)?;
    }
    for path in STRAYS {
        files::remove(&layout.path(path))?;
    }
    files::remove_tree(&layout.path(DOCUMENTS))?;
    // Folders of shells that are not there, deepest first.
    for path in STRAYS {
        let folder = layout.path(path);
        let mut folder = folder.parent();
        while let Some(dir) = folder.filter(|dir| SHELLS.iter().any(|of| dir.ends_with(of))) {
            files::remove_dir_if_empty(dir);
            folder = dir.parent();
        }
    }
    Ok(())
}

/// Removes what a killed rpm left of our files under names that are not final, `NAME;6b01df15`. Never
/// while rpm itself unpacks: our scripts run when it has.
pub(super) fn sweep(layout: &Layout) {
    let own = [
        layout.opt(),
        layout.bin(),
        layout.sysconf(),
        layout.sysconf().join("omsagent.d"),
        layout.path(DOCUMENTS),
    ];
    for folder in own {
        sweep_folder(&folder, None);
    }
    for path in STRAYS.iter().chain([&LINK.0]) {
        let path = layout.path(path);
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            sweep_folder(folder, Some(&name.to_string_lossy()));
        }
    }
}

fn sweep_folder(folder: &Path, of: Option<&str>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let unfinished = name.rsplit_once(';').filter(|(final_name, id)| {
            id.len() == 8
                && id.bytes().all(|b| b.is_ascii_hexdigit())
                && of.is_none_or(|of| of == *final_name)
        });
        if unfinished.is_some() && entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
            let _ = files::remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_of_ours_go_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let link = layout.path("/usr/bin/omsagent");
        std::fs::create_dir_all(layout.path("/usr/bin")).unwrap();
        std::fs::create_dir_all(layout.path("/usr/share/doc/omsagent")).unwrap();
        std::fs::write(&link, "somebody's").unwrap();
        remove(&layout).unwrap();
        assert!(link.exists() && !layout.path("/usr/share/doc/omsagent").exists());
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/opt/microsoft/omsagent/bin/omsagent", &link).unwrap();
        remove(&layout).unwrap();
        assert!(!link.is_symlink());
    }

    #[test]
    fn every_file_of_the_package_below_usr_share_is_known() {
        let manifest = include_str!("../../bundle/omsagent.toml");
        let mut named: Vec<&str> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'))
            .filter(|path| path.starts_with("/usr/share/") && !path.starts_with(DOCUMENTS))
            .filter(|path| !SHELLS.iter().any(|folder| path.ends_with(folder)))
            .collect();
        named.sort_unstable();
        assert_eq!(named, STRAYS);
    }

    #[test]
    fn a_shells_folder_goes_when_nothing_else_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        for path in STRAYS {
            let path = layout.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::write(layout.path("/usr/share/zsh/site-functions/_other"), "").unwrap();
        remove(&layout).unwrap();
        let left = |path: &str| layout.path(path).exists();
        assert!(!left("/usr/share/fish") && !left("/usr/share/bash-completion"));
        assert!(left("/usr/share/zsh/site-functions/_other") && left("/usr/share/man/man8"));
        assert!(!left("/usr/share/zsh/site-functions/_omsagent"));
    }

    #[test]
    fn what_a_killed_rpm_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let put = |path: &str| {
            let path = layout.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let gone = [
            put("/usr/share/man/man1/omsagent.1.gz;6b01df15"),
            put("/opt/microsoft/omsagent/bin/uninstall;6b01df15"),
            put("/etc/opt/microsoft/omsagent/sysconf/omsagent.d/x.conf;00000000"),
            put("/usr/bin/omsagent;6b01df15"),
        ];
        let kept = [
            put("/usr/share/man/man1/other.1.gz;6b01df15"),
            put("/usr/share/man/man1/omsagent.1.gz"),
            put("/usr/bin/omsagent;not-rpms"),
            put("/etc/opt/microsoft/omsagent/sysconf/x;y"),
        ];
        sweep(&layout);
        assert!(gone.iter().all(|path| !path.exists()));
        assert!(kept.iter().all(|path| path.exists()));
    }
}
