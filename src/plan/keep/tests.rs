use super::*;

/// A folder with kept files, as runs of the bundle leave it. `(name, version, before)` each.
pub(crate) fn with(runs: &[&[(&str, &str, Option<&str>)]]) -> (tempfile::TempDir, Keep) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    std::fs::create_dir_all(dir.path().join("var/lib/omsagent/packages")).unwrap();
    for run in runs {
        let keep = Keep::of(&layout);
        for (name, version, before) in *run {
            install(&keep, name, version, *before);
        }
        keep.trim();
    }
    (dir, Keep::of(&layout))
}

/// A run of the bundle takes a package in.
pub(crate) fn install(keep: &Keep, name: &str, version: &str, before: Option<&str>) {
    let file = format!("{name}-{version}.deb");
    std::fs::write(keep.folder.join(&file), version).unwrap();
    let sum = digest(&keep.folder.join(&file)).unwrap();
    let coming = Coming {
        name,
        manager: PackageManager::Dpkg,
        before,
        scratch: Path::new("/"),
    };
    keep.note(&coming, version, &file, &sum).unwrap();
}

fn files_of(keep: &Keep) -> Vec<String> {
    let mut names = keep.names();
    names.retain(|n| !n.ends_with(".json"));
    names.sort();
    names
}

#[test]
fn the_version_there_and_the_one_before_stay() {
    let (_dir, keep) = with(&[
        &[("omi", "1-1", None), ("omsagent", "1.0.0-1", None)],
        &[("omsagent", "1.0.1-1", Some("1.0.0-1"))],
        &[("omsagent", "1.0.2-1", Some("1.0.1.1"))],
    ]);
    let want = [
        "omi-1-1.deb",
        "omsagent-1.0.1-1.deb",
        "omsagent-1.0.2-1.deb",
    ];
    assert_eq!(files_of(&keep), want);
    let find = |version: &str| keep.find("omsagent", version, PackageManager::Dpkg);
    assert!(find("1.0.0-1").is_none());
    assert_eq!(find("1.0.1.1").unwrap().file, "omsagent-1.0.1-1.deb");
    assert!(
        keep.find("omsagent", "1.0.2-1", PackageManager::Rpm)
            .is_none()
    );
}

#[test]
fn a_run_that_was_killed_does_not_push_the_installed_version_out() {
    let (_dir, keep) = with(&[
        &[("omsagent", "1.0.0-1", None)],
        &[("omsagent", "1.0.1-1", Some("1.0.0-1"))],
        &[("omsagent", "1.0.2-1", Some("1.0.0-1"))],
    ]);
    let want = ["omsagent-1.0.0-1.deb", "omsagent-1.0.2-1.deb"];
    assert_eq!(files_of(&keep), want);
}

#[test]
fn the_same_version_again_keeps_the_way_back() {
    let (_dir, keep) = with(&[
        &[("omsagent", "1.0.0-1", None)],
        &[("omsagent", "1.0.1-1", Some("1.0.0-1"))],
        &[("omsagent", "1.0.1-1", Some("1.0.1-1"))],
    ]);
    let all = keep.generations();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].1.packages[0].before.as_deref(), Some("1.0.0-1"));
    assert_eq!(files_of(&keep).len(), 2);
}

#[test]
fn what_was_not_installed_is_forgotten() {
    let (_dir, keep) = with(&[&[("omsagent", "1.0.0-1", None)]]);
    install(&keep, "omsagent", "1.0.1-1", Some("1.0.0-1"));
    assert_eq!(files_of(&keep).len(), 2);
    keep.forget("omsagent", Some("1.0.0-1"));
    assert_eq!(files_of(&keep), ["omsagent-1.0.0-1.deb"]);
    assert_eq!(keep.generations().len(), 1);
    // What is there was not this one's doing.
    keep.forget("omsagent", Some("1.0.0-1"));
    assert_eq!(keep.generations().len(), 1);
    // The very first one leaves nothing at all.
    let (_dir, keep) = with(&[]);
    install(&keep, "omsagent", "1.0.0-1", None);
    keep.forget("omsagent", None);
    assert!(!keep.folder.exists());
}

#[test]
fn a_changed_file_is_not_installed() {
    let (_dir, keep) = with(&[&[("omsagent", "1.0.0-1", None)]]);
    let kept = keep
        .find("omsagent", "1.0.0-1", PackageManager::Dpkg)
        .unwrap();
    assert!(keep.checked(&kept).is_ok());
    std::fs::write(keep.folder.join(&kept.file), "another").unwrap();
    let why = keep.checked(&kept).unwrap_err().to_string();
    assert!(why.contains("SHA-256"), "{why}");
}

#[test]
fn a_record_that_leads_elsewhere_leads_nowhere() {
    let (dir, keep) = with(&[&[("omsagent", "1.0.0-1", None)]]);
    let record = keep.record(1);
    std::fs::write(dir.path().join("var/lib/omsagent/x.deb"), "x").unwrap();
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("omsagent-1.0.0-1.deb", "../x.deb")).unwrap();
    assert!(
        keep.find("omsagent", "1.0.0-1", PackageManager::Dpkg)
            .is_none()
    );
    std::fs::write(&record, "{").unwrap();
    assert!(keep.generations().is_empty());
}

#[test]
fn unfinished_files_go() {
    let (_dir, keep) = with(&[&[("omsagent", "1.0.0-1", None)]]);
    std::fs::write(keep.folder.join("x.deb.unfinished"), "half").unwrap();
    keep.trim();
    assert_eq!(files_of(&keep), ["omsagent-1.0.0-1.deb"]);
}
