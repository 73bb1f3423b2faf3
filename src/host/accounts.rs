//! Users and groups: looked up through the system's own tools (a static binary has no NSS),
//! made and removed by shadow-utils or busybox (bundle.md 4.3).

use super::account_files::AccountFiles;
use super::layout::Layout;
use super::{Change, FILE_LIMIT, Host};
use crate::base::command::{self, Command, CommandError};
use crate::base::files::{self, Owner};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The service account and the group of the same name.
pub const OMSAGENT: &str = "omsagent";
/// Primary group of the service account.
pub const OMIUSERS: &str = "omiusers";

/// How long the name service (perhaps a directory server that is down) may take to answer.
const ASKING: Duration = Duration::from_secs(20);

/// One line of /etc/passwd, as far as anyone here needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Comment (GECOS).
    pub comment: String,
    /// Home folder; need not exist.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// One line of /etc/group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Number.
    pub gid: u32,
    /// Users for whom it is a supplementary group.
    pub members: Vec<String>,
}

/// A system user to be made. It gets a locked password and no home folder.
#[derive(Debug, Clone)]
pub struct UserSpec<'a> {
    /// Login name.
    pub name: &'a str,
    /// Comment (GECOS).
    pub comment: &'a str,
    /// Home as written into the account; not created.
    pub home: &'a str,
    /// Primary group; must exist.
    pub group: &'a str,
    /// Supplementary groups; must exist.
    pub supplementary: &'a [&'a str],
}

impl UserSpec<'static> {
    /// The agent's account: nologin, since nobody logs in as it (bundle.md 4.3, S5).
    pub const OMSAGENT: UserSpec<'static> = UserSpec {
        name: OMSAGENT,
        comment: "OMS agent",
        home: "/var/opt/microsoft/omsagent/run",
        group: OMIUSERS,
        supplementary: &[OMSAGENT],
    };
}

/// Why an account could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Accounts of a root that is not running are not edited.
    #[error(
        "cannot make or remove account `{name}` below `{}`: not a running system; \
         do it with `useradd --root` or when the system runs", .root.display()
    )]
    NotLive {
        /// The account.
        name: String,
        /// The prefix.
        root: PathBuf,
    },
    /// The name is taken by something that must not be our service account.
    #[error("user `{0}` exists with user id 0; the agent does not run as root: remove that user")]
    IsRoot(String),
    /// The tool said no.
    #[error("`{command}` failed with status {code}: {says}")]
    Refused {
        /// The command as typed.
        command: String,
        /// Its status.
        code: i32,
        /// Its last line.
        says: String,
    },
    /// The tool could not be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be read.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Looks a user up: on a live host in every source the host has (`getent`), else in the files.
pub fn user(host: &Host, name: &str) -> anyhow::Result<Option<User>> {
    if let Some(answer) = getent(host, "passwd", name) {
        return Ok(answer.and_then(|line| parse_user(&line)));
    }
    local_user(&host.layout, name)
}

/// Looks a group up, as [`user`] does.
pub fn group(host: &Host, name: &str) -> anyhow::Result<Option<Group>> {
    if let Some(answer) = getent(host, "group", name) {
        return Ok(answer.and_then(|line| parse_group(&line)));
    }
    local_group(&host.layout, name)
}

/// The numbers of `user` and `group`, for files that shall be theirs; `None` when either is
/// unknown.
pub fn owner(host: &Host, user_name: &str, group_name: &str) -> anyhow::Result<Option<Owner>> {
    let (Some(user), Some(group)) = (user(host, user_name)?, group(host, group_name)?) else {
        return Ok(None);
    };
    Ok(Some(Owner {
        uid: user.uid,
        gid: group.gid,
    }))
}

/// Makes a system group unless one of that name exists.
pub fn ensure_group(host: &Host, name: &str) -> Result<Change, AccountError> {
    if group(host, name)?.is_some() {
        return Ok(Change::AlreadyThere);
    }
    match Tools::of(host, name)? {
        Tools::Shadow => run(Command::new("groupadd").args(["--system", name]), &[])?,
        Tools::Busybox(applets) => run(applets.command("addgroup").args(["-S", name]), &[])?,
        Tools::None => AccountFiles::lock(&host.layout)?.add_group(name)?,
    }
    Ok(Change::Made)
}

