//! Which objects and counters there are, by the names that configurations and the service use
//! (protocol.md 4.1), each object's counters in the order in which they are sent (4.9).

use super::regex::Regex;
use crate::settings::omi_mapping::Mapping;

/// Longest name that a mapping may give.
pub const NAME_LIMIT: usize = 200;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// Each processor's time.
    Processor,
    /// Network interfaces.
    Network,
    /// File systems.
    LogicalDisk,
    /// Memory and swap.
    Memory,
    /// Whole disks.
    PhysicalDisk,
    /// The host.
    System,
    /// Every process.
    Process,
}

/// An object and its counters.
#[derive(Debug)]
pub struct Class {
    /// Which.
    pub object: Object,
    /// `ObjectName`.
    pub name: &'static str,
    /// `CimClassName`: how a mapping file refers to it.
    pub cim: &'static str,
    /// In the order in which they are sent.
    pub counters: &'static [Counter],
}

/// A counter.
#[derive(Debug)]
pub struct Counter {
    /// `CimPropertyName`: how a mapping file refers to it.
    pub property: &'static str,
    /// `CounterName`, by which it is selected.
    pub name: &'static str,
    /// `DisplayName`, by which it is sent.
    pub shown: &'static str,
}

const fn counter(property: &'static str, name: &'static str) -> Counter {
    Counter {
        property,
        name,
        shown: name,
    }
}

/// All that are collected.
pub const CLASSES: [Class; 7] = [
    Class {
        object: Object::Processor,
        name: "Processor",
        cim: "SCX_RTProcessorStatisticalInformation",
        counters: &[
            counter("PercentIdleTime", "% Idle Time"),
            counter("PercentUserTime", "% User Time"),
            counter("PercentNiceTime", "% Nice Time"),
            counter("PercentPrivilegedTime", "% Privileged Time"),
            counter("PercentInterruptTime", "% Interrupt Time"),
            counter("PercentDPCTime", "% DPC Time"),
            counter("PercentProcessorTime", "% Processor Time"),
            counter("PercentIOWaitTime", "% IO Wait Time"),
        ],
    },
    Class {
        object: Object::Network,
        name: "Network",
        cim: "SCX_EthernetPortStatistics",
        counters: &[
            counter("BytesTransmitted", "Total Bytes Transmitted"),
            counter("BytesReceived", "Total Bytes Received"),
            counter("PacketsTransmitted", "Total Packets Transmitted"),
            counter("PacketsReceived", "Total Packets Received"),
            counter("BytesTotal", "Total Bytes"),
            counter("TotalRxErrors", "Total Rx Errors"),
            counter("TotalTxErrors", "Total Tx Errors"),
            counter("TotalCollisions", "Total Collisions"),
        ],
    },
    Class {
        object: Object::LogicalDisk,
        name: "Logical Disk",
        cim: "SCX_FileSystemStatisticalInformation",
        counters: &[
            counter("FreeMegabytes", "Free Megabytes"),
            counter("PercentFreeSpace", "% Free Space"),
            counter("PercentUsedSpace", "% Used Space"),
            counter("PercentFreeInodes", "% Free Inodes"),
            counter("PercentUsedInodes", "% Used Inodes"),
            counter("BytesPerSecond", "Logical Disk Bytes/sec"),
            counter("ReadBytesPerSecond", "Disk Read Bytes/sec"),
            counter("WriteBytesPerSecond", "Disk Write Bytes/sec"),
            counter("TransfersPerSecond", "Disk Transfers/sec"),
            counter("ReadsPerSecond", "Disk Reads/sec"),
            counter("WritesPerSecond", "Disk Writes/sec"),
        ],
    },
    Class {
        object: Object::Memory,
        name: "Memory",
        cim: "SCX_MemoryStatisticalInformation",
        counters: &[
            counter("AvailableMemory", "Available MBytes Memory"),
            counter("PercentAvailableMemory", "% Available Memory"),
            counter("UsedMemory", "Used Memory MBytes"),
            counter("PercentUsedMemory", "% Used Memory"),
            counter("PagesPerSec", "Pages/sec"),
            counter("PagesReadPerSec", "Page Reads/sec"),
            counter("PagesWrittenPerSec", "Page Writes/sec"),
            counter("AvailableSwap", "Available MBytes Swap"),
            counter("PercentAvailableSwap", "% Available Swap Space"),
            counter("UsedSwap", "Used MBytes Swap Space"),
            counter("PercentUsedSwap", "% Used Swap Space"),
        ],
    },
    Class {
        object: Object::PhysicalDisk,
        name: "Physical Disk",
        cim: "SCX_DiskDriveStatisticalInformation",
        counters: &[
            counter("BytesPerSecond", "Physical Disk Bytes/sec"),
            counter("AverageReadTime", "Avg. Disk sec/Read"),
            counter("AverageWriteTime", "Avg. Disk sec/Write"),
            counter("AverageTransferTime", "Avg. Disk sec/Transfer"),
        ],
    },
    Class {
        object: Object::System,
        name: "System",
        cim: "SCX_OperatingSystem",
        counters: &[
            counter("NumberOfUsers", "Users"),
            counter("NumberOfProcesses", "Processes"),
            counter("FreeVirtualMemory", "Free Virtual Memory"),
            counter("FreePhysicalMemory", "Free Physical Memory"),
            counter("SizeStoredInPagingFiles", "Size Stored In Paging Files"),
            counter("FreeSpaceInPagingFiles", "Free Space in Paging Files"),
            counter("SystemUpTime", "Uptime"),
        ],
    },
    Class {
        object: Object::Process,
        name: "Process",
        cim: "SCX_UnixProcessStatisticalInformation",
        counters: &[
            counter("VirtualSharedMemory", "Virtual Shared Memory"),
            counter("PercentUserTime", "Pct User Time"),
            counter("PercentPrivilegedTime", "Pct Privileged Time"),
            Counter {
                property: "UsedMemory",
                name: "Used Memory",
                shown: "Used Memory kBytes",
            },
        ],
    },
];

