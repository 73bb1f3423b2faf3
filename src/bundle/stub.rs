//! The shell script at the beginning: its text, and the numbers that are put into it.

use super::index::Sha256Hex;
use super::{ALIGN, BundleError, Result, STUB_SIZE};
use crate::package::Arch;
use crate::package::version::Version;
use sha2::{Digest, Sha256};

/// bundle-format.md E.3, "Stub behaviour".
const TEMPLATE: &str = include_str!("../../bundle/stub.sh");

/// How POSIX cksum(1) counts.
const CKSUM: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_CKSUM);

/// A runner as the stub sees it.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Entry name.
    pub name: String,
    /// For which processor.
    pub arch: Arch,
    /// Where it begins.
    pub offset: u64,
    /// Bytes with padding.
    pub padded: u64,
    /// Checksums of the padded bytes.
    pub sums: Sums,
}

/// What the stub compares a runner with.
#[derive(Debug, Clone)]
pub struct Sums {
    /// As cksum(1) counts.
    pub cksum: u32,
    /// As sha256sum(1) does, for where there is no cksum.
    pub sha256: Sha256Hex,
}

/// The checksums of a program followed by zeros up to a multiple of [`ALIGN`], as they grow.
#[derive(Clone)]
pub struct Summing {
    digest: crc::Digest<'static, u32>,
    hash: Sha256,
    len: u64,
}

impl Summing {
    /// Nothing yet.
    pub fn new() -> Self {
        static TABLE: crc::Crc<u32> = CKSUM;
        Summing {
            digest: TABLE.digest(),
            hash: Sha256::new(),
            len: 0,
        }
    }

    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// Pads and ends: (padded length, checksums). POSIX cksum appends the length, lowest byte first,
    /// without leading zero bytes.
    pub fn finish(mut self) -> (u64, Sums) {
        let padded = self.len.next_multiple_of(ALIGN);
        let zeros = [0u8; ALIGN as usize];
        self.update(&zeros[..(padded - self.len) as usize]);
        let mut rest = padded;
        while rest > 0 {
            self.digest.update(&[rest as u8]);
            rest >>= 8;
        }
        let sums = Sums {
            cksum: self.digest.finalize(),
            sha256: Sha256Hex::of(&self.hash.finalize()),
        };
        (padded, sums)
    }
}

/// The stub's [`STUB_SIZE`] bytes.
pub fn fill(
    release: &Version,
    total: u64,
    (index_offset, index_len): (u64, u64),
    runners: &[Runner],
) -> Result<Vec<u8>> {
    let arms: Vec<String> = runners.iter().map(arm).collect();
    let machines: Vec<&str> = runners.iter().map(|r| r.arch.rpm()).collect();
    let mut text = TEMPLATE.to_owned();
    for (place, value) in [
        ("@INDEX_OFFSET@", index_offset.to_string()),
        ("@INDEX_LENGTH@", index_len.to_string()),
        ("@TOTAL@", total.to_string()),
        ("@VERSION@", release.to_string()),
        ("@RUNNERS@", arms.join("\n")),
        ("@MACHINES@", machines.join(", ")),
    ] {
        text = text.replacen(place, &value, 1);
    }
    if text.len() as u64 > STUB_SIZE || text.contains('\r') || !text.is_ascii() {
        let problem = format!("the stub is {} bytes or not plain text", text.len());
        return Err(BundleError::Build(problem));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(STUB_SIZE as usize, b'\n');
    Ok(bytes)
}

/// One arm of the stub's `case`.
fn arm(runner: &Runner) -> String {
    format!(
        "\t{}) name={} skip={} count={} sum='{} {}' hash={} ;;",
        runner.arch.uname().join(" | "),
        runner.name,
        runner.offset / ALIGN,
        runner.padded / ALIGN,
        runner.sums.cksum,
        runner.padded,
        runner.sums.sha256.as_str(),
    )
}

/// What a stub says of the bundle: (total, index offset, index length). Checked against the
/// trailer by the reader.
pub fn numbers(stub: &[u8]) -> Option<(u64, u64, u64)> {
    let text = std::str::from_utf8(stub).ok()?;
    let after = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
    let (offset, len) = after("# index ")?.split_once(' ')?;
    let total = after("total=")?;
    Some((total.parse().ok()?, offset.parse().ok()?, len.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(arch: Arch) -> Runner {
        Runner {
            name: format!("omsagent.{arch}"),
            arch,
            offset: 8192,
            padded: 40960,
            sums: Sums {
                cksum: u32::MAX,
                sha256: Sha256Hex::of(&[255; 32]),
            },
        }
    }

    #[test]
    fn the_stub_fits_and_says_its_numbers() {
        let release = Version::parse("2.0.0-1").unwrap();
        let runners: Vec<Runner> = Arch::ALL.into_iter().map(runner).collect();
        let huge = u64::MAX;
        let stub = fill(&release, huge, (huge - 1, huge - 2), &runners).unwrap();
        assert_eq!(stub.len() as u64, STUB_SIZE);
        assert_eq!(numbers(&stub), Some((huge, huge - 1, huge - 2)));
        let text = String::from_utf8(stub).unwrap();
        assert!(text.starts_with("#!/bin/sh\n"));
        assert!(text.contains("'Version: 2.0.0.1'"));
        assert!(text.contains("only for: aarch64, x86_64"));
        assert!(!text.contains('@') || text.matches('@').count() == text.matches("\"$@\"").count());
        assert!(text.trim_end().ends_with("\nmain \"$@\"; exit 2"));
    }

    #[test]
    fn checksums_agree_with_the_tools() {
        for n in [1usize, 4095, 4096, 4097, 70_000] {
            let bytes: Vec<u8> = (0..n).map(|i| (i * 7) as u8).collect();
            let mut ours = Summing::new();
            ours.update(&bytes[..n / 2]);
            ours.update(&bytes[n / 2..]);
            let (padded, sums) = ours.finish();
            let mut whole = bytes;
            whole.resize(padded as usize, 0);
            let theirs = |program| {
                let tool = crate::base::command::Command::new(program).stdin(whole.clone());
                tool.run().unwrap().output
            };
            assert_eq!(theirs("cksum"), format!("{} {padded}\n", sums.cksum));
            assert_eq!(
                theirs("sha256sum"),
                format!("{}  -\n", sums.sha256.as_str())
            );
        }
    }
}
