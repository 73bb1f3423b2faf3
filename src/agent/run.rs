//! The agent's life: configuration, queues, sockets, threads, signals, end.

use crate::agent::azure::{self, Whereabouts};
use crate::agent::beats::Beats;
use crate::agent::config::{Settings, Syslog};
use crate::agent::counters::Collector;
use crate::agent::figures::Figures;
use crate::agent::handover::Legacy;
use crate::agent::heartbeat;
use crate::agent::ingest::{Connection, Ending, Ingest};
use crate::agent::journal;
use crate::agent::link::Common;
use crate::agent::listen::{self, Kept};
use crate::agent::notify::Notify;
use crate::agent::output::{Control, Sender};
use crate::agent::pid_file::PidFile;
use crate::agent::queue::Queue;
use crate::agent::reload::{self, Reload};
use crate::agent::signals::{self, Signals};
use crate::agent::status::StatusFile;
use crate::agent::tail;
use crate::agent::telemetry::Reporter;
use crate::agent::topology::TopologyHeartbeat;
use crate::agent::window::Window;
use crate::host::layout::Layout;
use crate::settings::fluent;
use crate::wire::azure::Metadata;
use anyhow::{Context, Result};
use log::{error, info, warn};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What was appended is on the disk after this time at the latest.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// Senders get this long to end; a request in flight is not waited for, its data stays queued.
const SENDER_GRACE: Duration = Duration::from_millis(300);
/// The same before a new configuration is taken: what is cut off is sent again by the successor.
const RELOAD_GRACE: Duration = Duration::from_secs(5);
/// Stack of the thread that reads.
const INGEST_STACK: usize = 256 << 10;
/// Stack of the thread that asks the metadata service.
const AZURE_STACK: usize = 128 << 10;
/// Stack of the thread that collects counters.
const COUNTERS_STACK: usize = 128 << 10;
/// It gets this long to end: it may wait for a file system that does not answer.
const COUNTERS_GRACE: Duration = Duration::from_millis(700);
/// Stack of a thread that speaks TLS.
const SENDER_STACK: usize = 512 << 10;

/// How to run.
#[derive(Debug, Clone)]
pub struct Request {
    /// omsagent.conf.
    pub config: PathBuf,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// Where to tell figures (docs/status.md).
    pub window: Option<PathBuf>,
    /// For queues whose output names no place.
    pub state: PathBuf,
    /// For `ODSIngestion.status`.
    pub status: PathBuf,
    /// CAs trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the host's files are.
    pub layout: Layout,
}

