use super::*;
use crate::plan::testing::Kept;
use crate::plan::undo::Undo;

/// Everything below, sorted, with its kind.
fn listing(root: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            found.push(format!("{:?} {:?}", entry.path(), kind));
            if kind.is_dir() {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn withdrawing_leaves_what_was_before() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "etc/opt/microsoft/omsagent/sysconf",
        "etc/logrotate.d",
        "var/opt/microsoft",
        "var/lib",
    ] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let before = listing(dir.path());
    let host = Host::detect(Layout::new(dir.path()));
    let report = &mut Kept::default();
    configure(&host, report).unwrap();
    assert!(host.layout.installinfo().exists() && host.layout.records().is_dir());
    // A killed run's unfinished file, in a folder where every file is read.
    std::fs::write(
        dir.path()
            .join("etc/logrotate.d/.omsagent-x.abc.omsagent-new"),
        "half",
    )
    .unwrap();
    withdraw(&host, "", report);
    assert_eq!(listing(dir.path()), before, "{:?}", report.0);
}

#[test]
fn what_a_run_that_goes_on_has_kept_outlives_a_withdrawal() {
    use crate::plan::journal::End;
    let dir = tempfile::tempdir().unwrap();
    let (records, file) = (dir.path().join("records"), dir.path().join("f"));
    std::fs::create_dir(&records).unwrap();
    std::fs::write(&file, "before").unwrap();
    let mut journal = Journal::at(&records, crate::plan::testing::about("install"));
    let mut backups = journal.backups();
    let undo = backups.snapshot(&file).unwrap();
    journal.begin(0, "f", &undo).unwrap();
    std::fs::write(records.join("accounts"), "user omsagent\n").unwrap();
    forget(&records).unwrap();
    assert!(!records.join("accounts").exists());
    let Undo::File {
        before: Some(kept), ..
    } = &undo
    else {
        panic!("{undo:?}")
    };
    assert_eq!(backups.body(kept).unwrap().as_slice(), b"before");
    journal.finish(End::Complete, &backups);
    forget(&records).unwrap();
    assert!(!records.exists());
}
