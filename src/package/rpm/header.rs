//! The tag-value store that both headers of an .rpm are: an index of (tag, type, offset, count)
//! over a block of data, all of it one immutable region.

use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// The first bytes of a header: magic, version 1, four reserved zeros.
pub const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
/// Bytes of one index entry.
pub const ENTRY: usize = 16;

/// Types (rpmtag.h).
pub const INT16: u32 = 3;
/// 32-bit numbers.
pub const INT32: u32 = 4;
/// One text, NUL at its end.
pub const STRING: u32 = 6;
/// Bytes.
pub const BIN: u32 = 7;
/// Several texts.
pub const STRING_ARRAY: u32 = 8;
/// A text in each language of the I18N table.
pub const I18N_STRING: u32 = 9;

/// What a tag holds.
#[derive(Debug)]
pub enum Value {
    Bytes(Vec<u8>),
    Localised(String),
    Numbers(Vec<u32>),
    Shorts(Vec<u16>),
    Text(String),
    Texts(Vec<String>),
}

/// A header being filled.
#[derive(Debug)]
pub struct Header {
    region: u32,
    values: BTreeMap<u32, Value>,
}

impl Header {
    /// An empty header whose region is marked by `region`.
    pub fn new(region: u32) -> Self {
        Header {
            region,
            values: BTreeMap::new(),
        }
    }

    pub fn put(&mut self, tag: u32, value: Value) {
        self.values.insert(tag, value);
    }

    pub fn text(&mut self, tag: u32, text: impl Into<String>) {
        self.put(tag, Value::Text(text.into()));
    }

    pub fn localised(&mut self, tag: u32, text: &str) {
        self.put(tag, Value::Localised(text.to_owned()));
    }

    pub fn texts<T: ToString>(&mut self, tag: u32, texts: impl IntoIterator<Item = T>) {
        let texts = texts.into_iter().map(|t| t.to_string()).collect();
        self.put(tag, Value::Texts(texts));
    }

    pub fn numbers(&mut self, tag: u32, numbers: impl IntoIterator<Item = u32>) {
        self.put(tag, Value::Numbers(numbers.into_iter().collect()));
    }

    /// The header as it stands in the file. Entries are in the order of their tags and data in
    /// the order of entries: rpm refuses data that overlaps or goes back.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut index = Vec::new();
        let mut data = Vec::new();
        for (tag, value) in &self.values {
            let (kind, count, align, bytes) = value.encode();
            while data.len() % align != 0 {
                data.push(0);
            }
            entry(
                &mut index,
                [*tag, kind, number(data.len())?, number(count)?],
            );
            data.extend_from_slice(&bytes);
        }
        // The region's own entry comes first; what it points to, a copy of it whose offset
        // counts back over the whole index, ends the data.
        let entries = number(self.values.len())? + 1;
        let back = (entries * ENTRY as u32).wrapping_neg();
        let mut region = Vec::new();
        let size = ENTRY as u32;
        entry(&mut region, [self.region, BIN, number(data.len())?, size]);
        entry(&mut data, [self.region, BIN, back, size]);

        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&entries.to_be_bytes());
        header.extend_from_slice(&number(data.len())?.to_be_bytes());
        header.extend_from_slice(&region);
        header.extend_from_slice(&index);
        header.extend_from_slice(&data);
        Ok(header)
    }
}

impl Value {
    /// (type, count, alignment, data)
    fn encode(&self) -> (u32, usize, usize, Vec<u8>) {
        let ended = |text: &str| [text.as_bytes(), &[0]].concat();
        match self {
            Value::Bytes(bytes) => (BIN, bytes.len(), 1, bytes.clone()),
            Value::Localised(text) => (I18N_STRING, 1, 1, ended(text)),
            Value::Numbers(numbers) => {
                let bytes = numbers.iter().flat_map(|n| n.to_be_bytes());
                (INT32, numbers.len(), 4, bytes.collect())
            }
            Value::Shorts(numbers) => {
                let bytes = numbers.iter().flat_map(|n| n.to_be_bytes());
                (INT16, numbers.len(), 2, bytes.collect())
            }
            Value::Text(text) => (STRING, 1, 1, ended(text)),
            Value::Texts(texts) => {
                let bytes = texts.iter().flat_map(|t| ended(t));
                (STRING_ARRAY, texts.len(), 1, bytes.collect())
            }
        }
    }
}

fn entry(to: &mut Vec<u8>, fields: [u32; 4]) {
    to.extend(fields.iter().flat_map(|f| f.to_be_bytes()));
}

fn number(n: usize) -> Result<u32> {
    u32::try_from(n).context("rpm header larger than 4 GiB")
}
