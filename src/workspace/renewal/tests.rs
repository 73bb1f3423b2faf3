//! Renewals against a service that is a few lines: what it knows, and what goes wrong.

use super::*;
use crate::wire::http::Cause;
use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use tempfile::TempDir;

fn make() -> ClientIdentity {
    let ws = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    let guid = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".parse().unwrap();
    ClientIdentity::generate(&ws, &guid, Timestamp::now()).unwrap()
}

fn pairs() -> &'static [ClientIdentity; 3] {
    static MADE: OnceLock<[ClientIdentity; 3]> = OnceLock::new();
    MADE.get_or_init(|| [make(), make(), make()])
}

fn print(pair: &ClientIdentity) -> Vec<u8> {
    pair.cert_der().unwrap()
}

/// What goes wrong at one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Not even heard.
    Unheard,
    /// Done, and the answer lost.
    AnswerLost,
    /// 500, nothing done.
    Fault,
    /// 403 for a reason that has nothing to do with the pair.
    Skew,
}

/// Knows certificates as the hub does: the known one and the one that is to follow.
#[derive(Default)]
struct Hub {
    known: RefCell<Vec<Vec<u8>>>,
    pending: RefCell<Option<Vec<u8>>>,
    renews: Cell<bool>,
    requests: Cell<usize>,
    /// By the number of the request.
    troubles: RefCell<Vec<(usize, Trouble)>>,
}

fn lost() -> HttpError {
    HttpError::new(Cause::Timeout, "no answer in time")
}

fn forbidden(status: u16) -> HeartbeatError {
    HeartbeatError::Status {
        status,
        reason: Some("X".into()),
        skew: None,
    }
}

impl Hub {
    fn knowing(pair: &ClientIdentity) -> Hub {
        let hub = Hub::default();
        hub.known.borrow_mut().push(print(pair));
        hub.renews.set(true);
        hub
    }

    fn trouble(&self) -> Option<Trouble> {
        let number = self.requests.get();
        self.requests.set(number + 1);
        let troubles = self.troubles.borrow();
        troubles.iter().find(|(n, _)| *n == number).map(|t| t.1)
    }

    /// As any request made with `pair`.
    fn knows(&self, pair: &ClientIdentity) -> bool {
        let der = print(pair);
        if self.pending.borrow().as_ref() == Some(&der) {
            *self.known.borrow_mut() = vec![der.clone()];
            *self.pending.borrow_mut() = None;
        }
        self.known.borrow().contains(&der)
    }
}

impl Service for Hub {
    fn offer(&self, old: &ClientIdentity, new: &ClientIdentity) -> Result<(), RenewError> {
        let refused = |status| RenewError::Status {
            status,
            reason: None,
        };
        let trouble = self.trouble();
        match trouble {
            Some(Trouble::Unheard) => return Err(lost().into()),
            Some(Trouble::Fault) => return Err(refused(500)),
            Some(Trouble::Skew) => return Err(refused(403)),
            _ => {}
        }
        if !self.knows(old) {
            return Err(refused(403));
        }
        if !self.renews.get() {
            return Err(refused(404));
        }
        *self.pending.borrow_mut() = Some(print(new));
        match trouble {
            Some(Trouble::AnswerLost) => Err(lost().into()),
            _ => Ok(()),
        }
    }

    fn heartbeat(&self, pair: &ClientIdentity) -> Result<TopologyResponse, HeartbeatError> {
        let trouble = self.trouble();
        match trouble {
            Some(Trouble::Unheard) => return Err(lost().into()),
            Some(Trouble::Fault) => return Err(forbidden(500)),
            Some(Trouble::Skew) => return Err(forbidden(403)),
            _ => {}
        }
        if !self.knows(pair) {
            return Err(forbidden(403));
        }
        match trouble {
            Some(Trouble::AnswerLost) => Err(lost().into()),
            _ => Ok(TopologyResponse::default()),
        }
    }
}

