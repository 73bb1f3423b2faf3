//! Floor 2: .deb and .rpm files, written by our own code.
