use super::*;

const UNIT: &str = "omsagent-x.service";

#[test]
fn an_answer_of_systemd_is_read() {
    let text = "MainPID=0\nNRestarts=2\nActiveState=activating\nSubState=auto-restart\n";
    let now = read_activity(text);
    assert_eq!((now.main_pid, now.restarts), (None, 2));
    assert_eq!(
        (now.state.as_str(), now.sub_state.as_str()),
        ("activating", "auto-restart")
    );
    assert_eq!(read_activity("MainPID=7\n").main_pid, Some(7));
}

fn host(dirs: &[&str]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    for name in dirs {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let host = Host::detect(Layout::new(dir.path()));
    (dir, host)
}

#[test]
fn below_a_prefix_files_are_all_there_is() {
    let (dir, host) = host(&["usr/lib/systemd/system", "lib/systemd/system"]);
    assert_eq!(install_unit(&host, UNIT, "x\n").unwrap(), Change::Made);
    assert_eq!(
        install_unit(&host, UNIT, "x\n").unwrap(),
        Change::AlreadyThere
    );
    assert_eq!(install_unit(&host, UNIT, "y\n").unwrap(), Change::Made);
    let unit = dir.path().join("usr/lib/systemd/system").join(UNIT);
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), "y\n");
    assert_eq!(enable(&host, UNIT).unwrap(), Change::Made);
    assert_eq!(enable(&host, UNIT).unwrap(), Change::AlreadyThere);
    assert!(is_enabled(&host, UNIT).unwrap());
    let link = dir
        .path()
        .join("etc/systemd/system/multi-user.target.wants")
        .join(UNIT);
    assert_eq!(
        std::fs::read_link(&link).unwrap(),
        PathBuf::from("/usr/lib/systemd/system").join(UNIT)
    );
    assert_eq!(start(&host, UNIT).unwrap(), Change::AlreadyThere);
    assert!(!is_active(&host, UNIT).unwrap());
    assert_eq!(main_pid(&host, UNIT).unwrap(), None);
    assert_eq!(remove_unit(&host, UNIT).unwrap(), Change::Made);
    assert_eq!(remove_unit(&host, UNIT).unwrap(), Change::AlreadyThere);
    assert!(!unit.exists() && !link.is_symlink());
}

#[test]
fn a_unit_is_removed_from_every_folder() {
    let (dir, host) = host(&["lib/systemd/system", "etc/systemd/system"]);
    for folder in ["lib/systemd/system", "etc/systemd/system"] {
        std::fs::write(dir.path().join(folder).join(UNIT), "x").unwrap();
    }
    assert_eq!(remove_unit(&host, UNIT).unwrap(), Change::Made);
    assert!(!dir.path().join("lib/systemd/system").join(UNIT).exists());
    assert!(!dir.path().join("etc/systemd/system").join(UNIT).exists());
}

#[test]
fn the_administrators_folder_is_the_last_resort() {
    let (dir, host) = host(&[]);
    assert_eq!(
        unit_dir(&host.layout),
        dir.path().join("etc/systemd/system")
    );
    assert_eq!(host.services, ServiceManager::None);
    let refused = start(&host, UNIT);
    assert!(matches!(refused, Err(ServiceError::NoManager { .. })));
    assert_eq!(remove_unit(&host, UNIT).unwrap(), Change::AlreadyThere);
    assert_eq!(stop(&host, UNIT).unwrap(), Change::AlreadyThere);
}

#[test]
fn names_are_names() {
    let (_dir, host) = host(&["usr/lib/systemd/system"]);
    for bad in [
        "../x.service",
        "x",
        "a b.service",
        "-x.service",
        ".service",
        "",
    ] {
        let refused = install_unit(&host, bad, "");
        assert!(matches!(refused, Err(ServiceError::BadName(_))), "{bad}");
    }
}
