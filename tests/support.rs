//! `omsagent support-bundle` on a folder that stands for a host: secrets are planted wherever one can
//! be, and none may be in the archive, in any form. What needs a running system is in
//! `tests/system/support.sh`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WS: &str = "11111111-2222-3333-4444-555555555555";
const OTHER: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
const ETC: &str = "etc/opt/microsoft/omsagent";
const VAR: &str = "var/opt/microsoft/omsagent";

/// Where each stands is in [`plant`]; all are different, some have letters that are written
/// differently in addresses, JSON and shells.
const SHARED_KEY: &str =
    "c2hhcmVkIGtleSBvZiB0aGUgb25ib2FyZGluZyBmaWxlLCA2NCBieXRlcyBsb25nIHdpdGggcGFkZGluZyBpbiBpdA==";
const ONBOARDING_PROXY: &str = "onb0ard-Pr0xy";
const PROXY: &str = "pr/0x@y+Pass\"w'ord";
const OLD_PROXY: &str = "old-pl4ce-proxy";
const EXTRA_TOKEN: &str = "extra_T0ken_of_omsadmin";
const UNKNOWN_KEY: &str = "nobody-Kn0ws-this";
const PARAMETER: &str = "correct horse battery";
const QUOTED_PARAMETER: &str = "qu0ted#par;am";
const ADDRESS_PARAMETER: &str = "addr3ss,in&conf";
const SAS: &str = "sV5aBcD%2FeFgHiJkLmNoP%3D";
const HEADER: &str = "h3ader.T0ken-of-log";
const COMMAND_LINE_KEY: &str = "Y29tbWFuZCBsaW5lIGtleQ==";
const UNIT_VARIABLE: &str = "un1t-Variable";
const UNIT_PASSWORD: &str = "unitpassword";
const CREDENTIAL: &str = "set:Credential1";
const QUEUED: &str = "queued-C0ntent";
const OUTSIDE: &str = "outs1de-Secret";
const RUN_LOG: &str = "r4n-with-Token";
const ENVIRONMENT_PROXY: &str = "env1ron-Proxy";
const ENVIRONMENT_KEY: &str = "ZW52aXJvbm1lbnQga2V5IG9mIG91cnM=";
/// A line of a private key.
const KEY_LINE: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDSm4p6Jy4x2W1k";
const LAST_KEY_LINE: &str = "q2hR5tYw==";

fn secrets() -> Vec<&'static str> {
    vec![
        SHARED_KEY,
        ONBOARDING_PROXY,
        PROXY,
        OLD_PROXY,
        EXTRA_TOKEN,
        UNKNOWN_KEY,
        PARAMETER,
        QUOTED_PARAMETER,
        ADDRESS_PARAMETER,
        SAS,
        HEADER,
        COMMAND_LINE_KEY,
        UNIT_VARIABLE,
        UNIT_PASSWORD,
        CREDENTIAL,
        QUEUED,
        OUTSIDE,
        RUN_LOG,
        ENVIRONMENT_PROXY,
        ENVIRONMENT_KEY,
        KEY_LINE,
        LAST_KEY_LINE,
    ]
}

