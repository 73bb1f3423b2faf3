//! The thread as a whole: a made-up host in, items in a queue out.

use super::*;
use crate::agent::queue::Queue;
use crate::settings::fluent;
use sight::tests::Scene;

fn write_host(scene: &Scene) {
    scene.write("/proc/stat", "cpu  1 0 0 1 0 0 0\ncpu0 1 0 0 1 0 0 0\n");
    scene.write(
        "/proc/meminfo",
        "MemTotal: 2097152 kB\nMemAvailable: 1048576 kB\n",
    );
    scene.write("/proc/vmstat", "pgpgin 1\npgpgout 2\n");
    scene.write("/proc/uptime", "77.5 1\n");
}

fn settings(sources: &str, scene: &Scene) -> Settings {
    let text = format!(
        "{sources}<match lost.**>\ntype null\n</match>\n<match oms.**>\ntype out_oms\n</match>\n"
    );
    let document = fluent::parse("t", &text, &mut ()).unwrap();
    Settings::from_document(&document, scene.layout.root()).unwrap()
}

fn source(object: &str, more: &str) -> String {
    format!("<source>\ntype oms_omi\nobject_name {object}\n{more}\n</source>\n")
}

struct Run {
    queue: Arc<Queue>,
    figures: Figures,
    control: Arc<Control>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Run {
    fn of(settings: &Settings, scene: &Scene) -> Run {
        let output = &settings.outputs[0];
        let (queue, _) = Queue::open(&output.queue, output.limit).unwrap();
        let (queue, figures) = (Arc::new(queue), Figures::new(settings));
        let control = Arc::new(Control::default());
        let queues = [Arc::clone(&queue)];
        let collector = Collector::new(
            settings,
            &queues,
            &figures,
            &scene.layout,
            Arc::clone(&control),
            Box::new(|| ()),
        );
        Run {
            queue,
            figures,
            control,
            thread: collector.map(|c| std::thread::spawn(|| c.run())),
        }
    }

    fn until(&self, items: u64) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.queue.counts().appended < items {
            assert!(Instant::now() < until, "{:?}", self.queue.counts());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(&mut self) {
        self.control.stop();
        let thread = self.thread.take().unwrap();
        thread.thread().unpark();
        thread.join().unwrap();
    }
}

#[test]
fn a_source_without_an_interval_tells_once() {
    let scene = Scene::new();
    write_host(&scene);
    let sources = source("Processor", "instance_regex ^0$")
        + &source("Memory", "counter_name_regex MBytes")
        + &source("System", "tag lost.x")
        + &source("Network", ""); // there is no /proc/net/dev
    let settings = settings(&sources, &scene);
    let mut run = Run::of(&settings, &scene);
    run.until(2);
    run.end();
    assert_eq!(run.queue.counts().appended, 2);
    let seen = run.figures.snapshot(&[Arc::clone(&run.queue)]);
    let counts: Vec<_> = seen.inputs.iter().map(|i| (i.received, i.queued)).collect();
    assert_eq!(counts, [(1, 1), (1, 1), (0, 0), (0, 0)]);
    assert_eq!(seen.inputs[0].kind, "oms_omi");
}

#[test]
fn a_source_with_an_interval_goes_on_telling() {
    let scene = Scene::new();
    write_host(&scene);
    let settings = settings(&source("Memory", "interval 1s"), &scene);
    let mut run = Run::of(&settings, &scene);
    run.until(2);
    run.end();
}

#[test]
fn nothing_runs_for_items_that_go_nowhere() {
    let scene = Scene::new();
    let settings = settings(&source("Memory", "tag lost.x"), &scene);
    assert!(Run::of(&settings, &scene).thread.is_none());
}

/// A frame that the queue does not take is kept, within the limit, and goes there when it can.
#[test]
fn what_a_queue_refuses_is_kept() {
    let scene = Scene::new();
    let settings = settings(&source("Memory", ""), &scene);
    let output = &settings.outputs[0];
    let (queue, _) = Queue::open(&output.queue, output.limit).unwrap();
    let queue = Arc::new(queue);
    let figures = Figures::new(&settings);
    let mut collector = Collector::new(
        &settings,
        &[Arc::clone(&queue)],
        &figures,
        &scene.layout,
        Arc::default(),
        Box::new(|| ()),
    )
    .unwrap();
    let (task, outlet) = (&mut collector.tasks[0], &mut collector.outlets[0]);
    outlet.refused = Some(Refused {
        tried: Instant::now(),
        lost: 0,
    });
    let many: Vec<value::Instance> = (0..4000)
        .map(|n| value::Instance {
            name: format!("{n:0100}"),
            values: vec![value::Value::Number(1); 11],
        })
        .collect();
    task.tell(&many, outlet);
    let lost = outlet.refused.as_ref().unwrap().lost;
    assert!(lost > 0 && lost < 4000, "{lost}");
    assert!(outlet.frame.size() < HELD_LIMIT + 4096);
    assert_eq!(queue.counts().appended, 0);
    collector.hand_in(true);
    assert_eq!(queue.counts().appended, 4000 - lost);
    assert!(collector.outlets[0].refused.is_none());
    let seen = &figures.snapshot(&[queue]).inputs[0];
    assert_eq!((seen.received, seen.dropped), (4000, lost));
}
