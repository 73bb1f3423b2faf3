//! The thread that reads: datagrams and streams in, sealed frames out to the queues.
//!
//! One `poll` over everything; nothing here waits for the network's far end. A frame goes to its
//! queue when it is large enough or 50 ms old. When a queue cannot take it (a full disk, or its limit),
//! streams whose messages go there are no longer read, so that their senders wait; datagrams are
//! dropped once the frame is large, and counted. Streams of other queues go on.

mod outputs;

use crate::agent::complaints::Complaints;
use crate::agent::config::{self, Route, Settings};
use crate::agent::figures::{self, Figures, Input};
use crate::agent::hosts::{self, Addresses};
use crate::agent::listen::{Listener, LocalDatagrams, Sockets, Stream, rest_after};
use crate::agent::outlet::Outlet;
use crate::agent::queue::Queue;
use crate::agent::syslog::framing::Framing;
use crate::agent::syslog::stamp::Zone;
use crate::agent::syslog::{self, item};
use log::warn;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use outputs::Outputs;
use std::io::{ErrorKind, Read};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Connections at a time; one more takes the place of the one that was silent longest.
pub const CONNECTION_LIMIT: usize = 256;
/// Datagrams taken from one socket before the others get their turn.
const DATAGRAMS_AT_ONCE: usize = 256;
/// Longest time to take in what has arrived when we are told to stop.
const DRAIN: Duration = Duration::from_millis(700);
/// A datagram cannot be larger; a read from a stream is not.
const READ: usize = 64 << 10;
/// Priorities with a name of their own; those above share their severity's place.
const PRIORITIES: usize = 192;

/// What the thread works with.
pub struct Ingest {
    sources: Vec<Source>,
    udp: Vec<(UdpSocket, usize)>,
    local: Vec<(LocalDatagrams, usize)>,
    listeners: Vec<(Listener, usize)>,
    connections: Vec<Connection>,
    wake: OwnedFd,
    ending: Arc<Ending>,
    work: Work,
}

impl Source {
    /// Are its senders to wait while these outputs refuse?
    fn waits(&self, refusing: Outputs) -> bool {
        waits(self.feeds, refusing)
    }
}

/// Every output that messages with this tag can go to.
fn feeds(settings: &Settings, tag: &str) -> Outputs {
    (0..PRIORITIES as u32)
        .filter_map(|priority| {
            let (facility, severity) = syslog::names(priority);
            match settings.route(&format!("{tag}.{facility}.{severity}")) {
                Some(Route::Output(output)) => Some(Outputs::one(output)),
                _ => None,
            }
        })
        .fold(Outputs::default(), Outputs::and)
}

/// Whose messages all go where nothing is taken now waits.
fn waits(fed: Outputs, refusing: Outputs) -> bool {
    !fed.is_empty() && refusing.has(fed)
}

struct Source {
    figures: Arc<Input>,
    tag: String,
    default_priority: Option<u32>,
    with_facility: bool,
    /// By priority: where it goes, once it has been looked up.
    routes: Vec<Option<Option<Route>>>,
    /// Where its messages can go.
    feeds: Outputs,
}

/// A stream that somebody sends messages by.
pub struct Connection {
    /// The far end.
    pub stream: Stream,
    /// What was read and is no whole message yet.
    pub framing: Framing,
    source: usize,
    heard: Instant,
    /// Where its messages have gone so far.
    fed: Outputs,
}

impl Connection {
    /// One that was handed over; whose it is [`Ingest::adopt`] says.
    pub fn new(stream: Stream, framing: Framing) -> Self {
        Connection {
            stream,
            framing,
            source: 0,
            heard: Instant::now(),
            fed: Outputs::default(),
        }
    }

    /// The number of its source.
    pub fn source(&self) -> usize {
        self.source
    }
}

/// What the thread is told.
#[derive(Debug, Default)]
pub struct Ending(AtomicU8);

/// Values of [`Ending`].
const END: u8 = 1;
const HAND_OVER: u8 = 2;

impl Ending {
    /// Everything is taken in, connections are closed.
    pub fn end(&self) {
        self.0.store(END, Ordering::SeqCst);
    }

