//! What the service is told of the machine below the system: read from the host, never asked of
//! the network (protocol.md 1.6, 1.8).

use crate::base::files;
use crate::host::layout::Layout;
use crate::settings::scx_release::{self, OsFacts};
use crate::wire::topology::{OperatingSystem, Telemetry};
use anyhow::Result;

/// Largest state or firmware file that is read: they hold one word.
const WORD_LIMIT: usize = 4096;
/// Largest /etc/hosts that is searched for the host's domain.
const HOSTS_LIMIT: usize = 1 << 20;

/// Where the container edition of the agent leaves its state (protocol.md 0.2).
const CONTAINER_STATE: &str = "/var/opt/microsoft/docker-cimprov/state";

/// Ids of the machine, for omsadmin.conf and upload headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineIds {
    /// SMBIOS system UUID, lower case; empty when there is none to read.
    pub uuid: String,
    /// Chassis asset tag, only when it is an Azure host's (begins `77`); else empty.
    pub cloud_id: String,
}

impl MachineIds {
    /// From the firmware tables as the kernel shows them; root only for the UUID.
    pub fn read(layout: &Layout) -> MachineIds {
        let word = |name: &str| {
            let path = layout.path(format!("/sys/devices/virtual/dmi/id/{name}"));
            let text = files::read_text(&path, WORD_LIMIT).ok().flatten();
            let text = text.unwrap_or_default();
            text.chars()
                .filter(char::is_ascii_graphic)
                .take(64)
                .collect::<String>()
        };
        MachineIds {
            uuid: word("product_uuid").to_ascii_lowercase(),
            cloud_id: Some(word("chassis_asset_tag"))
                .filter(|tag| tag.starts_with("77"))
                .unwrap_or_default(),
        }
    }
}

/// The full host name: the kernel's, and if that has no domain the one that /etc/hosts gives it.
pub fn fqdn(layout: &Layout) -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let hosts = files::read_text(&layout.path("/etc/hosts"), HOSTS_LIMIT);
    with_domain(
        &name.to_string_lossy(),
        &hosts.ok().flatten().unwrap_or_default(),
    )
}

/// `name` itself when it has a domain, else the first name that begins with it and a dot, on a
/// line of `hosts` where it stands.
fn with_domain(name: &str, hosts: &str) -> String {
    let name: String = name
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    if name.contains('.') {
        return name;
    }
    let lines = hosts.lines().map(|l| l.split('#').next().unwrap_or(l));
    for line in lines {
        let mut words = line.split_ascii_whitespace().skip(1);
        if !words.clone().any(|word| word.eq_ignore_ascii_case(&name)) {
            continue;
        }
        let full = words.find(|word| {
            let head = word.get(..name.len());
            let rest = word.get(name.len()..).unwrap_or_default();
            head.is_some_and(|h| h.eq_ignore_ascii_case(&name)) && rest.starts_with('.')
        });
        if let Some(full) = full.filter(|full| full.len() <= 255) {
            return full.to_owned();
        }
    }
    name
}

/// The element `OperatingSystem` of a topology request; `None` when name, manufacturer or
/// version is unknown (protocol.md 1.6).
pub fn operating_system(layout: &Layout, telemetry: Telemetry) -> Result<Option<OperatingSystem>> {
    let facts: OsFacts = scx_release::load(
        &layout.path("/etc/opt/microsoft/scx/conf/scx-release"),
        &[
            &layout.path("/etc/os-release"),
            &layout.path("/usr/lib/os-release"),
        ],
        std::env::consts::ARCH,
    )?;
    if !facts.is_complete() {
        return Ok(None);
    }
    let state = |name: &str| {
        let path = layout.path(format!("{CONTAINER_STATE}/{name}"));
        let text = files::read_text(&path, WORD_LIMIT).ok().flatten()?;
        Some(text.trim().to_owned()).filter(|t| !t.is_empty())
    };
    let mark = layout.path(format!("{CONTAINER_STATE}/containerhostname"));
    let in_container = mark.exists();
    let inside = |name: &str| in_container.then(|| state(name)).flatten();
    Ok(Some(OperatingSystem {
        name: facts.name,
        manufacturer: facts.manufacturer,
        version: facts.version,
        in_container,
        in_container_version: inside("omscontainertag"),
        is_aks_environment: in_container.then(|| std::env::var_os("AKS_RESOURCE_ID").is_some()),
        k8s_version: inside("kubeletversion"),
        telemetry,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn ids_of_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert_eq!(MachineIds::read(&layout), MachineIds::default());
        let dmi = "/sys/devices/virtual/dmi/id/";
        put(dir.path(), &format!("{dmi}product_uuid"), "ABCD EF\n");
        put(
            dir.path(),
            &format!("{dmi}chassis_asset_tag"),
            "7783-7084 \n",
        );
        let ids = MachineIds::read(&layout);
        assert_eq!(
            (ids.uuid.as_str(), ids.cloud_id.as_str()),
            ("abcdef", "7783-7084")
        );
        put(
            dir.path(),
            &format!("{dmi}chassis_asset_tag"),
            "No Asset Tag\n",
        );
        assert_eq!(MachineIds::read(&layout).cloud_id, "");
    }

    #[test]
    fn the_domain_comes_from_the_hosts_file() {
        let hosts =
            "127.0.0.1 localhost\n# 1.1.1.1 web01.no web01\n127.0.1.1\tWEB01.example.org web01\n";
        assert_eq!(with_domain("web01", hosts), "WEB01.example.org");
        assert_eq!(with_domain("web01.own.org", hosts), "web01.own.org");
        assert_eq!(with_domain("web", hosts), "web");
        assert_eq!(with_domain("localhost", hosts), "localhost");
        assert_eq!(with_domain("a\nb", ""), "ab");
    }

    #[test]
    fn operating_system_is_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let read = || operating_system(&layout, Telemetry::default()).unwrap();
        assert_eq!(read(), None);
        put(
            dir.path(),
            "/usr/lib/os-release",
            "ID=debian\nVERSION_ID=\"12\"\n",
        );
        let os = read().unwrap();
        assert_eq!((os.name.as_str(), os.version.as_str()), ("Debian", "12"));
        assert!(!os.in_container && os.is_aks_environment.is_none());
        put(
            dir.path(),
            &format!("{CONTAINER_STATE}/containerhostname"),
            "h\n",
        );
        put(
            dir.path(),
            &format!("{CONTAINER_STATE}/omscontainertag"),
            "t1\n",
        );
        let os = read().unwrap();
        assert!(os.in_container && os.is_aks_environment.is_some());
        assert_eq!(os.in_container_version.as_deref(), Some("t1"));
        assert_eq!(os.k8s_version, None);
    }
}
