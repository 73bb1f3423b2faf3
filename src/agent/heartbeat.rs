//! The item that says this host is alive (protocol.md 3.8).

use crate::agent::hosts;
use crate::agent::queue::frame::Kind;
use crate::agent::syslog::item::push_text;
use crate::agent::syslog::stamp::push_utc;
use crate::base::files;
use crate::host::layout::Layout;
use crate::settings::{installinfo, scx_release};
use std::net::IpAddr;
use std::path::Path;

/// What the service files heartbeats under.
pub const KIND: Kind = Kind::new("HEALTH_ASSESSMENT_BLOB", "LogManagement");

/// What does not change while we run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `Computer`.
    pub computer: String,
    /// `OSName`; empty when unknown.
    pub os_name: String,
    /// `OSVersion`, of which major and minor are told.
    pub os_version: String,
    /// `InstalledDate`, as it is written in installinfo.txt.
    pub installed: Option<String>,
    /// `Version`.
    pub version: String,
}

impl Facts {
    /// Looks at this host.
    pub fn gather(layout: &Layout) -> Facts {
        let machine = nix::sys::utsname::uname();
        let machine = machine.map(|u| u.machine().to_string_lossy().into_owned());
        let (etc, usr) = (
            layout.path("/etc/os-release"),
            layout.path("/usr/lib/os-release"),
        );
        let os = scx_release::load(
            &layout.path("/etc/opt/microsoft/scx/conf/scx-release"),
            &[&etc, &usr],
            &machine.unwrap_or_default(),
        )
        .unwrap_or_default();
        let info = layout.installinfo();
        Facts {
            computer: hosts::computer(),
            os_name: os.name,
            os_version: os.version,
            installed: installed(&info),
            version: data_version(&info),
        }
    }

    /// Appends the item.
    pub fn push(&self, out: &mut Vec<u8>, now_ms: i64, own: &[IpAddr]) {
        out.extend_from_slice(b"{\"Timestamp\":\"");
        push_utc(out, now_ms);
        out.push(b'"');
        let mut entry = |key: &str, value: &str| {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            push_text(out, value.as_bytes());
        };
        entry("Computer", &self.computer);
        entry("OSType", "Linux");
        if !self.os_name.is_empty() {
            entry("OSName", &self.os_name);
        }
        let mut parts = self.os_version.split('.');
        if let (Some(major), Some(minor)) = (parts.next(), parts.next()) {
            entry("OSMajorVersion", major);
            entry("OSMinorVersion", minor);
        }
        entry("Category", "Agent");
        entry("SCAgentChannel", "Direct");
        let ips: Vec<String> = hosts::private(own)
            .iter()
            .map(|a| format!("\"{a}\""))
            .collect();
        entry("ComputerPrivateIps", &format!("[{}]", ips.join(",")));
        if let Some(installed) = &self.installed {
            entry("InstalledDate", installed);
        }
        entry("Version", &self.version);
        out.push(b'}');
    }
}

/// The version that uploads carry; that of this binary when nothing is installed.
pub fn data_version(installinfo: &Path) -> String {
    match installinfo::load(installinfo) {
        Ok(info) => info.data_version,
        Err(_) => installinfo::UNKNOWN_VERSION.to_owned(),
    }
}

/// Line 2 of installinfo.txt if it is a time.
fn installed(path: &Path) -> Option<String> {
    let text = files::read_text(path, installinfo::LIMIT).ok()??;
    let line = text.lines().nth(1)?.trim();
    let (stamp, rest) = super::syslog::stamp::read(line.as_bytes())?;
    let time = super::syslog::stamp::Zone::new(jiff::tz::TimeZone::UTC).resolve(stamp);
    (rest.is_empty() && time.is_some()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_the_order_of_the_original() {
        let facts = Facts {
            computer: "web01".into(),
            os_name: "Ubuntu".into(),
            os_version: "14.04".into(),
            installed: Some("2016-05-24T00:27:55.0Z".into()),
            version: "2.0.0-1".into(),
        };
        let own = ["8.8.8.8", "10.0.0.4", "fd00::1"].map(|a| a.parse().unwrap());
        let mut out = Vec::new();
        facts.push(&mut out, 1_470_369_495_181, &own);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"Timestamp":"2016-08-05T03:58:15.181Z","Computer":"web01","OSType":"Linux","OSName":"Ubuntu","OSMajorVersion":"14","OSMinorVersion":"04","Category":"Agent","SCAgentChannel":"Direct","ComputerPrivateIps":"[\"10.0.0.4\",\"fd00::1\"]","InstalledDate":"2016-05-24T00:27:55.0Z","Version":"2.0.0-1"}"#
        );
        let bare = Facts {
            os_version: "12".into(),
            os_name: String::new(),
            installed: None,
            ..facts
        };
        let mut out = Vec::new();
        bare.push(&mut out, 0, &[]);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#""OSType":"Linux","Category""#), "{text}");
        assert!(
            text.contains(r#""ComputerPrivateIps":"[]","Version""#),
            "{text}"
        );
    }

    #[test]
    fn facts_of_an_installed_host() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(layout.sysconf()).unwrap();
        let empty = Facts::gather(&layout);
        assert_eq!((empty.version.as_str(), empty.installed), ("0.0.0-0", None));
        std::fs::write(
            layout.installinfo(),
            "2.0.0-1 20310809 Release_Build\n2031-08-09T10:11:12.0Z\n",
        )
        .unwrap();
        std::fs::write(
            layout.path("/etc/os-release"),
            "ID=debian\nVERSION_ID=\"12\"\n",
        )
        .unwrap();
        let facts = Facts::gather(&layout);
        assert_eq!(facts.version, "2.0.0-1");
        assert_eq!(facts.installed.as_deref(), Some("2031-08-09T10:11:12.0Z"));
        assert_eq!(facts.os_version, "12");
        std::fs::write(layout.installinfo(), "2.0.0-1 x y\nsome day\n").unwrap();
        assert_eq!(Facts::gather(&layout).installed, None);
    }
}