    /// Connections are given back as they are.
    pub fn hand_over(&self) {
        self.0.store(HAND_OVER, Ordering::SeqCst);
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    fn hands_over(&self) -> bool {
        self.0.load(Ordering::SeqCst) == HAND_OVER
    }
}

/// Everything that turns a line into an item in a frame.
struct Work {
    settings: Arc<Settings>,
    queues: Vec<Outlet>,
    zone: Zone,
    addresses: Addresses,
    own_host: String,
    now: Instant,
    complaints: Complaints,
    /// Outputs whose senders can be kept waiting.
    waiting: Outputs,
    /// The stream whose lines these are: where its others have gone.
    sender: Option<Outputs>,
    lines: u64,
    appended: Box<dyn Fn() + Send>,
}

impl Ingest {
    /// `wake` becomes readable when `ending` was told something; `appended` is called after something
    /// went to a queue.
    pub fn new(
        settings: Arc<Settings>,
        sockets: Sockets,
        queues: &[Arc<Queue>],
        figures: &Figures,
        wake: OwnedFd,
        ending: Arc<Ending>,
        appended: Box<dyn Fn() + Send>,
    ) -> Self {
        let source = |(s, figures): (&config::Syslog, &Arc<Input>)| Source {
            figures: Arc::clone(figures),
            tag: s.tag.clone(),
            default_priority: s.default_priority,
            with_facility: s.tag.split('.').count() == 2,
            routes: vec![None; PRIORITIES + 8],
            feeds: feeds(&settings, &s.tag),
        };
        Ingest {
            sources: settings
                .syslog
                .iter()
                .zip(&figures.inputs)
                .map(source)
                .collect(),
            udp: sockets.udp,
            local: sockets.local,
            listeners: sockets.streams,
            connections: Vec::new(),
            wake,
            ending,
            work: Work {
                queues: queues
                    .iter()
                    .map(|queue| Outlet::new(queue, &item::KIND))
                    .collect(),
                settings,
                zone: Zone::new(jiff::tz::TimeZone::system()),
                addresses: Addresses::default(),
                own_host: hosts::computer(),
                now: Instant::now(),
                complaints: Complaints::default(),
                waiting: Outputs::default(),
                sender: None,
                lines: 0,
                appended,
            },
        }
    }

    /// Connections that were taken over, each with the number of its source.
    pub fn adopt(&mut self, connections: impl Iterator<Item = (usize, Connection)>) {
        let adopted = connections.map(|(source, connection)| Connection {
            source,
            ..connection
        });
        self.connections.extend(adopted);
    }

    /// Reads until told otherwise; then takes what has arrived, and hands everything to the queues.
    /// What is left are the connections, if they are to be handed over.
    pub fn run(mut self) -> Vec<Connection> {
        let mut buffer = vec![0; READ];
        while !self.ending.asked() {
            let ready = self.wait();
            self.work.look_at_the_clock();
            self.read(&ready, &mut buffer);
            let waiting = self.who_waits();
            self.work.close_frames(waiting, false);
        }
        // What the kernel has taken in for us is ours.
        let until = Instant::now() + DRAIN;
        let mut before = None;
        while before != Some(self.work.lines) && Instant::now() < until {
            before = Some(self.work.lines);
            self.work.look_at_the_clock();
            self.read(&vec![true; self.sockets()], &mut buffer);
        }
        let mut connections = std::mem::take(&mut self.connections);
        let mut ended = connections.len();
        if self.ending.hands_over() {
            ended = 0;
            let sockets = Sockets {
                udp: std::mem::take(&mut self.udp),
                local: std::mem::take(&mut self.local),
                streams: std::mem::take(&mut self.listeners),
            };
            sockets.leave_names();
        }
        for mut connection in connections.drain(..ended) {
            let source = &mut self.sources[connection.source];
            connection.framing.finish(|line| {
                let _ = self.work.line(line, source);
            });
        }
        self.work.close_frames(Outputs::default(), true);
        self.work.complaints.summary();
        connections
    }

