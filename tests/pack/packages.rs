//! The packages, judged by the tools that will install them.

use crate::tools::{TIME, have, must, nothing, omsagent, run};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const BIN: &str = "/opt/microsoft/omsagent/bin";

/// Every path both packages have.
fn shared_paths() -> Vec<String> {
    let tools = [
        "omsagent",
        "omsadmin.sh",
        "service_control",
        "configure_syslog.sh",
        "uninstall",
    ];
    let mut paths: Vec<String> = tools.iter().map(|t| format!("{BIN}/{t}")).collect();
    paths.extend(
        [
            "/opt/microsoft",
            "/opt/microsoft/omsagent",
            BIN,
            "/opt/microsoft/omsagent/LICENSE",
            "/etc/opt/microsoft",
            "/etc/opt/microsoft/omsagent",
            "/etc/opt/microsoft/omsagent/sysconf",
            "/etc/opt/microsoft/omsagent/sysconf/README",
            "/usr/bin/omsagent",
            "/usr/share/doc/omsagent/copyright",
            "/usr/share/man/man1/omsagent-bundle.1.gz",
            "/usr/share/man/man1/omsagent.1.gz",
            "/usr/share/man/man5/omsagent.conf.5.gz",
            "/usr/share/man/man8/configure_syslog.sh.8.gz",
            "/usr/share/man/man8/omsadmin.sh.8.gz",
            "/usr/share/man/man8/omsagent-hub.8.gz",
            "/usr/share/man/man8/service_control.8.gz",
            "/usr/share/bash-completion/completions/omsagent",
            "/usr/share/bash-completion/completions/omsadmin.sh",
            "/usr/share/bash-completion/completions/service_control",
            "/usr/share/fish/vendor_completions.d/omsagent.fish",
            "/usr/share/fish/vendor_completions.d/omsadmin.sh.fish",
        ]
        .map(str::to_owned),
    );
    paths
}

fn pack(format: &str, dir: &Path, more: &[&str]) -> PathBuf {
    let (binary, out) = (nothing(dir), dir.to_str().unwrap());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/omsagent.toml");
    let mut args = vec!["pack", format, "--manifest", manifest, "--out", out];
    args.extend(["--binary", binary.to_str().unwrap()]);
    if !more.contains(&"--arch") {
        args.extend(["--arch", "x86_64"]);
    }
    args.extend(more);
    PathBuf::from(must(omsagent(), &args).trim())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn names_follow_each_formats_custom() {
    let dir = tempfile::tempdir().unwrap();
    for (format, arch, name) in [
        ("deb", "x86_64", "omsagent_2.0.0-1_amd64.deb"),
        ("deb", "aarch64", "omsagent_2.0.0-1_arm64.deb"),
        ("rpm", "x86_64", "omsagent-2.0.0-1.x86_64.rpm"),
        ("rpm", "aarch64", "omsagent-2.0.0-1.aarch64.rpm"),
    ] {
        let made = pack(format, dir.path(), &["--arch", arch]);
        assert_eq!(made.file_name().unwrap(), name);
        let identity = omsagent::package::identify(&made).unwrap();
        assert_eq!(identity.name, "omsagent");
        assert_eq!(identity.version, "2.0.0-1");
        assert_eq!(identity.arch.unwrap().to_string(), arch);
        assert!(identity.installed > 10_000, "{}", identity.installed);
    }
}

#[test]
fn twice_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for format in ["deb", "rpm"] {
        let first = std::fs::read(pack(format, one.path(), &[])).unwrap();
        // Neither the clock nor the copy's own time may show.
        std::fs::copy(one.path().join("nothing"), two.path().join("nothing")).unwrap();
        let second = std::fs::read(pack(format, two.path(), &[])).unwrap();
        assert!(first == second, "{format}");
        let later = std::fs::read(pack(format, one.path(), &["--time", "1700000001"])).unwrap();
        assert!(first != later, "{format}");
    }
}

#[test]
fn without_a_time_nothing_is_packed() {
    let dir = tempfile::tempdir().unwrap();
    let done = std::process::Command::new(omsagent())
        .args([
            "pack",
            "deb",
            "--binary",
            "/bin/true",
            "--arch",
            "x86_64",
            "--out",
        ])
        .arg(dir.path())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("SOURCE_DATE_EPOCH")
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("SOURCE_DATE_EPOCH"), "{said}");
}

