use super::lay::{self, Survey};
use super::receipt::{Receipt, What};
use super::*;
use crate::package::manifest::Manifest;
use crate::package::manifest::tests::SMALL;
use crate::package::{Arch, Build, deb, rpm};

/// A package whose configuration file says `conf`, with these extra lines of manifest.
fn package(dir: &Path, conf: &str, extra: &str, as_rpm: bool) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("bin"), format!("program {conf}")).unwrap();
    std::fs::write(dir.join("conf"), conf).unwrap();
    let text = format!(
        "{SMALL}\n[[file]]\nsource='@binary'\npath='/opt/m/b'\nmode=0o755\n\
         [[file]]\nsource='conf'\npath='/etc/opt/m/c'\nmode=0o644\nconffile=true\n\
         [[link]]\npath='/usr/bin/b'\ntarget='/opt/m/b'\n{extra}"
    );
    let manifest = Manifest::parse(&text, dir.to_owned()).unwrap();
    let build = Build {
        arch: Arch::X86_64,
        label: "2.0.0-1",
        time: 0,
    };
    let write = if as_rpm { rpm::write } else { deb::write };
    let path = dir.join("package");
    std::fs::write(&path, write(&manifest, &build, &dir.join("bin")).unwrap()).unwrap();
    path
}

/// As a run does it, without the product's configuration. An error: what was in the way.
fn install(layout: &Layout, package: &Path, finish: bool) -> Result<Survey> {
    let before = Receipt::load(layout)?;
    let survey = Survey::of(layout, package, before.as_ref())?;
    if !survey.foreign.is_empty() {
        bail!("{:?}", survey.foreign);
    }
    let old = before.map(|r| r.things).unwrap_or_default();
    let mut receipt = Receipt::begin("1-1".into(), survey.things.clone());
    for (path, thing) in &old {
        receipt
            .things
            .entry(path.clone())
            .or_insert_with(|| thing.clone());
    }
    receipt.save(layout)?;
    survey.lay(layout, package)?;
    if finish {
        let left = lay::take_away(layout, &old, &survey.things, false)?;
        receipt.things = survey.things.clone();
        receipt.things.extend(left);
        receipt.finish();
        receipt.save(layout)?;
    }
    Ok(survey)
}

struct Rig {
    _dir: tempfile::TempDir,
    work: PathBuf,
    layout: Layout,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for name in ["etc", "usr/bin", "var/lib"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    Rig {
        work: dir.path().join("work"),
        layout: Layout::new(root),
        _dir: dir,
    }
}

impl Rig {
    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.layout.path(path)).ok()
    }

    fn everything(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.layout.root().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    open.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }
}

#[test]
fn what_was_laid_down_goes_again_to_the_last_folder() {
    for as_rpm in [false, true] {
        let rig = rig();
        let before = rig.everything();
        let package = package(&rig.work, "one", "", as_rpm);
        install(&rig.layout, &package, true).unwrap();
        assert_eq!(rig.text("/etc/opt/m/c").as_deref(), Some("one"));
        assert_eq!(rig.text("/opt/m/b").as_deref(), Some("program one"));
        let link = std::fs::read_link(rig.layout.path("/usr/bin/b")).unwrap();
        assert_eq!(link, Path::new("/opt/m/b"));
        // Nothing to do a second time.
        let again = install(&rig.layout, &package, true).unwrap();
        assert!(again.write.is_empty(), "{again:?}");
        take_away(&rig.layout, Depth::Purge).unwrap();
        assert_eq!(rig.everything(), before, "rpm: {as_rpm}");
    }
}

#[test]
fn an_edited_file_is_kept_and_an_unedited_one_replaced() {
    let rig = rig();
    let one = package(&rig.work.join("1"), "one", "", false);
    let two = package(&rig.work.join("2"), "two", "", false);
    install(&rig.layout, &one, true).unwrap();
    install(&rig.layout, &two, true).unwrap();
    assert_eq!(rig.text("/etc/opt/m/c").as_deref(), Some("two"));
    std::fs::write(rig.layout.path("/etc/opt/m/c"), "mine").unwrap();
    std::fs::write(rig.layout.path("/opt/m/b"), "damaged").unwrap();
    install(&rig.layout, &one, true).unwrap();
    assert_eq!(rig.text("/etc/opt/m/c").as_deref(), Some("mine"));
    assert_eq!(rig.text("/opt/m/b").as_deref(), Some("program one"));
    // A removal keeps it, coming back too; a purge does not.
    take_away(&rig.layout, Depth::Remove).unwrap();
    assert_eq!(rig.text("/etc/opt/m/c").as_deref(), Some("mine"));
    assert!(rig.text("/opt/m/b").is_none());
    assert_eq!(installed_version(&rig.layout).unwrap(), None);
    install(&rig.layout, &two, true).unwrap();
    assert_eq!(rig.text("/etc/opt/m/c").as_deref(), Some("mine"));
    take_away(&rig.layout, Depth::Purge).unwrap();
    assert!(rig.text("/etc/opt/m/c").is_none() && !rig.layout.path("/etc/opt").exists());
}

