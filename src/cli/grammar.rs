//! Command lines that clap does not read, as tables: what `--help` shows, the manual pages and the
//! completions are made from the same rows.

/// Width of a help text.
const WIDTH: usize = 98;
/// Where the texts of rows begin.
const INDENT: usize = 29;

/// What one tool takes.
#[derive(Debug)]
pub struct Grammar {
    /// The name people call it by.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// How it is called, a line each; the tool's name stands at the beginning.
    pub synopsis: &'static [&'static str],
    /// Its words.
    pub sections: &'static [Section],
}

/// Words that belong together.
#[derive(Debug)]
pub struct Section {
    /// Stands above them.
    pub title: &'static str,
    /// `-w, --id ID` or `start [WORKSPACE]`, and what it does. A `|` parts words to choose from,
    /// `, ` spellings of the same thing.
    pub rows: &'static [(&'static str, &'static str)],
}

/// A row's words, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Every spelling: `-w` and `--id`, or `reload`.
    pub spellings: Vec<&'static str>,
    /// What has to follow, or may, without brackets: `ID`.
    pub values: Vec<&'static str>,
}

impl Words {
    /// Takes the left part of a row apart.
    pub fn of(row: &'static str) -> Words {
        let mut words = Words {
            spellings: Vec::new(),
            values: Vec::new(),
        };
        let mut more = true;
        for word in row.split_whitespace() {
            if more {
                more = word.ends_with(',');
                words.spellings.push(word.trim_end_matches(','));
            } else {
                words.values.push(word.trim_matches(['[', ']']));
            }
        }
        words
    }

    /// Is it an option?
    pub fn is_option(&self) -> bool {
        self.spellings.iter().all(|word| word.starts_with('-'))
    }
}

impl Grammar {
    /// Every row.
    pub fn rows(&self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        self.sections.iter().flat_map(|section| section.rows)
    }

    /// The synopsis as `usage:` lines.
    pub fn usage(&self) -> String {
        let lines = self.synopsis.iter().enumerate().map(|(at, line)| match at {
            0 => format!("usage: {line}"),
            _ => format!("       {line}"),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The sections as a person reads them.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for section in self.sections {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(section.title);
            text.push_str(":\n");
            for (words, meaning) in section.rows {
                text.push_str(&row(words, meaning));
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn row(words: &str, meaning: &str) -> String {
    // Long options stand below each other, whether or not there is a short one.
    let aligned = match words.starts_with("--") {
        true => format!("      {words}"),
        false => format!("  {words}"),
    };
    let mut text = aligned;
    let mut at = text.len();
    if at + 2 > INDENT {
        text.push('\n');
        at = 0;
    }
    for word in meaning.split_whitespace() {
        if at > INDENT && at + 1 + word.len() > WIDTH {
            text.push('\n');
            at = 0;
        }
        let blanks = match at {
            at if at < INDENT => INDENT - at,
            _ => 1,
        };
        text.push_str(&" ".repeat(blanks));
        text.push_str(word);
        at += blanks + word.len();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_taken_apart() {
        let words = Words::of("-m, --multi-homing-marker TEXT");
        assert_eq!(words.spellings, ["-m", "--multi-homing-marker"]);
        assert_eq!(words.values, ["TEXT"]);
        assert!(words.is_option());
        let words = Words::of("restart, reload [WORKSPACE]");
        assert_eq!(words.spellings, ["restart", "reload"]);
        assert_eq!(words.values, ["WORKSPACE"]);
        assert!(!words.is_option());
        assert!(Words::of("--yes").values.is_empty());
    }

    #[test]
    fn texts_are_wrapped_and_stand_in_one_column() {
        let long = "word ".repeat(40);
        for words in ["-x", "--long", "--a-very-long-option-with VALUE", "start"] {
            let text = row(words, &long);
            assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
            assert!(
                text.lines()
                    .skip(1)
                    .all(|line| line.find("word") == Some(INDENT)),
                "{text}"
            );
            assert_eq!(text.matches("word").count(), 40);
        }
    }
}
