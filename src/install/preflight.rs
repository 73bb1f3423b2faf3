//! What would go wrong, looked for before the first change of `--install` and `--upgrade`: all of
//! it in one list. Of a run whose packages are in place already, what an onboarding needs.

use super::companions::{self, ORDER};
use super::deploy;
use super::means::{self, Means};
use super::release::PACKAGE;
use crate::base::command::Command;
use crate::base::order;
use crate::bundle::{Bundle, Entry, Kind};
use crate::host::layout::Layout;
use crate::host::packages::PackageManager;
use crate::host::{Host, package_locks, sockets};
use crate::package::version::Version;
use crate::plan::keep::{self, Keep};
use crate::workspace::{self, port};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the package manager's database, settings and queues may grow by.
const DATABASE: u64 = 8 << 20;
const SETTINGS: u64 = 1 << 20;
const QUEUES: u64 = 4 << 20;
/// A link, units and documentation.
const LINKS: u64 = 1 << 20;
/// How long `dpkg --audit` may take.
const AUDIT: Duration = Duration::from_secs(20);
/// Agents that read the same logs. Names as the kernel cuts them off, at 15 characters.
const OTHERS: [(&str, &str); 4] = [
    ("mdsd", "the Azure diagnostics or monitoring agent"),
    ("amacoreagent", "the Azure Monitor agent"),
    ("agentlauncher", "the Azure Monitor agent"),
    ("MonAgentCore", "the Azure monitoring agent"),
];

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The run ends before the first change, with this exit code.
    Error(u8),
    /// As an error; `--force` goes on.
    Caution(u8),
    /// Told, no more.
    Warning,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it weighs.
    pub weight: Weight,
    /// What, where, and what to do.
    pub text: String,
}

impl Finding {
    fn new(weight: Weight, text: impl Into<String>) -> Finding {
        let text = text.into();
        Finding { weight, text }
    }
}

/// The exit code of a list, if it stops the run: that of its first error.
pub fn verdict(findings: &[Finding], force: bool) -> Option<u8> {
    findings.iter().find_map(|f| match f.weight {
        Weight::Error(code) => Some(code),
        Weight::Caution(code) if !force => Some(code),
        _ => None,
    })
}

/// What is to be done, as far as it matters here.
pub struct Plans<'a> {
    /// Where.
    pub host: &'a Host,
    /// Out of what.
    pub bundle: &'a Bundle,
    /// The runner's private folder.
    pub scratch: &'a Path,
    /// Is any package to be put in place?
    pub packages: bool,
    /// Is a workspace to be onboarded?
    pub onboards: bool,
    /// `--force`
    pub force: bool,
    /// How the package gets there.
    pub means: Means,
}

/// Looks for everything.
pub fn look(plans: &Plans<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    // Laid down by our own code, a package for another processor is none at all: that has its code.
    if let Some(manager) = plans.means.manager().filter(|_| plans.packages) {
        found.extend(architecture(plans, manager));
        found.extend(database(manager));
    }
    found.extend(space(plans));
    found.extend(clock(
        option_env!("OMSAGENT_BUILD_DATE").unwrap_or_default(),
        &jiff::Timestamp::now().strftime("%Y%m%d").to_string(),
    ));
    // Around an image other things run than in it.
    if plans.host.is_live() {
        found.extend(ports(plans));
        found.extend(others(&programs()));
    }
    found
}

fn architecture(plans: &Plans<'_>, manager: PackageManager) -> Option<Finding> {
    let kind = match manager {
        PackageManager::Dpkg => Kind::Deb,
        PackageManager::Rpm => Kind::Rpm,
    };
    let entries = plans.bundle.entries().iter();
    let ours = |e: &&Entry| e.kind == kind && e.pkg.as_deref() == Some(PACKAGE);
    let any = entries.filter(ours).count() > 0;
    let here = companions::packages(plans.bundle, manager, &plans.host.arch);
    let fits = here.iter().any(|(name, _)| *name == PACKAGE);
    // A bundle for another package manager altogether has its own line and code.
    (any && !fits).then(|| {
        let arch = &plans.host.arch;
        let text = format!("this bundle holds no omsagent package for this processor ({arch}): take the bundle for it");
        Finding::new(Weight::Error(6), text)
    })
}

