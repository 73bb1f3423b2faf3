//! omiserver.conf as far as it concerns us: is a port in `httpsport`, and the same file with it
//! (omi-scx.md 1.2, 1.3, 1.7). Every other byte stays.

use std::ops::Range;

/// Largest omiserver.conf that is read.
pub const LIMIT: usize = 1 << 20;
/// Where Operations Manager calls.
pub const PORT: u16 = 1270;
/// Opened when no line says otherwise.
const DEFAULT: u16 = 5986;
const KEY: &str = "httpsport";

/// Is the port open by this file? A key that is absent or commented out is the default, which is
/// another port.
pub fn is_open(text: &str, port: u16) -> bool {
    last_value(text).is_some_and(|value| ports(&text[value]).any(|p| p == port))
}

/// The file with the port added to `httpsport`: to the last such line, which is the one that
/// counts; without one, to the default that was open until now.
pub fn with_port(text: &str, port: u16) -> String {
    if is_open(text, port) {
        return text.to_owned();
    }
    let Some(value) = last_value(text) else {
        let end = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        return format!("{text}{end}{KEY}={DEFAULT},{port}\n");
    };
    let list = match &text[value.clone()] {
        "" => port.to_string(),
        list => format!("{list},{port}"),
    };
    format!("{}{list}{}", &text[..value.start], &text[value.end..])
}

fn ports(list: &str) -> impl Iterator<Item = u16> + '_ {
    list.split(',').filter_map(|item| item.trim().parse().ok())
}

/// Where the value of the last `httpsport` is, without the blanks around it.
fn last_value(text: &str) -> Option<Range<usize>> {
    let mut start = 0;
    let mut last = None;
    for line in text.split_inclusive('\n') {
        // Only a `#` in the first column makes a comment.
        let rest = line.trim_start().strip_prefix(KEY).map(str::trim_start);
        if let Some(value) = rest.and_then(|rest| rest.strip_prefix('='))
            && !line.starts_with('#')
        {
            let blanks = value.len() - value.trim_start_matches([' ', '\t']).len();
            let from = start + line.len() - value.len() + blanks;
            last = Some(from..from + value.trim().len());
        }
        start += line.len();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_asked_for_and_added_to_the_line_that_counts() {
        for (before, open, after) in [
            ("httpsport=0\n", false, "httpsport=0,1270\n"),
            ("httpsport=1270\n", true, "httpsport=1270\n"),
            (
                "httpsport = 5986, 1270\r\nx=1\r\n",
                true,
                "httpsport = 5986, 1270\r\nx=1\r\n",
            ),
            ("httpsport=\nx=1\n", false, "httpsport=1270\nx=1\n"),
            (
                "httpsport=0\r\nx=1\r\n",
                false,
                "httpsport=0,1270\r\nx=1\r\n",
            ),
            (
                "httpsport=1270\nhttpsport=0 \n",
                false,
                "httpsport=1270\nhttpsport=0,1270 \n",
            ),
            (
                "httpsport=11270,12700\n",
                false,
                "httpsport=11270,12700,1270\n",
            ),
            (
                "#httpsport=1270\nhttpport=1270",
                false,
                "#httpsport=1270\nhttpport=1270\nhttpsport=5986,1270\n",
            ),
            ("", false, "httpsport=5986,1270\n"),
        ] {
            assert_eq!(is_open(before, PORT), open, "{before:?}");
            assert_eq!(with_port(before, PORT), after, "{before:?}");
            assert!(is_open(&with_port(before, PORT), PORT), "{before:?}");
        }
    }
}
