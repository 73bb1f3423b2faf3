use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn atomic_write_sets_mode_and_replaces_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    let path = dir.path().join("f");
    fs::write(&victim, "keep").unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    write_atomic(&path, b"new", Look::mode(0o640)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read(&victim).unwrap(), b"keep");
    assert_eq!(mode(&path), 0o640);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no leftovers");
}

#[test]
fn replacing_keeps_the_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    write_atomic(&path, b"1", Look::mode(0o604)).unwrap();
    replace_keeping_look(&path, b"2").unwrap();
    assert_eq!(mode(&path), 0o604);
    assert_eq!(fs::read(&path).unwrap(), b"2");
}

#[test]
fn reading_has_a_limit_and_refuses_what_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "12345").unwrap();
    assert_eq!(read(&path, 5).unwrap().unwrap(), b"12345");
    assert!(read(&path, 4).is_err());
    assert!(read(&dir.path().join("none"), 4).unwrap().is_none());
    assert!(read(dir.path(), 4).is_err());
    nix::unistd::mkfifo(&dir.path().join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(read(&dir.path().join("p"), 4).is_err(), "must not hang");
}

#[test]
fn a_file_with_two_names_is_not_read_as_ours() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, planted) = (dir.path().join("secret"), dir.path().join("planted"));
    fs::write(&secret, "x").unwrap();
    assert_eq!(read_sole(&secret, 9).unwrap().unwrap(), b"x");
    fs::hard_link(&secret, &planted).unwrap();
    let refused = read_sole(&planted, 9).unwrap_err();
    assert!(format!("{refused:#}").contains("hard links"), "{refused:#}");
    assert!(read_sole(&dir.path().join("none"), 9).unwrap().is_none());
}

#[test]
fn the_end_of_a_long_file_begins_with_a_whole_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "first\nsecond\nthird\n").unwrap();
    let end = |limit| read_end_no_follow(&path, limit).unwrap().unwrap();
    assert_eq!(end(8), "third\n");
    assert_eq!(end(100), "first\nsecond\nthird\n");
    assert_eq!(end(18), "second\nthird\n");
    let none = read_end_no_follow(&dir.path().join("none"), 5).unwrap();
    assert!(none.is_none());
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(read_end_no_follow(&link, 5).is_err());
}

#[test]
fn a_folder_that_is_a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
    assert!(make_dir(&dir.path().join("link"), Look::mode(0o700)).is_err());
    make_dir(&real, Look::mode(0o711)).unwrap();
    assert_eq!(mode(&real), 0o711);
}

#[test]
fn root_does_not_write_through_a_link_of_somebody_else() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    let theirs = dir.path().join("theirs");
    for folder in [&secret, &theirs] {
        fs::create_dir(folder).unwrap();
    }
    std::os::unix::fs::symlink(&secret, theirs.join("conf")).unwrap();
    std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
    let target = theirs.join("conf/f");
    let error = write_atomic(&target, b"x", Look::mode(0o644)).unwrap_err();
    assert!(format!("{error:#}").contains("not root's"), "{error:#}");
    assert!(make_dir(&target, Look::mode(0o755)).is_err());
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 0);
    fs::write(secret.join("f"), "keep").unwrap();
    assert!(remove(&target).is_err());
    assert!(read_no_follow(&theirs.join("conf"), 10).is_err());
    assert!(read_no_follow(&target, 10).is_err(), "a link on the way");
    // A link that root made is fine.
    std::os::unix::fs::chown(&theirs, Some(0), None).unwrap();
    write_atomic(&target, b"x", Look::mode(0o644)).unwrap();
}

#[test]
fn a_tree_is_given_without_links_and_foreign_files() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(&outside, "x").unwrap();
    fs::write(tree.join("a/b/f"), "x").unwrap();
    std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
    fs::hard_link(&outside, tree.join("a/hard")).unwrap();
    let nobody = Owner {
        uid: 65534,
        gid: 65534,
    };
    chown_tree(&tree, nobody).unwrap();
    let uid = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
    for ours in ["", "a", "a/b", "a/b/f", "link"] {
        assert_eq!(uid(&tree.join(ours)), 65534, "{ours}");
    }
    assert_eq!(uid(&outside), 0);
    chown_file(&tree.join("a/b/f"), Owner::ROOT).unwrap();
    assert_eq!(uid(&tree.join("a/b/f")), 0);
    chown_file(&tree.join("none"), Owner::ROOT).unwrap();
}

#[test]
fn only_unfinished_files_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join(".f.abc.omsagent-new");
    fs::write(&old, "half").unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join(".l.1.omsagent-new")).unwrap();
    fs::write(dir.path().join("f.omsagent-new"), "somebody's").unwrap();
    sweep_unfinished(dir.path());
    sweep_unfinished(&dir.path().join("none"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn links_are_repointed_files_are_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("l");
    make_link(&link, Path::new("/a")).unwrap();
    make_link(&link, Path::new("/b")).unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/b"));
    let file = dir.path().join("f");
    fs::write(&file, "x").unwrap();
    assert!(make_link(&file, Path::new("/b")).is_err());
}

#[test]
fn removing_a_tree_does_not_leave_it_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "x").unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    std::os::unix::fs::symlink(&outside, tree.join("l")).unwrap();
    assert!(remove_tree(&tree).unwrap());
    assert!(outside.join("f").exists());
    assert!(!remove_tree(&tree).unwrap());
}
