//! Syslog forwarding below a prefix: real files in a folder, before and after, byte for byte.

#![allow(clippy::unwrap_used)] // the lint exempts test functions, not what they share

use omsagent::base::ids::{WorkspaceId, WorkspaceName};
use omsagent::host::layout::Layout;
use omsagent::host::syslog::{self, Facility, Selection, Severity, SyslogDaemon, SyslogError};
use omsagent::host::{Change, Host};
use std::path::PathBuf;

const ONE: &str = "11111111-1111-1111-1111-111111111111";
const TWO: &str = "22222222-2222-2222-2222-222222222222";

struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    fn new(files: &[(&str, &[u8])]) -> Root {
        let root = Root {
            dir: tempfile::tempdir().unwrap(),
        };
        for (path, bytes) in files {
            let path = root.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn host(&self) -> Host {
        Host::detect(Layout::new(self.dir.path()))
    }

    fn read(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path)).unwrap()
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.path(path)).unwrap()
    }
}

fn id(text: &str) -> WorkspaceId {
    text.parse().unwrap()
}

fn small() -> Selection {
    Selection {
        facilities: vec![Facility::Auth, Facility::Local7],
        severity: Severity::Warning,
        transport: syslog::Transport::Udp,
    }
}

fn stanza(ws: &str, port: u16) -> String {
    format!(
        "# OMS Syslog collection for workspace {ws}\n\
         auth.warning\t@127.0.0.1:{port}\n\
         local7.warning\t@127.0.0.1:{port}\n\
         # End of OMS Syslog collection for workspace {ws}\n"
    )
}

const DROP_IN: &str = "etc/rsyslog.d/95-omsagent.conf";

fn rsyslog(drop_in: Option<&str>) -> Root {
    let root = Root::new(&[("etc/rsyslog.conf", b"module(load=\"imuxsock\")\n")]);
    std::fs::create_dir(root.path("etc/rsyslog.d")).unwrap();
    if let Some(text) = drop_in {
        std::fs::write(root.path(DROP_IN), text).unwrap();
    }
    root
}

#[test]
fn default_selection_is_what_the_documents_promise() {
    let root = rsyslog(None);
    let made = syslog::configure(&root.host(), &id(ONE), 25224, &Selection::default());
    assert_eq!(made.unwrap(), Change::Made);
    let text = root.read(DROP_IN);
    assert!(text.starts_with(&format!("# OMS Syslog collection for workspace {ONE}\n")));
    let rules: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let facilities = "auth authpriv cron daemon kern syslog user local0 local1 local2 local3 \
                      local4 local5 local6 local7";
    let expected: Vec<String> = facilities
        .split_whitespace()
        .map(|f| format!("{f}.warning\t@127.0.0.1:25224"))
        .collect();
    assert_eq!(rules, expected);
}

#[test]
fn two_workspaces_come_and_go_alone() {
    let root = rsyslog(None);
    let host = root.host();
    let configure = |ws, port| syslog::configure(&host, &id(ws), port, &small()).unwrap();
    assert_eq!(configure(ONE, 25224), Change::Made);
    assert_eq!(configure(ONE, 25224), Change::AlreadyThere);
    assert_eq!(configure(TWO, 25225), Change::Made);
    assert_eq!(root.read(DROP_IN), stanza(ONE, 25224) + &stanza(TWO, 25225));
    // R27: a new port of one workspace is none of the other's business.
    assert_eq!(configure(ONE, 25230), Change::Made);
    assert_eq!(root.read(DROP_IN), stanza(ONE, 25230) + &stanza(TWO, 25225));
    let unconfigure = |ws, port| syslog::unconfigure(&host, &id(ws), Some(port)).unwrap();
    assert_eq!(unconfigure(ONE, 25230), Change::Made);
    assert_eq!(unconfigure(ONE, 25230), Change::AlreadyThere);
    assert_eq!(root.read(DROP_IN), stanza(TWO, 25225));
    assert_eq!(unconfigure(TWO, 25225), Change::Made);
    assert!(!root.path(DROP_IN).exists());
    assert_eq!(
        root.bytes("etc/rsyslog.conf"),
        b"module(load=\"imuxsock\")\n"
    );
}