/// Packages that will be installed: new ones, newer ones, with `--force` all.
fn pending<'b>(plans: &Plans<'b>) -> Vec<&'b Entry> {
    let newer = |name: &str, entry: &Entry| {
        let Ok(Some(there)) = means::installed_version(plans.host, name) else {
            return true;
        };
        let ours = Version::parse(entry.version.as_deref().unwrap_or_default());
        match (ours, Version::parse(&there)) {
            (Ok(ours), Ok(there)) => ours.is_newer_than(&there),
            _ => true,
        }
    };
    let all = match plans.means.manager() {
        Some(manager) => companions::packages(plans.bundle, manager, &plans.host.arch),
        None => deploy::package_for(plans.bundle, plans.host, plans.means)
            .map(|entry| (PACKAGE, entry))
            .into_iter()
            .collect(),
    };
    all.into_iter()
        .filter(|(name, entry)| plans.force || newer(name, entry))
        .map(|(_, entry)| entry)
        .collect()
}

fn space(plans: &Plans<'_>) -> Vec<Finding> {
    if !plans.packages {
        return wanting(&settings(&plans.host.layout), &measure);
    }
    let pending = pending(plans);
    let files: u64 = pending.iter().map(|e| e.installed.unwrap_or(e.size)).sum();
    let packages: Vec<u64> = pending.iter().map(|e| e.size).collect();
    let database = plans.means.manager().map(|manager| match manager {
        PackageManager::Dpkg => "/var/lib/dpkg",
        PackageManager::Rpm => "/var/lib/rpm",
    });
    let layout = &plans.host.layout;
    let wants = wants(layout, plans.scratch, files, &packages, database, &measure);
    wanting(&wants, &measure)
}

/// What a workspace needs.
fn settings(layout: &Layout) -> [(PathBuf, u64); 2] {
    [
        (layout.path("/etc"), SETTINGS),
        (layout.path("/var"), QUEUES),
    ]
}

/// What goes where, in bytes.
fn wants(
    layout: &Layout,
    scratch: &Path,
    files: u64,
    packages: &[u64],
    database: Option<&str>,
    measure: &dyn Fn(&Path) -> Option<Disk>,
) -> Vec<(PathBuf, u64)> {
    let mut wants = vec![(layout.path("/opt"), files)];
    wants.extend(settings(layout));
    wants.extend(database.map(|path| (layout.path(path), DATABASE)));
    // Our own code leaves out what would go below a /usr that cannot be written.
    let usr = layout.path("/usr");
    if database.is_some() || measure(&usr).is_some_and(|disk| !disk.read_only) {
        wants.push((usr, LINKS));
    }
    // The package files are kept where there is room for that; else each lies in the run's own
    // folder while it is read.
    let kept = keep::folder(layout);
    let all: u64 = packages.iter().sum();
    let free = measure(&kept).map_or(0, |disk| disk.free);
    wants.push(match Keep::takes(all, free) {
        true => (kept, all),
        false => (
            scratch.to_owned(),
            packages.iter().copied().max().unwrap_or(0),
        ),
    });
    wants
}

/// Free bytes, and whether it can be written, of the file system with this number.
struct Disk {
    device: u64,
    free: u64,
    read_only: bool,
}

