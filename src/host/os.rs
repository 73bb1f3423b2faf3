//! What the operating system says of itself.

use super::layout::Layout;
use crate::base::files;
use std::collections::BTreeMap;

/// Most that is read of os-release.
const OS_RELEASE_LIMIT: usize = 64 << 10;

/// Distribution and names. Every field may be empty: nothing here is required to exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Os {
    /// `ID` of os-release, e.g. `debian`, `rhel`.
    pub id: String,
    /// `ID_LIKE`, e.g. `rhel fedora`.
    pub id_like: String,
    /// `VERSION_ID`, e.g. `12`, `9.4`.
    pub version_id: String,
    /// `PRETTY_NAME`, e.g. `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: String,
    /// Host name as the kernel (live) or /etc/hostname (below a prefix) has it.
    pub hostname: String,
    /// Kernel release, e.g. `6.1.0-18-amd64`; empty below a prefix.
    pub kernel: String,
}

impl Os {
    /// Reads /etc/os-release, else /usr/lib/os-release.
    pub fn detect(layout: &Layout) -> Os {
        let fields = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|p| {
                files::read_text(&layout.path(p), OS_RELEASE_LIMIT)
                    .ok()
                    .flatten()
            })
            .map(|text| parse_os_release(&text))
            .unwrap_or_default();
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let uname = nix::sys::utsname::uname().ok();
        let text = |s: Option<&std::ffi::OsStr>| {
            s.map(|s| s.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let (hostname, kernel) = if layout.is_live() {
            (
                text(uname.as_ref().map(|u| u.nodename())),
                text(uname.as_ref().map(|u| u.release())),
            )
        } else {
            let name = files::read_text(&layout.path("/etc/hostname"), 4096);
            let name = name.ok().flatten().unwrap_or_default();
            (name.trim().to_owned(), String::new())
        };
        Os {
            id: field("ID"),
            id_like: field("ID_LIKE"),
            version_id: field("VERSION_ID"),
            pretty_name: field("PRETTY_NAME"),
            hostname,
            kernel,
        }
    }
}

/// Does this process see another root than the first process does? Then what it sees is not what
/// was booted: a folder with an image, say. Where nothing is mounted on /proc nothing runs either.
pub fn is_chroot() -> bool {
    use std::os::unix::fs::MetadataExt;
    // Only root may look at the first process.
    if !nix::unistd::geteuid().is_root() {
        return false;
    }
    if !std::path::Path::new("/proc/self").exists() {
        return true;
    }
    let place = |path: &str| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    match (place("/proc/1/root/"), place("/")) {
        (Some(first), Some(own)) => first != own,
        _ => false,
    }
}

/// Machine architecture (`uname -m`).
pub fn arch() -> String {
    nix::sys::utsname::uname()
        .map(|u| u.machine().to_string_lossy().into_owned())
        .unwrap_or_else(|_| std::env::consts::ARCH.to_owned())
}

/// KEY=value lines, the value quoted as in a shell or not at all; a later line wins.
fn parse_os_release(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.trim().split_once('='))
        .filter(|(key, _)| !key.starts_with('#'))
        .map(|(key, value)| (key.to_owned(), unquote(value)))
        .collect()
}

fn unquote(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote))
        {
            if quote == '\'' {
                return inner.to_owned();
            }
            let mut plain = String::with_capacity(inner.len());
            let mut chars = inner.chars();
            while let Some(c) = chars.next() {
                plain.push(if c == '\\' {
                    chars.next().unwrap_or(c)
                } else {
                    c
                });
            }
            return plain;
        }
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_of_os_release() {
        let fields = parse_os_release(
            "# c\nID=sles\nPRETTY_NAME=\"SUSE \\\"x\\\" 15\"\nNAME='a b'\nodd\nVERSION_ID=\"15.5\"\n",
        );
        assert_eq!(fields["ID"], "sles");
        assert_eq!(fields["PRETTY_NAME"], "SUSE \"x\" 15");
        assert_eq!(fields["NAME"], "a b");
        assert_eq!(fields["VERSION_ID"], "15.5");
        assert_eq!(unquote("\""), "\"", "a lone quote is no quoting");
    }

    #[test]
    fn a_prefix_is_asked_not_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("usr/lib/os-release"), "ID=x\n").unwrap();
        std::fs::write(dir.path().join("etc/hostname"), "box\n").unwrap();
        let os = Os::detect(&Layout::new(dir.path()));
        assert_eq!((os.id.as_str(), os.hostname.as_str()), ("x", "box"));
        std::fs::write(dir.path().join("etc/os-release"), "ID=y\n").unwrap();
        assert_eq!(Os::detect(&Layout::new(dir.path())).id, "y");
    }
}
