//! Floor 2: every file format we read or write.

pub mod installinfo;
pub mod omsadmin;
pub mod onboarding;
pub mod proxy;
pub mod scx_release;
pub mod fluent;