#[test]
fn a_deleted_file_stays_deleted_until_the_product_comes_back() {
    let rig = rig();
    let one = package(&rig.work.join("1"), "one", "", false);
    let two = package(&rig.work.join("2"), "two", "", false);
    install(&rig.layout, &one, true).unwrap();
    std::fs::remove_file(rig.layout.path("/etc/opt/m/c")).unwrap();
    install(&rig.layout, &two, true).unwrap();
    assert!(rig.text("/etc/opt/m/c").is_none());
    take_away(&rig.layout, Depth::Remove).unwrap();
    install(&rig.layout, &two, true).unwrap();
    assert_eq!(rig.text("/etc/opt/m/c").as_deref(), Some("two"));
}

#[test]
fn a_killed_upgrade_is_finished_with_the_edits_that_were_there() {
    for edited in [false, true] {
        let rig = rig();
        let extra = "[[file]]\nsource='conf'\npath='/opt/m/gone'\nmode=0o644\n";
        let one = package(&rig.work.join("1"), "one", extra, false);
        let two = package(&rig.work.join("2"), "two", "", false);
        let three = package(&rig.work.join("3"), "three", "", false);
        install(&rig.layout, &one, true).unwrap();
        if edited {
            std::fs::write(rig.layout.path("/etc/opt/m/c"), "mine").unwrap();
        }
        install(&rig.layout, &two, false).unwrap();
        if !edited {
            // Killed before this one was replaced.
            std::fs::write(rig.layout.path("/etc/opt/m/c"), "one").unwrap();
        }
        let receipt = Receipt::load(&rig.layout).unwrap().unwrap();
        assert!(!receipt.complete && receipt.things.contains_key("/opt/m/gone"));
        let want = if edited { "mine" } else { "two" };
        install(&rig.layout, &two, true).unwrap();
        assert_eq!(rig.text("/etc/opt/m/c").as_deref(), Some(want));
        assert!(
            rig.text("/opt/m/gone").is_none(),
            "not in the package any more"
        );
        install(&rig.layout, &three, true).unwrap();
        let want = if edited { "mine" } else { "three" };
        assert_eq!(rig.text("/etc/opt/m/c").as_deref(), Some(want));
    }
}

#[test]
fn the_version_before_is_laid_down_again_whatever_was_reached() {
    for (finish, edited) in [(false, false), (false, true), (true, false), (true, true)] {
        let rig = rig();
        let gone = "[[file]]\nsource='conf'\npath='/opt/m/gone'\nmode=0o644\n";
        let new = "[[file]]\nsource='conf'\npath='/opt/m/new'\nmode=0o644\n";
        let one = package(&rig.work.join("1"), "one", gone, false);
        let two = package(&rig.work.join("2"), "two", new, false);
        install(&rig.layout, &one, true).unwrap();
        if edited {
            std::fs::write(rig.layout.path("/etc/opt/m/c"), "mine").unwrap();
        }
        let before = rig.everything();
        install(&rig.layout, &two, finish).unwrap();
        assert!(rig.text("/opt/m/new").is_some());
        back::put_back(&rig.layout, &one, "1-1").unwrap();
        assert_eq!(
            rig.everything(),
            before,
            "finished: {finish}, edited: {edited}"
        );
        assert_eq!(rig.text("/opt/m/b").as_deref(), Some("program one"));
        let want = if edited { "mine" } else { "one" };
        assert_eq!(rig.text("/etc/opt/m/c").as_deref(), Some(want));
        let receipt = Receipt::load(&rig.layout).unwrap().unwrap();
        assert_eq!(receipt.version.as_deref(), Some("1-1"));
        take_away(&rig.layout, Depth::Purge).unwrap();
        assert!(!rig.layout.path("/opt").exists());
    }
}

#[test]
fn files_of_others_are_named_and_left_alone() {
    let rig = rig();
    let package = package(&rig.work, "one", "", false);
    std::fs::write(rig.layout.path("/usr/bin/b"), "somebody's").unwrap();
    let said = install(&rig.layout, &package, true)
        .unwrap_err()
        .to_string();
    assert_eq!(said, r#"["/usr/bin/b"]"#);
    assert_eq!(rig.text("/usr/bin/b").as_deref(), Some("somebody's"));
    assert!(!rig.layout.path("/opt").exists(), "nothing was changed");
    // The same file by chance is no obstacle.
    std::fs::remove_file(rig.layout.path("/usr/bin/b")).unwrap();
    std::fs::create_dir_all(rig.layout.path("/opt/m")).unwrap();
    std::fs::write(rig.layout.path("/opt/m/b"), "program one").unwrap();
    install(&rig.layout, &package, true).unwrap();
    // A folder that was there before stays.
    take_away(&rig.layout, Depth::Purge).unwrap();
    assert!(rig.layout.path("/opt/m").is_dir() && rig.text("/opt/m/b").is_none());
}

#[test]
fn a_receipt_that_cannot_be_read_is_not_taken_for_none() {
    let rig = rig();
    let path = Receipt::path(&rig.layout);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "{").unwrap();
    assert!(installed_version(&rig.layout).is_err());
    let newer = r#"{"schema":2,"version":null,"complete":true,"things":{}}"#;
    std::fs::write(&path, newer).unwrap();
    let said = installed_version(&rig.layout).unwrap_err().to_string();
    assert!(said.contains("newer bundle"), "{said}");
    let file = Receipt::begin("1-1".into(), BTreeMap::new());
    file.save(&rig.layout).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!matches!(
        file.things.get("/x").map(|t| &t.what),
        Some(What::Link { .. })
    ));
}
