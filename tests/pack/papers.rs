//! Manual pages and completions as the packages bring them: whole, and good to the programs that
//! read them.

use crate::tools::{have, must, nothing, omsagent, run};
use omsagent::cli::grammar::{Grammar, Words};
use omsagent::cli::{admin, bundle, service, syslog, uninstall};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PAGES: [&str; 7] = [
    "man1/omsagent-bundle.1",
    "man1/omsagent.1",
    "man5/omsagent.conf.5",
    "man8/configure_syslog.sh.8",
    "man8/omsadmin.sh.8",
    "man8/omsagent-hub.8",
    "man8/service_control.8",
];

/// A package's /usr/share, unpacked, with its manual pages as they are read.
struct Papers {
    _dir: tempfile::TempDir,
    share: PathBuf,
}

impl Papers {
    fn get() -> Papers {
        let dir = tempfile::tempdir().unwrap();
        let binary = nothing(dir.path());
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/omsagent.toml");
        let mut args = vec!["pack", "deb", "--manifest", manifest, "--arch", "x86_64"];
        args.extend(["--binary", binary.to_str().unwrap()]);
        args.extend(["--out", dir.path().to_str().unwrap()]);
        let deb = must(omsagent(), &args);
        let to = dir.path().join("x");
        let mut taken = Vec::new();
        omsagent::package::payload::walk(Path::new(deb.trim()), &mut |piece, bytes| {
            let path = to.join(&piece.path[1..]);
            if let omsagent::package::payload::Kind::File { .. } = piece.kind {
                std::fs::create_dir_all(path.parent().unwrap())?;
                std::io::copy(bytes, &mut std::fs::File::create(&path)?)?;
                taken.push(path);
            }
            Ok(())
        })
        .unwrap();
        for path in taken
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "gz"))
        {
            let bytes = std::fs::read(path).unwrap();
            let text = omsagent::package::gunzip(&bytes, 1 << 20).unwrap();
            std::fs::write(path.with_extension(""), text).unwrap();
        }
        Papers {
            share: to.join("usr/share"),
            _dir: dir,
        }
    }

    fn page(&self, name: &str) -> PathBuf {
        self.share.join("man").join(name)
    }

    fn bash(&self) -> PathBuf {
        self.share.join("bash-completion/completions/omsagent")
    }

    fn zsh(&self) -> PathBuf {
        self.share.join("zsh/vendor-completions/_omsagent")
    }

    fn fish(&self) -> PathBuf {
        self.share.join("fish/vendor_completions.d/omsagent.fish")
    }
}

/// What `--help` of the program and of every subcommand names: (words that lead there, a word).
fn by_help(path: &[String], found: &mut BTreeSet<(String, String)>) {
    let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
    args.push("--help");
    let done = run(omsagent(), &args);
    assert_eq!(done.status.code(), Some(0), "{args:?}");
    let help = String::from_utf8(done.stdout).unwrap();
    let mut part = "";
    for line in help.lines() {
        if !line.starts_with(' ') {
            part = line.trim_end_matches(':');
            continue;
        }
        // Texts go on further to the right.
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().collect();
        if part == "Commands" && indent == 2 && words[0] != "help" {
            found.insert((path.join(" "), words[0].to_owned()));
            let older = ["admin", "service", "syslog", "uninstall"];
            if !older.contains(&words[0]) {
                by_help(&[path, &[words[0].to_owned()]].concat(), found);
            }
        } else if part == "Options" && indent <= 6 {
            let long = words.iter().find(|w| w.starts_with("--"));
            let long = long.map(|w| w.trim_end_matches([',', '.']));
            found.extend(long.map(|l| (path.join(" "), l.to_owned())));
        }
    }
}

fn by_table(path: &str, grammar: &Grammar) -> BTreeSet<(String, String)> {
    let words = grammar.rows().flat_map(|(row, _)| Words::of(row).spellings);
    words
        .map(|word| (path.to_owned(), word.to_owned()))
        .collect()
}

