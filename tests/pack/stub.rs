//! The stub in every shell there is, whole and damaged. Most of it with a runner that tells how
//! it was called; the real binary has its turn too.

use crate::tools::{have, must, omsagent, run};
use crate::trial::{Trial, WORDS, err, out, reached, refused, shells};
use std::process::{Command, Stdio};

#[test]
fn every_shell_reaches_the_runner() {
    let trial = Trial::telling();
    let direct = [&["./b.sh"], WORDS.as_slice()].concat();
    reached(&trial.run(&direct), "./b.sh", &WORDS);
    for shell in shells() {
        let words = [shell, &["b.sh"], WORDS.as_slice()].concat();
        reached(&trial.run(&words), "b.sh", &WORDS);
    }
}

#[test]
fn from_anywhere_under_any_name() {
    let trial = Trial::telling();
    let bytes = trial.bytes();
    for name in ["a b", "*", "$HOME", "-b", "b'c\"d", "b\nc", "ü"] {
        let path = trial.file(name, &bytes);
        for shell in shells() {
            let typed = path.to_str().unwrap();
            let words = [shell, &[typed, "x"]].concat();
            let mut command = trial.command(&words);
            let done = command.current_dir("/proc").output().unwrap();
            assert_eq!(
                done.status.code(),
                Some(7),
                "{shell:?} {name}: {}",
                err(&done)
            );
        }
        let done = trial.run(&[&format!("./{name}"), "x"]);
        assert_eq!(done.status.code(), Some(7), "{name}: {}", err(&done));
    }
    let done = trial.run(&["dash", "--", "-b", "x"]);
    reached(&done, "./-b", &["x"]);
}

/// The original was published with mode 0144 in its archives; root reads it all the same.
#[test]
fn mode_0144_is_enough_for_root() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let trial = Trial::telling();
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o144);
    std::fs::set_permissions(&trial.bundle, mode).unwrap();
    reached(&trial.run(&["./b.sh", "a b"]), "./b.sh", &["a b"]);
    for shell in shells() {
        let done = trial.run(&[shell, &["b.sh", "a b"]].concat());
        reached(&done, "b.sh", &["a b"]);
    }
}

