//! Packages and bundles as the world sees them: real dpkg-deb, dpkg, rpm, lintian, rpmlint, and
//! every shell there is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bundle;
mod packages;
mod papers;
mod people;
mod stub;
mod tools;
mod trial;
