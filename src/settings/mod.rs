//! Floor 2: every file format we read or write.

pub mod flat_conf;
pub mod fluent;
pub mod installinfo;
pub mod omi_mapping;
pub mod omiserver;
pub mod omsadmin;
pub mod onboarding;
pub mod proxy;
pub mod rollout;
pub mod scx_release;