#[test]
fn peoples_own_lines_are_kept_to_the_byte() {
    for foreign in [
        "local4.debug  @@127.0.0.1:25226\n",
        "# mine\r\nmail.* @10.0.0.1:514\r\n",
        "mail.* @127.0.0.1:514",
        "\n\n*.* @@collector:514\n\n",
    ] {
        let root = rsyslog(Some(foreign));
        let host = root.host();
        let made = syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
        assert_eq!(made, Change::Made);
        let text = root.read(DROP_IN);
        assert!(text.starts_with(foreign), "{text:?}");
        let again = syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
        assert_eq!(again, Change::AlreadyThere);
        let gone = syslog::unconfigure(&host, &id(ONE), Some(25224)).unwrap();
        assert_eq!(gone, Change::Made);
        assert_eq!(root.read(DROP_IN), foreign);
    }
}

#[test]
fn the_originals_stanzas_are_understood() {
    let header = |ws: &str| format!("# OMS Syslog collection for workspace {ws}\n");
    // 1.3: rules below the header; HEAD: the header alone; DSC: single severities; then someone's
    // own rule for the security port, which is not part of it.
    let old = header(ONE)
        + "kern.warning       @127.0.0.1:25224\n\
           auth.=alert;auth.=crit\t@127.0.0.1:25224\n\n\
           mail.=none\t@127.0.0.1:25224\n\
           local4.debug  @@127.0.0.1:25226\n"
        + &header(TWO)
        + "mail.* @127.0.0.1:514\n";
    let root = rsyslog(Some(&old));
    let host = root.host();
    let made = syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
    assert_eq!(made, Change::Made);
    let after = stanza(ONE, 25224)
        + "local4.debug  @@127.0.0.1:25226\n"
        + &header(TWO)
        + "mail.* @127.0.0.1:514\n";
    assert_eq!(root.read(DROP_IN), after);
    let made = syslog::configure(&host, &id(TWO), 25225, &small()).unwrap();
    assert_eq!(made, Change::Made);
    let after = stanza(ONE, 25224)
        + "local4.debug  @@127.0.0.1:25226\n"
        + &stanza(TWO, 25225)
        + "mail.* @127.0.0.1:514\n";
    assert_eq!(root.read(DROP_IN), after);
}

#[test]
fn an_end_mark_left_by_another_tool_does_no_harm() {
    let end = format!("# End of OMS Syslog collection for workspace {ONE}\n");
    let header = format!("# OMS Syslog collection for workspace {ONE}\n");
    let left = format!("{end}{header}auth.=err\t@127.0.0.1:25224\n*.* @x\n");
    let root = rsyslog(Some(&left));
    let host = root.host();
    let made = syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
    assert_eq!(made, Change::Made);
    assert_eq!(root.read(DROP_IN), stanza(ONE, 25224) + "*.* @x\n");
}

#[test]
fn unconfigure_takes_rules_to_the_dead_port_along() {
    let root = rsyslog(Some(&format!(
        "{}mail.info @127.0.0.1:25224\nmail.info @127.0.0.1:252240\nmail.info @127.0.0.1:25225\n",
        stanza(ONE, 25224)
    )));
    let gone = syslog::unconfigure(&root.host(), &id(ONE), Some(25224)).unwrap();
    assert_eq!(gone, Change::Made);
    assert_eq!(
        root.read(DROP_IN),
        "mail.info @127.0.0.1:252240\nmail.info @127.0.0.1:25225\n"
    );
}

