//! One file's turn: a block is read, its lines go to a queue, its position moves.

use super::fingerprint::Fingerprint;
use super::follow::Followed;
use super::format::Parser;
use super::generations;
use super::lines::{Cursor, LINE_LIMIT, Line, split};
use super::{BLOCK, OPEN_LIMIT, Source, Tailer, now_ms};
use crate::agent::config::Form;
use crate::agent::queue::frame::Frame;
use crate::agent::syslog::item::push_text;
use crate::base::order;
use log::{info, warn};
use memchr::memchr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// Files that are closed when too many are open.
const CLOSED_AT_ONCE: usize = 32;

/// What a line that was cut has at its end.
pub const CUT_MARK: &str = " [omsagent: cut here]";

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is nothing more for now.
    Done,
    /// There is more.
    More,
    /// The queue does not take it.
    Blocked,
    /// The name means another file now, or none.
    Gone,
}

/// Lines since the last frame that was taken, or in all.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    read: u64,
    queued: u64,
    cut: u64,
}

/// How the lines of one block are handed over.
struct Filling<'a> {
    append: &'a mut dyn FnMut(&mut Frame) -> bool,
    frame: Frame,
    /// Behind the last line in `frame`.
    reached: Cursor,
    /// Behind the last line that is in a queue.
    committed: Cursor,
    pending: Counts,
    done: Counts,
    refused: bool,
    /// It was another file's turn.
    stopped: bool,
}

impl Filling<'_> {
    fn commit(&mut self) -> bool {
        self.refused = !(self.append)(&mut self.frame);
        if !self.refused {
            self.committed = self.reached;
            let pending = std::mem::take(&mut self.pending);
            self.done.read += pending.read;
            self.done.queued += pending.queued;
            self.done.cut += pending.cut;
        }
        !self.refused
    }
}

impl Tailer {
    pub(super) fn turn(&mut self, number: usize) -> Turn {
        let now = Instant::now();
        let Some(output) = self.outlet_of(number) else {
            return Turn::Done; // told by the loader
        };
        let outlet = self.outlets.get(output);
        if outlet.is_some_and(|o| o.retry(now).is_some()) {
            return Turn::Blocked;
        }
        match self.open_file(number) {
            Ok(true) => {}
            Ok(false) => return Turn::Gone,
            Err(error) => {
                self.unreadable(number, &error);
                return Turn::Done;
            }
        }
        let step = self.read_block(number, output, now);
        step.unwrap_or_else(|error| {
            self.unreadable(number, &error);
            Turn::Done
        })
    }

    /// Opens the file unless it is open; false when its name means another one now.
    fn open_file(&mut self, number: usize) -> io::Result<bool> {
        self.uses += 1;
        let uses = self.uses;
        let Some(file) = self.files.get_mut(&number) else {
            return Ok(false);
        };
        file.used = uses;
        if file.file.is_some() {
            return Ok(true);
        }
        let same = match generations::open_same(&file.place, file.id) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(same) => same,
            Err(_) => None,
        };
        file.file = same;
        if file.file.is_none()
            && file.leaving.is_some()
            && let Some((place, same)) = generations::renamed(file.home(), file.id)
        {
            file.place = place;
            file.file = Some(same);
        }
        let opened = file.file.is_some();
        if opened {
            self.opened(number);
        }
        Ok(opened)
    }

    /// One more is open. Of too many those are closed that were used longest ago; those that may be
    /// deleted are the last choice.
    pub(super) fn opened(&mut self, number: usize) {
        self.open += 1;
        if self.open <= OPEN_LIMIT {
            return;
        }
        let open = self.files.iter_mut();
        let open = open.filter(|(n, f)| f.file.is_some() && **n != number);
        let mut open: Vec<_> = open.map(|(_, f)| f).collect();
        order::by_key(&mut open, |f| (f.leaving.is_some(), f.used));
        for file in open.into_iter().take(CLOSED_AT_ONCE) {
            file.file = None;
            self.open -= 1;
        }
    }

    fn read_block(&mut self, number: usize, output: usize, now: Instant) -> io::Result<Turn> {
        let Some(followed) = self.files.get_mut(&number) else {
            return Ok(Turn::Done);
        };
        let Some(file) = &followed.file else {
            return Ok(Turn::Done);
        };
        let length = file.metadata()?.len();
        followed.length = length;
        let from = followed.cursor.next_read();
        if length < from || !followed.fingerprint.fits(file)? {
            self.was_cut(number);
            return Ok(Turn::More);
        }
        // Nothing says by itself that a file of which nothing was read has been cut once more.
        let again = followed.may_be_cut && from == 0 && length > 0;
        let since = followed.looked_ms;
        if again {
            followed.may_be_cut = false;
            let (source, record) = (followed.source, followed.record(0));
            let home = followed.home().to_owned();
            for (generation, record) in self.unknown(source, &record.path, &home, since, record.id)
            {
                self.follow_generation(source, generation, record);
            }
            return Ok(Turn::More);
        }
        let over = followed.leaving.is_some_and(|until| until <= now);
        followed.looked_ms = now_ms();
        let have = read_at(file, &mut self.buffer, from)?;
        if have == 0 && !over {
            return Ok(Turn::Done);
        }
        // What is still written to gets its time anew.
        let last = over && have < BLOCK && memchr(b'\n', &self.buffer[..have]).is_none();
        let others = !self.work.is_empty();
        let (Some(source), Some(outlet), Some(config)) = (
            self.sources.get_mut(followed.source),
            self.outlets.get_mut(output),
            self.settings.outputs.get(output),
        ) else {
            return Ok(Turn::Done);
        };
        let mut append = |frame: &mut Frame| outlet.append(frame, now);
        let block = Block {
            bytes: &self.buffer[..have],
            last,
            others,
        };
        let Some(filled) = fill(followed, source, &config.form, block, now, &mut append) else {
            return Ok(Turn::Done);
        };
        let counts = filled.done;
        source.figures.add(counts.read, counts.queued, counts.cut);
        if counts.cut > 0 {
            warn!(
                "{} lines of `{}` are longer than {LINE_LIMIT} bytes and were cut there",
                counts.cut,
                followed.path.display()
            );
        }
        let (refused, stopped) = (filled.refused, filled.stopped);
        if filled.committed != followed.cursor {
            followed.cursor = filled.committed;
            followed.unsaved = true;
            followed.fingerprint = followed.fingerprint.grow(file, followed.cursor.offset)?;
            if followed.leaving.is_some() {
                followed.leaving = Some(now + source.config.rotate_wait);
            }
            self.moved();
        }
        Ok(match (refused, stopped || have == BLOCK) {
            (true, _) => Turn::Blocked,
            (false, true) => Turn::More,
            (false, false) => {
                if last {
                    self.drop_file(number);
                }
                Turn::Done
            }
        })
    }

    /// The file was cut to nothing, or is another one with the same inode: from its beginning. If it
    /// was copied before it was cut, what was not read of it is in the copy.
    fn was_cut(&mut self, number: usize) {
        let Some(file) = self.files.get_mut(&number) else {
            return;
        };
        let (source, home, since) = (file.source, file.home().to_owned(), file.looked_ms);
        let before = file.record(0);
        file.cursor = Cursor::at(0);
        file.fingerprint = Fingerprint::default();
        file.unsaved = true;
        file.may_be_cut = true;
        info!(
            "`{}` was cut or written anew after {} bytes: it is read from its beginning",
            before.path.display(),
            before.offset
        );
        for (generation, record) in self.copies(source, &home, &before, Some(since)) {
            self.follow_generation(source, generation, record);
        }
        self.moved();
    }

    /// A file that cannot be read, once.
    fn unreadable(&mut self, number: usize, error: &io::Error) {
        let Some(file) = self.files.get_mut(&number) else {
            return;
        };
        if file.file.take().is_some() {
            self.open -= 1;
        }
        let (path, source) = (file.path.clone(), file.source);
        if let Some(source) = self.sources.get_mut(source) {
            source.cannot_read(&path, error);
        }
    }
}