#[test]
fn the_runner_takes_the_shells_place() {
    let trial = Trial::telling();
    let child = trial
        .command(&["./b.sh"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let said = out(&child.wait_with_output().unwrap());
    assert!(said.contains(&format!("pid={pid}\n")), "{pid}\n{said}");
}

#[test]
fn the_version_without_the_runner_and_fast() {
    let trial = Trial::telling();
    let mut best = std::time::Duration::MAX;
    for shell in shells() {
        for _ in 0..5 {
            let begun = std::time::Instant::now();
            let done = trial.run(&[shell, &["b.sh", "--version", "--purge"]].concat());
            best = best.min(begun.elapsed());
            assert_eq!(out(&done), "Version: 2.0.0.1\n", "{shell:?}");
            assert_eq!(done.status.code(), Some(0), "{shell:?}");
        }
    }
    assert!(best.as_millis() <= 15, "{best:?}");
    reached(
        &trial.run(&["./b.sh", "-x", "--version"]),
        "./b.sh",
        &["-x", "--version"],
    );
    let cut = trial.file("cut", &trial.bytes()[..9000]);
    let done = trial.run(&["sh", cut.to_str().unwrap(), "--version"]);
    refused(&done, 2, "truncated: 9000 of", "--version of a cut bundle");
}

#[test]
fn cut_off_anywhere_it_never_succeeds() {
    let trial = Trial::telling();
    let bytes = trial.bytes();
    let script = bytes.iter().rposition(|b| *b == b'2').unwrap().min(8192);
    let text_end = bytes[..8192].iter().rposition(|b| *b != b'\n').unwrap() + 1;
    assert!(text_end < script && text_end < 6000);
    for (s, shell) in shells().enumerate() {
        // Each length is tried by some shell, and each shell tries a good part of them.
        for length in (0..text_end + 5).filter(|n| n % 7 == s % 7 || *n < 90 || n + 60 > text_end) {
            let path = trial.file("cut", &bytes[..length]);
            let done = trial.run(&[shell, &[path.to_str().unwrap(), "--install"]].concat());
            assert!(!out(&done).contains("self="), "{shell:?} {length}");
            // Nothing but a shell's name and not all of the trap: nothing to run.
            let empty = length < "#!/bin/sh\ncode=2; trap 'exit \"$code\"' 0".len();
            assert!(
                empty || done.status.code() != Some(0),
                "{shell:?} {length}: {}{}",
                out(&done),
                err(&done)
            );
        }
        for length in [8191, 8192, 8193, 12_000, 12_288, 20_000, bytes.len() - 1] {
            let path = trial.file("cut", &bytes[..length]);
            let done = trial.run(&[shell, &[path.to_str().unwrap(), "--install"]].concat());
            let says = format!("truncated: {length} of {} bytes", bytes.len());
            refused(&done, 2, &says, &format!("{shell:?} {length}"));
        }
    }
}

#[test]
fn altered_it_is_refused() {
    let trial = Trial::telling();
    let good = trial.bytes();
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut crlf = Vec::new();
    for byte in &good {
        if *byte == b'\n' {
            crlf.push(b'\r');
        }
        crlf.push(*byte);
    }
    let longer = [&good[..], b"junk"].concat();
    let arch = std::env::consts::ARCH;
    let runner = format!("entry `omsagent.{arch}' does not match");
    let cases = [
        ("CRs added", crlf, "line ends were changed"),
        ("junk at the end", longer, "4 bytes too many"),
        ("first bit of the runner", flip(8192), &*runner),
        ("a bit in the runner", flip(8300), &*runner),
        ("a bit in its padding", flip(12_287), &*runner),
        ("first line", flip(3), "cannot read"),
    ];
    for (case, bytes, message) in cases {
        let path = trial.file("bad", &bytes);
        for shell in shells() {
            let done = trial.run(&[shell, &[path.to_str().unwrap(), "--install"]].concat());
            refused(&done, 2, message, &format!("{case}, {shell:?}"));
        }
    }
}

#[test]
fn piped_it_is_refused() {
    let trial = Trial::telling();
    for shell in shells() {
        let name = shell.join(" ");
        for words in [format!("cat b.sh | {name}"), format!("{name} <b.sh")] {
            let done = trial.run(&["sh", "-c", &words]);
            refused(&done, 2, "cannot be piped", &words);
        }
        // A shell that is called by its path is itself a readable file.
        if let Some(path) = omsagent::base::command::find(shell[0]) {
            let rest = shell[1..].join(" ");
            let words = format!("cat b.sh | {} {rest}", path.display());
            let done = trial.run(&["sh", "-c", &words]);
            refused(&done, 2, "cannot be piped", &words);
        }
    }
}

#[test]
fn closed_descriptors_do_no_harm() {
    let trial = Trial::telling();
    for shell in shells() {
        let name = shell.join(" ");
        for closed in [
            "0<&-",
            "1>&-",
            "2>&-",
            "0<&- 1>&-",
            "0<&- 1>&- 2>&-",
            "8<&-",
        ] {
            let words = format!("exec {closed}; {name} b.sh x; code=$?; exit $code");
            let done = trial.run(&["dash", "-c", &words]);
            assert_eq!(done.status.code(), Some(7), "{words}: {}", err(&done));
        }
    }
}

#[test]
fn a_hostile_environment() {
    let trial = Trial::telling();
    for shell in shells() {
        let mut command = trial.command(&[shell, &["b.sh", "a b"]].concat());
        let program = omsagent::base::command::find(shell[0]).unwrap();
        let mut fresh = Command::new(program);
        fresh.args(command.get_args()).current_dir(trial.dir.path());
        fresh
            .env_clear()
            .env("OMSB_TMPDIR", trial.dir.path().join("tmp"))
            .env("PATH", trial.dir.path())
            .env("IFS", "abcdefs/ ")
            .env("TMPDIR", "relative")
            .env("place", "/")
            .env("total", "1")
            .stdin(Stdio::null());
        trial.file("ls", b"#!/bin/sh\necho fooled\n");
        let done = fresh.output().unwrap();
        reached(&done, "b.sh", &["a b"]);
        command.env("OMSB_TMPDIR", "tmp"); // not absolute: passed over
        command.env("TMPDIR", trial.dir.path().join("tmp"));
        reached(&command.output().unwrap(), "b.sh", &["a b"]);
    }
}

#[test]
fn a_folder_where_programs_cannot_run_is_passed_over() {
    let trial = Trial::telling();
    let noexec = trial.dir.path().join("noexec");
    std::fs::create_dir(&noexec).unwrap();
    for shell in shells() {
        let mut command = trial.command(&[shell, &["b.sh", "x"]].concat());
        command
            .env("OMSB_TMPDIR", &noexec)
            .env("TMPDIR", trial.dir.path().join("tmp"));
        reached(&command.output().unwrap(), "b.sh", &["x"]);
        assert_eq!(std::fs::read_dir(&noexec).unwrap().count(), 0, "{shell:?}");
    }
}

#[test]
fn a_real_noexec_mount_and_a_full_one() {
    if !nix::unistd::geteuid().is_root() || !have("unshare") {
        eprintln!("### NOT TESTED: a noexec mount (needs root)");
        return;
    }
    let trial = Trial::telling();
    let words = "mkdir full && mount -t tmpfs -o noexec none tmp && \
                 mount -t tmpfs -o size=64k none full && \
                 head -c 65536 /dev/zero >full/a && \
                 { TMPDIR=$PWD/full ./b.sh x; code=$?; ls tmp full; exit $code; }";
    let done = trial
        .command(&["unshare", "-m", "sh", "-c", words])
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(7), "{}{}", out(&done), err(&done));
    assert!(out(&done).ends_with("full:\na\n\ntmp:\n"), "{}", out(&done));
    let left = out(&done);
    assert!(left.contains("beside=yes"), "{left}");
    // The runner here does not clean up behind itself.
    must(
        "sh",
        &[
            "-c",
            "for d in /run/omsb.* /var/tmp/omsb.*; do grep -q 'echo \"beside=' \"$d/omsbundle\" 2>/dev/null && rm -r \"$d\"; done; true",
        ],
    );
}

#[test]
fn nowhere_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let runner = dir.path().join("runner");
    std::fs::write(&runner, "#!/bin/sh\nexit 1\n").unwrap();
    let trial = Trial::new(&runner);
    let done = trial.command(&["./b.sh", "x"]).output().unwrap();
    refused(&done, 2, "found no folder to run from", "no probe succeeds");
    for word in ["/tmp: programs cannot be run there", "Set OMSB_TMPDIR to"] {
        assert!(err(&done).contains(word), "{}", err(&done));
    }
    let left = std::fs::read_dir(trial.dir.path().join("tmp")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn another_processor() {
    let other = if std::env::consts::ARCH == "x86_64" {
        "aarch64"
    } else {
        "x86_64"
    };
    let trial = Trial::of(&omsagent(), other);
    for shell in shells() {
        let done = trial.run(&[shell, &["b.sh", "--install"]].concat());
        refused(
            &done,
            6,
            &format!("only for: {other}"),
            &format!("{shell:?}"),
        );
    }
}

#[test]
fn stopped_while_it_unpacks_it_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let runner = dir.path().join("runner");
    std::fs::write(
        &runner,
        "#!/bin/sh\n: >\"${0%/*}/../begun\"; exec sleep 30\n",
    )
    .unwrap();
    let trial = Trial::new(&runner);
    for (signal, code) in [
        (nix::sys::signal::SIGTERM, 143),
        (nix::sys::signal::SIGHUP, 129),
    ] {
        use std::os::unix::process::CommandExt;
        let mut child = trial
            // Started under nohup, SIGHUP would be ignored by all of us.
            .command(&["env", "--default-signal", "dash", "b.sh"])
            .process_group(0)
            .spawn()
            .unwrap();
        let begun = trial.dir.path().join("tmp/begun");
        for _ in 0..500 {
            if begun.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(begun.exists());
        let group = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::killpg(group, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        std::fs::remove_file(begun).unwrap();
        let left = std::fs::read_dir(trial.dir.path().join("tmp")).unwrap();
        assert_eq!(left.count(), 0);
    }
}

#[test]
fn the_real_binary_answers_through_the_stub() {
    let trial = Trial::new(&omsagent());
    for shell in shells() {
        let done = trial.run(&[shell, &["b.sh", "--stub-probe"]].concat());
        assert_eq!(out(&done), "omsb-probe-ok\n", "{shell:?} {}", err(&done));
        assert_eq!(done.status.code(), Some(0));
    }
    // Only under that name.
    let done = run(omsagent(), &["--stub-probe"]);
    assert_ne!(done.status.code(), Some(0));
}

#[test]
fn through_sudo() {
    if !have("sudo") || !nix::unistd::geteuid().is_root() {
        return;
    }
    let trial = Trial::telling();
    let place = format!("OMSB_TMPDIR={}", trial.dir.path().join("tmp").display());
    let done = trial.run(&["sudo", "-n", &place, "sh", "./b.sh", "a b"]);
    reached(&done, "./b.sh", &["a b"]);
}

/// A root with nothing but busybox: its sh, its dd, its cksum.
#[test]
fn busybox_is_enough() {
    if !have("busybox") || !nix::unistd::geteuid().is_root() {
        eprintln!("### NOT TESTED: a root of busybox alone (needs root)");
        return;
    }
    let trial = Trial::telling();
    let root = trial.dir.path().join("root");
    for folder in ["bin", "tmp", "dev", "lib", "lib64"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let busybox = omsagent::base::command::find("busybox").unwrap();
    std::fs::copy(&busybox, root.join("bin/busybox")).unwrap();
    let libraries = run("ldd", &[busybox.to_str().unwrap()]);
    for word in out(&libraries)
        .split_whitespace()
        .filter(|w| w.starts_with('/'))
    {
        let to = root.join(&word[1..]);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(word, to).unwrap();
    }
    std::fs::write(root.join("dev/null"), "").unwrap(); // a file will do
    std::fs::copy(&trial.bundle, root.join("b.sh")).unwrap();
    let inside = "/bin/busybox --install -s /bin; sh /b.sh --version; sh b.sh 'a b'";
    let words = [
        "chroot",
        root.to_str().unwrap(),
        "/bin/busybox",
        "sh",
        "-c",
        inside,
    ];
    let done = trial
        .command(&words)
        .env_remove("OMSB_TMPDIR")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let said = out(&done);
    assert!(
        said.starts_with("Version: 2.0.0.1\n"),
        "{said}{}",
        err(&done)
    );
    assert!(said.ends_with("arg=a b\n"), "{said}{}", err(&done));
    assert_eq!(done.status.code(), Some(7));
}