fn percent(text: &str, all: bool) -> String {
    let one = |b: u8| match b.is_ascii_alphanumeric() && !all {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

/// Every form in which a secret is written in the log.
fn written(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).unwrap();
    let basic = |user: &str| STANDARD.encode(format!("{user}:{secret}"));
    let mut forms = vec![
        secret.to_owned(),
        percent(secret, false),
        percent(secret, true),
        percent(secret, true).to_lowercase(),
        json.trim_matches('"').to_owned(),
        secret.replace('\'', "'\\''"),
        secret.chars().rev().collect(),
        URL_SAFE.encode(secret),
        basic("us").replace('+', "%2B").replace('=', "%3D"),
    ];
    forms.extend(["u", "us", "use"].map(basic));
    forms
}

/// What must not be seen of it: these, and of base64 the letters that only the secret decides,
/// whatever stands before it.
fn forms(secret: &str) -> Vec<String> {
    let sure = |user: &str| {
        let text = STANDARD.encode(format!("{user}:{secret}"));
        let text = text.trim_end_matches('=');
        text[(user.len() + 1) * 4 / 3 + 1..text.len() - 1].to_owned()
    };
    let mut forms = written(secret);
    forms.extend(["u", "us", "use"].map(sure));
    forms
}

/// A host's files, with secrets in all of them.
fn plant(root: &Path) {
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let conf = format!("{ETC}/{WS}/conf");
    put("etc/os-release", "ID=debian\nPRETTY_NAME=\"A system\"\n");
    put("etc/hosts", "10.1.2.3 web1.corp.example web1\n");
    put(
        "etc/resolv.conf",
        "search corp.example\nnameserver 10.9.8.7\n",
    );
    put(
        "etc/omsagent-onboard.conf",
        &format!(
            "WORKSPACE_ID={WS}\nSHARED_KEY='{SHARED_KEY}'\nPROXY=\"http://u:{ONBOARDING_PROXY}@p.test:3128\"\n"
        ),
    );
    put(
        &format!("{ETC}/proxy.conf"),
        &format!("http://user:{}@p.test:3128\n", percent(PROXY, false)),
    );
    put(
        &format!("{conf}/proxy.conf"),
        &format!("user:{OLD_PROXY}@p.test:3128\n"),
    );
    put(
        &format!("{conf}/omsadmin.conf"),
        &format!(
            "WORKSPACE_ID={WS}\nURL_TLD=oms.test\nEXTRA_TOKEN={EXTRA_TOKEN}\nSOMETHING={UNKNOWN_KEY}\n"
        ),
    );
    put(
        &format!("{conf}/omsagent.conf"),
        &format!(
            "<match oms.**>\n  type out_oms\n  key_path /x/oms.key\n  password {PARAMETER}\n  shared_key \"{QUOTED_PARAMETER}\"\n  \
             proxy http://a:{ADDRESS_PARAMETER}@h.test:1\n</match>\n"
        ),
    );
    put(
        &format!("{conf}/omsagent.d/{OLD_PROXY}.conf"),
        "# named by mistake\n",
    );
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{KEY_LINE}\n{LAST_KEY_LINE}\n-----END PRIVATE KEY-----\n"
    );
    put(&format!("{ETC}/{WS}/certs/oms.key"), &pem);
    put(&format!("{ETC}/{WS}/certs/oms.crt"), "no certificate\n");
    put(
        &format!("{ETC}/{OTHER}/conf/omsadmin.conf"),
        &format!("WORKSPACE_ID={OTHER}\n"),
    );
    put(&format!("{VAR}/{WS}/state/out.queue/0.seg"), QUEUED);
    // A log in which everything turns up in every form.
    let mut log = String::from("2031-08-09 10:11:12 +0000 [info]: the agent began\n");
    for secret in secrets()
        .into_iter()
        .filter(|s| ![QUEUED, OUTSIDE, SAS, HEADER, COMMAND_LINE_KEY].contains(s))
    {
        for form in written(secret) {
            log.push_str(&format!(
                "2031-08-09 10:11:12 +0000 [warn]: seen {form}, again ({form})\n"
            ));
        }
        let basic = STANDARD.encode(format!("user:{secret}"));
        log.push_str(&format!("> Proxy-Authorization: Basic {basic}\r\n"));
    }
    log.push_str(&format!(
        "GET https://b.test/c?sv=2031&sig={SAS}&se=x: 403\n"
    ));
    log.push_str(&format!(
        "> Authorization: Bearer {HEADER}\nonce more {HEADER}\n"
    ));
    log.push_str(&format!(
        "ran: sh omsadmin.sh -w {WS} -s {COMMAND_LINE_KEY} -d x\n"
    ));
    log.push_str(&pem);
    put(&format!("{VAR}/{WS}/log/omsagent.log"), &log);
    put(
        "var/lib/omsagent/log/2031-08-09.log",
        &format!("{{\"token\":\"{RUN_LOG}\",\"n\":1}}\nand {RUN_LOG}\n"),
    );
    put("var/lib/omsagent/undo/1/body", OUTSIDE);
    put(
        &format!("etc/systemd/system/omsagent-{WS}.service.d/x.conf"),
        &format!(
            "[Service]\nEnvironment=A={UNIT_VARIABLE} \"DB_PASSWORD={UNIT_PASSWORD}\"\nSetCredential=x:{CREDENTIAL}\n"
        ),
    );
    put(
        "etc/sudoers",
        &format!("# {OUTSIDE}\nomsagent ALL=(ALL) NOPASSWD: /bin/x --password={RUN_LOG}\n"),
    );
    put(
        "etc/rsyslog.conf",
        &format!("# {OUTSIDE}\n*.* @127.0.0.1:25224\n"),
    );
    // What the service account may put into its folders to have root fetch it.
    put("root/secret", OUTSIDE);
    put("root/folder/file.conf", OUTSIDE);
    symlink(root.join("root/secret"), root.join(&conf).join("link.conf")).unwrap();
    symlink(root.join("root/folder"), root.join(&conf).join("folder")).unwrap();
    std::fs::hard_link(root.join("root/secret"), root.join(&conf).join("name.conf")).unwrap();
}

