//! Which release this binary is.

use crate::package;
use crate::package::version::Version;
use anyhow::Result;

/// Name of the one package of ours.
pub const PACKAGE: &str = "omsagent";

/// `a.b.c-d`: version of the crate and the packaging release.
pub fn version() -> String {
    package::label()
}

/// `a.b.c.d`, as `--version` and `--version-check` show it (bundle.md 2.3).
pub fn dotted() -> String {
    version().replacen('-', ".", 1)
}

/// Base name without .deb/.rpm, as it stands in the bundle's lines (bundle.md 1.1).
pub fn base_name() -> String {
    format!("{PACKAGE}-{}.universal.x64", version())
}

/// Is this release newer than the installed version? What cannot be read cannot be older than us
/// for certain: then the package tool decides.
pub fn is_newer_than(installed: Option<&str>) -> Result<bool> {
    let Some(installed) = installed else {
        return Ok(true);
    };
    let ours = Version::parse(&version())?;
    Ok(Version::parse(installed).map_or(true, |there| ours.is_newer_than(&there)))
}
