//! Performance counters: the sources of type `oms_omi` (protocol.md 3.7, 4), read from `/proc` and
//! `/sys` by ourselves.
//!
//! One thread for all sources. Each source looks at its object when it starts and then once each
//! interval; what is told of rates and shares is of the time between two looks. One file for each
//! object; all arithmetic works on texts, so tests bring their own.

pub mod block;
pub mod item;
pub mod logical_disk;
pub mod memory;
pub mod mounts;
pub mod names;
pub mod network;
pub mod physical_disk;
pub mod process;
pub mod processor;
pub mod regex;
pub mod sight;
pub mod space;
pub mod system;
pub mod value;

use crate::agent::config::{Counters, Route, Settings};
use crate::agent::figures::{Figures, Input};
use crate::agent::hosts;
use crate::agent::outlet::Outlet;
use crate::agent::output::Control;
use crate::agent::queue::Queue;
use crate::host::layout::Layout;
use crate::wire::metadata;
use log::warn;
use names::Object;
use sight::{Probe, Sight};
use space::Spaces;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Shortest time between two looks of a source.
const SHORTEST: Duration = Duration::from_secs(1);

/// The thread that collects.
pub struct Collector {
    tasks: Vec<Task>,
    /// By the output's number, and whether they are for workload monitoring.
    outlets: Vec<((usize, bool), Outlet)>,
    spaces: Spaces,
    layout: Layout,
    control: Arc<Control>,
    appended: Box<dyn Fn() + Send>,
}

/// One source.
struct Task {
    source: Counters,
    /// What goes into `Host`.
    host: String,
    wanted: Vec<bool>,
    probe: Box<dyn Probe>,
    figures: Arc<Input>,
    outlet: usize,
    due: Option<Instant>,
    /// What was said of its troubles.
    failed: bool,
    told_missing: bool,
}

/// The probe of an object.
pub fn probe(object: Object, layout: &Layout) -> Box<dyn Probe> {
    match object {
        Object::Processor => Box::new(processor::Processor::default()),
        Object::Network => Box::new(network::Network::default()),
        Object::LogicalDisk => Box::new(logical_disk::LogicalDisks::default()),
        Object::Memory => Box::new(memory::Memory::default()),
        Object::PhysicalDisk => Box::new(physical_disk::PhysicalDisks::default()),
        Object::System => Box::new(system::System::of(layout)),
        Object::Process => Box::new(process::Processes::new(process::Units::here())),
    }
}

impl Collector {
    /// `None` when there is no source whose items go anywhere. `appended` is called after something
    /// went to a queue.
    pub fn new(
        settings: &Settings,
        queues: &[Arc<Queue>],
        figures: &Figures,
        layout: &Layout,
        control: Arc<Control>,
        appended: Box<dyn Fn() + Send>,
    ) -> Option<Collector> {
        let mut collector = Collector {
            tasks: Vec::new(),
            outlets: Vec::new(),
            spaces: Spaces::default(),
            layout: layout.clone(),
            control,
            appended,
        };
        for (source, figures) in settings.counters.iter().zip(&figures.counters) {
            let Some(Route::Output(output)) = settings.route(&source.tag) else {
                continue;
            };
            let outlet = collector.outlet((output, source.workload), &queues[output]);
            let selected = &source.selection;
            collector.tasks.push(Task {
                host: match source.workload {
                    true => metadata::fqdn(layout),
                    false => hosts::computer(),
                },
                wanted: selected.counters.iter().map(Option::is_some).collect(),
                probe: probe(selected.object, layout),
                figures: Arc::clone(figures),
                outlet,
                due: None,
                failed: false,
                told_missing: false,
                source: source.clone(),
            });
        }
        (!collector.tasks.is_empty()).then_some(collector)
    }

    fn outlet(&mut self, key: (usize, bool), queue: &Arc<Queue>) -> usize {
        let found = self.outlets.iter().position(|(k, _)| *k == key);
        found.unwrap_or_else(|| {
            let kind = if key.1 { item::WORKLOAD } else { item::KIND };
            self.outlets.push((key, Outlet::new(queue, &kind)));
            self.outlets.len() - 1
        })
    }