#[test]
fn purge_deletes_what_is_ours_and_keeps_what_is_not() {
    let all = stanza(ONE, 25224) + &stanza(TWO, 25225);
    let root = rsyslog(Some(
        &(all.clone() + "# c\nlocal4.debug @@127.0.0.1:25226\n"),
    ));
    assert_eq!(syslog::purge(&root.host()).unwrap(), Change::Made);
    assert!(!root.path(DROP_IN).exists());
    assert_eq!(syslog::purge(&root.host()).unwrap(), Change::AlreadyThere);

    let root = rsyslog(Some(&(all + "*.* @@collector:514\n")));
    assert_eq!(syslog::purge(&root.host()).unwrap(), Change::Made);
    assert_eq!(root.read(DROP_IN), "*.* @@collector:514\n");
}

#[test]
fn old_rsyslog_keeps_its_own_file() {
    use std::os::unix::fs::PermissionsExt;
    for before in ["*.* /var/log/all\n", "*.* /var/log/all", "*.*\t/x\r\n"] {
        let root = Root::new(&[("etc/rsyslog.conf", before.as_bytes())]);
        let path = root.path("etc/rsyslog.conf");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let host = root.host();
        assert_eq!(host.syslog, Some(SyslogDaemon::OldRsyslog));
        let made = syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
        assert_eq!(made, Change::Made);
        assert!(
            root.read("etc/rsyslog.conf")
                .contains("auth.warning\t@127.0.0.1:25224\n")
        );
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        let again = syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
        assert_eq!(again, Change::AlreadyThere);
        assert_eq!(syslog::purge(&host).unwrap(), Change::Made);
        assert_eq!(root.read("etc/rsyslog.conf"), before);
    }
}

/// The diagnostics extension appends its rules to the only file there is, and relies on this.
#[test]
fn old_rsyslog_loses_rules_to_a_dead_port() {
    let own = "*.* /var/log/all\nmail.info @127.0.0.1:252240\n";
    let rule = "local0.err\t@127.0.0.1:25229\n";
    let root = Root::new(&[("etc/rsyslog.conf", own.as_bytes())]);
    let host = root.host();
    let write = |text: &str| std::fs::write(root.path("etc/rsyslog.conf"), text).unwrap();
    write(&format!("{own}{rule}"));
    let gone = syslog::unconfigure(&host, &WorkspaceName::lad(), Some(25229)).unwrap();
    assert_eq!(gone, Change::Made);
    assert_eq!(root.read("etc/rsyslog.conf"), own);
    write(&format!("{rule}{own}"));
    assert_eq!(syslog::purge(&host).unwrap(), Change::Made);
    assert_eq!(root.read("etc/rsyslog.conf"), own);
}

#[test]
fn an_empty_main_file_is_emptied_not_deleted() {
    let root = Root::new(&[("etc/rsyslog.conf", b"")]);
    let host = root.host();
    let made = syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
    assert_eq!(made, Change::Made);
    assert_eq!(syslog::purge(&host).unwrap(), Change::Made);
    assert_eq!(root.read("etc/rsyslog.conf"), "");
}

const NG: &str = "etc/syslog-ng/syslog-ng.conf";
const NG_OURS: &str = "etc/syslog-ng/conf.d/95-omsagent.conf";
const NG_CONF: &str = "@version: 3.38\nsource s_sys { system(); internal(); };\n";
const NG_INCLUDE: &str = "@include \"/etc/syslog-ng/conf.d/*.conf\"\n";

fn ng_stanza(ws: &str, port: u16, source: &str) -> String {
    format!(
        "# OMS Syslog collection for workspace {ws}\n\
         filter f_{ws}_oms {{ level(warning..emerg) and facility(auth, local7); }};\n\
         destination d_{ws}_oms {{ network(\"127.0.0.1\" transport(\"udp\") port({port}) time-reopen(5)); }};\n\
         log {{ source({source}); filter(f_{ws}_oms); destination(d_{ws}_oms); }};\n\
         # End of OMS Syslog collection for workspace {ws}\n"
    )
}

