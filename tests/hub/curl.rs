//! The program `omsagent hub`, and an agent that is curl, with a certificate and signatures made by
//! openssl: nothing of ours on that side.

use crate::stage::{DOMAIN, TOPOLOGY, UPLOAD};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const GUID: &str = "0b6c1f3e-1111-4222-8333-444455556666";

pub fn hub(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omsagent"));
    command.arg("hub").args(args).stdin(Stdio::null());
    command
}

pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

pub fn failed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "{command:?}: {}",
        text(&output.stdout)
    );
    output
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn value_of<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

/// A folder for a hub and its agent's files.
pub struct Place {
    pub temp: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Place {
            temp: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub fn data(&self) -> String {
        self.path("hub").display().to_string()
    }

    pub fn add_workspace(&self) -> (String, String) {
        let added = done(&mut hub(&["workspace", "add", "--data", &self.data()]));
        (
            value_of(&added, "workspace-id: ").to_owned(),
            value_of(&added, "shared-key: ").to_owned(),
        )
    }

    pub fn query(&self, sql: &str) -> serde_json::Value {
        let printed = done(&mut hub(&["query", "--data", &self.data(), sql, "--json"]));
        serde_json::from_str(&printed).unwrap()
    }
}

/// A serving program; killed when dropped.
pub struct Serving {
    child: Child,
    pub port: u16,
    pub ca_file: Option<PathBuf>,
    log: PathBuf,
}

impl Serving {
    pub fn start(place: &Place, more: &[&str]) -> Self {
        let log = place.path("serve.log");
        let (data, listen) = (place.data(), "127.0.0.1:0");
        let args = [
            "serve", "--data", &data, "--listen", listen, "--domain", DOMAIN,
        ];
        let mut child = hub(&args)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut ca_file = None;
        let port = loop {
            let line = match lines.next() {
                Some(line) => line.unwrap(),
                None => panic!("{}", std::fs::read_to_string(&log).unwrap()),
            };
            if let Some(path) = line.strip_prefix("ca-file: ") {
                ca_file = Some(PathBuf::from(path));
            }
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.rsplit(':').next().unwrap().parse().unwrap();
            }
        };
        Serving {
            child,
            port,
            ca_file,
            log,
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub fn end(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(15) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end: {}", self.log());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a shell script with bash; only for what openssl and curl shall do on their own.
pub fn shell(script: &str, vars: &[(&str, &str)]) -> String {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .envs(vars.iter().copied());
    done(&mut command)
}

/// An agent made of openssl and curl.
pub struct CurlAgent<'a> {
    place: &'a Place,
    pub port: u16,
    pub ca_file: PathBuf,
    ws: String,
}

impl<'a> CurlAgent<'a> {
    pub fn new(place: &'a Place, serving: &Serving, ws: &str) -> Self {
        let subject = format!("/CN={ws}/CN={GUID}/OU=Linux Monitoring Agent/O=Microsoft");
        shell(
            r#"openssl req -x509 -newkey rsa:2048 -nodes -keyout "$DIR/oms.key" -out "$DIR/oms.crt" \
               -days 365 -subj "$SUBJECT" 2>/dev/null"#,
            &[
                ("DIR", &place.path("").display().to_string()),
                ("SUBJECT", &subject),
            ],
        );
        CurlAgent {
            place,
            port: serving.port,
            ca_file: serving.ca_file.clone().unwrap(),
            ws: ws.to_owned(),
        }
    }

    /// Status and body of a POST.
    pub fn post(&self, service: &str, path: &str, headers: &[&str], body: &Path) -> (u16, String) {
        let host = format!("{}.{service}.{DOMAIN}", self.ws);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--write-out", "\n%{http_code}"])
            .arg("--cacert")
            .arg(&self.ca_file)
            .arg("--cert")
            .arg(self.place.path("oms.crt"))
            .arg("--key")
            .arg(self.place.path("oms.key"))
            .args(["--resolve", &format!("{host}:{}:127.0.0.1", self.port)])
            .arg("--data-binary")
            .arg(format!("@{}", body.display()))
            .args(headers.iter().flat_map(|h| ["--header", *h]))
            .arg(format!("https://{host}:{}{path}", self.port));
        let printed = done(&mut curl);
        let (body, status) = printed.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// Onboards with a signature by openssl.
    pub fn onboard(&self, key: &str) -> (u16, String) {
        let body = self.place.path("topology.xml");
        let made = shell(
            r#"
            cert=$(grep -v -- ----- "$DIR/oms.crt")
            printf '<?xml version="1.0"?>\n<AgentTopologyRequest xmlns="http://schemas.microsoft.com/WorkloadMonitoring/HealthServiceProtocol/2014/09/"><FullyQualfiedDomainName>web01\n</FullyQualfiedDomainName><EntityTypeId>%s</EntityTypeId><AuthenticationCertificate>%s\n</AuthenticationCertificate></AgentTopologyRequest>' "$GUID" "$cert" >"$BODY"
            date=$(date +%Y-%m-%dT%H:%M:%S.%N%:z)
            hash=$(openssl dgst -sha256 -binary "$BODY" | base64)
            hex=$(printf %s "$KEY" | base64 -d | od -An -v -tx1 | tr -d ' \n')
            hmac=$(printf '%s\n%s\n' "$date" "$hash" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$hex" -binary | base64)
            printf 'date: %s\nhash: %s\nhmac: %s\n' "$date" "$hash" "$hmac""#,
            &[
                ("DIR", &self.place.path("").display().to_string()),
                ("BODY", &body.display().to_string()),
                ("GUID", GUID),
                ("KEY", key),
            ],
        );
        let headers = [
            format!("x-ms-Date: {}", value_of(&made, "date: ")),
            "x-ms-version: August, 2014".to_owned(),
            format!("x-ms-SHA256_Content: {}", value_of(&made, "hash: ")),
            format!("Authorization: {}; {}", self.ws, value_of(&made, "hmac: ")),
        ];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        self.post("oms", TOPOLOGY, &headers, &body)
    }

    pub fn upload(&self, body: &str) -> u16 {
        let path = self.place.path("items.json");
        std::fs::write(&path, body).unwrap();
        self.post("ods", UPLOAD, &["Content-Type: application/json"], &path)
            .0
    }
}