/// Makes a system user unless one of that name exists. One that exists is left as it is: it may
/// be the administrator's work. Its groups must exist.
pub fn ensure_user(host: &Host, spec: &UserSpec<'_>) -> Result<Change, AccountError> {
    if let Some(found) = user(host, spec.name)? {
        if found.uid == 0 {
            return Err(AccountError::IsRoot(found.name));
        }
        return Ok(Change::AlreadyThere);
    }
    let shell = nologin();
    match Tools::of(host, spec.name)? {
        Tools::Shadow => {
            let mut useradd = Command::new("useradd")
                .args(["--system", "--no-create-home", "--home-dir", spec.home])
                .args(["--shell", shell, "--comment", spec.comment])
                .args(["--gid", spec.group]);
            if !spec.supplementary.is_empty() {
                useradd = useradd.args(["--groups", &spec.supplementary.join(",")]);
            }
            run(useradd.arg(spec.name), &[])?;
        }
        Tools::Busybox(applets) => {
            let adduser = applets.command("adduser").args(["-S", "-D", "-H"]);
            let adduser = adduser.args(["-h", spec.home, "-s", shell, "-g", spec.comment]);
            run(adduser.args(["-G", spec.group, spec.name]), &[])?;
            for group in spec.supplementary {
                run(applets.command("addgroup").args([spec.name, group]), &[])?;
            }
        }
        Tools::None => AccountFiles::lock(&host.layout)?.add_user(spec, shell)?,
    }
    Ok(Change::Made)
}

/// Gives a local user a shell that refuses logins. Without the tool for it nothing changes.
pub fn forbid_login(host: &Host, name: &str) -> Result<Change, AccountError> {
    let shell = nologin();
    let refuses = |user: User| {
        ["nologin", "false"]
            .iter()
            .any(|end| user.shell.ends_with(end))
    };
    if local_user(&host.layout, name)?.is_none_or(refuses) || command::find("usermod").is_none() {
        return Ok(Change::AlreadyThere);
    }
    match Tools::of(host, name)? {
        Tools::Shadow => run(Command::new("usermod").args(["--shell", shell, name]), &[])?,
        Tools::Busybox(_) | Tools::None => return Ok(Change::AlreadyThere),
    }
    Ok(Change::Made)
}

/// Removes a local user; home and mail stay. Not there (or only in a directory server) is fine.
pub fn remove_user(host: &Host, name: &str) -> Result<Change, AccountError> {
    if local_user(&host.layout, name)?.is_none() {
        return Ok(Change::AlreadyThere);
    }
    match Tools::of(host, name)? {
        // 6: no such user, someone was faster.
        Tools::Shadow => run(Command::new("userdel").arg(name), &[6])?,
        Tools::Busybox(applets) => run(applets.command("deluser").arg(name), &[])?,
        Tools::None => AccountFiles::lock(&host.layout)?.remove_user(name)?,
    }
    Ok(Change::Made)
}

/// Removes a local group. Not there is fine: `userdel` takes a group of the user's own name along.
/// A group that is still somebody's primary group is refused by the tool.
pub fn remove_group(host: &Host, name: &str) -> Result<Change, AccountError> {
    if local_group(&host.layout, name)?.is_none() {
        return Ok(Change::AlreadyThere);
    }
    match Tools::of(host, name)? {
        Tools::Shadow => run(Command::new("groupdel").arg(name), &[6])?,
        Tools::Busybox(applets) => run(applets.command("delgroup").arg(name), &[])?,
        Tools::None => AccountFiles::lock(&host.layout)?.remove_group(name)?,
    }
    Ok(Change::Made)
}

/// The tools that edit accounts here.
enum Tools {
    Shadow,
    Busybox(Applets),
    /// No such tool: the files are edited directly.
    None,
}

/// Busybox's applets: each under its own name, or all behind `busybox`.
struct Applets {
    linked: bool,
}

impl Tools {
    fn of(host: &Host, name: &str) -> Result<Tools, AccountError> {
        if !host.layout.is_live() {
            return Err(AccountError::NotLive {
                name: name.to_owned(),
                root: host.layout.root().to_owned(),
            });
        }
        let has = |program| command::find(program).is_some();
        if has("useradd") && has("groupadd") {
            Ok(Tools::Shadow)
        } else if is_busybox("adduser") && is_busybox("addgroup") {
            Ok(Tools::Busybox(Applets { linked: true }))
        } else if has("busybox") && busybox_can("adduser") && busybox_can("addgroup") {
            Ok(Tools::Busybox(Applets { linked: false }))
        } else {
            Ok(Tools::None)
        }
    }
}

impl Applets {
    fn command(&self, applet: &str) -> Command {
        if self.linked {
            Command::new(applet)
        } else {
            Command::new("busybox").arg(applet)
        }
    }
}

/// Debian's `adduser` is another program of that name, and no use without `useradd`.
fn is_busybox(program: &str) -> bool {
    command::find(program)
        .and_then(|path| path.canonicalize().ok())
        .is_some_and(|path| path.file_name().is_some_and(|name| name == "busybox"))
}

/// Builds differ: Debian's has no account applets.
fn busybox_can(applet: &str) -> bool {
    Command::new("busybox")
        .arg("--list")
        .run()
        .is_ok_and(|list| list.output.lines().any(|line| line.trim() == applet))
}

fn run(command: Command, fine: &[i32]) -> Result<(), AccountError> {
    let shown = command.display();
    let outcome = command.run()?;
    if outcome.ok() || fine.contains(&outcome.code) {
        return Ok(());
    }
    Err(AccountError::Refused {
        command: shown,
        code: outcome.code,
        says: outcome.last_line().to_owned(),
    })
}