/// Runs until SIGTERM or SIGINT. The log must be installed already.
pub fn run(request: &Request) -> Result<()> {
    let legacy = Legacy::take();
    let signals = Signals::listen()?;
    let notify = Notify::from_environment();
    let legacy = legacy.unwrap_or_else(|| Ok(Legacy::default()));
    let mut legacy = legacy.unwrap_or_else(|error| {
        error!("{error:#}; listening anew");
        Legacy::default()
    });
    let document = fluent::load(&request.config)?;
    let settings = Arc::new(Settings::from_document(&document, &request.state)?);
    drop(document);
    info!(
        "omsagent {} starts with `{}`",
        env!("CARGO_PKG_VERSION"),
        request.config.display()
    );
    let mut told = std::mem::take(&mut legacy.told);
    reload::tell_new(&settings.notes, &mut told);
    if nix::unistd::geteuid().is_root() {
        warn!("running as root: nothing here needs it; the unit runs it as user omsagent");
    }
    let queues = open_queues(&settings)?;
    let sockets = listen::bind(&settings.syslog, legacy.sockets)?;
    let held = sockets.copies(&settings.syslog);
    let held = held.context("cannot keep the sockets for a reload")?;
    let _pid_file = request
        .pid_file
        .as_deref()
        .map(PidFile::write)
        .transpose()?;

    let figures = Arc::new(Figures::new(&settings));
    let window = request.window.as_deref().and_then(Window::open);
    let control = Arc::new(Control::default());
    let common = Common {
        version: heartbeat::data_version(&request.layout.installinfo()),
        ca_file: request.ca_file.clone(),
        whereabouts: Whereabouts::default(),
        gathered: (!settings.telemetry.is_empty()).then(Arc::default),
    };
    common.gathered.iter().for_each(journal::count_errors);
    let senders = start_senders(
        &settings,
        &queues,
        &control,
        &common,
        &request.status,
        &figures,
    )?;
    let callers = start_callers(
        &settings,
        &queues,
        &control,
        &common,
        &request.layout,
        &figures,
    )?;
    let tailing = tail::start(&settings, &queues, &control, &figures)?;
    let ending = Arc::new(Ending::default());
    let (stop_reading, wake) = UnixStream::pair().context("cannot make a socket pair")?;
    let dirty = Arc::new(Dirty::new(signals.waker()?));
    let reader = {
        let dirty = Arc::clone(&dirty);
        let mut ingest = Ingest::new(
            Arc::clone(&settings),
            sockets,
            &queues,
            &figures,
            OwnedFd::from(wake),
            Arc::clone(&ending),
            Box::new(move || dirty.mark()),
        );
        let sources = &settings.syslog;
        let source = |asked| sources.iter().position(|s| s.streams() == asked);
        let connections = legacy.connections.into_iter();
        ingest.adopt(connections.filter_map(|(asked, c)| Some((source(asked)?, c))));
        thread("ingest", INGEST_STACK, move || ingest.run())?
    };
    let counting = {
        let dirty = Arc::clone(&dirty);
        let collector = Collector::new(
            &settings,
            &queues,
            &figures,
            &request.layout,
            Arc::clone(&control),
            Box::new(move || dirty.mark()),
        );
        let start = |c: Collector| thread("counters", COUNTERS_STACK, move || c.run());
        collector.map(start).transpose()?
    };
    notify.ready();
    info!("ready");

    let reread = reread(&control, &queues);
    let mut watch = Watch {
        beats: Beats::new(&settings, &request.layout),
        figures: &figures,
        queues: &queues,
        dirty: &dirty,
        sync_at: None,
        notify: &notify,
        alive_at: notify.interval().map(|_| Instant::now()),
        reader: &reader,
    };
    let mut next = None;
    while !signals.to_end() && next.is_none() {
        watch.work();
        signals.wait(watch.next(), window.as_ref());
        if let Some(window) = &window {
            window.serve(|| figures.snapshot(&queues));
        }
        if !signals.to_reload() {
            continue;
        }
        info!("reloading certificate, omsadmin.conf, proxy.conf and the configuration");
        notify.reloading();
        let places = (request.config.as_path(), request.state.as_path());
        let held = copies(&held);
        match held.and_then(|held| reload::look(places, &settings, held, &mut told)) {
            Ok(Reload::New(sockets)) => next = Some(sockets),
            seen => {
                if let Err(error) = seen {
                    warn!("the configuration stays as it was: {error:#}");
                }
                reread();
                callers.iter().for_each(|c| c.thread().unpark());
                notify.ready();
            }
        }
    }

    if next.is_none() {
        notify.stopping();
        info!("stopping");
    }
    // Senders first: while they come to their end, what arrives is still read.
    control.stop();
    queues.iter().for_each(|q| q.wake());
    callers.iter().for_each(|c| c.thread().unpark());
    counting.iter().for_each(|c| c.thread().unpark());
    if let Some(tailing) = tailing {
        tailing.end();
    }
    if next.is_some() {
        wait_for(&senders, RELOAD_GRACE);
        sync(&queues);
    }
    if next.is_some() && !signals.to_end() {
        ending.hand_over();
    } else {
        if let Some(unused) = next.take() {
            listen::remove_names(&unused, &held);
        }
        ending.end();
    }
    let _ = (&stop_reading).write_all(b"x");
    let connections = reader.join().unwrap_or_default();
    wait_for(counting.as_slice(), COUNTERS_GRACE);
    wait_for(&senders, SENDER_GRACE);
    sync(&queues);
    if let Some(sockets) = next {
        listen::remove_names(&held, &sockets);
        let asked = |c: &Connection| settings.syslog.get(c.source()).map(Syslog::streams);
        let connections = connections.into_iter();
        let legacy = Legacy {
            sockets,
            connections: connections.filter_map(|c| Some((asked(&c)?, c))).collect(),
            told,
        };
        signals::block().context("cannot keep signals for later")?;
        if !signals.to_end() {
            log::logger().flush();
            legacy.pass_on()?;
        }
    }
    for queue in &queues {
        let counts = queue.counts();
        info!(
            "queue `{}`: {} items taken in, {} delivered, {} dropped, {} bytes wait for the next start",
            queue.dir().display(),
            counts.appended,
            counts.delivered,
            counts.dropped,
            queue.waiting()
        );
    }
    info!("stopped");
    log::logger().flush();
    Ok(())
}

