//! Which release this binary is.

/// `a.b.c-d`: version of the crate and the packaging release.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");

/// `a.b.c.d`, as `--version` and `--version-check` show it (bundle.md 2.3).
pub fn dotted() -> String {
    VERSION.replacen('-', ".", 1)
}

/// Name of the one package of ours.
pub const PACKAGE: &str = "omsagent";

/// Base name without .deb/.rpm, as it stands in the bundle's lines (bundle.md 1.1).
pub fn base_name() -> String {
    format!("{PACKAGE}-{VERSION}.universal.x64")
}