    /// Collects until [`Control::stop`] was called and the thread is unparked.
    pub fn run(mut self) {
        self.begin();
        while !self.control.stopping() {
            let next = self.pass();
            match next.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => {}
                Some(left) => std::thread::park_timeout(left),
                None => std::thread::park(),
            }
        }
        self.hand_in(true);
    }

    /// What comes later is compared with how it is now. A source without an interval is told of at
    /// once, and never again.
    fn begin(&mut self) {
        let now = Instant::now();
        for task in &mut self.tasks {
            task.due = Some(now);
            if let Some(interval) = task.source.interval {
                task.look(now, &self.layout, &mut self.spaces);
                task.due = Some(now + interval.max(SHORTEST));
            }
        }
    }

    /// Does what is due; when the next thing will be.
    fn pass(&mut self) -> Option<Instant> {
        let now = Instant::now();
        for task in &mut self.tasks {
            if self.control.stopping() {
                return None;
            }
            let Some(due) = task.due.filter(|due| *due <= now) else {
                continue;
            };
            // In step with the others; not all at once for what was slept through.
            let next = |i: Duration| Some(due + i.max(SHORTEST)).filter(|at| *at > now);
            let interval = task.source.interval;
            task.due = interval.map(|i| next(i).unwrap_or(now + i.max(SHORTEST)));
            let found = task.look(now, &self.layout, &mut self.spaces);
            let (_, outlet) = &mut self.outlets[task.outlet];
            if task.tell(&found, outlet) {
                (self.appended)();
            }
        }
        self.hand_in(false);
        let refusing = self.outlets.iter().filter(|(_, o)| o.refuses());
        let again = refusing.filter_map(|(_, o)| o.due());
        again.chain(self.tasks.iter().filter_map(|t| t.due)).min()
    }

    /// What was collected goes to the queues.
    fn hand_in(&mut self, last: bool) {
        let now = Instant::now();
        for (_, outlet) in &mut self.outlets {
            let due = last || !outlet.refuses() || outlet.due().is_some_and(|due| due <= now);
            if due && outlet.holds_any() && outlet.close(now, false) {
                (self.appended)();
            }
        }
    }
}

impl Task {
    fn look(&mut self, now: Instant, layout: &Layout, spaces: &mut Spaces) -> Vec<value::Instance> {
        let mut sight = Sight {
            layout,
            now,
            spaces,
            wanted: &self.wanted,
        };
        match self.probe.look(&mut sight) {
            Ok(found) => {
                self.failed = false;
                found
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    warn!(
                        "no counters of `{}` ({}): {error:#}",
                        self.source.selection.name, self.source.place
                    );
                }
                Vec::new()
            }
        }
    }

    /// Puts the chosen instances into the frame; true when something went to the queue.
    fn tell(&mut self, found: &[value::Instance], outlet: &mut Outlet) -> bool {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let context = item::Context {
            now_ms: wall.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            host: &self.host,
            object: &self.source.selection.name,
            counters: &self.source.selection.counters,
            workload: self.source.workload,
        };
        let mut appended = false;
        for instance in found {
            if !self.source.instances.finds(&instance.name) {
                continue;
            }
            let missing = |(value, wanted): (&value::Value, &bool)| {
                *wanted && matches!(value, value::Value::Missing)
            };
            let mut values = instance.values.iter().zip(&self.wanted);
            if !self.told_missing && values.any(missing) {
                self.told_missing = true;
                warn!(
                    "some counters of `{}` `{}` ({}) cannot be read and are left out",
                    context.object, instance.name, self.source.place
                );
            }
            self.figures.received();
            self.figures.parsed();
            let Some(frame) = outlet.frame() else {
                continue;
            };
            let origin = self.figures.origin();
            frame.push(origin, |out| item::push(out, instance, context));
            self.figures.queued();
            if outlet.is_ready() {
                appended |= outlet.close(Instant::now(), false);
            }
        }
        appended
    }
}

#[cfg(test)]
mod tests;