fn copies(held: &[Kept]) -> Result<Vec<Kept>> {
    let copy = |kept: &Kept| {
        Ok(Kept {
            asked: kept.asked.clone(),
            socket: kept.socket.try_clone()?,
        })
    };
    held.iter().map(copy).collect()
}

fn wait_for(senders: &[JoinHandle<()>], grace: Duration) {
    let until = Instant::now() + grace;
    while senders.iter().any(|s| !s.is_finished()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn sync(queues: &[Arc<Queue>]) {
    for queue in queues {
        if let Err(error) = queue.sync() {
            error!("cannot sync the queue `{}`: {error}", queue.dir().display());
        }
    }
}

fn open_queues(settings: &Settings) -> Result<Vec<Arc<Queue>>> {
    let mut queues = Vec::new();
    for output in &settings.outputs {
        let (queue, recovery) =
            Queue::open(&output.queue, output.limit).with_context(|| output.place.clone())?;
        if recovery.waiting > 0 {
            info!(
                "{} bytes wait in the queue `{}` since the last run",
                recovery.waiting,
                output.queue.display()
            );
        }
        if recovery.torn > 0 {
            warn!(
                "the queue `{}` ended in a half-written record (crash or power cut): {} bytes were cut off",
                output.queue.display(),
                recovery.torn
            );
        }
        queues.push(Arc::new(queue));
    }
    Ok(queues)
}

fn start_senders(
    settings: &Settings,
    queues: &[Arc<Queue>],
    control: &Arc<Control>,
    common: &Common,
    status: &Path,
    figures: &Figures,
) -> Result<Vec<JoinHandle<()>>> {
    let mut statuses: Vec<(&str, Arc<StatusFile>)> = Vec::new();
    let mut status_of = |operation: &'static str| {
        let known = statuses.iter().find(|(name, _)| *name == operation);
        if let Some((_, file)) = known {
            return Arc::clone(file);
        }
        let file = Arc::new(StatusFile::new(status, operation));
        statuses.push((operation, Arc::clone(&file)));
        file
    };
    let pairs = settings.outputs.iter().zip(queues);
    let pairs = pairs.zip(&figures.outputs).enumerate();
    pairs
        .map(|(number, ((output, queue), outgoing))| {
            let sender = Sender::new(
                output.clone(),
                common.clone(),
                Arc::clone(queue),
                Arc::clone(control),
                status_of(output.form.operation()),
                (Arc::clone(outgoing), Arc::clone(&figures.service)),
            );
            thread(&format!("output{number}"), SENDER_STACK, move || {
                sender.run()
            })
        })
        .collect()
}

fn start_callers(
    settings: &Settings,
    queues: &[Arc<Queue>],
    control: &Arc<Control>,
    common: &Common,
    layout: &Layout,
    figures: &Figures,
) -> Result<Vec<JoinHandle<()>>> {
    let topology = settings.topology.iter().map(|config| {
        let caller = TopologyHeartbeat::new(
            config.clone(),
            common.clone(),
            layout.clone(),
            Arc::clone(control),
            Arc::clone(&figures.service),
            Box::new(reread(control, queues)),
        );
        thread("topology", SENDER_STACK, move || caller.run())
    });
    let gathered = common.gathered.clone().unwrap_or_default();
    let telemetry = settings.telemetry.iter().map(|config| {
        let reporter = Reporter::new(
            config.clone(),
            common.clone(),
            layout.clone(),
            Arc::clone(control),
            Arc::clone(&gathered),
        );
        thread("telemetry", SENDER_STACK, move || reporter.run())
    });
    let metadata = Metadata::find(layout).map(|metadata| {
        let (whereabouts, control) = (common.whereabouts.clone(), Arc::clone(control));
        let changed = reread(&control, queues);
        thread("azure", AZURE_STACK, move || {
            azure::follow(&metadata, &whereabouts, &control, &changed);
        })
    });
    topology.chain(telemetry).chain(metadata).collect()
}

/// Has every sender read certificate, omsadmin.conf and proxy.conf anew, at once.
fn reread(control: &Arc<Control>, queues: &[Arc<Queue>]) -> impl Fn() + Send + 'static {
    let (control, queues) = (Arc::clone(control), queues.to_vec());
    move || {
        control.reload();
        queues.iter().for_each(|queue| queue.wake());
    }
}