fn run(root: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_omsagent"))
        .args(["support-bundle", "--root"])
        .arg(root)
        .args(args)
        .env(
            "HTTPS_PROXY",
            format!("http://e:{ENVIRONMENT_PROXY}@p.test:1"),
        )
        .env("OMSAGENT_SHARED_KEY", ENVIRONMENT_KEY)
        .output()
        .unwrap()
}

/// Writes an archive and unpacks it: (the folder, everything in it with its names).
fn archive(root: &Path, args: &[&str]) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tar.gz");
    let done = run(root, &[&["-o", file.to_str().unwrap()], args].concat());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{said}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let to = dir.path().join("x");
    std::fs::create_dir(&to).unwrap();
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(&file)
        .arg("-C")
        .arg(&to)
        .status();
    assert!(unpacked.unwrap().success());
    let folder = std::fs::read_dir(&to)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut all = Vec::new();
    all.extend([done.stdout, done.stderr].concat());
    gather(&to, &mut all);
    (dir, folder, all)
}

fn gather(path: &Path, all: &mut Vec<u8>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        all.extend_from_slice(path.file_name().unwrap().as_encoded_bytes());
        all.push(b'\n');
        match path.symlink_metadata().unwrap().is_dir() {
            true => gather(&path, all),
            false if path.is_symlink() => {}
            false => all.extend(std::fs::read(&path).unwrap()),
        }
    }
}

fn seen(all: &[u8], text: &str) -> bool {
    all.windows(text.len()).any(|w| w == text.as_bytes())
}