/// Objects of the original's mapping whose providers are programs of their own.
const ELSEWHERE: [&str; 5] = [
    "Container",
    "Apache HTTP Server",
    "Apache Virtual Host",
    "MySQL Database",
    "MySQL Server",
];

/// What one source asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// What is measured.
    pub object: Object,
    /// `ObjectName`, as it is sent.
    pub name: String,
    /// For each counter of the object the name by which it is sent; `None`: it is not asked for.
    pub counters: Vec<Option<String>>,
}

/// Why there is nothing to select from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Its provider is another program.
    #[error("counters of the object `{0}` are not collected in this version")]
    Elsewhere(String),
    /// Nobody knows it.
    #[error("`{0}` is no object: there are {list}", list = known())]
    Unknown(String),
    /// The mapping says too much.
    #[error("a name in the mapping file is longer than {NAME_LIMIT} bytes")]
    LongName,
}

fn known() -> String {
    CLASSES.map(|c| c.name).join(", ")
}

/// Is it collected under this name, unless a mapping file says otherwise?
pub fn is_known(object: &str) -> bool {
    CLASSES.iter().any(|c| c.name == object)
}

/// The object called `name` with those of its counters that `wanted` finds. A mapping file gives
/// other names to what is here, and nothing more.
pub fn select(
    mapping: Option<&Mapping>,
    name: &str,
    wanted: &Regex,
) -> Result<Selection, Unsupported> {
    let named = mapping.and_then(|m| m.objects.iter().find(|o| o.name == name));
    let class = CLASSES.iter().find(|class| match named {
        Some(object) if !object.class.is_empty() => object.class == class.cim,
        _ => name == class.name,
    });
    let Some(class) = class else {
        return Err(match named.is_some() || ELSEWHERE.contains(&name) {
            true => Unsupported::Elsewhere(name.to_owned()),
            false => Unsupported::Unknown(name.to_owned()),
        });
    };
    let counters = class.counters.iter().map(|counter| {
        let all = named.map_or(&[][..], |object| &object.counters);
        let renamed = all.iter().find(|c| c.property == counter.property);
        let (name, shown) = match renamed {
            Some(c) => (c.name.as_str(), c.shown.as_deref().unwrap_or(&c.name)),
            None => (counter.name, counter.shown),
        };
        if shown.len() > NAME_LIMIT {
            return Err(Unsupported::LongName);
        }
        Ok(wanted.finds(name).then(|| shown.to_owned()))
    });
    let counters = counters.collect::<Result<_, _>>()?;
    if name.len() > NAME_LIMIT {
        return Err(Unsupported::LongName);
    }
    Ok(Selection {
        object: class.object,
        name: name.to_owned(),
        counters,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Regex {
        Regex::new("").unwrap()
    }

    /// protocol.md 4.1, row by row: object, class, counter, property.
    #[test]
    fn every_name_of_the_originals_table() {
        let table = include_str!("../../../tests/data/counters/names.tsv");
        let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split('\t').collect()).collect();
        let mut found = 0;
        for row in &rows {
            let [object, cim, name, property] = row[..] else {
                panic!("{row:?}");
            };
            let class = CLASSES.iter().find(|c| c.name == object && c.cim == cim);
            let counter = class.unwrap().counters.iter().find(|c| c.name == name);
            assert_eq!(counter.unwrap().property, property);
            println!("{object}: {name} ({property})");
            found += 1;
        }
        let ours: usize = CLASSES.iter().map(|c| c.counters.len()).sum();
        println!("{found} of {} names, and no other", rows.len());
        assert_eq!((found, ours), (rows.len(), 53));
    }

    #[test]
    fn counters_are_selected_by_name_and_sent_by_another() {
        let some = Regex::new("Used Memory$|User").unwrap();
        let selection = select(None, "Process", &some).unwrap();
        assert_eq!(selection.object, Object::Process);
        let names: Vec<_> = selection.counters.iter().flatten().collect();
        assert_eq!(names, ["Pct User Time", "Used Memory kBytes"]);
        let none = select(None, "Process", &Regex::new("kBytes").unwrap()).unwrap();
        assert!(none.counters.iter().all(Option::is_none));
    }

    #[test]
    fn a_mapping_gives_other_names() {
        let text = r#"[{"ObjectName":"CPU","CimClassName":"SCX_RTProcessorStatisticalInformation",
            "CimProperties":[{"CimPropertyName":"PercentIdleTime","CounterName":"idle"},
            {"CimPropertyName":"PercentUserTime","CounterName":"user","DisplayName":"U"}]},
            {"ObjectName":"Memory","CimClassName":"Other"},{"ObjectName":"System"}]"#;
        let mapping = Mapping::parse(text).unwrap();
        let cpu = select(Some(&mapping), "CPU", &all()).unwrap();
        let names: Vec<_> = cpu.counters.iter().flatten().take(3).collect();
        assert_eq!(names, ["idle", "U", "% Nice Time"]);
        assert_eq!(cpu.name, "CPU");
        let user = select(Some(&mapping), "CPU", &Regex::new("^user$").unwrap()).unwrap();
        assert_eq!(user.counters.iter().flatten().collect::<Vec<_>>(), ["U"]);
        // What the file does not name is there under its own name.
        assert!(select(Some(&mapping), "Processor", &all()).is_ok());
        assert!(select(Some(&mapping), "System", &all()).is_ok());
        let other = select(Some(&mapping), "Memory", &all()).unwrap_err();
        assert_eq!(other, Unsupported::Elsewhere("Memory".into()));
    }

    #[test]
    fn what_there_is_not() {
        let of = |name: &str| select(None, name, &all()).unwrap_err().to_string();
        assert!(of("Container").contains("not collected in this version"));
        assert!(of("Load").contains("there are Processor, Network, Logical Disk"));
        assert!(is_known("Memory") && !is_known("memory"));
        let long = |n: usize| {
            let name = "x".repeat(n);
            let text = format!(
                r#"[{{"ObjectName":"{name}","CimClassName":"SCX_OperatingSystem",
                "CimProperties":[{{"CimPropertyName":"SystemUpTime","CounterName":"{name}"}}]}}]"#
            );
            select(Some(&Mapping::parse(&text).unwrap()), &name, &all())
        };
        assert!(long(NAME_LIMIT).is_ok());
        assert_eq!(long(NAME_LIMIT + 1).unwrap_err(), Unsupported::LongName);
    }
}