    /// Which of UDP sockets, local ones, listeners, connections (in this order) have something.
    fn wait(&self) -> Vec<bool> {
        // Who waits is not even asked about: a closed one would be reported for ever.
        let refusing = self.work.refusing();
        let listens = |source: &usize| !self.sources[*source].waits(refusing);
        let udp = self.udp.iter().map(|(s, _)| Some(s.as_fd()));
        let local = self.local.iter();
        let local = local.map(|(s, source)| listens(source).then(|| s.as_fd()));
        let listeners = self.listeners.iter();
        let listeners = listeners.map(|(s, source)| listens(source).then(|| s.as_fd()));
        let connections = self.connections.iter().map(|c| {
            let fed = match c.fed.is_empty() {
                true => self.sources[c.source].feeds,
                false => c.fed,
            };
            (!waits(fed, refusing)).then(|| c.stream.as_fd())
        });
        let all = udp.chain(local).chain(listeners).chain(connections);
        let (numbers, fds): (Vec<usize>, Vec<_>) = all
            .enumerate()
            .filter_map(|(number, fd)| Some((number, fd?)))
            .unzip();
        let mut fds: Vec<PollFd<'_>> = std::iter::once(self.wake.as_fd())
            .chain(fds)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let timeout = match self.work.next_deadline() {
            None => PollTimeout::NONE,
            Some(left) => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut ready = vec![false; self.sockets()];
        // Else interrupted.
        if poll(&mut fds, timeout).is_ok() {
            for (number, fd) in numbers.into_iter().zip(&fds[1..]) {
                ready[number] = fd.revents().is_some_and(|e| !e.is_empty());
            }
        }
        ready
    }

    /// The outputs that some stream feeds, and no other than those.
    fn who_waits(&self) -> Outputs {
        let streams = self.connections.iter().map(|c| c.fed);
        let local = self
            .local
            .iter()
            .map(|(_, source)| self.sources[*source].feeds);
        let refusing = self.work.refusing();
        (0..self.work.queues.len())
            .map(Outputs::one)
            .filter(|one| {
                let alone = |fed: Outputs| fed.has(*one) && refusing.and(*one).has(fed);
                streams.clone().chain(local.clone()).any(alone)
            })
            .fold(Outputs::default(), Outputs::and)
    }

    fn sockets(&self) -> usize {
        self.udp.len() + self.local.len() + self.listeners.len() + self.connections.len()
    }

    fn read(&mut self, ready: &[bool], buffer: &mut [u8]) {
        let (udp, rest) = ready.split_at(self.udp.len());
        let (local, rest) = rest.split_at(self.local.len());
        let (listeners, connections) = rest.split_at(self.listeners.len());
        for ((socket, source), _) in self.udp.iter().zip(udp).filter(|(_, r)| **r) {
            let source = &mut self.sources[*source];
            self.work.datagrams(|b| socket.recv(b), buffer, source);
        }
        for ((socket, source), _) in self.local.iter().zip(local).filter(|(_, r)| **r) {
            let source = &mut self.sources[*source];
            self.work.datagrams(|b| socket.recv(b), buffer, source);
        }
        let mut over = Vec::new();
        let readable = self.connections.iter_mut().zip(connections).enumerate();
        for (i, (connection, _)) in readable.filter(|(_, (_, r))| **r) {
            let source = &mut self.sources[connection.source];
            connection.heard = self.work.now;
            let mut fed = connection.fed;
            self.work.sender = Some(fed);
            match connection.stream.read(buffer) {
                Ok(0) => over.push(i),
                Ok(n) => connection.framing.take(&buffer[..n], |line| {
                    fed = fed.and(self.work.line(line, source));
                }),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => over.push(i),
            }
            connection.fed = fed;
        }
        self.work.sender = None;
        for i in over.into_iter().rev() {
            let mut connection = self.connections.swap_remove(i);
            let source = &mut self.sources[connection.source];
            connection.framing.finish(|line| {
                let _ = self.work.line(line, source);
            });
        }
        for i in (0..self.listeners.len()).filter(|&i| listeners[i]) {
            self.accept(i);
        }
    }

    fn accept(&mut self, listener: usize) {
        let (listener, source) = &self.listeners[listener];
        let source = *source;
        loop {
            let stream = match listener.accept() {
                Ok(stream) => stream,
                Err(error) => return rest_after(&error),
            };
            if self.connections.len() >= CONNECTION_LIMIT {
                let oldest = self.connections.iter().enumerate();
                if let Some((i, _)) = oldest.min_by_key(|(_, c)| c.heard) {
                    warn!(
                        "more than {CONNECTION_LIMIT} syslog connections: closing the one that was silent longest"
                    );
                    let mut closed = self.connections.swap_remove(i);
                    let source = &mut self.sources[closed.source];
                    closed.framing.finish(|line| {
                        let _ = self.work.line(line, source);
                    });
                }
            }
            self.connections.push(Connection {
                stream,
                framing: Framing::default(),
                source,
                heard: self.work.now,
                fed: Outputs::default(),
            });
        }
    }
}

impl Work {
    fn look_at_the_clock(&mut self) {
        self.now = Instant::now();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.zone.set_now(now.map_or(0, |d| d.as_millis() as i64));
        self.addresses.take_answers(self.now);
    }