fn read_at(file: &std::fs::File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, from) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// What was read of a file.
struct Block<'b> {
    bytes: &'b [u8],
    /// Nothing will follow.
    last: bool,
    /// Other files wait for their turn.
    others: bool,
}

/// Makes items of the lines of a block and hands them over, frame by frame. `None`: they have no way
/// to the service, which the loader has told.
fn fill<'a>(
    file: &Followed,
    source: &mut Source,
    form: &Form,
    block: Block<'_>,
    now: Instant,
    append: &'a mut dyn FnMut(&mut Frame) -> bool,
) -> Option<Filling<'a>> {
    let config = &source.config;
    let origin = source.figures.origin();
    let kind = form.kind(&config.tag_of(&file.path), &file.path).ok()?;
    let path = file.path.as_os_str().as_bytes();
    let extra = config.path_key.as_deref().map(|key| (key, path));
    let none = Parser::none();
    let mut filling = Filling {
        append,
        frame: Frame::new(&kind),
        reached: file.cursor,
        committed: file.cursor,
        pending: Counts::default(),
        done: Counts::default(),
        refused: false,
        stopped: false,
    };
    let (mut lines, mut text) = (0, Vec::new());
    let end = split(block.bytes, file.cursor, block.last, |line, behind| {
        if block.others && lines >= config.lines_at_once {
            filling.stopped = true;
            return false;
        }
        if filling.frame.is_full() && !filling.commit() {
            return false;
        }
        lines += 1;
        filling.reached = behind;
        filling.pending.read += 1;
        let (line, cut) = match line {
            Line::Whole(line) => (line, false),
            Line::Cut(line) => (line, true),
        };
        let line = match (config.latin1, cut) {
            (false, false) => line,
            (latin1, _) => {
                text.clear();
                match latin1 {
                    true => decode(line, &mut text),
                    false => text.extend_from_slice(line),
                }
                if cut {
                    filling.pending.cut += 1;
                    text.extend_from_slice(CUT_MARK.as_bytes());
                }
                &text
            }
        };
        if matches!(form, Form::Blob { .. }) {
            filling.frame.push(origin, |out| push_text(out, line));
            filling.pending.queued += 1;
            return true;
        }
        // Half a record is none, but it is a text.
        let parser = if cut { &none } else { &config.parser };
        match filling
            .frame
            .try_push(origin, |out| parser.record(out, line, extra))
        {
            Ok(true) => filling.pending.queued += 1,
            Ok(false) => {}
            Err(reason) => {
                let reason = format!("in `{}`: {reason}", file.path.display());
                source.complaints.not_understood(line, &reason, now);
            }
        }
        true
    });
    if !filling.refused {
        filling.reached = end;
        filling.commit();
    }
    Some(filling)
}

/// ISO 8859-1 as UTF-8.
fn decode(line: &[u8], text: &mut Vec<u8>) {
    let mut bytes = [0; 4];
    for &byte in line {
        let character = char::from(byte).encode_utf8(&mut bytes);
        text.extend_from_slice(character.as_bytes());
    }
}