/// The first shell that refuses logins, on this machine.
fn nologin() -> &'static str {
    const SHELLS: [&str; 3] = ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false"];
    SHELLS
        .into_iter()
        .find(|shell| Path::new(shell).exists())
        .unwrap_or("/bin/false")
}

/// `Some(None)`: the host knows no such name. `None`: nobody could be asked.
fn getent(host: &Host, database: &str, name: &str) -> Option<Option<String>> {
    if !host.layout.is_live() {
        return None;
    }
    let answer = Command::new("getent")
        .args([database, name])
        .timeout(ASKING)
        .run()
        .ok()?;
    match answer.code {
        0 => Some(
            answer
                .output
                .lines()
                .find(|line| first_field(line) == name)
                .map(str::to_owned),
        ),
        2 => Some(None),
        _ => None,
    }
}

fn local_user(layout: &Layout, name: &str) -> anyhow::Result<Option<User>> {
    let text = files::read_text(&layout.path("/etc/passwd"), FILE_LIMIT)?;
    Ok(find_line(text.as_deref(), name).and_then(parse_user))
}

fn local_group(layout: &Layout, name: &str) -> anyhow::Result<Option<Group>> {
    let text = files::read_text(&layout.path("/etc/group"), FILE_LIMIT)?;
    Ok(find_line(text.as_deref(), name).and_then(parse_group))
}

fn find_line<'a>(text: Option<&'a str>, name: &str) -> Option<&'a str> {
    text?.lines().find(|line| first_field(line) == name)
}

fn first_field(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

/// name:password:uid:gid:comment:home:shell
fn parse_user(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.trim_end().split(':').collect();
    let [name, _, uid, gid, comment, home, shell] = fields[..] else {
        return None;
    };
    Some(User {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        comment: comment.to_owned(),
        home: home.into(),
        shell: shell.into(),
    })
}

/// name:password:gid:member,member
fn parse_group(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.trim_end().split(':').collect();
    let [name, _, gid, members] = fields[..] else {
        return None;
    };
    Some(Group {
        name: name.to_owned(),
        gid: gid.parse().ok()?,
        members: members
            .split(',')
            .filter(|m| !m.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        omsagent2:x:7:7::/:/bin/sh\n\
        broken:x:seven:7::/:/bin/sh\n\
        omsagent:x:998:997:OMS agent:/var/opt/microsoft/omsagent/run:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nomiusers:x:997:\nomsagent:x:998:omsagent,nx\n";

    fn host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
        std::fs::write(dir.path().join("etc/group"), GROUP).unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        (dir, host)
    }

    #[test]
    fn whole_names_are_found() {
        let (_dir, host) = host();
        let found = user(&host, "omsagent").unwrap().unwrap();
        assert_eq!((found.uid, found.gid), (998, 997));
        assert_eq!(found.shell, Path::new("/usr/sbin/nologin"));
        assert_eq!(found.comment, "OMS agent");
        assert!(user(&host, "omsage").unwrap().is_none());
        assert!(user(&host, "broken").unwrap().is_none());
        let found = group(&host, "omsagent").unwrap().unwrap();
        assert_eq!(found.members, ["omsagent", "nx"]);
        let numbers = owner(&host, "omsagent", "omiusers").unwrap().unwrap();
        assert_eq!((numbers.uid, numbers.gid), (998, 997));
        assert!(owner(&host, "omsagent", "none").unwrap().is_none());
    }

    #[test]
    fn a_prefix_is_never_edited() {
        let (dir, host) = host();
        assert_eq!(
            ensure_group(&host, "omsagent").unwrap(),
            Change::AlreadyThere
        );
        assert_eq!(
            ensure_user(&host, &UserSpec::OMSAGENT).unwrap(),
            Change::AlreadyThere
        );
        let refused = ensure_group(&host, "new");
        assert!(matches!(refused, Err(AccountError::NotLive { .. })));
        let refused = remove_user(&host, "omsagent");
        assert!(matches!(refused, Err(AccountError::NotLive { .. })));
        assert_eq!(remove_user(&host, "none").unwrap(), Change::AlreadyThere);
        assert_eq!(remove_group(&host, "none").unwrap(), Change::AlreadyThere);
        let kept = std::fs::read_to_string(dir.path().join("etc/passwd")).unwrap();
        assert_eq!(kept, PASSWD);
    }

    #[test]
    fn root_under_our_name_is_refused() {
        let (dir, host) = host();
        std::fs::write(dir.path().join("etc/passwd"), "omsagent:x:0:0::/:/bin/sh\n").unwrap();
        let refused = ensure_user(&host, &UserSpec::OMSAGENT);
        assert!(matches!(refused, Err(AccountError::IsRoot(_))));
    }

    #[test]
    fn no_files_no_accounts() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        assert!(user(&host, "root").unwrap().is_none());
        assert!(group(&host, "root").unwrap().is_none());
    }
}