#[test]
fn every_word_is_on_a_page_and_in_each_completion() {
    let mut found = BTreeSet::new();
    by_help(&[], &mut found);
    assert!(found.len() > 60, "{found:?}");
    for sure in [
        ("", "doctor"),
        ("doctor", "--fix"),
        ("hub workspace add", "--name"),
    ] {
        assert!(found.contains(&(sure.0.into(), sure.1.into())), "{sure:?}");
    }
    found.extend(by_table("admin", &admin::GRAMMAR));
    found.extend(by_table("service", &service::GRAMMAR));
    found.extend(by_table("syslog", &syslog::GRAMMAR));
    found.extend(by_table("uninstall", &uninstall::GRAMMAR));
    let papers = Papers::get();
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    // Of roff's marks only these stand within a word.
    let roff = |name: &&str| {
        read(papers.page(name))
            .replace("\\-", "-")
            .replace("\\fB", " ")
    };
    let pages: String = PAGES.iter().map(roff).collect();
    let pages = pages.replace("\\fR", " ");
    let has = |text: &str, word: &str| {
        let within = |c: char| c.is_alphanumeric() || "-_?".contains(c);
        text.split(|c| !within(c)).any(|w| w == word)
    };
    let (bash, zsh, fish) = (read(papers.bash()), read(papers.zsh()), read(papers.fish()));
    let mut missing = Vec::new();
    for (path, word) in &found {
        let whole = format!("omsagent {path}").trim_end().to_owned();
        if !has(&pages, word) {
            missing.push(format!("pages: {whole} {word}"));
        }
        if word == "-?" {
            continue;
        }
        let offered = bash
            .lines()
            .find(|l| l.trim_start().starts_with(&format!("'{whole}')")));
        if !offered.is_some_and(|line| has(line, word)) {
            missing.push(format!("bash: {whole} {word}"));
        }
        let function = format!("\n_omsagent__{}() {{", whole.replace([' ', '-'], "_"));
        let body = zsh.split(&function).nth(1).unwrap_or_default();
        if !has(body.split("\n}\n").next().unwrap_or_default(), word) {
            missing.push(format!("zsh: {whole} {word}"));
        }
        let at = format!("complete -c omsagent -n '__omsagent_at \\'{whole}\\''");
        let bare = word.trim_start_matches('-');
        let mut lines = fish.lines().filter_map(|l| l.strip_prefix(&at));
        if !lines.any(|l| l.split([' ', '\'']).any(|w| w == bare)) {
            missing.push(format!("fish: {whole} {word}"));
        }
    }
    // The bundle has a page and no completion: its name is whatever somebody called the file.
    for (_, word) in by_table("", &bundle::args::GRAMMAR) {
        if !has(&roff(&PAGES[0]).replace("\\fR", " "), &word) {
            missing.push(format!("omsagent-bundle.1: {word}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Runs it in an empty environment; all that it says.
fn says(program: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", "100")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn man_groff_and_mandoc_have_nothing_to_say_of_the_pages() {
    let papers = Papers::get();
    for name in PAGES {
        let page = papers.page(name);
        let page = page.to_str().unwrap();
        if have("man") {
            let (code, shown, said) = says("man", &["-l", "--warnings", "-E", "UTF-8", page]);
            assert_eq!((code, said.as_str()), (Some(0), ""), "{name}");
            assert!(
                shown.contains("SEE ALSO") && shown.lines().count() > 25,
                "{shown}"
            );
            // apropos(1) reads it.
            let title = name.split('/').nth(1).unwrap().rsplit_once('.').unwrap().0;
            assert!(shown.contains(&format!("{title} - ")), "{shown}");
        }
        if have("groff") {
            let (code, _, said) = says("groff", &["-man", "-ww", "-z", "-Tutf8", page]);
            assert_eq!((code, said.as_str()), (Some(0), ""), "{name}");
        }
        if have("mandoc") {
            let (_, said, _) = says("mandoc", &["-T", "lint", "-W", "warning", page]);
            assert_eq!(said, "", "{name}");
        }
    }
}

/// What bash offers for `line`, whose last word is being typed.
fn bash_offers(script: &Path, words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
    let command = format!(
        "set -u; source '{}'; complete -p {} >/dev/null || exit 3\n\
         COMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()\n\
         _omsagent; ((${{#COMPREPLY[@]}} == 0)) || printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words[0].rsplit('/').next().unwrap(),
        quoted.join(" ")
    );
    let (code, out, err) = says("bash", &["--norc", "-c", &command]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes() {
    if !have("bash") {
        return;
    }
    let papers = Papers::get();
    let script = papers.bash();
    let offers = |words: &[&str]| bash_offers(&script, words);
    for (words, wanted) in [
        (&["omsagent", "doc"][..], &["doctor"][..]),
        (&["omsagent", "hub", "wo"], &["workspace"]),
        (&["omsagent", "hub", "workspace", "l"], &["list"]),
        (
            &["omsagent", "doctor", "--role", "man"],
            &["management-server"],
        ),
        (&["omsagent", "doctor", "--role", "=", "c"], &["console"]),
        (
            &["omsagent", "doctor", "--role", "="],
            &["agent", "management-server", "console"],
        ),
        (&["omsagent", "doctor", "--f"], &["--fix"]),
        (&["omsagent", "service", "is"], &["is-running"]),
        (
            &["/opt/microsoft/omsagent/bin/service_control", "rel"],
            &["reload"],
        ),
        (&["omsadmin.sh", "--sha"], &["--shared-key-file"]),
        (&["omsadmin.sh", "-s", ""], &[]),
        (&["configure_syslog.sh", "p"], &["purge"]),
        (&["omsagent", "hub", "serve", "--listen", ""], &[]),
    ] {
        assert_eq!(offers(words), wanted, "{words:?}");
    }
    let all = offers(&["omsadmin.sh", ""]);
    assert!(
        all.iter().any(|w| w == "-l") && all.iter().any(|w| w == "--ca-file"),
        "{all:?}"
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    std::fs::write(dir.path().join("file.sh"), "").unwrap();
    let at = format!("{}/f", dir.path().display());
    let mut files = offers(&["omsagent", "verify", &at]);
    files.sort();
    assert_eq!(files, [format!("{at}ile.sh"), format!("{at}older")]);
    let folders = offers(&["omsagent", "hub", "serve", "--data", &at]);
    assert_eq!(folders, [format!("{at}older")]);
    if have("shellcheck") {
        let (code, said, _) = says("shellcheck", &["-s", "bash", script.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn zsh_takes_its_file_and_completes() {
    if !have("zsh") {
        return;
    }
    let papers = Papers::get();
    let script = papers.zsh();
    let (code, _, said) = says("zsh", &["-n", script.to_str().unwrap()]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    // A zsh within a terminal of zsh's own, which is asked to complete and shows what it has.
    let ask = "zmodload zsh/zpty; zpty -b z zsh -fi\n\
        send() { zpty -w z \"$1\" }\n\
        send 'PS1=; unsetopt zle_bracketed_paste; LISTMAX=0; fpath=('$1' $fpath); autoload -Uz compinit; compinit -u -D; stty -echo; print -r -- READY'\n\
        local line; local -i n=0; while (( n++ < 400 )); do if zpty -r -t z line; then [[ $line == *READY* && $line != *print* ]] && break; else sleep 0.05; fi; done\n\
        zpty -n -w z \"$2\"$'\\t\\t'; n=0\n\
        while (( n++ < 60 )); do if zpty -r -t z line; then print -rn -- $line; n=0; else sleep 0.05; fi; (( n > 40 )) && break; done";
    let folder = script.parent().unwrap().to_str().unwrap();
    for (typed, wanted) in [
        ("omsagent hub wo", "workspace"),
        ("omsagent doctor --ro", "--role"),
        ("service_control is", "is-running"),
        ("omsagent hub serve --max-s", "--max-skew"),
        ("omsagent pack ", "inspect"),
    ] {
        let (_, shown, said) = says("zsh", &["-fc", ask, "zsh", folder, typed]);
        assert!(shown.contains(wanted), "{typed}: {shown} {said}");
    }
}

#[test]
fn fish_completes() {
    if !have("fish") {
        return;
    }
    let papers = Papers::get();
    let script = papers.fish();
    let script = script.to_str().unwrap();
    let home = tempfile::tempdir().unwrap();
    let fish = |args: &[&str]| {
        let done = Command::new("fish")
            .args(args)
            .stdin(Stdio::null())
            .env("HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path())
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && said.is_empty(), "{args:?}: {said}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    fish(&["-n", script]);
    for (typed, wanted) in [
        ("omsagent doc", &["doctor"][..]),
        ("omsagent hub workspace a", &["add"]),
        (
            "omsagent doctor --role ",
            &["agent", "console", "management-server"],
        ),
        ("omsagent doctor --fi", &["--fix"]),
        ("service_control rel", &["reload"]),
        ("omsadmin.sh --shared", &["--shared-key-file"]),
        ("configure_syslog.sh un", &["unconfigure"]),
    ] {
        let ask = format!("source '{script}'; complete -C '{typed}'");
        let said = fish(&["-N", "-c", &ask]);
        let mut words: Vec<&str> = said.lines().filter_map(|l| l.split('\t').next()).collect();
        words.sort_unstable();
        assert_eq!(words, wanted, "{typed}");
    }
}