#[test]
fn syslog_ng_gets_a_file_of_its_own_where_it_reads_one() {
    let conf = format!("{NG_CONF}{NG_INCLUDE}");
    let root = Root::new(&[(NG, conf.as_bytes())]);
    std::fs::create_dir(root.path("etc/syslog-ng/conf.d")).unwrap();
    let host = root.host();
    assert_eq!(host.syslog, Some(SyslogDaemon::SyslogNg));
    let configure = |ws, port| syslog::configure(&host, &id(ws), port, &small()).unwrap();
    assert_eq!(configure(ONE, 25224), Change::Made);
    assert_eq!(configure(ONE, 25224), Change::AlreadyThere);
    assert_eq!(configure(TWO, 25225), Change::Made);
    assert_eq!(
        root.read(NG_OURS),
        ng_stanza(ONE, 25224, "s_sys") + &ng_stanza(TWO, 25225, "s_sys")
    );
    let gone = syslog::unconfigure(&host, &id(ONE), Some(25224)).unwrap();
    assert_eq!(gone, Change::Made);
    assert_eq!(root.read(NG_OURS), ng_stanza(TWO, 25225, "s_sys"));
    assert_eq!(syslog::purge(&host).unwrap(), Change::Made);
    assert!(!root.path(NG_OURS).exists());
    assert_eq!(root.read(NG), conf);
}

#[test]
fn syslog_ng_without_a_folder_gets_a_block() {
    for before in [NG_CONF.to_owned(), NG_CONF.trim_end().to_owned()] {
        let root = Root::new(&[(NG, before.as_bytes())]);
        let host = root.host();
        let made = syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
        assert_eq!(made, Change::Made);
        assert!(root.read(NG).starts_with(&before));
        let again = syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
        assert_eq!(again, Change::AlreadyThere);
        let gone = syslog::unconfigure(&host, &id(ONE), Some(25224)).unwrap();
        assert_eq!(gone, Change::Made);
        assert_eq!(root.read(NG), before);
    }
}

#[test]
fn the_originals_syslog_ng_lines_are_removed() {
    let foreign = "destination d_net { network(\"127.0.0.1\" port(25999)); };\n";
    let theirs = format!(
        "# OMS Syslog default collection for workspace {ONE}\n\
         # OMS Syslog default collection for workspace {ONE}\n\
         #OMS Workspace {ONE} Destination\n\
         destination d_{ONE}_oms {{ udp(\"127.0.0.1\" port(25224)); }};\n\
         #OMS Workspace {ONE} Facility = auth\n\
         filter f_auth_{ONE}_oms {{ level(alert,crit) and facility(auth); }};\n\
         log {{ source(src); filter(f_auth_{ONE}_oms); destination(d_{ONE}_oms); }};\n"
    );
    let lad = "filter f_LAD_oms_ml_err { level(err..emerg); };\n";
    let conf = format!("{NG_CONF}{theirs}{lad}{foreign}");
    let root = Root::new(&[(NG, conf.as_bytes())]);
    let host = root.host();
    let made = syslog::configure(&host, &id(ONE), 25230, &small()).unwrap();
    assert_eq!(made, Change::Made);
    let expected = format!("{NG_CONF}{}{lad}{foreign}", ng_stanza(ONE, 25230, "s_sys"));
    assert_eq!(root.read(NG), expected);
    assert_eq!(syslog::purge(&host).unwrap(), Change::Made);
    assert_eq!(root.read(NG), format!("{NG_CONF}{foreign}"));
}

