//! Floor 2: every file format we read or write.

pub mod fluent;
