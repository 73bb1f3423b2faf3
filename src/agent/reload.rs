//! SIGHUP: what the configuration says now, and what follows from it. Nothing is given up before it
//! is sure that the new one works.

use crate::agent::config::{Note, Settings};
use crate::agent::handover;
use crate::agent::listen::{self, Kept};
use crate::agent::queue::Queue;
use crate::settings::fluent;
use anyhow::{Context, Result};
use log::{Level, info, log};
use std::path::Path;

/// What a reload leads to.
pub enum Reload {
    /// The configuration does what it did: only the workspace's files are read anew.
    Same,
    /// It does something else: the agent goes on with these sockets.
    New(Vec<Kept>),
}

/// Reads the configuration and tries what can fail about it. `held` are the sockets of now, `told`
/// the notes that were told.
pub fn look(
    (config, state): (&Path, &Path),
    now: &Settings,
    held: Vec<Kept>,
    told: &mut Vec<String>,
) -> Result<Reload> {
    let document = fluent::load(config)?;
    let new = Settings::from_document(&document, state)?;
    if now.does_the_same(&new) {
        if !handover::is_replaced() {
            tell_new(&new.notes, told);
            return Ok(Reload::Same);
        }
        info!("the program was replaced on the disk: the new one takes over");
    }
    for output in &new.outputs {
        if now.outputs.iter().all(|o| o.queue != output.queue) {
            Queue::open(&output.queue, output.limit).with_context(|| output.place.clone())?;
        }
    }
    Ok(Reload::New(listen::prepare(&new.syslog, held)?))
}

/// Logs each note that was not told yet.
pub fn tell_new(notes: &[Note], told: &mut Vec<String>) {
    for note in notes {
        let (level, text) = match note {
            Note::Warning(text) => (Level::Warn, text),
            Note::Info(text) => (Level::Info, text),
        };
        if !told.contains(text) {
            log!(level, "{text}");
            told.push(text.clone());
        }
    }
    // What is no longer so may be told again.
    told.retain(|t| {
        notes
            .iter()
            .any(|n| matches!(n, Note::Warning(x) | Note::Info(x) if x == t))
    });
}
