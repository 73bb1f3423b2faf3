//! The thread that reads: datagrams and streams in, sealed frames out to the queues.
//!
//! One `poll` over everything; nothing here waits for the network's far end. A frame goes to its
//! queue when it is large enough or 50 ms old. When a queue cannot take it (a full disk), streams
//! are no longer read, so that their senders wait; datagrams are dropped once the frame is large,
//! and counted.

use crate::agent::complaints::Complaints;
use crate::agent::config::{self, Route, Settings};
use crate::agent::figures::{self, Figures, Input};
use crate::agent::hosts::{self, Addresses};
use crate::agent::listen::{Listener, LocalDatagrams, Sockets, Stream, rest_after};
use crate::agent::queue::Queue;
use crate::agent::queue::frame::{CLOSE_AT, Frame};
use crate::agent::syslog::framing::Framing;
use crate::agent::syslog::stamp::Zone;
use crate::agent::syslog::{self, item};
use log::{info, warn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{ErrorKind, Read};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Connections at a time; one more takes the place of the one that was silent longest.
pub const CONNECTION_LIMIT: usize = 256;
/// How long an item waits in memory for others.
const CLOSE_AFTER: Duration = Duration::from_millis(50);
/// How often a queue that refused is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Datagrams taken from one socket before the others get their turn.
const DATAGRAMS_AT_ONCE: usize = 256;
/// Longest time to take in what has arrived when we are told to stop.
const DRAIN: Duration = Duration::from_millis(700);
/// A datagram cannot be larger; a read from a stream is not.
const READ: usize = 64 << 10;
/// Bytes of items kept in memory while a queue refuses.
const HELD_LIMIT: usize = 4 * CLOSE_AT;
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

struct Source {
    figures: Arc<Input>,
    tag: String,
    default_priority: Option<u32>,
    with_facility: bool,
    /// By priority: where it goes, once it has been looked up.
    routes: Vec<Option<Option<Route>>>,
}

/// A stream that somebody sends messages by.
pub struct Connection {
    /// The far end.
    pub stream: Stream,
    /// What was read and is no whole message yet.
    pub framing: Framing,
    source: usize,
    heard: Instant,
}

impl Connection {
    /// One that was handed over; whose it is [`Ingest::adopt`] says.
    pub fn new(stream: Stream, framing: Framing) -> Self {
        Connection {
            stream,
            framing,
            source: 0,
            heard: Instant::now(),
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
    lines: u64,
    appended: Box<dyn Fn() + Send>,
}

struct Outlet {
    queue: Arc<Queue>,
    frame: Frame,
    /// Since when the queue refuses, and what was lost meanwhile.
    refused: Option<Refused>,
}

struct Refused {
    tried: Instant,
    lost: u64,
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
        };
        let outlet = |queue: &Arc<Queue>| Outlet {
            queue: Arc::clone(queue),
            frame: Frame::new(&item::KIND),
            refused: None,
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
                queues: queues.iter().map(outlet).collect(),
                settings,
                zone: Zone::new(jiff::tz::TimeZone::system()),
                addresses: Addresses::default(),
                own_host: hosts::computer(),
                now: Instant::now(),
                complaints: Complaints::default(),
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
            self.work.close_frames(false);
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
            connection
                .framing
                .finish(|line| self.work.line(line, source));
        }
        self.work.close_frames(true);
        self.work.complaints.summary();
        connections
    }

    /// Which of UDP sockets, local ones, listeners, connections (in this order) have something.
    fn wait(&self) -> Vec<bool> {
        // Not even asked about while a queue refuses: a closed one would be reported for ever.
        let paused = self.work.queues.iter().any(|q| q.refused.is_some());
        let waiting = self.local.iter().map(|(s, _)| s.as_fd());
        let waiting = waiting.chain(self.listeners.iter().map(|(s, _)| s.as_fd()));
        let waiting = waiting.chain(self.connections.iter().map(|c| c.stream.as_fd()));
        let waiting = waiting.take(if paused { 0 } else { usize::MAX });
        let udp = self.udp.iter().map(|(s, _)| s.as_fd());
        let mut fds: Vec<PollFd<'_>> = std::iter::once(self.wake.as_fd())
            .chain(udp)
            .chain(waiting)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let timeout = match self.work.next_deadline() {
            None => PollTimeout::NONE,
            Some(left) => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let polled = poll(&mut fds, timeout).is_ok(); // else interrupted
        let ready = |fd: &PollFd<'_>| polled && fd.revents().is_some_and(|e| !e.is_empty());
        let mut ready: Vec<bool> = fds[1..].iter().map(ready).collect();
        ready.resize(self.sockets(), false);
        ready
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
            match connection.stream.read(buffer) {
                Ok(0) => over.push(i),
                Ok(n) => connection
                    .framing
                    .take(&buffer[..n], |line| self.work.line(line, source)),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => over.push(i),
            }
        }
        for i in over.into_iter().rev() {
            let mut connection = self.connections.swap_remove(i);
            let source = &mut self.sources[connection.source];
            connection
                .framing
                .finish(|line| self.work.line(line, source));
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
                    closed.framing.finish(|line| self.work.line(line, source));
                }
            }
            self.connections.push(Connection {
                stream,
                framing: Framing::default(),
                source,
                heard: self.work.now,
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
                Ok(length) => self.line(&buffer[..length], source),
                Err(_) => break,
            }
        }
    }

    /// One line: parsed, and appended to the frame of the output that takes it.
    fn line(&mut self, line: &[u8], source: &mut Source) {
        self.lines += 1;
        source.figures.received();
        let message = match syslog::parse(line, source.default_priority, &mut self.zone) {
            Ok(message) => message,
            Err(reason) => return self.complaints.not_understood(line, &reason, self.now),
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
            return;
        };
        let outlet = &mut self.queues[output];
        if let Some(refused) = &mut outlet.refused
            && outlet.frame.size() >= HELD_LIMIT
        {
            refused.lost += 1;
            return;
        }
        let context = item::Context {
            now_ms: self.zone.now_ms(),
            host_ip: self.addresses.of(message.host, self.now),
            own_host: &self.own_host,
            with_facility: source.with_facility,
        };
        outlet.frame.push(|out| item::push(out, &message, context));
        source.figures.queued();
        if figures::is_mark(message.ident) {
            source.figures.marked(message.message, output);
        }
        if outlet.frame.is_full() && outlet.refused.is_none() {
            outlet.close(self.now);
            (self.appended)();
        }
    }

    /// How long until a frame is due.
    fn next_deadline(&self) -> Option<Duration> {
        let due = |q: &Outlet| match &q.refused {
            Some(refused) => Some(refused.tried + TRY_AGAIN),
            None if q.frame.is_empty() => None,
            None => Some(q.frame.begun() + CLOSE_AFTER),
        };
        let first = self.queues.iter().filter_map(due).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    fn close_frames(&mut self, all: bool) {
        let now = Instant::now();
        for outlet in &mut self.queues {
            let due = match &outlet.refused {
                Some(refused) => now >= refused.tried + TRY_AGAIN,
                None => !outlet.frame.is_empty() && now >= outlet.frame.begun() + CLOSE_AFTER,
            };
            if due || (all && !outlet.frame.is_empty()) {
                outlet.close(now);
                (self.appended)();
            }
        }
    }
}

impl Outlet {
    fn close(&mut self, now: Instant) {
        match (self.queue.append(&mut self.frame), &mut self.refused) {
            (Ok(()), Some(refused)) => {
                info!(
                    "the queue `{}` takes data again; {} messages were lost meanwhile",
                    self.queue.dir().display(),
                    refused.lost
                );
                self.refused = None;
            }
            (Ok(()), None) => {}
            (Err(error), None) => {
                warn!(
                    "cannot write to the queue `{}`: {error}; free some space: trying again each second, streams wait, datagrams may be lost",
                    self.queue.dir().display()
                );
                self.refused = Some(Refused {
                    tried: now,
                    lost: 0,
                });
            }
            (Err(_), Some(refused)) => refused.tried = now,
        }
    }
}
