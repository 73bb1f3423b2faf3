//! Floor 4: what somebody who helps from afar wants to see of a host, without its secrets
//! (docs/support-bundle.md). Nothing goes over the network; what cannot be had is a line in the list
//! of contents, never a failure.

mod archive;
mod facts;
mod files;
mod redact;
mod walk;

pub use archive::{Written, file_name, write};
pub use redact::is_secret_name;

use crate::base::ids::WorkspaceName;
use crate::host::Host;
use crate::workspace;
use redact::{Anonymous, Counts, Redactor};

/// Most bytes of all texts together.
const WHOLE: usize = 20 << 20;
/// Most bytes of one text.
const ONE: usize = 1 << 20;

/// What is wanted.
pub struct Wish {
    /// Only what concerns this workspace, and the host.
    pub workspace: Option<WorkspaceName>,
    /// Host names and addresses are replaced.
    pub anonymous: bool,
}

/// A text that goes in.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the archive.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// The text.
    pub text: String,
    /// What the reader should know.
    pub note: Option<String>,
    /// What was taken out of it.
    pub redacted: Counts,
}

/// Something that is not in it.
#[derive(Debug)]
pub struct Gap {
    /// What it would have been.
    pub source: String,
    /// Why.
    pub why: String,
}

/// Everything that goes in, without secrets.
#[derive(Debug)]
pub struct Contents {
    /// The texts.
    pub entries: Vec<Entry>,
    /// What is not there.
    pub gaps: Vec<Gap>,
    /// The host's name, or its mark.
    pub host: String,
}

/// Takes in texts as they are found.
#[derive(Default)]
struct Gathering {
    entries: Vec<Entry>,
    gaps: Vec<Gap>,
}

impl Gathering {
    fn add(&mut self, name: impl Into<String>, source: impl Into<String>, text: String) {
        self.add_noted(name, source, text, None);
    }

    fn add_noted(
        &mut self,
        name: impl Into<String>,
        source: impl Into<String>,
        text: String,
        note: Option<String>,
    ) {
        self.entries.push(Entry {
            name: name.into(),
            source: source.into(),
            text,
            note,
            redacted: Counts::new(),
        });
    }

    fn gap(&mut self, source: impl Into<String>, why: impl Into<String>) {
        self.gaps.push(Gap {
            source: source.into(),
            why: why.into(),
        });
    }
}

/// A text that somebody else made: (name, source, text or why there is none).
pub type Given = (&'static str, &'static str, Result<String, String>);

/// Looks at everything, and takes the secrets out.
pub fn collect(host: &Host, wish: &Wish, given: Vec<Given>) -> Contents {
    let mut redactor = Redactor::default();
    let mut all = Gathering::default();
    for (name, source, text) in given {
        match text {
            Ok(text) => all.add(name, source, text),
            Err(why) => all.gap(source, why),
        }
    }
    let workspaces = match &wish.workspace {
        Some(name) => vec![name.clone()],
        None => workspace::everything(&host.layout),
    };
    facts::learn_environment(&mut redactor);
    facts::gather(host, &workspaces, &mut redactor, &mut all);
    files::gather(host, wish.workspace.as_ref(), &mut redactor, &mut all);
    for entry in &all.entries {
        redactor.learn_from(&entry.text, false);
    }
    let anonymous = wish.anonymous.then(|| Anonymous::new(&facts::names(host)));
    clean(all, &redactor, anonymous.as_ref(), &host.os.hostname, WHOLE)
}

fn clean(
    all: Gathering,
    redactor: &Redactor,
    anonymous: Option<&Anonymous>,
    host: &str,
    mut room: usize,
) -> Contents {
    let plain = |text: &str| {
        let (text, counts) = redactor.redact(text);
        let text = anonymous.map_or_else(|| text.clone(), |a| a.apply(&text));
        (text, counts)
    };
    let mut gaps: Vec<Gap> = Vec::new();
    let mut entries = Vec::new();
    for mut entry in all.entries {
        (entry.name, _) = plain(&entry.name);
        (entry.source, _) = plain(&entry.source);
        let parsed = entry.name.ends_with(".json");
        let parsed = parsed
            .then(|| serde_json::from_slice(entry.text.as_bytes()).ok())
            .flatten();
        if let Some(mut value) = parsed {
            redactor.redact_json(&mut value, &mut entry.redacted);
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            entry.text = anonymous.map_or_else(|| text.clone(), |a| a.apply(&text));
        } else {
            (entry.text, entry.redacted) = plain(&entry.text);
        }
        cut(&mut entry);
        // The last word: whatever was overlooked stays out.
        let why = match () {
            () if redactor.holds(&entry.text) || redactor.holds(&entry.name) => {
                "a secret could not be taken out of it"
            }
            () if entry.text.len() > room => "the archive is full",
            () => {
                room -= entry.text.len();
                entries.push(entry);
                continue;
            }
        };
        gaps.push(Gap {
            source: entry.source,
            why: why.to_owned(),
        });
    }
    gaps.extend(all.gaps.into_iter().map(|gap| Gap {
        source: plain(&gap.source).0,
        why: plain(&gap.why).0,
    }));
    Contents {
        entries,
        gaps,
        host: anonymous.map_or_else(|| host.to_owned(), |a| a.host(host)),
    }
}

/// The end of a text says more than its beginning.
fn cut(entry: &mut Entry) {
    if entry.text.len() <= ONE {
        return;
    }
    let mut from = entry.text.len() - ONE;
    while !entry.text.is_char_boundary(from) {
        from += 1;
    }
    entry.text.drain(..from);
    let note = format!("the last {} KiB", ONE >> 10);
    entry.note = Some(note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sources_and_reasons_are_cleaned_too_and_there_is_an_end() {
        let mut redactor = Redactor::default();
        redactor.learn("Winter2031!");
        let mut all = Gathering::default();
        all.add(
            "files/Winter2031!",
            "/x/Winter2031!",
            "a Winter2031! b".into(),
        );
        all.gap("/y/Winter2031!", "cannot open Winter2031!");
        for n in 0..30 {
            all.add(format!("{n}"), "s", "x".repeat(99));
        }
        let contents = clean(all, &redactor, None, "h", 1000);
        let shown = format!("{contents:?}");
        assert!(!shown.contains("Winter2031"), "{shown}");
        let size: usize = contents.entries.iter().map(|e| e.text.len()).sum();
        assert!(size <= 1000 && size > 900);
        assert!(contents.gaps.iter().any(|g| g.why == "the archive is full"));
    }

    #[test]
    fn of_a_long_text_the_end_is_kept() {
        let mut all = Gathering::default();
        all.add(
            "n",
            "s",
            format!("{}é{}", "a".repeat(9), "b".repeat(ONE - 1)),
        );
        cut(&mut all.entries[0]);
        assert_eq!(all.entries[0].text.len(), ONE - 1);
        assert!(all.entries[0].note.as_deref() == Some("the last 1024 KiB"));
    }
}