#[test]
fn dpkg_deb_reads_the_deb() {
    if !have("dpkg-deb") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let deb = pack("deb", dir.path(), &[]);
    for (field, value) in [
        ("Package", "omsagent"),
        ("Version", "2.0.0-1"),
        ("Architecture", "amd64"),
        ("Depends", ""),
        ("Recommends", "logrotate, rsyslog | system-log-daemon, sudo"),
    ] {
        let said = must("dpkg-deb", &["-f", text(&deb), field]);
        assert_eq!(said.trim(), value, "{field}");
    }
    let listed = must("dpkg-deb", &["-c", text(&deb)]);
    let paths: BTreeSet<&str> = listed
        .lines()
        .filter_map(|l| l.split_whitespace().nth(5))
        .map(|p| p.trim_start_matches('.').trim_end_matches('/'))
        .collect();
    for path in shared_paths() {
        assert!(paths.contains(path.as_str()), "{path}\n{listed}");
    }
    for never in ["/opt", "/etc/opt", "/var/opt", "/var"] {
        assert!(!paths.contains(never), "{never}");
    }
    assert!(
        listed.lines().all(|l| l.contains(" root/root ")),
        "{listed}"
    );

    let to = dir.path().join("x");
    must("dpkg-deb", &["--extract", text(&deb), text(&to)]);
    let shim = std::fs::read_to_string(to.join(&BIN[1..]).join("omsadmin.sh")).unwrap();
    assert!(shim.ends_with("\nexec /opt/microsoft/omsagent/bin/omsagent admin \"$@\"\n"));
    let control = dir.path().join("c");
    must("dpkg-deb", &["--control", text(&deb), text(&control)]);
    if have("md5sum") {
        let check = format!(
            "cd '{}' && md5sum -c '{}/md5sums'",
            text(&to),
            text(&control)
        );
        must("sh", &["-c", &check]);
    }
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        must("sh", &["-n", text(&control.join(script))]);
    }
    let conffiles = std::fs::read_to_string(control.join("conffiles")).unwrap();
    assert!(
        conffiles
            .lines()
            .all(|l| l.starts_with("/etc/opt/microsoft/omsagent/sysconf/"))
    );
    assert!(conffiles.contains("/sysconf/README\n"));
}