fn measure(path: &Path) -> Option<Disk> {
    // What is not there yet comes to lie on the file system of its parent.
    let there = path.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(Disk {
        device: std::fs::metadata(there).ok()?.dev(),
        free: stat.f_bavail * stat.f_frsize,
        read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// A line for each file system that is too small for all that is to go there, or read-only.
fn wanting(wants: &[(PathBuf, u64)], measure: &dyn Fn(&Path) -> Option<Disk>) -> Vec<Finding> {
    let mut disks: BTreeMap<u64, (Vec<String>, u64, Disk)> = BTreeMap::new();
    for (path, bytes) in wants {
        if let Some(disk) = measure(path) {
            let (paths, need, _) = disks.entry(disk.device).or_insert((Vec::new(), 0, disk));
            paths.push(path.display().to_string());
            *need += bytes;
        }
    }
    let line = |(paths, need, disk): &(Vec<String>, u64, Disk)| {
        let paths = paths.join(", ");
        if disk.read_only {
            let text = format!("the file system of {paths} is mounted read-only");
            return Some(Finding::new(Weight::Caution(17), text));
        }
        (disk.free < *need).then(|| {
            let text = format!(
                "not enough space on the file system of {paths}: {} MB needed, {} MB free; make room there (--force tries all the same)",
                need.div_ceil(1 << 20),
                disk.free >> 20
            );
            Finding::new(Weight::Caution(17), text)
        })
    };
    disks.values().filter_map(line).collect()
}

/// Half-installed packages of others do not keep ours from being installed.
fn database(manager: PackageManager) -> Option<Finding> {
    if manager == PackageManager::Rpm {
        return None; // it was asked for our version before: had it not answered, we were not here
    }
    let audit = Command::new("dpkg").arg("--audit").timeout(AUDIT).run();
    let names = unfinished(&audit.ok()?.output);
    (!names.is_empty()).then(|| {
        let text = format!(
            "dpkg has packages that are not wholly installed: {}; `dpkg --configure -a` or `apt-get -f install` mends them",
            names.join(", ")
        );
        Finding::new(Weight::Warning, text)
    })
}

/// Names in the indented rows of `dpkg --audit`, without those that this bundle brings.
fn unfinished(audit: &str) -> Vec<String> {
    let rows = audit.lines().filter(|line| line.starts_with(' '));
    let mut names: Vec<String> = rows
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| {
            let plain = name.split(':').next().unwrap_or(name);
            let valid = |b: u8| b.is_ascii_alphanumeric() || b"+-.:".contains(&b);
            !ORDER.contains(&plain) && plain != "auoms" && name.bytes().all(valid)
        })
        .map(str::to_owned)
        .collect();
    order::ascending(&mut names);
    names.dedup();
    names
}

/// The ports of the workspaces there are, and the first one for a new one.
fn ports(plans: &Plans<'_>) -> Vec<Finding> {
    let layout = &plans.host.layout;
    let ids = workspace::all(layout);
    let mut wanted: Vec<(u16, bool)> = ids
        .iter()
        .filter_map(|id| Some((port::configured(layout, id)?, true)))
        .collect();
    if plans.onboards && ids.is_empty() {
        wanted.push((port::FIRST, false));
    }
    let found = wanted.into_iter().filter_map(|(port, fixed)| {
        let holders = sockets::holders(port)?;
        let foreign: Vec<_> = holders.iter().filter(|h| !is_ours(&h.program, layout)).collect();
        if foreign.is_empty() && !holders.is_empty() {
            return None;
        }
        let who = foreign.first().map_or("a process that cannot be seen from here".into(), |h| {
            let name = package_locks::program(h.pid).unwrap_or_default();
            format!("process {} ({name})", h.pid)
        });
        let then = match fixed {
            true => "the workspace that is set to it will not receive syslog: end that process or change the port in its syslog.conf",
            false => "the workspace will get the next free port",
        };
        Some(Finding::new(
            Weight::Warning,
            format!("port {port} is in use by {who}; {then}"),
        ))
    });
    found.collect()
}

/// Our program, this release's or the original's, whose interpreter lies in the same folder.
fn is_ours(program: &Path, layout: &Layout) -> bool {
    program.starts_with(layout.opt())
}

/// How long after it was made a bundle is likely to be used.
const YEARS: u32 = 10;

/// A certificate's beginning lies in the future of a clock that is behind, its end in the past of one
/// that is ahead.
fn clock(built: &str, today: &str) -> Option<Finding> {
    let date = |d: &str| match d.len() == 8 && d.bytes().all(|b| b.is_ascii_digit()) {
        true => d.parse::<u32>().ok(),
        false => None,
    };
    let (built, today) = (date(built).filter(|d| *d > 0)?, date(today)?);
    (today < built || today > built + YEARS * 10_000).then(|| {
        let text = format!(
            "this host's clock says {today}, this bundle was made on {built}: set the clock if it is wrong, or the service's certificate will not be accepted"
        );
        Finding::new(Weight::Warning, text)
    })
}

/// Names of all processes.
fn programs() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(package_locks::program).collect()
}

fn others(programs: &[String]) -> Vec<Finding> {
    let running = |name: &str| programs.iter().any(|p| p == name);
    OTHERS
        .iter()
        .filter(|(name, _)| running(name))
        .map(|(name, what)| {
            let text = format!(
                "{what} ({name}) runs here: it may collect the same messages, which are then sent, and paid for, twice"
            );
            Finding::new(Weight::Warning, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_counted_per_file_system() {
        let disk = |device, free| {
            Some(Disk {
                device,
                free,
                read_only: false,
            })
        };
        let wants = [("/opt", 30 << 20), ("/var", 30 << 20), ("/run", 1 << 20)]
            .map(|(path, need)| (PathBuf::from(path), need));
        let one = wanting(&wants, &|path| {
            disk(u64::from(path == Path::new("/run")), 50 << 20)
        });
        assert_eq!(one.len(), 1);
        let text = &one[0].text;
        assert!(
            text.contains("/opt, /var: 60 MB needed, 50 MB free"),
            "{text}"
        );
        let each = wanting(&wants, &|path| {
            disk(path.as_os_str().len() as u64, 50 << 20)
        });
        assert_eq!(each.len(), 1, "all three names have four characters");
        assert!(wanting(&wants, &|_| disk(1, 61 << 20)).is_empty());
        assert!(wanting(&wants, &|_| None).is_empty());
        let read_only = wanting(&wants[..1], &|_| {
            Some(Disk {
                device: 1,
                free: u64::MAX,
                read_only: true,
            })
        });
        assert!(read_only[0].text.contains("read-only"));
        assert!(measure(Path::new("/no/such/folder")).is_some());
    }

    #[test]
    fn kept_packages_and_the_rest_of_the_system_are_counted() {
        let layout = Layout::new("/");
        let disk = |free| {
            move |_: &Path| {
                Some(Disk {
                    device: 1,
                    free,
                    read_only: false,
                })
            }
        };
        let of = |free: u64, database| {
            let sizes = [5 << 20, 7 << 20];
            let scratch = Path::new("/run/omsb.x");
            let wants = wants(&layout, scratch, 9 << 20, &sizes, database, &disk(free));
            let line = wanting(&wants, &disk(1 << 20)).remove(0).text;
            (wants, line)
        };
        // 9 + 1 + 1 + 4, both files, the database.
        let (wants, line) = of(100 << 20, Some("/var/lib/dpkg"));
        assert!(
            line.contains("/usr") && line.contains("/var/lib/omsagent/packages"),
            "{line}"
        );
        assert!(line.contains(": 35 MB needed"), "{line}");
        assert_eq!(wants.len(), 6);
        // Too little to keep them: the larger one, for a moment.
        let (_, line) = of(20 << 20, None);
        assert!(line.contains("/run/omsb.x: 22 MB needed"), "{line}");
    }

    #[test]
    fn caution_gives_way_to_force_and_the_first_error_decides() {
        let found = |weights: &[Weight]| -> Vec<Finding> {
            weights.iter().map(|w| Finding::new(*w, "x")).collect()
        };
        use Weight::{Caution, Error, Warning};
        let list = found(&[Warning, Caution(17), Error(6)]);
        assert_eq!(verdict(&list, false), Some(17));
        assert_eq!(verdict(&list, true), Some(6));
        assert_eq!(verdict(&found(&[Warning]), false), None);
    }

    #[test]
    fn what_dpkg_has_half_done_is_named() {
        let audit = "The following packages are only half configured, probably due to problems\n\
                     configuring them the first time.  The configuration should be retried using\n\
                     dpkg --configure <package> or the configure menu option in dselect:\n \
                     omsagent             Forwarding agent\n \
                     broken-thing:amd64   Something else\n\n";
        assert_eq!(unfinished(audit), ["broken-thing:amd64"]);
        assert!(unfinished("").is_empty());
    }

    #[test]
    fn a_clock_far_from_the_build_is_told() {
        assert!(clock("20310809", "20410809").is_none());
        assert!(clock("20310809", "20410810").is_some());
        assert!(clock("20310809", "19700101").is_some());
        assert!(
            clock("20310809", "20300101")
                .unwrap()
                .text
                .contains("20310809")
        );
        assert!(clock("20310809", "20310809").is_none());
        assert!(clock("00000000", "20300101").is_none() && clock("", "20300101").is_none());
    }

    #[test]
    fn other_agents_are_named_once() {
        let programs = ["sh", "mdsd", "mdsd"].map(String::from);
        let found = others(&programs);
        assert_eq!(found.len(), 1);
        assert!(found[0].text.contains("(mdsd)"));
    }

    #[test]
    fn the_original_s_interpreter_is_ours() {
        let layout = Layout::new("/");
        let ruby = Path::new("/opt/microsoft/omsagent/ruby/bin/ruby");
        assert!(is_ours(ruby, &layout) && !is_ours(Path::new("/usr/bin/fluent-bit"), &layout));
    }
}