    /// Some of the datagrams that wait, each of them a message.
    fn datagrams(
        &mut self,
        recv: impl Fn(&mut [u8]) -> std::io::Result<usize>,
        buffer: &mut [u8],
        source: &mut Source,
    ) {
        for _ in 0..DATAGRAMS_AT_ONCE {
            match recv(buffer) {
                Ok(length) => {
                    let _ = self.line(&buffer[..length], source);
                }
                Err(_) => break,
            }
        }
    }

    /// One line: parsed, and appended to the frame of the output that takes it. Which that is.
    fn line(&mut self, line: &[u8], source: &mut Source) -> Outputs {
        self.lines += 1;
        source.figures.received();
        let message = match syslog::parse(line, source.default_priority, &mut self.zone) {
            Ok(message) => message,
            Err(reason) => {
                self.complaints.not_understood(line, &reason, self.now);
                return Outputs::default();
            }
        };
        source.figures.parsed();
        let severity = message.priority as usize % 8;
        let place = (message.priority as usize).min(PRIORITIES + severity);
        let route = source.routes[place].unwrap_or_else(|| {
            let tag = format!("{}.{}.{}", source.tag, message.facility, message.severity);
            let route = self.settings.route(&tag);
            if route.is_none() {
                warn!("no patterns matched tag=\"{tag}\": its events are lost");
            }
            source.routes[place] = Some(route);
            route
        });
        let Some(Route::Output(output)) = route else {
            return Outputs::default();
        };
        let to = Outputs::one(output);
        let outlet = &mut self.queues[output];
        let Some(frame) = outlet.frame() else {
            return to;
        };
        let context = item::Context {
            now_ms: self.zone.now_ms(),
            host_ip: self.addresses.of(message.host, self.now),
            own_host: &self.own_host,
            with_facility: source.with_facility,
        };
        frame.push(source.figures.origin(), |out| {
            item::push(out, &message, context)
        });
        source.figures.queued();
        if figures::is_mark(message.ident) {
            source.figures.marked(message.message, output);
        }
        if outlet.is_ready() {
            let waits = self.waiting.has(to)
                || self
                    .sender
                    .is_some_and(|fed| self.refusing().and(to).has(fed));
            if self.queues[output].close(self.now, waits) {
                (self.appended)();
            }
        }
        to
    }

    /// The outputs whose queues take nothing now.
    fn refusing(&self) -> Outputs {
        let refusing = self.queues.iter().enumerate().filter(|(_, q)| q.refuses());
        refusing.fold(Outputs::default(), |all, (n, _)| all.and(Outputs::one(n)))
    }

    /// How long until a frame is due.
    fn next_deadline(&self) -> Option<Duration> {
        let first = self.queues.iter().filter_map(Outlet::due).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Hands over what is due. `waiting`: the outputs whose senders can be kept waiting.
    fn close_frames(&mut self, waiting: Outputs, all: bool) {
        let now = Instant::now();
        self.waiting = waiting;
        for (number, outlet) in self.queues.iter_mut().enumerate() {
            let due = outlet.due().is_some_and(|due| due <= now);
            let wanted = due || (all && outlet.holds_any());
            if wanted && outlet.close(now, waiting.has(Outputs::one(number))) {
                (self.appended)();
            }
        }
    }
}
