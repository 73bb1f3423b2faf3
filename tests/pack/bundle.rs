//! `omsagent pack build|inspect|verify`, by the real binary.

use crate::tools::{have, must, nothing, omsagent, run};
use std::path::{Path, PathBuf};

const NAME: &str = "omsagent-2.0.0-1.universal.x64.sh";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A bundle of one runner, both packages and a document.
fn build(dir: &Path) -> PathBuf {
    let binary = nothing(dir);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/omsagent.toml");
    let pack = |format: &str| {
        let place = [
            "--arch",
            "x86_64",
            "--out",
            text(dir),
            "--manifest",
            manifest,
        ];
        let args = [&["pack", format, "--binary", text(&binary)][..], &place].concat();
        must(omsagent(), &args).trim().to_owned()
    };
    let (deb, rpm) = (pack("deb"), pack("rpm"));
    let out = dir.join(NAME);
    let runner = format!("x86_64={}", text(&binary));
    let licence = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/doc/LICENSE");
    let members = ["--package", &deb, &rpm, "--licence", licence];
    let reference = ["--source-reference", "omsagent: 0123abc"];
    let args = [
        &["pack", "build", "--runner", &runner, "--out", text(&out)][..],
        &members,
        &reference,
    ];
    let said = must(omsagent(), &args.concat());
    assert_eq!(said.lines().next(), Some(text(&out)));
    out
}

#[test]
fn build_inspect_verify() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = build(dir.path());
    must(omsagent(), &["pack", "verify", text(&bundle)]);
    let said = must(omsagent(), &["pack", "inspect", "--json", text(&bundle)]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["bundle"]["release"], "2.0.0-1");
    assert_eq!(said["bundle"]["sources"][0], "omsagent: 0123abc");
    let deb = said["entries"][2].as_object().unwrap();
    assert_eq!(deb["name"], "omsagent_2.0.0-1_amd64.deb");
    assert_eq!(
        (&deb["kind"], &deb["arch"]),
        (&"deb".into(), &"x86_64".into())
    );
    assert_eq!(
        (&deb["pkg"], &deb["version"]),
        (&"omsagent".into(), &"2.0.0-1".into())
    );
    assert!(deb["installed"].as_u64().unwrap() > 10_000);
    let plain = must(omsagent(), &["pack", "inspect", text(&bundle)]);
    for name in [
        "stub.sh",
        "omsagent.x86_64",
        "omsagent-2.0.0-1.x86_64.rpm",
        "LICENSE",
    ] {
        assert!(plain.contains(name), "{plain}");
    }

    // The packages come out as they went in.
    let package = std::fs::read(dir.path().join("omsagent_2.0.0-1_amd64.deb")).unwrap();
    let (at, size) = (
        deb["offset"].as_u64().unwrap(),
        deb["size"].as_u64().unwrap(),
    );
    let whole = std::fs::read(&bundle).unwrap();
    assert!(whole[at as usize..(at + size) as usize] == package);
}

#[test]
fn the_sums_file_is_one_for_sha256sum() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    let sums = "omsagent-2.0.0-1.universal.x64.sha256sums";
    assert!(dir.path().join(sums).exists());
    if have("sha256sum") {
        let check = format!("cd '{}' && sha256sum -c {sums}", text(dir.path()));
        assert_eq!(must("sh", &["-c", &check]).trim(), format!("{NAME}: OK"));
    }
}

#[test]
fn building_twice_gives_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = std::fs::read(build(one.path())).unwrap();
    let second = std::fs::read(build(two.path())).unwrap();
    assert!(first == second);
}

#[test]
fn verify_names_the_damaged_entry() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = build(dir.path());
    let good = std::fs::read(&bundle).unwrap();
    let told = |bytes: &[u8]| {
        std::fs::write(&bundle, bytes).unwrap();
        let done = run(omsagent(), &["pack", "verify", text(&bundle)]);
        assert_eq!(done.status.code(), Some(1));
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let magic = b"!<arch>\ndebian-binary";
    let deb = good.windows(magic.len()).position(|w| w == magic).unwrap();
    let mut bad = good.clone();
    bad[deb + 200] ^= 1;
    let said = told(&bad);
    assert!(said.contains("`omsagent_2.0.0-1_amd64.deb`"), "{said}");
    assert!(said.contains(NAME), "{said}");
    assert!(told(&good[..good.len() - 1]).contains("cut off"));
    assert!(told(b"#!/bin/sh\n").contains("not a bundle"));
    std::fs::remove_file(&bundle).unwrap();
    let done = run(omsagent(), &["pack", "verify", text(&bundle)]);
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn what_is_no_package_is_not_packed() {
    let dir = tempfile::tempdir().unwrap();
    let fake = dir.path().join("fake.deb");
    std::fs::write(&fake, "text").unwrap();
    let out = dir.path().join("b.sh");
    let runner = format!("x86_64={}", text(&fake));
    let args = [
        "pack",
        "build",
        "--runner",
        &runner,
        "--package",
        text(&fake),
        "--out",
    ];
    let done = run(omsagent(), &[&args[..], &[text(&out)]].concat());
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("neither a .deb nor an .rpm"), "{said}");
    assert!(!out.exists());
}