fn thread<T: Send + 'static>(
    name: &str,
    stack: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    // Signals are the main thread's, which can keep them for a successor.
    let work = move || {
        let _ = signals::block();
        work()
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack)
        .spawn(work)
        .with_context(|| format!("cannot start thread `{name}`"))
}

/// What the main thread does between signals.
struct Watch<'w> {
    beats: Beats,
    figures: &'w Figures,
    queues: &'w [Arc<Queue>],
    dirty: &'w Dirty,
    sync_at: Option<Instant>,
    notify: &'w Notify,
    alive_at: Option<Instant>,
    reader: &'w JoinHandle<Vec<Connection>>,
}

impl Watch<'_> {
    fn work(&mut self) {
        let now = Instant::now();
        if self.beats.send(now, self.queues, self.figures) {
            self.dirty.mark();
        }
        if self.dirty.is_marked() && self.sync_at.is_none() {
            self.sync_at = Some(now + SYNC_AFTER);
        }
        if self.sync_at.is_some_and(|at| at <= now) {
            self.sync_at = None;
            self.dirty.clear();
            sync(self.queues);
        }
        if let (Some(at), Some(interval)) = (self.alive_at, self.notify.interval())
            && at <= now
        {
            // Of an agent that reads no more nobody should think that it is well.
            if !self.reader.is_finished() {
                self.notify.alive();
            }
            self.alive_at = Some(now + interval);
        }
    }

    fn next(&self) -> Option<Instant> {
        let times = [self.beats.next(), self.sync_at, self.alive_at];
        times.into_iter().flatten().min()
    }
}

/// Something was appended and is not synced yet. The first mark wakes the main thread.
struct Dirty {
    marked: AtomicBool,
    wake: UnixStream,
}

impl Dirty {
    fn new(wake: UnixStream) -> Self {
        Dirty {
            marked: AtomicBool::new(false),
            wake,
        }
    }

    fn mark(&self) {
        if !self.marked.swap(true, Ordering::SeqCst) {
            let _ = (&self.wake).write_all(b"d");
        }
    }

    fn is_marked(&self) -> bool {
        self.marked.load(Ordering::SeqCst)
    }

    fn clear(&self) {
        self.marked.store(false, Ordering::SeqCst);
    }
}
