//! The tool's `info`, `warning` and `error` lines, copied to the host's syslog daemon: tag
//! `omsagent`, the facility of omsadmin.conf's `LOG_FACILITY`, `[INFO] ` and its like before the
//! text (protocol.md 1.1).

use crate::base::argv;
use crate::base::out::{self, Stream};
use crate::base::secret::Secret;
use crate::host::layout::Layout;
use crate::host::syslog::{Facility, local};
use crate::settings::omsadmin::{LOG_FACILITY, OmsAdmin};
use std::sync::OnceLock;

const TAG: &str = "omsagent";

/// From here on they are copied, unless one of `secrets` stays to be seen in the command line: the
/// journal keeps that of every sender. Nobody waits for a daemon that is not there.
pub fn begin(secrets: &[Option<&Secret>]) {
    let typed: Vec<Secret> = typed(std::env::args_os().map(|w| w.to_string_lossy().into_owned()));
    let secrets = secrets.iter().copied().flatten().chain(&typed);
    let secrets: Vec<&str> = secrets.map(Secret::expose).collect();
    if argv::hide(&secrets) {
        out::copy(each_line);
    }
}

/// What stands behind `-s` and `-p`, every time: of several keys only the last one is used, and all
/// are secret.
fn typed(words: impl Iterator<Item = String>) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut behind = false;
    for word in words {
        let option = word.strip_prefix('-').unwrap_or_default();
        let letters = option.chars().take_while(char::is_ascii_alphabetic).count();
        if behind && !word.starts_with('-') {
            found.extend((!word.is_empty()).then(|| Secret::new(word)));
            behind = false;
            continue;
        }
        behind = matches!(word.as_str(), "--shared" | "--proxy")
            || (letters == option.len() && option.ends_with(['s', 'p']));
        if let Some(value) = option.strip_prefix(['s', 'p']).filter(|v| v.len() >= 8) {
            found.push(Secret::new(value));
        }
    }
    found
}

fn each_line(_: Stream, bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        if let Some((severity, text)) = as_message(line) {
            let socket = std::path::Path::new(local::SOCKET);
            let now = jiff::Zoned::now();
            let _ = local::send(socket, facility(), severity, TAG, &text, &now);
        }
    }
}

/// The severity's number and the text to send; `None` for lines of another kind.
fn as_message(line: &str) -> Option<(u8, String)> {
    let (kind, text) = line.split_once('\t')?;
    let (severity, mark) = match kind {
        "info" => (6, "[INFO]"),
        "warning" => (4, "[WARNING]"),
        "error" => (3, "[ERROR]"),
        _ => return None,
    };
    Some((severity, format!("{mark} {text}")))
}

/// The number of the primary workspace's facility; looked up at the first line.
fn facility() -> u8 {
    static NUMBER: OnceLock<u8> = OnceLock::new();
    *NUMBER.get_or_init(|| {
        let path = Layout::new("/").etc().join("conf/omsadmin.conf");
        let saved = OmsAdmin::load(&path).ok().flatten();
        let word = saved.map(|conf| conf.log_facility).unwrap_or_default();
        let known = word.parse::<Facility>().ok();
        let known = known.or_else(|| LOG_FACILITY.parse().ok());
        known.map_or(16, Facility::number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_was_typed_is_secret() {
        let of = |line: &str| -> Vec<String> {
            let words = line.split(' ').map(str::to_owned);
            typed(words).iter().map(|s| s.expose().to_owned()).collect()
        };
        assert_eq!(of("x -w id -s one -s two -d dom"), ["one", "two"]);
        assert_eq!(of("x -vs one -p u:p@h:1 -v"), ["one", "u:p@h:1"]);
        assert_eq!(of("x -sbm90IGEgcmVhbA== -l"), ["bm90IGEgcmVhbA=="]);
        assert_eq!(of("x --shared one -p -l"), ["one"]);
        assert_eq!(of("x -s -").len(), 0);
    }

    #[test]
    fn only_the_three_kinds_are_copied() {
        let of = |line: &str| as_message(line);
        assert_eq!(of("info\tfine"), Some((6, "[INFO] fine".into())));
        assert_eq!(of("warning\tw\tx"), Some((4, "[WARNING] w\tx".into())));
        assert_eq!(of("error\te"), Some((3, "[ERROR] e".into())));
        for other in ["Shared key:    bm90****", "", "plain", "Error\tx", "\tx"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
