//! roff, as much of it as manual pages need: man(7), understood by groff and by mandoc.

/// A page in the making.
#[derive(Debug)]
pub struct Page {
    text: String,
}

impl Page {
    /// `name` is `omsagent.1`; `date` is `2026-11-20`.
    pub fn new(name: &str, date: &str, version: &str) -> Page {
        let (title, section) = name.rsplit_once('.').unwrap_or((name, "1"));
        Page {
            text: format!(
                ".TH {} {section} {date} \"omsagent {version}\" \"omsagent\"\n.nh\n.ad l\n",
                escaped(title)
            ),
        }
    }

    /// The whole of it.
    pub fn finish(self) -> String {
        self.text
    }

    /// A heading.
    pub fn section(&mut self, title: &str) {
        self.line(&format!(".SH {}", quoted(&title.to_uppercase())));
    }

    /// A heading below it.
    pub fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS {}", quoted(title)));
    }

    /// A paragraph; Markdown's marks within are understood.
    pub fn paragraph(&mut self, markdown: &str) {
        self.macro_line(".PP");
        self.words(markdown);
    }

    /// Text behind what stands there.
    pub fn words(&mut self, markdown: &str) {
        self.line(&guarded(&inline(markdown)));
    }

    /// Something and what it means; both with Markdown's marks.
    pub fn term(&mut self, tag: &str, meaning: &str) {
        self.macro_line(".TP");
        self.words(tag);
        match meaning {
            "" => self.line("\\&"),
            meaning => self.words(meaning),
        }
    }

    /// A point of a list.
    pub fn point(&mut self, markdown: &str) {
        self.macro_line(".IP \\(bu 2");
        self.words(markdown);
    }

    /// Lines as they are.
    pub fn verbatim(&mut self, lines: &[&str]) {
        self.macro_line(".PP");
        self.text.push_str(".RS 4\n.nf\n");
        for line in lines {
            self.line(&guarded(&escaped(line)));
        }
        self.text.push_str(".fi\n.RE\n");
    }

    /// A paragraph macro right behind a heading does nothing, and mandoc says so.
    fn macro_line(&mut self, line: &str) {
        let last = self.text.lines().last().unwrap_or_default();
        let after_heading = last.starts_with(".SH") || last.starts_with(".SS");
        if line != ".PP" || !after_heading {
            self.line(line);
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// Text without meaning to roff.
pub fn escaped(text: &str) -> String {
    let mut done = String::new();
    for c in text.chars() {
        match c {
            '\\' => done.push_str("\\e"),
            // A minus sign that can be copied to a shell.
            '-' => done.push_str("\\-"),
            '\'' => done.push_str("\\(aq"),
            '`' => done.push_str("\\(ga"),
            '^' => done.push_str("\\(ha"),
            '~' => done.push_str("\\(ti"),
            c if c.is_ascii() => done.push(c),
            c => done.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    done
}

/// Prose: hyphens stay hyphens.
fn prose(text: &str) -> String {
    escaped(text).replace("\\-", "-").replace("\\(aq", "'")
}

/// One argument of a macro.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text).replace('"', "\\(dq"))
}

/// A line that begins with a point or an apostrophe would be a macro.
fn guarded(line: &str) -> String {
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    }
}

/// `` `code` `` and `**strong**` bold, `*this*` underlined, `[text](address)` its text.
pub fn inline(markdown: &str) -> String {
    let mut done = String::new();
    let mut rest = markdown;
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, from) = rest.split_at(at);
        done.push_str(&prose(before));
        let taken = spanned(from, "`", "`")
            .map(|(inner, rest)| (format!("\\fB{}\\fR", escaped(inner)), rest))
            .or_else(|| {
                let (inner, rest) = spanned(from, "**", "**")?;
                Some((format!("\\fB{}\\fR", prose(inner)), rest))
            })
            .or_else(|| {
                let (inner, rest) = spanned(from, "*", "*")?;
                (!inner.starts_with(' ')).then(|| (format!("\\fI{}\\fR", prose(inner)), rest))
            })
            .or_else(|| {
                let (inner, rest) = spanned(from, "[", "](")?;
                let (_, rest) = rest.split_once(')')?;
                (!inner.contains(']')).then(|| (inline(inner), rest))
            });
        match taken {
            Some((text, after)) => {
                done.push_str(&text);
                rest = after;
            }
            None => {
                done.push_str(&prose(&from[..1]));
                rest = &from[1..];
            }
        }
    }
    done + &prose(rest)
}

fn spanned<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let inner = text.strip_prefix(open)?;
    let (inner, rest) = inner.split_once(close)?;
    (!inner.is_empty()).then_some((inner, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_fonts_and_nothing_is_a_macro_by_chance() {
        for (markdown, roff) in [
            ("plain-text", "plain-text"),
            ("`--id`", "\\fB\\-\\-id\\fR"),
            ("a **b** *c* d", "a \\fBb\\fR \\fIc\\fR d"),
            ("2 * 3 * 4 [x]", "2 * 3 * 4 [x]"),
            ("see [the `page`](x.md).", "see the \\fBpage\\fR."),
            ("C:\\n", "C:\\en"),
            ("15m × 10 …", "15m \\[u00D7] 10 \\[u2026]"),
            ("an ` alone", "an \\(ga alone"),
            ("it's", "it's"),
        ] {
            assert_eq!(inline(markdown), roff, "{markdown}");
        }
        let mut page = Page::new("omsagent.conf.5", "2026-11-20", "2.0.0");
        page.section("files");
        page.paragraph(".conf");
        page.paragraph("'tis");
        page.verbatim(&["  .x", "'y"]);
        assert_eq!(
            page.finish(),
            ".TH omsagent.conf 5 2026-11-20 \"omsagent 2.0.0\" \"omsagent\"\n.nh\n.ad l\n.SH \"FILES\"\n\
             \\&.conf\n.PP\n\\&'tis\n.PP\n.RS 4\n.nf\n  .x\n\\(aqy\n.fi\n.RE\n"
        );
    }
}
