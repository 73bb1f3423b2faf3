//! Lines of files (protocol.md 5.5): one thread for all sources.
//!
//! A file's position moves past a line only when the line is in a queue, and is written down only
//! when the queue is on the disk; so a kill or a power cut means lines sent twice, not lines lost, as
//! long as the file is there, under whatever name in its folder. Nothing is buffered: what a queue
//! does not take is read again. inotify says what changed; at rest nothing wakes up but the look at
//! the patterns.

pub mod fingerprint;
mod follow;
pub mod format;
mod generations;
pub mod lines;
mod outlet;
pub mod pattern;
pub mod positions;
mod rotated;
mod scan;
mod turn;
mod watch;

#[cfg(test)]
mod tests;

use crate::agent::complaints::Complaints;
use crate::agent::config::{Route, Settings, Tail};
use crate::agent::figures::{Figures, Input};
use crate::agent::output::Control;
use crate::agent::queue::Queue;
use crate::agent::signals;
use anyhow::{Context, Result};
use fingerprint::Id;
use follow::Followed;
use log::{info, warn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use outlet::Outlet;
use positions::Positions;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use turn::Turn;
use watch::Watch;

/// Stack of the thread.
const STACK: usize = 256 << 10;
/// What is read at once.
const BLOCK: usize = 256 << 10;
/// Files that are open at a time; of more, those used longest ago are closed.
const OPEN_LIMIT: usize = 256;
/// Changes are gathered for so long.
const GATHER: Duration = Duration::from_millis(50);
/// Positions are written down at the latest so long after they moved.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// How often files are looked at where inotify cannot say.
const LOOK_EACH: Duration = Duration::from_secs(1);
/// The thread gets this long to end.
const END_GRACE: Duration = Duration::from_millis(1200);
/// Turns after which the thread looks up from its work.
const TURNS: usize = 64;

/// The running thread.
pub struct Tailing {
    thread: JoinHandle<()>,
    wake: UnixStream,
}

impl Tailing {
    /// Ends it, once [`Control::stop`] was called: what is in queues and positions is on the disk then.
    /// A file system that does not answer is not waited for.
    pub fn end(self) {
        let _ = (&self.wake).write_all(b"x");
        let until = Instant::now() + END_GRACE;
        while !self.thread.is_finished() {
            if Instant::now() > until {
                return warn!("reading files does not end: a file system does not answer");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Starts it; `None` when there is nothing to read.
pub fn start(
    settings: &Arc<Settings>,
    queues: &[Arc<Queue>],
    control: &Arc<Control>,
    figures: &Figures,
) -> Result<Option<Tailing>> {
    if !settings.tails.iter().any(|t| is_carried(settings, t)) {
        return Ok(None);
    }
    let (wake, woken) = UnixStream::pair().context("cannot make a socket pair")?;
    let tailer = Tailer::new(settings, queues, Arc::clone(control), &figures.tails, woken)?;
    let work = move || {
        let _ = signals::block();
        tailer.run();
    };
    let thread = std::thread::Builder::new()
        .name("tail".into())
        .stack_size(STACK)
        .spawn(work)
        .context("cannot start thread `tail`")?;
    Ok(Some(Tailing { thread, wake }))
}

/// A source of the configuration.
struct Source {
    config: Tail,
    figures: Arc<Input>,
    /// Which of the position files.
    positions: usize,
    /// When its patterns are looked up next.
    next_scan: Instant,
    /// When they were looked up last, milliseconds since 1970; `None`: never.
    scanned_ms: Option<u64>,
    folders: std::collections::BTreeSet<PathBuf>,
    /// What was complained of, once each.
    told: HashSet<PathBuf>,
    complaints: Complaints,
}

/// Everything the thread works with.
struct Tailer {
    settings: Arc<Settings>,
    control: Arc<Control>,
    woken: UnixStream,
    sources: Vec<Source>,
    positions: Vec<Positions>,
    outlets: Vec<Outlet>,
    watch: Watch,
    files: HashMap<usize, Followed>,
    /// Files that are what their name means, by name and by where it leads.
    live: HashMap<PathBuf, Vec<usize>>,
    ids: HashMap<(usize, Id), usize>,
    leaving: Vec<usize>,
    work: VecDeque<usize>,
    parked: Vec<usize>,
    next_number: usize,
    uses: u64,
    open: usize,
    save_at: Option<Instant>,
    look_at: Instant,
    save_told: bool,
    buffer: Vec<u8>,
}

impl Tailer {
    fn new(
        settings: &Arc<Settings>,
        queues: &[Arc<Queue>],
        control: Arc<Control>,
        figures: &[Arc<Input>],
        woken: UnixStream,
    ) -> Result<Tailer> {
        let now = Instant::now();
        let mut positions: Vec<Positions> = Vec::new();
        let mut wanted: Vec<&PathBuf> = Vec::new();
        let mut sources = Vec::new();
        let tails = settings.tails.iter().zip(figures);
        for (config, figures) in tails.filter(|(t, _)| is_carried(settings, t)) {
            let known = wanted.iter().position(|p| **p == config.pos_file);
            let number = match known {
                Some(number) => number,
                None => {
                    let opened = Positions::open(&config.pos_file, &config.state);
                    positions.push(
                        opened
                            .with_context(|| format!("{}: cannot keep positions", config.place))?,
                    );
                    wanted.push(&config.pos_file);
                    positions.len() - 1
                }
            };
            sources.push(Source {
                config: config.clone(),
                figures: Arc::clone(figures),
                positions: number,
                next_scan: now,
                scanned_ms: None,
                folders: Default::default(),
                told: HashSet::new(),
                complaints: Complaints::default(),
            });
        }
        Ok(Tailer {
            settings: Arc::clone(settings),
            control,
            woken,
            sources,
            positions,
            outlets: queues.iter().cloned().map(Outlet::new).collect(),
            watch: Watch::new(),
            files: HashMap::new(),
            live: HashMap::new(),
            ids: HashMap::new(),
            leaving: Vec::new(),
            work: VecDeque::new(),
            parked: Vec::new(),
            next_number: 0,
            uses: 0,
            open: 0,
            save_at: None,
            look_at: now + LOOK_EACH,
            save_told: false,
            buffer: vec![0; BLOCK],
        })
    }

    /// Until told to stop.
    fn run(mut self) {
        self.scan_due();
        info!("{} files are followed", self.files.len());
        while !self.control.stopping() {
            let begun = Instant::now();
            self.pass();
            if self.save_at.is_some_and(|at| at <= Instant::now()) {
                self.save();
            }
            if self.work.is_empty() {
                let next = self.next();
                self.wait(next, true);
                // What comes now brings more with it.
                self.wait(Some(begun + GATHER), false);
            }
            self.take_events();
            self.scan_due();
            self.look();
            self.let_go();
            self.unpark();
        }
        self.save();
        for source in &mut self.sources {
            source.complaints.summary();
        }
    }

    /// When something is due though nothing happens.
    fn next(&self) -> Option<Instant> {
        let scan = self.sources.iter().map(|s| s.next_scan).min();
        let leaving = self.leaving.iter().filter_map(|n| self.files.get(n));
        let leaving = leaving.filter(|f| !f.waits).filter_map(|f| f.leaving).min();
        let now = Instant::now();
        let parked = match self.parked.is_empty() {
            true => None,
            false => self.outlets.iter().filter_map(|o| o.retry(now)).min(),
        };
        let look = self.watch.is_blind().then_some(self.look_at);
        let times = [scan, leaving, parked, self.save_at, look];
        times.into_iter().flatten().min()
    }

    /// Until `until`, or until told to stop, or (with `events`) until something happens.
    fn wait(&self, until: Option<Instant>, events: bool) {
        let left = match until.map(|at| at.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(Duration::ZERO) => return,
            Some(left) => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        if let Some(fd) = self.watch.fd().filter(|_| events) {
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        let _ = poll(&mut fds, left); // interrupted: the caller looks at everything anyway
    }

    /// One turn for each file that waits, and again, for a while.
    fn pass(&mut self) {
        for _ in 0..TURNS {
            let Some(number) = self.work.pop_front() else {
                break;
            };
            if let Some(file) = self.files.get_mut(&number) {
                file.waits = false;
            }
            match self.turn(number) {
                Turn::Done => {}
                Turn::More => self.enqueue(number),
                Turn::Blocked => {
                    if let Some(file) = self.files.get_mut(&number) {
                        file.waits = true;
                        self.parked.push(number);
                    }
                }
                Turn::Gone => self.is_gone(number),
            }
            if self.control.stopping() {
                break;
            }
        }
    }

    /// The name means another file, or none: the patterns are looked up, or it is let go.
    fn is_gone(&mut self, number: usize) {
        let Some(file) = self.files.get(&number) else {
            return;
        };
        let now = Instant::now();
        match file.leaving {
            Some(until) if until <= now => self.drop_file(number),
            Some(_) => {}
            None => {
                if let Some(source) = self.sources.get_mut(file.source) {
                    source.next_scan = now;
                }
            }
        }
    }

    fn enqueue(&mut self, number: usize) {
        if let Some(file) = self.files.get_mut(&number)
            && !std::mem::replace(&mut file.waits, true)
        {
            self.work.push_back(number);
        }
    }

    fn unpark(&mut self) {
        let now = Instant::now();
        if !self.parked.is_empty() && self.outlets.iter().all(|o| o.retry(now).is_none()) {
            self.work.extend(self.parked.drain(..));
        } else if !self.parked.is_empty() {
            let parked = std::mem::take(&mut self.parked);
            for number in parked {
                let outlet = self.outlet_of(number);
                match outlet.and_then(|n| self.outlets.get(n)) {
                    Some(outlet) if outlet.retry(now).is_some() => self.parked.push(number),
                    _ => self.work.push_back(number),
                }
            }
        }
    }

    /// The output that takes the lines of a file.
    fn outlet_of(&self, number: usize) -> Option<usize> {
        let file = self.files.get(&number)?;
        let source = self.sources.get(file.source)?;
        match self.settings.route(&source.config.tag_of(&file.path)) {
            Some(Route::Output(number)) => Some(number),
            _ => None,
        }
    }

    fn take_events(&mut self) {
        let events = self.watch.events();
        for path in events.written {
            for number in self.live.get(&path).cloned().unwrap_or_default() {
                self.enqueue(number);
            }
        }
        let now = Instant::now();
        if events.all {
            self.sources.iter_mut().for_each(|s| s.next_scan = now);
        }
        if events.moved.is_empty() {
            return;
        }
        let date = jiff::Zoned::now();
        for path in events.moved {
            let of = self.live.get(&path).into_iter().flatten();
            let of: Vec<usize> = of.filter_map(|n| Some(self.files.get(n)?.source)).collect();
            for (n, source) in self.sources.iter_mut().enumerate() {
                let folder = || source.folders.iter().any(|f| f.starts_with(&path));
                let may = || source.config.patterns.may_be(&path, &date);
                let on_the_way = || {
                    let mut include = source.config.patterns.include.iter();
                    include.any(|p| std::path::Path::new(p).starts_with(&path))
                };
                if source.next_scan > now && (of.contains(&n) || may() || folder() || on_the_way())
                {
                    source.next_scan = now;
                }
            }
        }
    }

    /// Brings the queues onto the disk, then the positions.
    fn save(&mut self) {
        self.save_at = None;
        let synced = self.outlets.iter_mut().try_for_each(Outlet::sync);
        let now = now_ms();
        let sources = &self.sources;
        for file in self.files.values_mut().filter(|f| f.unsaved) {
            let source = sources.get(file.source);
            if let Some(positions) = source.and_then(|s| self.positions.get_mut(s.positions)) {
                positions.set(file.record(now));
                file.unsaved = false;
            }
        }
        let saved = synced.and_then(|()| {
            let mut changed = self.positions.iter_mut().filter(|p| p.is_changed());
            changed.try_for_each(Positions::save)
        });
        match saved {
            Ok(()) => self.save_told = false,
            Err(error) => {
                if !std::mem::replace(&mut self.save_told, true) {
                    warn!(
                        "cannot write down how far files were read: {error}; trying again each second, after a restart lines would be sent twice"
                    );
                }
                self.save_at = Some(Instant::now() + SAVE_AFTER);
            }
        }
    }

    /// Something is to be written down.
    fn moved(&mut self) {
        self.save_at
            .get_or_insert_with(|| Instant::now() + SAVE_AFTER);
    }

    fn positions_of(&mut self, source: usize) -> Option<&mut Positions> {
        let number = self.sources.get(source)?.positions;
        self.positions.get_mut(number)
    }
}

/// Have its lines a way to the service? Where not, the loader has told, and nothing is read.
fn is_carried(settings: &Settings, tail: &Tail) -> bool {
    let example = std::path::Path::new("/xx/xx");
    let tag = tail.tag_of(example);
    let output = match settings.route(&tag) {
        Some(Route::Output(number)) => settings.outputs.get(number),
        _ => None,
    };
    output.is_some_and(|o| o.form.kind(&tag, example).is_ok())
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| d.as_millis() as u64)
}
