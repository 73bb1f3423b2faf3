//! A run of the bundle from the outside: how it speaks, where its log goes, what its end looks
//! like to a person and to a program. What it does is [`super`]'s.

use super::args::{Immediate, Surroundings};
use super::image::Place;
use super::interactive::{self, AtTerminal};
use super::json::{self, Facts, Planned};
use super::log::Log;
use super::manner::{self, Manner};
use super::progress::Bar;
use super::{CHANGED, DECLINED, End, answers};
use crate::base::out as shown;
use crate::base::secret::Secret;
use crate::cli::{explain, report};
use crate::host::Host;
use crate::{err, out};
use std::ffi::OsString;

/// What holds for the whole of one run.
pub struct Session {
    manner: Manner,
    key: Option<Secret>,
    /// What is found out on the way.
    pub facts: Facts,
}

/// Where a run works: the host, or with `--root` an image.
pub struct Stage {
    /// What was found there.
    pub host: Host,
    /// The image; left when this goes.
    pub place: Option<Place>,
}

impl Session {
    /// Runs `work` with the words that are left for the parser; the exit code.
    pub fn hold(
        typed: &[OsString],
        host: Host,
        work: impl FnOnce(&mut Session, &mut Stage, &[OsString]) -> End,
    ) -> u8 {
        let (manner, rest, mut problem) = manner::part(typed);
        let mut session = Session {
            manner,
            key: None,
            facts: Facts::default(),
        };
        let mut words = rest;
        if problem.is_none() {
            problem = session.add_answers(&mut words).err();
        }
        let log = match session.manner.log.as_deref().map(Log::to) {
            None => Log::default(),
            Some(Ok(log)) => log,
            Some(Err(e)) => {
                problem = problem.or(Some(format!("{e:#}")));
                Log::default()
            }
        };
        let progress = session.manner.progress.unwrap_or_default();
        report::record(log, Bar::new(progress));
        if session.manner.json {
            shown::keep_stdout_free();
        }
        let mut stage = Stage { host, place: None };
        let end = match problem {
            Some(text) => refused(&text),
            None => match session.begin(&mut words) {
                Some(end) => end,
                None => work(&mut session, &mut stage, &words),
            },
        };
        // Still inside the image, if that is where the run was.
        session.end(&stage.host, end)
    }

    /// The answers file's words before those that were typed.
    fn add_answers(&mut self, words: &mut Vec<OsString>) -> Result<(), String> {
        let Some(path) = &self.manner.answers else {
            return Ok(());
        };
        let variable = |name: &str| std::env::var(name).ok();
        let answers = answers::read(path, &answers::host_name(), words, variable)?;
        let (from_file, first, problem) = manner::part(&answers.words);
        words.splice(0..0, first);
        self.manner = std::mem::take(&mut self.manner).over(from_file);
        self.key = answers.key;
        problem.map_or(Ok(()), Err)
    }

    /// Everything that comes before the parser; an end, when that is all.
    fn begin(&mut self, words: &mut Vec<OsString>) -> Option<End> {
        if let Some(code) = &self.manner.explain {
            return Some(match explain::text(code) {
                Ok(text) => {
                    out!("{text}");
                    End::silent(0)
                }
                Err(text) => refused(&text),
            });
        }
        if !self.manner.interactive {
            return None;
        }
        if !interactive::somebody_is_there() {
            let text =
                "--interactive asks questions and needs a terminal; without one give all options";
            return Some(refused(text));
        }
        let has_key = self.key_variable().is_some();
        match interactive::complete(&mut AtTerminal, words, has_key) {
            None => Some(declined()),
            Some(key) => {
                self.key = key.or(self.key.take());
                None
            }
        }
    }

    /// The shared key that the answers file names or a person typed; else the variable's.
    fn key_variable(&self) -> Option<String> {
        let own = self.key.as_ref().map(|k| k.expose().to_owned());
        let variable = || std::env::var("OMSAGENT_SHARED_KEY").ok();
        own.or_else(variable).filter(|key| !key.is_empty())
    }

    /// The parser's surroundings.
    pub fn surroundings<'a>(
        &self,
        argv0: &'a str,
        version: &'a str,
        stdin: &'a mut dyn std::io::Read,
        now: &'a mut dyn Immediate,
    ) -> Surroundings<'a> {
        Surroundings {
            argv0,
            version,
            root: nix::unistd::geteuid().is_root(),
            key_variable: self.key_variable(),
            ca_variable: std::env::var_os("OMSAGENT_CA_FILE"),
            stdin,
            now,
        }
    }

    /// Will somebody look at the plan and the packages?
    pub fn wants_facts(&self) -> bool {
        self.manner.json
    }

    /// Is the plan to be known before anything is done?
    pub fn wants_plan(&self) -> bool {
        self.manner.json || self.asks()
    }

    /// Will a person be asked whether to go on?
    pub fn asks(&self) -> bool {
        self.manner.interactive && !self.manner.yes
    }

    /// Shows the plan and asks, where that was asked for. `Some`: the person said no.
    pub fn confirm(&self) -> Option<u8> {
        let no = self.asks() && !interactive::go_on(&mut AtTerminal, &self.facts.plan);
        no.then(|| declined().code)
    }

    /// Asks whether to delete everything, when there is somebody to ask. `Some`: said no.
    pub fn confirm_purge(&self) -> Option<u8> {
        let asks = !self.manner.yes && !self.manner.interactive && !self.manner.json;
        let no =
            asks && interactive::somebody_is_there() && !interactive::really_purge(&mut AtTerminal);
        no.then(|| declined().code)
    }

    /// Keeps a plan for the object and for the question.
    pub fn plan(&mut self, lines: impl IntoIterator<Item = (String, bool)>) {
        self.facts.plan = planned(lines, true).collect();
    }

    /// Shows it, for a dry run.
    pub fn show_plan(&self) {
        for step in &self.facts.plan {
            let mark = if step.pending { "would" } else { "     (done)" };
            out!("{mark} {}", step.what);
        }
    }

    /// The kits that are run after it.
    pub fn plan_kits(&mut self, lines: impl IntoIterator<Item = (String, bool)>) {
        self.facts.plan.extend(planned(lines, false));
    }

    fn end(self, host: &Host, end: End) -> u8 {
        let mut changed = false;
        report::with(|record| changed = record.changed());
        let differs = changed || (self.facts.dry_run && self.facts.pending());
        let code = match end.code {
            0 if self.manner.detailed_exitcode && differs => CHANGED,
            code => code,
        };
        if end.trailer && !self.manner.json {
            // The line that automation waits for (bundle.md 1.4).
            out!("OMS agent shell bundle exiting with status code {code}");
        }
        let mut record = report::take();
        record.bar.clear();
        let mut log = std::mem::take(&mut record.log);
        log.note(&format!("ended with code {code}"));
        let log = match log.end(changed, &host.layout.records()) {
            Ok(path) => path,
            Err(e) => {
                let text = format!("{e:#}");
                err!("warning\t{text}");
                record.warnings.push(text);
                None
            }
        };
        if self.manner.json {
            let log = log.as_deref();
            let object = json::object(host, &self.facts, &record, changed, log, code);
            shown::machine_line(&object);
        }
        code
    }
}

fn planned(
    lines: impl IntoIterator<Item = (String, bool)>,
    counts: bool,
) -> impl Iterator<Item = Planned> {
    lines.into_iter().map(move |(what, pending)| Planned {
        what,
        pending,
        counts,
    })
}

fn refused(text: &str) -> End {
    err!("{text}");
    End::new(2)
}

fn declined() -> End {
    err!("Nothing was changed.");
    End::new(DECLINED)
}
