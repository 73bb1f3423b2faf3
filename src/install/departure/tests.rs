use super::*;
use crate::plan::history::{self, Ended};

#[test]
fn a_loose_file_that_stays_does_not_hold_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    // A folder of that name is not removed as a file.
    std::fs::create_dir_all(layout.path(LOOSE_FILES[0])).unwrap();
    std::fs::create_dir_all(layout.path("/etc/collectd.d")).unwrap();
    std::fs::write(layout.path(LOOSE_FILES[1]), "").unwrap();
    let report = &mut crate::plan::testing::Kept::default();
    assert_eq!(remove_loose_files(&layout, report).len(), 1);
    assert_eq!(report.0.len(), 1);
    assert!(
        report.0[0].contains("OMSConsistencyInvoker"),
        "{:?}",
        report.0
    );
    assert!(!layout.path(LOOSE_FILES[1]).exists());
}

fn names(parts: Vec<Part>) -> Vec<String> {
    let name = |part| match part {
        Part::Package(name) => name,
        other => format!("{other:?}").split('(').next().unwrap().to_owned(),
    };
    parts.into_iter().map(name).collect()
}

#[test]
fn who_goes_and_who_stays() {
    let with = |lad, operations_manager| Neighbours {
        lad,
        operations_manager,
        ..Neighbours::default()
    };
    let docker = || vec!["docker-cimprov".to_owned()];
    let of = |neighbours, depth, force| names(parts(neighbours, depth, force, docker()));
    let all = "LooseFiles omsconfig Own docker-cimprov scx omi auoms";
    assert_eq!(of(with(false, false), Depth::Remove, false).join(" "), all);
    let purged = of(with(true, false), Depth::Purge, false).join(" ");
    assert_eq!(purged, format!("{all} Folders"));
    let lad = of(with(true, false), Depth::Remove, false).join(" ");
    assert_eq!(lad, "LooseFiles omsconfig OwnWorkspace OthersStay auoms");
    let manager = with(false, true);
    let left = "LooseFiles omsconfig Own OthersStay auoms Folders";
    assert_eq!(of(manager, Depth::Purge, false).join(" "), left);
    assert_eq!(of(manager, Depth::Remove, true).join(" "), all);
}

#[test]
fn the_outline_is_what_is_done_and_the_journal_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::detect(Layout::new(dir.path()));
    host.packages = None;
    let report = &mut crate::plan::testing::Kept::default();
    let due = |host: &Host, depth| {
        let lines = outline(host, depth, false).unwrap();
        lines.into_iter().any(|(_, due)| due)
    };
    assert!(!due(&host, Depth::Remove) && !due(&host, Depth::Purge));
    withdraw_all(&host, Depth::Purge, false, report).unwrap();
    let records = host.layout.records();
    assert!(!records.exists(), "nothing was done, nothing is written");
    let info = host.layout.installinfo();
    std::fs::create_dir_all(info.parent().unwrap()).unwrap();
    std::fs::write(info, "x").unwrap();
    assert!(due(&host, Depth::Remove));
    withdraw_all(&host, Depth::Remove, false, report).unwrap();
    let runs = history::read(&records).runs;
    let said = (runs[0].what.as_str(), runs[0].ended);
    assert_eq!(said, ("remove packages", Ended::Complete));
    assert_eq!(runs[0].steps[0].state.as_deref(), Some("done"));
    assert!(!due(&host, Depth::Remove), "it is removed");
    assert!(due(&host, Depth::Purge), "there is something left to purge");
    withdraw_all(&host, Depth::Purge, false, report).unwrap();
    assert!(!records.exists() && !due(&host, Depth::Purge));
}

#[test]
fn providers_are_found_by_their_folders() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "docker-cimprov",
        "mysql-cimprov",
        "-cimprov",
        "scx",
        "--purge-cimprov",
    ] {
        std::fs::create_dir_all(dir.path().join("opt/microsoft").join(name)).unwrap();
    }
    std::fs::create_dir_all(dir.path().join("var/opt/microsoft/apache-cimprov")).unwrap();
    let layout = Layout::new(dir.path());
    assert_eq!(
        providers(&layout, &PARENTS[1..2]),
        ["docker-cimprov", "mysql-cimprov"]
    );
    assert_eq!(providers(&layout, &PARENTS).len(), 3);
}
