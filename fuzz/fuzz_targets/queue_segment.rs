//! A segment of the disk queue after a crash, a bad disk or somebody's editor.
#![no_main]
use omsagent::agent::queue::frame::HEAD;
use omsagent::agent::queue::segment;
use std::os::fd::AsRawFd;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

libfuzzer_sys::fuzz_target!(|input: (bool, Vec<u8>)| {
    let (sealed, frames) = input;
    let mut bytes = segment::MARK.to_vec();
    bytes.extend_from_slice(&frames);
    let first = segment::MARK.len();
    // With the first frame's checksum made right, what lies behind the check is reached too.
    if sealed && bytes.len() >= first + HEAD {
        bytes[first..first + 4].copy_from_slice(b"OMSF");
        let length = (bytes.len() - first - HEAD) as u32;
        bytes[first + 4..first + 8].copy_from_slice(&length.to_le_bytes());
        let crc = CRC.checksum(&bytes[first + 12..]);
        bytes[first + 8..first + 12].copy_from_slice(&crc.to_le_bytes());
    }
    omsagent_fuzz::as_file(&bytes, |file| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let end = bytes.len() as u64;
        let extent = segment::measure(path.as_ref(), end).unwrap();
        assert!(extent.valid <= end.max(first as u64));
        let reader = segment::Reader::open(path.as_ref(), 0, end).unwrap();
        let _ = reader.count_items();
    });
});