/// Unpacking below a folder of its own, without maintainer scripts, as anybody.
#[test]
fn dpkg_itself_accepts_the_deb() {
    if !have("dpkg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let deb = pack("deb", dir.path(), &[]);
    let root = dir.path().join("root");
    let admin = root.join("var/lib/dpkg");
    std::fs::create_dir_all(admin.join("info")).unwrap();
    std::fs::create_dir_all(admin.join("updates")).unwrap();
    std::fs::write(admin.join("status"), "").unwrap();
    let place = format!("--root={}", text(&root));
    let args = [
        &place,
        "--dry-run",
        "--force-not-root",
        "--force-architecture",
        "-i",
        text(&deb),
    ];
    let done = run("dpkg", &args);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
}

#[test]
fn lintian_finds_no_error() {
    if !have("lintian") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let deb = pack("deb", dir.path(), &[]);
    let done = run("lintian", &["--allow-root", text(&deb)]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!said.lines().any(|l| l.starts_with("E:")), "{said}");
    assert!(done.status.success(), "{said}");
}

#[test]
fn rpmlint_finds_no_error() {
    if !have("rpmlint") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rpm = pack("rpm", dir.path(), &[]);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/rpmlint.toml");
    let said = must("rpmlint", &["-c", config, text(&rpm)]);
    assert!(said.contains(" 0 errors"), "{said}");
}

#[test]
fn rpm_reads_the_rpm() {
    if !have("rpm") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rpm = pack("rpm", dir.path(), &[]);
    let listed = must("rpm", &["-qpl", "--nosignature", text(&rpm)]);
    let paths: BTreeSet<&str> = listed.lines().collect();
    for path in shared_paths() {
        assert!(paths.contains(path.as_str()), "{path}\n{listed}");
    }
    let digests = must("rpm", &["-Kv", "--nosignature", text(&rpm)]);
    for digest in [
        "Header SHA256 digest: OK",
        "Payload SHA256 digest: OK",
        "MD5 digest: OK",
    ] {
        assert!(digests.contains(digest), "{digests}");
    }
    let config = must(
        "rpm",
        &["-qp", "--configfiles", "--nosignature", text(&rpm)],
    );
    assert!(config.contains("/sysconf/README\n"), "{config}");
    let needs = must("rpm", &["-qp", "--requires", "--nosignature", text(&rpm)]);
    let beyond = |l: &&str| !l.starts_with("rpmlib(") && *l != "/bin/sh";
    assert_eq!(needs.lines().find(beyond), None);
    for (query, value) in [
        (
            "%{NAME} %{VERSION} %{RELEASE} %{ARCH}",
            "omsagent 2.0.0 1 x86_64",
        ),
        ("%{VENDOR}", "omsagent project"),
        ("%{BUILDTIME}", TIME),
        (
            "%{POSTINPROG} %{PREUNPROG} %{POSTUNPROG}",
            "/bin/sh /bin/sh /bin/sh",
        ),
        ("[%{FILEUSERNAME}:%{FILEGROUPNAME} ]", ""),
    ] {
        let said = must("rpm", &["-qp", "--nosignature", "--qf", query, text(&rpm)]);
        if value.is_empty() {
            assert!(said.split_whitespace().all(|o| o == "root:root"), "{said}");
        } else {
            assert_eq!(said, value);
        }
    }
    if have("rpm2cpio") && have("cpio") {
        let to = dir.path().join("x");
        std::fs::create_dir(&to).unwrap();
        let unpack = format!(
            "cd '{}' && rpm2cpio '{}' | cpio -idm --quiet",
            text(&to),
            text(&rpm)
        );
        must("sh", &["-c", &unpack]);
        let original = std::fs::read(dir.path().join("nothing")).unwrap();
        assert!(std::fs::read(to.join(&BIN[1..]).join("omsagent")).unwrap() == original);
    }
}

#[test]
fn one_flipped_bit_in_the_rpm_is_seen_by_rpm() {
    if !have("rpm") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(pack("rpm", dir.path(), &[])).unwrap();
    for at in [good.len() / 2, good.len() - 9, 2000] {
        let mut bad = good.clone();
        bad[at] ^= 4;
        let path = dir.path().join("bad.rpm");
        std::fs::write(&path, bad).unwrap();
        assert!(
            !run("rpm", &["-K", "--nosignature", text(&path)])
                .status
                .success(),
            "{at}"
        );
    }
}

/// Another reader of the format, in Rust, checks digests and the header's structure too.
#[test]
fn another_reader_agrees_on_the_rpm() {
    let dir = tempfile::tempdir().unwrap();
    let path = pack("rpm", dir.path(), &[]);
    let package = rpm::Package::open(&path).unwrap();
    package.verify_digests().unwrap();
    let meta = &package.metadata;
    assert_eq!(meta.get_name().unwrap(), "omsagent");
    assert_eq!(meta.get_version().unwrap(), "2.0.0");
    assert_eq!(meta.get_release().unwrap(), "1");
    let script = meta.get_post_install_script().unwrap();
    assert!(script.script.contains("maintainer postinst rpm"));
    let files = meta.get_file_entries().unwrap();
    let paths: BTreeSet<String> = files
        .iter()
        .map(|f| f.path().to_string_lossy().into_owned())
        .collect();
    for path in shared_paths() {
        assert!(paths.contains(&path), "{path}");
    }
    assert_eq!(files.len(), paths.len());
}

#[test]
fn inspecting_packages() {
    let dir = tempfile::tempdir().unwrap();
    for format in ["deb", "rpm"] {
        let path = pack(format, dir.path(), &[]);
        let said = must(omsagent(), &["pack", "inspect", "--json", text(&path)]);
        assert!(said.contains("\"version\": \"2.0.0-1\""), "{said}");
        // Cut off anywhere, it is refused and nothing worse.
        let whole = std::fs::read(&path).unwrap();
        for part in [0, 7, 8, 50, 100, 300, 900] {
            std::fs::write(&path, &whole[..part]).unwrap();
            let done = run(omsagent(), &["pack", "inspect", text(&path)]);
            assert_eq!(done.status.code(), Some(1), "{format} {part}");
        }
    }
}
