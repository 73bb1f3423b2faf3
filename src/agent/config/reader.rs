//! Reads parameters of one element: what is written, else what the table says.

use super::Files;
use crate::agent::catalogue::Plugin;
use crate::settings::fluent::{self, BadValue, Element, Param, Problem};
use std::path::PathBuf;
use std::time::Duration;

/// An element and what is known of its plug-in.
pub(super) struct Reader<'e> {
    pub element: &'e Element,
    pub plugin: &'static Plugin,
}

impl<'e> Reader<'e> {
    /// The parameter, where somebody wrote it.
    pub fn written(&self, key: &str) -> Option<&'e Param> {
        self.element.param(key)
    }

    /// What is written, else the default.
    pub fn text(&self, key: &str) -> Result<&'e str, Problem> {
        let default = || self.plugin.param(key)?.default;
        let written = self.written(key).map(|p| p.value.as_str());
        written.or_else(default).ok_or_else(|| self.missing(key))
    }

    /// The error about a parameter that nobody wrote.
    pub fn missing(&self, key: &str) -> Problem {
        Problem {
            place: self.element.place.clone(),
            text: format!("`{key}` is missing"),
        }
    }

    /// The error about a value that is written.
    pub fn wrong(&self, key: &str, wanted: &str) -> Problem {
        let param = self.written(key);
        let value = param.map_or("", |p| &p.value);
        Problem {
            place: param.map_or(&self.element.place, |p| &p.place).clone(),
            text: format!("`{key}` is `{value}`: it must be {wanted}"),
        }
    }

    fn typed<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, BadValue>,
    ) -> Result<T, Problem> {
        read(self.text(key)?).map_err(|e| self.wrong(key, e.wanted))
    }

    pub fn time(&self, key: &str) -> Result<Duration, Problem> {
        self.typed(key, fluent::duration)
    }

    /// `None` when nobody wrote it.
    pub fn written_time(&self, key: &str) -> Result<Option<Duration>, Problem> {
        match self.written(key) {
            Some(_) => self.time(key).map(Some),
            None => Ok(None),
        }
    }

    pub fn size(&self, key: &str) -> Result<u64, Problem> {
        self.typed(key, fluent::size)
    }

    pub fn flag(&self, key: &str) -> Result<bool, Problem> {
        self.typed(key, fluent::boolean)
    }

    /// Its limits are the table's.
    pub fn number(&self, key: &str) -> Result<u32, Problem> {
        self.text(key)?
            .parse()
            .map_err(|_| self.wrong(key, "a number"))
    }

    pub fn files(&self, proxy_key: &str) -> Result<Files, Problem> {
        let path = |key| self.text(key).map(PathBuf::from);
        let credentials = credentials();
        let handed_over = credentials.is_some();
        let (cert, key) = match credentials {
            Some(pair) => pair,
            None => (path("cert_path")?, path("key_path")?),
        };
        Ok(Files {
            omsadmin: path("omsadmin_conf_path")?,
            cert,
            key,
            proxy: path(proxy_key)?,
            handed_over,
        })
    }
}

/// Certificate and key that the service manager hands over (`LoadCredential=` in the unit) go
/// before those that are configured.
fn credentials() -> Option<(PathBuf, PathBuf)> {
    let folder = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    let pair = (folder.join("oms.crt"), folder.join("oms.key"));
    (pair.0.is_file() && pair.1.is_file()).then_some(pair)
}
