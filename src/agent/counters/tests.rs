//! The thread as a whole: a made-up host in, items in a queue out.

use super::*;
use crate::agent::queue::Queue;
use crate::settings::fluent;
use proptest::prelude::*;
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the kernel, or something in its place, says: nothing panics.
    #[test]
    fn no_text_stops_a_probe(
        lines in prop::collection::vec(
            prop_oneof![
                any::<String>(),
                "[a-z0-9]{0,4}( {1,2}(-1|[0-9]{1,20}|[a-z/:()-]{1,4})){0,20}",
                "(cpu[0-9]?|page|pgpgin|pgpgout|MemTotal:|MemAvailable:|eth0:)( {1,2}[0-9]{1,20}){0,20}",
                "1 1 [0-9]{1,3}:[0-9]{1,3} / /[a-z\\\\0-7]{0,6} rw - ext4 /dev/[a-z0-9/]{1,6} rw",
            ],
            0..8,
        )
    ) {
        let text = lines.join("\n");
        let scene = Scene::new();
        scene.folder("/sys/class/block/dm-1/slaves/1");
        let files = [
            "stat", "meminfo", "vmstat", "uptime", "net/dev", "diskstats", "1/mountinfo", "1/stat", "1/statm",
        ];
        for class in &names::CLASSES {
            let mut probe = probe(class.object, &scene.layout);
            for after in [0, 10] {
                for file in files {
                    scene.write(&format!("/proc/{file}"), &text);
                }
                let found = scene.look_at(&mut *probe, Duration::from_secs(after));
                for instance in found.into_iter().flatten() {
                    prop_assert_eq!(instance.values.len(), class.counters.len());
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_expression_stops_the_agent(text in prop_oneof![any::<String>(), "[ab()|*+?{},0-9\\[\\]^$.\\\\-]{0,20}"], name: String) {
        if let Ok(regex) = regex::Regex::new(&text) {
            regex.finds(&name);
            regex.finds("abab");
        }
    }
}