#[test]
fn the_originals_lines_in_the_main_file_give_way_to_our_own_file() {
    let line = format!("filter f_{ONE}_oms {{ level(warning); }};\n");
    let conf = format!("{NG_CONF}{line}{NG_INCLUDE}");
    let root = Root::new(&[(NG, conf.as_bytes())]);
    std::fs::create_dir(root.path("etc/syslog-ng/conf.d")).unwrap();
    let made = syslog::configure(&root.host(), &id(ONE), 25224, &small()).unwrap();
    assert_eq!(made, Change::Made);
    assert_eq!(root.read(NG), format!("{NG_CONF}{NG_INCLUDE}"));
    assert_eq!(root.read(NG_OURS), ng_stanza(ONE, 25224, "s_sys"));
}

/// Each way of handing messages over, in turn, with lines of others around ours.
#[test]
fn transports_change_our_own_lines_only() {
    let socket = format!("/var/opt/microsoft/omsagent/{ONE}/run/syslog.sock");
    let by = |transport| Selection {
        transport,
        ..small()
    };
    let others = "*.* @@log.example:514\n";
    let root = rsyslog(Some(others));
    let host = root.host();
    let configure = |transport| {
        let made = syslog::configure(&host, &id(ONE), 25224, &by(transport)).unwrap();
        assert_eq!(made, Change::Made);
        let text = root.read(DROP_IN);
        assert!(text.starts_with(others));
        assert!(syslog::are_ours(&host, &id(ONE), 25224, &small()).unwrap());
        // What runs is kept as it is, whatever it is.
        let keep = syslog::configure_keeping(&host, &id(ONE), 25224, &Selection::default());
        assert_eq!(keep.unwrap(), Change::AlreadyThere, "{text}");
        text
    };
    assert!(syslog::are_ours(&host, &id(ONE), 25224, &small()).unwrap());
    let unix = configure(syslog::Transport::Unix);
    for line in [
        format!("workspace {ONE}\n$ModLoad omuxsock\n$OMUxSockSocket {socket}\n"),
        "\nauth,local7.warning\t:omuxsock:".to_owned(),
    ] {
        assert!(unix.contains(&line), "{unix}");
    }
    let tcp = configure(syslog::Transport::Tcp);
    assert!(
        tcp.contains("protocol=\"tcp\"") && !tcp.contains("omuxsock"),
        "{tcp}"
    );
    // A rule of the newer form goes along to another port, with what somebody changed in it.
    let edited = tcp.replace("queue.size=\"10000\"", "queue.size=\"77\"");
    std::fs::write(root.path(DROP_IN), &edited).unwrap();
    assert!(!syslog::are_ours(&host, &id(ONE), 25224, &small()).unwrap());
    let keep = syslog::configure_keeping(&host, &id(ONE), 25230, &Selection::default());
    assert_eq!(keep.unwrap(), Change::Made);
    assert_eq!(root.read(DROP_IN), edited.replace("25224", "25230"));
    let udp = configure(syslog::Transport::Udp);
    assert_eq!(udp, format!("{others}{}", stanza(ONE, 25224)));
    let gone = syslog::unconfigure(&host, &id(ONE), Some(25224)).unwrap();
    assert_eq!((gone, root.read(DROP_IN).as_str()), (Change::Made, others));

    // The module is loaded once, by whichever stanza comes first, or by somebody else.
    let root = rsyslog(None);
    let host = root.host();
    let loads = || root.read(DROP_IN).matches("$ModLoad omuxsock\n").count();
    let unix = by(syslog::Transport::Unix);
    for (ws, port) in [(ONE, 25224), (TWO, 25225)] {
        let made = syslog::configure(&host, &id(ws), port, &unix).unwrap();
        assert_eq!((made, loads()), (Change::Made, 1));
    }
    let both = root.read(DROP_IN);
    assert!(both.find(ONE) < both.find("$ModLoad") && both.find("$ModLoad") < both.find(TWO));
    let gone = syslog::unconfigure(&host, &id(ONE), Some(25224)).unwrap();
    assert_eq!((gone, loads()), (Change::Made, 1));
    std::fs::write(
        root.path("etc/rsyslog.d/10-x.conf"),
        "module( load=\"omuxsock\" )\n",
    )
    .unwrap();
    let made = syslog::configure(&host, &id(ONE), 25224, &unix).unwrap();
    assert_eq!((made, loads()), (Change::Made, 0));
    let _ = syslog::unconfigure(&host, &id(ONE), Some(25224)).unwrap();
    let _ = syslog::unconfigure(&host, &id(TWO), Some(25225)).unwrap();
    assert!(!root.path(DROP_IN).exists());

    let root = Root::new(&[(NG, NG_CONF.as_bytes())]);
    let host = root.host();
    for (transport, wanted) in [
        (
            syslog::Transport::Unix,
            format!("unix-dgram(\"{socket}\" time-reopen(5))"),
        ),
        (
            syslog::Transport::Tcp,
            "network(\"127.0.0.1\" transport(\"tcp\") port(25224) time-reopen(5))".to_owned(),
        ),
    ] {
        let made = syslog::configure(&host, &id(ONE), 25224, &by(transport)).unwrap();
        assert_eq!(made, Change::Made);
        assert!(root.read(NG).contains(&wanted), "{}", root.read(NG));
        let keep = syslog::configure_keeping(&host, &id(ONE), 25224, &Selection::default());
        assert_eq!(keep.unwrap(), Change::AlreadyThere);
    }
    assert_eq!(syslog::purge(&host).unwrap(), Change::Made);
    assert_eq!(root.read(NG), NG_CONF);
}

