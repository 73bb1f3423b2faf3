//! /etc/omsagent-onboard.conf.
#![no_main]
use omsagent::settings::onboarding::OnboardingFile;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(read) = OnboardingFile::parse(text) {
        if let Ok(written) = read.to_text() {
            assert!(OnboardingFile::parse(&written).is_ok());
        }
    }
});