fn folder(pair: &ClientIdentity) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("oms.crt", pair.cert_pem.as_str()),
        ("oms.key", pair.key_pem.expose()),
    ] {
        files::write_atomic(&dir.path().join(name), text.as_bytes(), Look::mode(0o640)).unwrap();
    }
    dir
}

fn in_place(certs: &Path) -> ClientIdentity {
    let pair = ClientIdentity::load(certs).unwrap().unwrap();
    assert!(pair.fits().unwrap(), "never a mixed pair");
    pair
}

fn names(certs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(certs).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn run(certs: &Path, hub: &Hub, begin: Begin) -> Renewal {
    renew(certs, hub, begin, || Ok(pairs()[1].clone())).unwrap()
}

#[test]
fn a_new_pair_is_offered_confirmed_and_put_in_place() {
    let [old, new, _] = pairs();
    let (dir, hub) = (folder(old), Hub::knowing(old));
    assert!(matches!(
        run(dir.path(), &hub, Begin::Nothing),
        Renewal::Nothing
    ));
    assert_eq!(hub.requests.get(), 0);
    assert!(matches!(
        run(dir.path(), &hub, Begin::New),
        Renewal::Done(Some(_))
    ));
    assert_eq!(print(&in_place(dir.path())), print(new));
    assert_eq!(*hub.known.borrow(), [print(new)]);
    assert_eq!(names(dir.path()), ["oms.crt", "oms.key"]);
    let mode = std::fs::metadata(dir.path().join("oms.key"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert_eq!(hub.requests.get(), 2);
}

#[test]
fn whatever_is_lost_on_the_way_the_end_is_a_pair_that_the_service_knows() {
    use Trouble::{AnswerLost, Fault, Skew, Unheard};
    let [old, new, _] = pairs();
    let all = [
        None,
        Some(Unheard),
        Some(AnswerLost),
        Some(Fault),
        Some(Skew),
    ];
    let mut tried = 0;
    for first in all {
        for second in all {
            for third in all {
                let (dir, hub) = (folder(old), Hub::knowing(old));
                let troubles = [first, second, third].into_iter().enumerate();
                *hub.troubles.borrow_mut() = troubles.filter_map(|(n, t)| Some((n, t?))).collect();
                let mut ends = Vec::new();
                for round in 0..6 {
                    // An agent that is told once, and then only finishes what it began.
                    let begin = match round {
                        0 => Begin::New,
                        _ => Begin::Nothing,
                    };
                    let end = run(dir.path(), &hub, begin);
                    let done = !matches!(end, Renewal::Unsettled(_));
                    ends.push(end);
                    in_place(dir.path());
                    if done {
                        break;
                    }
                }
                let what = format!("{first:?} {second:?} {third:?}: {ends:?}");
                assert!(hub.knows(&in_place(dir.path())), "{what}");
                assert_eq!(names(dir.path()), ["oms.crt", "oms.key"], "{what}");
                let refused = matches!(ends.last(), Some(Renewal::Refused(_)));
                let wanted = if refused { old } else { new };
                assert_eq!(print(&in_place(dir.path())), print(wanted), "{what}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 125);
}

#[test]
fn a_service_that_refuses_keeps_the_old_pair() {
    let [old, ..] = pairs();
    let (dir, hub) = (folder(old), Hub::knowing(old));
    hub.renews.set(false);
    let Renewal::Refused(why) = run(dir.path(), &hub, Begin::New) else {
        panic!("must be refused");
    };
    assert!(why.contains("404"), "{why}");
    assert_eq!(print(&in_place(dir.path())), print(old));
    assert_eq!(names(dir.path()), ["oms.crt", "oms.key"]);
}

#[test]
fn while_the_service_knows_neither_nothing_is_thrown_away() {
    let [old, _, other] = pairs();
    let (dir, hub) = (folder(old), Hub::knowing(other));
    assert!(matches!(
        run(dir.path(), &hub, Begin::New),
        Renewal::Unsettled(_)
    ));
    assert!(is_begun(dir.path()));
    assert_eq!(print(&in_place(dir.path())), print(old));
}

#[test]
fn onboarded_anew_meanwhile_the_offered_pair_is_forgotten() {
    let [old, _, other] = pairs();
    let (dir, hub) = (folder(old), Hub::knowing(old));
    *hub.troubles.borrow_mut() = vec![(0, Trouble::Unheard), (1, Trouble::Unheard)];
    run(dir.path(), &hub, Begin::New);
    assert!(is_begun(dir.path()));
    std::fs::write(dir.path().join("oms.key"), other.key_pem.expose()).unwrap();
    std::fs::write(dir.path().join("oms.crt"), &other.cert_pem).unwrap();
    let hub = Hub::knowing(other);
    assert!(matches!(
        run(dir.path(), &hub, Begin::Nothing),
        Renewal::Nothing
    ));
    assert_eq!(hub.requests.get(), 0);
    assert_eq!(names(dir.path()), ["oms.crt", "oms.key"]);
}

#[test]
fn what_was_cut_short_on_this_host_is_completed_without_the_service() {
    let [old, new, _] = pairs();
    let dir = folder(old);
    let certs = dir.path();
    let file = NewPair::new(old, new.clone(), Timestamp::now()).unwrap();
    std::fs::write(Stage::Known.path(certs), file.to_text().as_bytes()).unwrap();
    std::fs::write(certs.join("oms.key"), new.key_pem.expose()).unwrap();
    let left = certs.join(".oms.crt.x.omsagent-new");
    std::fs::write(&left, "half").unwrap();
    std::fs::write(certs.join(".oms.key.y.omsagent-new"), "just now").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let half = File::options().write(true).open(&left).unwrap();
    half.set_modified(long_ago).unwrap();
    assert!(recover(certs).unwrap());
    assert_eq!(print(&in_place(certs)), print(new));
    assert_eq!(
        names(certs),
        [".oms.key.y.omsagent-new", "oms.crt", "oms.key"]
    );
    assert!(!recover(certs).unwrap());
}

#[test]
fn two_do_not_renew_at_once() {
    let [old, ..] = pairs();
    let (dir, hub) = (folder(old), Hub::knowing(old));
    let held = lock(dir.path()).unwrap();
    assert!(matches!(run(dir.path(), &hub, Begin::New), Renewal::Busy));
    drop(held);
    assert!(matches!(
        run(dir.path(), &hub, Begin::New),
        Renewal::Done(_)
    ));
}

#[test]
fn no_link_is_followed() {
    let [old, ..] = pairs();
    let (dir, hub) = (folder(old), Hub::knowing(old));
    let away = dir.path().join("elsewhere.pem");
    std::fs::rename(dir.path().join("oms.crt"), &away).unwrap();
    std::os::unix::fs::symlink(&away, dir.path().join("oms.crt")).unwrap();
    let error = renew(dir.path(), &hub, Begin::New, || Ok(pairs()[1].clone())).unwrap_err();
    assert!(format!("{error:#}").contains("oms.crt"), "{error:#}");
    assert_eq!(hub.requests.get(), 0);
    let file = dir.path().join("no-folder");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(renew(&file, &hub, Begin::New, || unreachable!()).is_err());
}

#[test]
fn an_onboarding_keeps_renewals_away_and_waits_for_one() {
    let dir = TempDir::new().unwrap();
    assert!(hold(&dir.path().join("none")).unwrap().is_none());
    let held = hold(dir.path()).unwrap().unwrap();
    let renewal = renew(
        dir.path(),
        &Hub::knowing(&pairs()[0]),
        Begin::Nothing,
        || Ok(make()),
    );
    assert!(matches!(renewal, Ok(Renewal::Busy)));
    drop(held);
    let other = lock(dir.path()).unwrap().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| hold(dir.path()).unwrap().is_some());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(other);
        assert!(waiting.join().unwrap());
    });
}