#[test]
fn no_source_no_forwarding() {
    let root = Root::new(&[(NG, b"@version: 3.38\n")]);
    let refused = syslog::configure(&root.host(), &id(ONE), 25224, &small());
    assert!(matches!(refused, Err(SyslogError::NoSource(_))));
    assert_eq!(root.read(NG), "@version: 3.38\n");
}

#[test]
fn no_daemon_is_said() {
    let root = Root::new(&[]);
    let refused = syslog::configure(&root.host(), &id(ONE), 25224, &small());
    assert!(matches!(refused, Err(SyslogError::NoDaemon)));
    assert_eq!(syslog::purge(&root.host()).unwrap(), Change::AlreadyThere);
}

#[test]
fn leftover_configuration_of_a_removed_daemon_does_not_decide() {
    use std::os::unix::fs::PermissionsExt;
    let program = |root: &Root, path: &str| {
        let path = root.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    let both: &[(&str, &[u8])] = &[("etc/rsyslog.conf", b""), (NG, NG_CONF.as_bytes())];
    let root = Root::new(both);
    assert_eq!(root.host().syslog, Some(SyslogDaemon::OldRsyslog));
    program(&root, "usr/sbin/syslog-ng");
    assert_eq!(root.host().syslog, Some(SyslogDaemon::SyslogNg));
    program(&root, "usr/sbin/rsyslogd");
    assert_eq!(root.host().syslog, Some(SyslogDaemon::OldRsyslog));
}

#[test]
fn a_file_of_the_wrong_mode_is_put_right() {
    use std::os::unix::fs::PermissionsExt;
    let root = rsyslog(None);
    let host = root.host();
    let configure = || syslog::configure(&host, &id(ONE), 25224, &small()).unwrap();
    assert_eq!(configure(), Change::Made);
    let path = root.path(DROP_IN);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o664)).unwrap();
    assert_eq!(configure(), Change::Made);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn what_somebody_selected_is_kept_and_sent_once() {
    let edited = format!(
        "# OMS Syslog collection for workspace {ONE}\n\
         auth.=alert;auth.=crit\t@127.0.0.1:25230\n\
         #cron.warning   @127.0.0.1:25230\n\
         local3.info   @127.0.0.1:25230\n"
    );
    let root = rsyslog(Some(&edited));
    let old =
        format!("# OMS Syslog collection for workspace {ONE}\nkern.warning @127.0.0.1:25224\n");
    std::fs::write(root.path("etc/rsyslog.conf"), &old).unwrap();
    let keep =
        || syslog::configure_keeping(&root.host(), &id(ONE), 25224, &Selection::default()).unwrap();
    assert_eq!(keep(), Change::Made);
    assert_eq!(keep(), Change::AlreadyThere);
    assert_eq!(
        root.read("etc/rsyslog.d/95-omsagent.conf"),
        format!(
            "# OMS Syslog collection for workspace {ONE}\n\
             auth.=alert;auth.=crit\t@127.0.0.1:25224\n\
             #cron.warning   @127.0.0.1:25230\n\
             local3.info   @127.0.0.1:25224\n\
             # End of OMS Syslog collection for workspace {ONE}\n"
        )
    );
    assert_eq!(root.read("etc/rsyslog.conf"), "", "not sent twice");
}

