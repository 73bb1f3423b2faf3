//! A workspace's key pair that the service manager hands to the agent: `LoadCredential=` in a
//! drop-in of the administrator's (systemd.exec(5)).

use super::layout::Layout;
use super::unit;
use crate::base::files;
use crate::base::ids::WorkspaceName;
use crate::base::order;
use std::path::PathBuf;

/// Where administrators and their tools put drop-ins; what stands in the first goes before.
const PLACES: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];
/// Larger than any drop-in.
const LIMIT: usize = 64 << 10;

/// Certificate and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// `oms.crt`.
    pub cert: PathBuf,
    /// `oms.key`.
    pub key: PathBuf,
}

/// Where the pair of the workspace is, if a drop-in names both halves.
pub fn of(layout: &Layout, id: &WorkspaceName) -> Option<Pair> {
    let mut texts = Vec::new();
    for place in PLACES {
        let folder = layout.path(place).join(format!("{}.d", unit::name(id)));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "conf"));
        order::ascending(&mut paths);
        texts.extend(
            paths
                .iter()
                .filter_map(|path| files::read_text(path, LIMIT).ok().flatten()),
        );
    }
    let named = |name: &str| {
        let lines = texts.iter().flat_map(|text| text.lines());
        let values = lines.filter_map(|line| line.trim().strip_prefix("LoadCredential="));
        let pairs = values.filter_map(|value| value.trim().split_once(':'));
        let mut paths = pairs.filter(|(id, _)| *id == name).map(|(_, path)| path);
        paths
            .next()
            .filter(|path| path.starts_with('/'))
            .map(|path| layout.path(path))
    };
    Some(Pair {
        cert: named("oms.crt")?,
        key: named("oms.key")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_make_a_pair() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let id: WorkspaceName = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        assert_eq!(of(&layout, &id), None);
        let folder = layout
            .path("/run/systemd/system")
            .join(format!("omsagent-{id}.service.d"));
        std::fs::create_dir_all(&folder).unwrap();
        let key = "[Service]\nLoadCredential=oms.key:/root/k\n";
        std::fs::write(folder.join("a.conf"), key).unwrap();
        std::fs::write(folder.join("b.bak"), "LoadCredential=oms.crt:/root/c\n").unwrap();
        assert_eq!(of(&layout, &id), None);
        std::fs::write(folder.join("b.conf"), "LoadCredential=oms.crt:/root/c\n").unwrap();
        let pair = of(&layout, &id).unwrap();
        assert_eq!(pair.key, layout.path("/root/k"));
        assert_eq!(pair.cert, layout.path("/root/c"));
    }
}
