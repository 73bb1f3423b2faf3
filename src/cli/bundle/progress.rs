//! `--progress`: one line at the foot of a terminal, written over and over, on standard error;
//! gone before anything else is shown. No colours, so `NO_COLOR` has nothing to switch off.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// When the line is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// On a terminal that can move its cursor.
    #[default]
    Auto,
    /// Also when standard error is a file or a pipe.
    Always,
    /// Not.
    Never,
}

impl When {
    /// The value of `--progress`.
    pub fn parse(word: &str) -> Option<When> {
        match word {
            "auto" => Some(When::Auto),
            "always" => Some(When::Always),
            "never" => Some(When::Never),
            _ => None,
        }
    }

    fn shown(self) -> bool {
        match self {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                std::io::stderr().is_terminal()
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// Cells of the bar itself.
const CELLS: u64 = 20;
/// Columns of the whole line: a line that wraps cannot be written over.
const COLUMNS: usize = 79;
/// No more often than this.
const PAUSE: Duration = Duration::from_millis(60);

/// The line. The default one is never shown.
#[derive(Default)]
pub struct Bar {
    shown: bool,
    drawn: bool,
    last: Option<Instant>,
    label: String,
}

impl Bar {
    /// A line that is shown when `when` says so.
    pub fn new(when: When) -> Bar {
        Bar {
            shown: when.shown(),
            ..Bar::default()
        }
    }

    /// `done` of `all`; `what` is being done now.
    pub fn at(&mut self, done: u64, all: u64, what: &str) {
        if !self.shown {
            return;
        }
        let soon = self.last.is_some_and(|t| t.elapsed() < PAUSE);
        if soon && self.label == what && done < all {
            return;
        }
        self.last = Some(Instant::now());
        self.label = what.to_owned();
        let _ = write!(
            std::io::stderr().lock(),
            "\r{}\x1b[K",
            line(done, all, what)
        );
        self.drawn = true;
    }

    /// Takes the line away until it is drawn again.
    pub fn clear(&mut self) {
        if self.drawn {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
            self.drawn = false;
        }
    }
}

fn line(done: u64, all: u64, what: &str) -> String {
    let share = |of: u64| (u128::from(done) * u128::from(of) / u128::from(all.max(1))) as u64;
    let full = share(CELLS).min(CELLS);
    let bar = "#".repeat(full as usize) + &"-".repeat((CELLS - full) as usize);
    let text = format!("[{bar}] {:>3}% {what}", share(100).min(100));
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(COLUMNS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_never_wraps_and_never_overflows() {
        assert_eq!(line(0, 0, "x"), "[--------------------]   0% x");
        assert_eq!(line(5, 10, "x"), "[##########----------]  50% x");
        assert_eq!(line(u64::MAX, 1, "x"), "[####################] 100% x");
        assert_eq!(line(1, 2, &"ü".repeat(200)).chars().count(), COLUMNS);
        assert!(!line(1, 2, "a\nb\u{1b}[2J").contains(['\n', '\u{1b}']));
    }

    #[test]
    fn words() {
        assert_eq!(When::parse("always"), Some(When::Always));
        assert_eq!(When::parse("Always"), None);
        assert!(!When::Never.shown() && When::Always.shown());
    }
}