#[test]
fn the_originals_header_alone_selects_nothing_so_the_default_comes() {
    let header = format!("# OMS Syslog collection for workspace {ONE}\n");
    let root = rsyslog(Some(&header));
    let _ = syslog::configure_keeping(&root.host(), &id(ONE), 25224, &small()).unwrap();
    assert_eq!(
        root.read("etc/rsyslog.d/95-omsagent.conf"),
        stanza(ONE, 25224)
    );
}

#[test]
fn our_own_syslog_ng_statements_are_kept_but_for_the_port() {
    let main = b"source s_src { system(); };\n@include \"/etc/syslog-ng/conf.d/*.conf\"\n";
    let root = Root::new(&[("etc/syslog-ng/syslog-ng.conf", main)]);
    std::fs::create_dir_all(root.path("etc/syslog-ng/conf.d")).unwrap();
    let keep = |port| syslog::configure_keeping(&root.host(), &id(ONE), port, &small()).unwrap();
    let ours = || root.read("etc/syslog-ng/conf.d/95-omsagent.conf");
    assert_eq!(keep(25224), Change::Made);
    assert_eq!(ours(), ng_stanza(ONE, 25224, "s_src"));
    assert_eq!(keep(25224), Change::AlreadyThere);
    assert_eq!(keep(25230), Change::Made);
    assert_eq!(ours(), ng_stanza(ONE, 25230, "s_src"));
}

#[test]
fn syslog_ng_statements_move_to_our_file_as_they_are() {
    let source = "source s_src { system(); internal(); };\n";
    let theirs = format!(
        "#OMS Workspace {ONE} Destination\n\
         destination d_{ONE}_oms {{ udp(\"127.0.0.1\" port(25230)); }};\n\
         #OMS Workspace {ONE} Facility = auth\n\
         filter f_auth_{ONE}_oms {{ level(alert,crit) and facility(auth); }};\n\
         log {{ source(s_src); filter(f_auth_{ONE}_oms); destination(d_{ONE}_oms); }};\n"
    );
    let include = "@include \"/etc/syslog-ng/conf.d/*.conf\"\n";
    let root = Root::new(&[(
        "etc/syslog-ng/syslog-ng.conf",
        format!("{source}{theirs}{include}").as_bytes(),
    )]);
    std::fs::create_dir_all(root.path("etc/syslog-ng/conf.d")).unwrap();
    let keep =
        || syslog::configure_keeping(&root.host(), &id(ONE), 25224, &Selection::default()).unwrap();
    assert_eq!(keep(), Change::Made);
    assert_eq!(keep(), Change::AlreadyThere);
    assert_eq!(
        root.read("etc/syslog-ng/syslog-ng.conf"),
        format!("{source}{include}")
    );
    assert_eq!(
        root.read("etc/syslog-ng/conf.d/95-omsagent.conf"),
        format!(
            "# OMS Syslog collection for workspace {ONE}\n{}\
             # End of OMS Syslog collection for workspace {ONE}\n",
            theirs.replace("25230", "25224")
        )
    );
}