#[test]
fn no_secret_is_in_the_archive_in_any_form() {
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    // What is looked for is there to be found.
    let mut planted = Vec::new();
    gather(root.path(), &mut planted);
    for secret in secrets().into_iter().filter(|s| *s != PROXY) {
        assert!(seen(&planted, secret), "{secret} was not planted");
    }
    let (_dir, folder, all) = archive(root.path(), &[]);
    let mut found = Vec::new();
    for secret in secrets() {
        for form in forms(secret) {
            if seen(&all, &form) {
                found.push(format!("{secret} as {form}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    // What helps is there.
    let read = |path: &str| {
        std::fs::read_to_string(folder.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let conf = read(&format!("files/{ETC}/{WS}/conf/omsagent.conf"));
    assert!(
        conf.contains("type out_oms") && conf.contains("key_path /x/oms.key"),
        "{conf}"
    );
    assert!(
        conf.contains("password [redacted]\n") && conf.contains("http://a:[redacted]@h.test:1"),
        "{conf}"
    );
    let admin = read(&format!("files/{ETC}/{WS}/conf/omsadmin.conf"));
    assert!(
        admin.contains(&format!("WORKSPACE_ID={WS}\nURL_TLD=oms.test\n")),
        "{admin}"
    );
    let log = read(&format!("files/{VAR}/{WS}/log/omsagent.log"));
    assert!(
        log.contains("the agent began") && log.contains("sv=2031&sig=[redacted]&se=x"),
        "{log}"
    );
    assert!(
        log.contains(&format!("omsadmin.sh -w {WS} -s [redacted] -d x")),
        "{log}"
    );
    assert!(read("files/etc/rsyslog.conf").contains("2: *.* @127.0.0.1:25224"));
    assert!(read("files/etc/sudoers").contains("NOPASSWD: /bin/x"));
    assert!(read("facts/os-release.txt").contains("A system"));
    let list = read("facts/files.txt");
    for listed in [
        "certs/oms.key",
        "state/out.queue/0.seg",
        "link.conf -> ",
        "-rw",
    ] {
        assert!(list.contains(listed), "{listed}: {list}");
    }
    let manifest = read("MANIFEST");
    assert!(
        manifest.contains("known secret") && manifest.contains("1 private key"),
        "{manifest}"
    );
    assert!(
        manifest.contains("name.conf\thas several names"),
        "{manifest}"
    );
    assert!(manifest.contains("not the running system"), "{manifest}");
    let _: serde_json::Value = serde_json::from_str(&read("status.json")).unwrap();
}

#[test]
fn one_workspace_leaves_the_others_out() {
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    let (_dir, folder, _) = archive(root.path(), &["-w", WS]);
    assert!(
        folder
            .join(format!("files/{ETC}/{WS}/conf/omsadmin.conf"))
            .exists()
    );
    assert!(!folder.join(format!("files/{ETC}/{OTHER}")).exists());
    let done = run(root.path(), &["-w", "99999999-7777-8888-9999-aaaaaaaaaaaa"]);
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("does not exist on this host"), "{said}");
    assert_eq!(run(root.path(), &["-w", "../x"]).status.code(), Some(2));
}

#[test]
fn nothing_is_written_over_and_a_dry_run_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("there");
    std::fs::write(&file, "mine").unwrap();
    let done = run(root.path(), &["-o", file.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    std::fs::remove_file(&file).unwrap();
    symlink(dir.path().join("target"), &file).unwrap();
    assert_eq!(
        run(root.path(), &["-o", file.to_str().unwrap()])
            .status
            .code(),
        Some(1)
    );
    assert!(!dir.path().join("target").exists());
    std::fs::remove_file(&file).unwrap();
    let done = run(
        root.path(),
        &["-o", dir.path().to_str().unwrap(), "--dry-run"],
    );
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        said.contains("omsadmin.conf") && said.contains("nothing was written"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // Into a folder, under the name that says whose it is and when it was made.
    let done = run(root.path(), &["-o", dir.path().to_str().unwrap(), "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let file = Path::new(said["file"].as_str().unwrap());
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(
        name.starts_with("omsagent-support-") && name.ends_with("Z.tar.gz"),
        "{name}"
    );
    assert_eq!(
        std::fs::metadata(file).unwrap().len(),
        said["size"].as_u64().unwrap()
    );
    assert!(said["entries"].as_array().unwrap().len() > 10 && said["schema"] == 1);
}

#[test]
fn names_and_addresses_can_be_replaced() {
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    let (_dir, _, all) = archive(root.path(), &[]);
    assert!(seen(&all, "10.9.8.7"));
    let (_dir, folder, all) = archive(root.path(), &["--anonymous"]);
    for name in ["10.9.8.7", "corp.example", "web1"] {
        assert!(!seen(&all, name), "{name}");
    }
    let resolver = std::fs::read_to_string(folder.join("facts/resolv.conf")).unwrap();
    assert!(
        resolver.contains("search host-") && resolver.contains("nameserver ip-"),
        "{resolver}"
    );
    assert!(
        folder
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("omsagent-support-host-")
    );
}

#[test]
fn whoever_is_not_root_gets_what_he_may_see() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root, to be somebody else");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.path(), open.clone()).unwrap();
    let closed = root.path().join(format!("{ETC}/{WS}/certs"));
    std::fs::set_permissions(closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("omsagent");
    std::fs::copy(env!("CARGO_BIN_EXE_omsagent"), &program).unwrap();
    let done = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["support-bundle", "--root"])
        .arg(root.path())
        .arg("-o")
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(
        said.contains("certs") && said.contains("only root can look everywhere"),
        "{said}"
    );
}
