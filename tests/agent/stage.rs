//! A workspace in a folder of its own, and an agent that runs in it.

use omsagent::base::ids::{AgentGuid, WorkspaceId};
use omsagent::wire::authority::Authority;
use omsagent::wire::identity::ClientIdentity;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub const WORKSPACE: &str = "11111111-2222-3333-4444-555555555555";
pub const GUID: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One key pair for all tests: making it takes a while.
pub fn identity() -> &'static ClientIdentity {
    static IDENTITY: OnceLock<ClientIdentity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let ws: WorkspaceId = WORKSPACE.parse().unwrap();
        let guid: AgentGuid = GUID.parse().unwrap();
        ClientIdentity::generate(&ws, &guid, jiff::Timestamp::now()).unwrap()
    })
}

/// One authority for all servers.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::make().unwrap())
}

/// The program under test: `OMSAGENT_TEST_BINARY`, for figures of a release build, or the one that
/// was built for the tests.
pub fn binary() -> PathBuf {
    let named = std::env::var_os("OMSAGENT_TEST_BINARY");
    named.map_or(env!("CARGO_BIN_EXE_omsagent").into(), PathBuf::from)
}

pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub struct Stage {
    pub dir: tempfile::TempDir,
}

impl Stage {
    /// Folders, configuration from our own templates with short times, no onboarding yet.
    pub fn new() -> Self {
        let stage = Stage {
            dir: tempfile::tempdir().unwrap(),
        };
        for folder in [
            "conf",
            "conf/omsagent.d",
            "certs",
            "tmp",
            "run",
            "state",
            "log",
        ] {
            std::fs::create_dir(stage.path(folder)).unwrap();
        }
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/conf");
        for name in [
            "omsagent.conf",
            "omsagent.d/syslog.conf",
            "omsagent.d/heartbeat.conf",
            "omsagent.d/monitor.conf",
            "omsagent.d/operation.conf",
            "omsagent.d/telemetry.conf",
        ] {
            let mut text = std::fs::read_to_string(templates.join(name)).unwrap();
            for (mark, value) in [
                ("%SYSLOG_PORT%", "0".to_owned()),
                ("%MONITOR_AGENT_PORT%", "0".to_owned()),
                ("%CONF_DIR_WS%", stage.text("conf")),
                ("%CERT_DIR_WS%", stage.text("certs")),
                ("%TMP_DIR_WS%", stage.text("tmp")),
                ("%RUN_DIR_WS%", stage.text("run")),
                ("%STATE_DIR_WS%", stage.text("state")),
                ("%LOG_DIR_WS%", stage.text("log")),
                ("flush_interval 20s", "flush_interval 0.2s".to_owned()),
                ("flush_interval 2s", "flush_interval 0.1s".to_owned()),
                ("retry_wait 30s", "retry_wait 0.05s".to_owned()),
                ("max_retry_wait 30m", "max_retry_wait 0.4s".to_owned()),
            ] {
                text = text.replace(mark, &value);
            }
            std::fs::write(stage.path("conf").join(name), text).unwrap();
        }
        let proxy = format!("proxy_conf_path {}", stage.text("conf/proxy.conf"));
        stage.change("omsagent.conf", "  buffer_type file", &format!("  {proxy}"));
        stage
    }

    /// As [`Stage::new`], sending to `endpoint`.
    pub fn onboarded(endpoint: &str) -> Self {
        let stage = Stage::new();
        stage.onboard(endpoint);
        stage
    }

    pub fn onboard(&self, endpoint: &str) {
        let identity = identity();
        std::fs::write(self.path("certs/oms.crt"), &identity.cert_pem).unwrap();
        std::fs::write(self.path("certs/oms.key"), identity.key_pem.expose()).unwrap();
        let text =
            format!("WORKSPACE_ID={WORKSPACE}\nAGENT_GUID={GUID}\nOMS_ENDPOINT={endpoint}\n");
        std::fs::write(self.path("conf/omsadmin.conf"), text).unwrap();
        std::fs::write(self.path("ca.pem"), authority().certificate_pem()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn change(&self, name: &str, from: &str, to: &str) {
        let path = self.path("conf").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} has no `{from}`");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// The parameters of a `<match>` of ours: where who we are is written, and short times.
    pub fn output(&self, kind: &str, queue: &str) -> String {
        format!(
            "  type {kind}\n  omsadmin_conf_path {}\n  cert_path {}\n  key_path {}\n  \
             proxy_conf_path {}\n  buffer_path {}\n  flush_interval 0.1s\n  retry_wait 0.05s\n  \
             max_retry_wait 0.4s\n",
            self.text("conf/omsadmin.conf"),
            self.text("certs/oms.crt"),
            self.text("certs/oms.key"),
            self.text("conf/proxy.conf"),
            self.text(&format!("state/{queue}*.buffer")),
        )
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log/omsagent.log")).unwrap_or_default()
    }

    /// The arguments of the original's unit.
    pub fn arguments(&self) -> Vec<String> {
        [
            "run",
            "-d",
            &self.text("run/omsagent.pid"),
            "-o",
            &self.text("log/omsagent.log"),
            "-c",
            &self.text("conf/omsagent.conf"),
            "--no-supervisor",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .args(self.arguments())
            .env("OMSAGENT_CA_FILE", self.path("ca.pem"))
            .stdin(Stdio::null());
        command
    }

    pub fn start(&self) -> Agent {
        self.start_as(self.command())
    }

    /// Starts it and waits until it listens.
    pub fn start_as(&self, mut command: Command) -> Agent {
        let before = self.log().len();
        let child = command.spawn().unwrap();
        let mut agent = Agent {
            child,
            syslog: "127.0.0.1:0".parse().unwrap(),
        };
        eventually("readiness", || {
            self.log()[before..].contains("[info]: ready")
        });
        let log = self.log();
        let line = log[before..]
            .lines()
            .find(|l| l.contains("listening for syslog on"));
        let address = line.unwrap().split(" on ").nth(1).unwrap();
        agent.syslog = address.split(' ').next().unwrap().parse().unwrap();
        agent
    }
}

pub struct Agent {
    pub child: Child,
    pub syslog: SocketAddr,
}

impl Agent {
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// SIGTERM; how it ended and how long that took.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        (status, begun.elapsed())
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn datagram(&self, line: &str) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(line.as_bytes(), self.syslog).unwrap();
    }

    pub fn stream(&self) -> TcpStream {
        TcpStream::connect(self.syslog).unwrap()
    }

    /// Numbered lines over one TCP connection, closed at the end.
    pub fn lines(&self, numbers: std::ops::Range<u32>) {
        let mut stream = self.stream();
        for n in numbers {
            stream.write_all(numbered(n).as_bytes()).unwrap();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn numbered(n: u32) -> String {
    format!("<84>Aug  9 10:11:12 web01 test[7]: number={n:06}\n")
}

/// The number in a message of [`numbered`].
pub fn number_in(message: &str) -> Option<u32> {
    let digits = message.strip_prefix("number=")?.split(' ').next()?;
    digits.parse().ok()
}
