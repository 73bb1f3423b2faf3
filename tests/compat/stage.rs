//! The real bundle, built by the real binary around the real binary, and one row of the table.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Who types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Root, in rows that end before anything on this machine is changed.
    Root,
    /// uid 65534 without groups.
    Nobody,
}

/// Where a line is expected.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    /// A line of standard output that begins so.
    Out(&'static str),
    /// A line of standard error that begins so.
    Err(&'static str),
    /// Nothing in particular.
    Nothing,
}

/// One row: what is typed, and all that automation can see of the answer.
pub struct Row {
    pub who: Who,
    pub words: &'static [&'static str],
    pub code: i32,
    pub says: Says,
    /// Does the status line end standard output?
    pub trailer: bool,
}

pub fn row(who: Who, words: &'static [&'static str], code: i32, says: Says, trailer: bool) -> Row {
    Row {
        who,
        words,
        code,
        says,
        trailer,
    }
}

/// A folder with three bundles, and a folder for each run.
pub struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    pub fn new() -> Stage {
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        let stage = Stage { dir };
        std::fs::create_dir(stage.at("tmp")).unwrap();
        open_to_all(&stage.at("tmp"));
        stage.build();
        stage
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn build(&self) {
        let runner = self.at("omsagent");
        std::fs::copy(env!("CARGO_BIN_EXE_omsagent"), &runner).unwrap();
        // Smaller, where it can be made smaller: every run copies and sums it.
        let _ = Command::new("strip").arg(&runner).status();
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/omsagent.toml");
        let mut packages = vec![self.package(own, "deb"), self.package(own, "rpm")];
        for (name, version) in [
            ("omsconfig", "1.3.0-0"),
            ("scx", "1.8.1-0"),
            ("omi", "1.8.1-0"),
        ] {
            let manifest = self.stand_in(name, version);
            packages.push(self.package(manifest.to_str().unwrap(), "deb"));
            packages.push(self.package(manifest.to_str().unwrap(), "rpm"));
        }
        let kit = self.at("docker-cimprov-1.0.0-44.universal.x86_64.sh");
        let row = "docker-cimprov    None           1.0.0.44       Yes";
        std::fs::write(&kit, format!("#!/bin/sh\necho '{row}'\n")).unwrap();
        self.bundle("all.sh", &packages, Some(&kit));
        for format in ["deb", "rpm"] {
            let of_it = packages.iter().filter(|p| p.ends_with(format));
            let of_it: Vec<String> = of_it.cloned().collect();
            self.bundle(&format!("{format}.sh"), &of_it, None);
        }
    }

    fn stand_in(&self, name: &str, version: &str) -> PathBuf {
        let path = self.at(&format!("{name}.toml"));
        let text = format!(
            "name = \"{name}\"\nsummary = \"Stand-in\"\ndescription = \"Stand-in.\"\n\
             maintainer = \"T <t@example.org>\"\nvendor = \"T\"\nlicense = \"MIT\"\n\
             [deb]\nsection = \"utils\"\npriority = \"optional\"\n[rpm]\ngroup = \"T\"\n\
             [[change]]\nversion = \"{version}\"\ndate = \"2026-01-01\"\ntext = [\"One.\"]\n\
             [[dir]]\npath = \"/opt/stand-in-{name}\"\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn package(&self, manifest: &str, format: &str) -> String {
        let label: &[&str] = match manifest {
            m if m.ends_with("omsconfig.toml") => &["--version-label", "1.3.0-0"],
            m if m.ends_with("omi.toml") || m.ends_with("scx.toml") => {
                &["--version-label", "1.8.1-0"]
            }
            _ => &[],
        };
        let binary = self.at("program");
        std::fs::write(&binary, "#!/bin/sh\n").unwrap();
        let args = [
            "pack",
            format,
            "--manifest",
            manifest,
            "--binary",
            binary.to_str().unwrap(),
            "--arch",
            "x86_64",
            "--time",
            "1700000000",
            "--out",
            self.dir.path().to_str().unwrap(),
        ];
        must(&[&args[..], label].concat()).trim().to_owned()
    }

    fn bundle(&self, name: &str, packages: &[String], kit: Option<&Path>) {
        let runner = format!("x86_64={}", self.at("omsagent").display());
        let out = self.at(name);
        let mut args = vec!["pack", "build", "--runner", &runner, "--out"];
        args.push(out.to_str().unwrap());
        args.extend(["--source-reference", "omsagent: 0123abc"]);
        args.extend(["--source-reference", "kits: 4567def", "--package"]);
        args.extend(packages.iter().map(String::as_str));
        let spec = kit.map(|kit| format!("docker={}", kit.display()));
        if let Some(spec) = &spec {
            args.extend(["--kit", spec, "--kit-when", "docker=command:docker"]);
        }
        must(&args);
    }

    /// A new folder that anyone may write to.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.at(name);
        std::fs::create_dir_all(&folder).unwrap();
        open_to_all(&folder);
        folder
    }

    pub fn run(&self, who: Who, bundle: &str, folder: &Path, words: &[&str]) -> Output {
        let mut argv = vec!["sh"];
        if who == Who::Nobody && is_root() {
            argv.splice(
                0..0,
                [
                    "setpriv",
                    "--reuid=65534",
                    "--regid=65534",
                    "--clear-groups",
                ],
            );
        }
        Command::new(argv[0])
            .args(&argv[1..])
            .arg(self.at(bundle))
            .args(words)
            .current_dir(folder)
            .env("OMSB_TMPDIR", self.at("tmp"))
            .env_remove("OMSAGENT_SHARED_KEY")
            .env_remove("OMSAGENT_CA_FILE")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What the row shows otherwise than it should; empty is right.
    pub fn try_row(&self, row: &Row) -> String {
        let folder = self.folder("work");
        let done = self.run(row.who, "all.sh", &folder, row.words);
        std::fs::remove_dir_all(&folder).unwrap();
        let mut wrong = wrong_with(row, &done);
        let left = std::fs::read_dir(self.at("tmp")).unwrap().count();
        if left > 0 {
            wrong.push_str("the runner's folder stayed; ");
        }
        wrong
    }
}

pub fn wrong_with(row: &Row, done: &Output) -> String {
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    let mut wrong = String::new();
    let mut note = |fine: bool, what: &str| {
        if !fine {
            wrong.push_str(what);
            wrong.push_str("; ");
        }
    };
    let code = done.status.code();
    note(code == Some(row.code), &format!("exit {code:?}"));
    match row.says {
        Says::Out(line) => note(out.lines().any(|l| l.starts_with(line)), "stdout"),
        Says::Err(line) => note(err.lines().any(|l| l.starts_with(line)), "stderr"),
        Says::Nothing => {}
    }
    let status = "OMS agent shell bundle exiting with status code";
    let last = out.lines().last().unwrap_or_default();
    let ends = last == format!("{status} {}", row.code);
    note(ends == row.trailer, "status line");
    note(
        out.matches(status).count() == usize::from(row.trailer) && !err.contains(status),
        "status line in the wrong place",
    );
    note(!err.contains("panicked"), "panic");
    if !wrong.is_empty() {
        wrong = format!("{wrong}\n  out: {out}\n  err: {err}");
    }
    wrong
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

fn must(args: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_omsagent"))
        .args(args)
        .output()
        .unwrap();
    assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
    text(&done.stdout)
}
