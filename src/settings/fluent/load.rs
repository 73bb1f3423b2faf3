//! From a file and what it includes to a [`Document`].

use super::{Document, FILE_LIMIT, Included, Includes, parse};
use crate::base::files;
use anyhow::{Context, Result};
use std::path::{Component, Path, PathBuf};

/// Folder entries looked at for one `@include`.
const ENTRY_LIMIT: usize = 10_000;

/// Reads `path` and every file it includes (globs are relative to the including file's folder).
pub fn load(path: &Path) -> Result<Document> {
    let text = files::read_text(path, FILE_LIMIT)?
        .with_context(|| format!("cannot read `{}`: no such file", path.display()))?;
    Ok(parse(&path.to_string_lossy(), &text, &mut Disk)?)
}

struct Disk;

impl Includes for Disk {
    fn find(&mut self, file: &str, glob: &str) -> Result<Vec<Included>, String> {
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let wild = glob.contains(['*', '?', '[', '{']);
        let paths = if wild {
            matches(folder, glob)?
        } else {
            vec![folder.join(glob)]
        };
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            match files::read_text(&path, FILE_LIMIT) {
                Ok(Some(text)) => found.push(Included {
                    name: path.to_string_lossy().into_owned(),
                    text,
                }),
                Ok(None) if wild => {} // gone since we looked, or a link to nowhere
                Ok(None) => {
                    return Err(format!("included file `{}` does not exist", path.display()));
                }
                Err(e) => return Err(format!("{e:#}")),
            }
        }
        Ok(found)
    }
}

/// The regular files below `folder` (or the root, for an absolute glob) that match, in name order.
fn matches(folder: &Path, glob: &str) -> Result<Vec<PathBuf>, String> {
    let glob = Path::new(glob);
    let mut found = vec![if glob.is_absolute() {
        PathBuf::from("/")
    } else {
        folder.to_owned()
    }];
    for part in glob.components() {
        let pattern = match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            Component::ParentDir => "..".into(),
            Component::Normal(name) => name.to_string_lossy(),
        };
        if !pattern.contains(['*', '?', '[', '{']) {
            found.iter_mut().for_each(|p| p.push(pattern.as_ref()));
            continue;
        }
        let mut next = Vec::new();
        let mut seen = 0;
        for dir in found {
            let Ok(entries) = std::fs::read_dir(&dir) else {
                continue; // no match for a glob is no error
            };
            for entry in entries.flatten() {
                seen += 1;
                if seen > ENTRY_LIMIT {
                    return Err(format!(
                        "more than {ENTRY_LIMIT} files in the included folders"
                    ));
                }
                let name = entry.file_name();
                let name = name.to_string_lossy();
                // As a shell: a hidden file only when asked for.
                if (!name.starts_with('.') || pattern.starts_with('.'))
                    && fits(pattern.as_bytes(), name.as_bytes(), &mut 100_000)
                {
                    next.push(entry.path());
                }
            }
        }
        next.sort_unstable();
        found = next;
    }
    found.retain(|p| p.is_file());
    found.sort_unstable();
    Ok(found)
}

/// Does `name` fit a shell pattern of `*`, `?`, `[a-z]`, `{a,b}`? `steps` bounds the work.
fn fits(pattern: &[u8], name: &[u8], steps: &mut u32) -> bool {
    if *steps == 0 {
        return false;
    }
    *steps -= 1;
    let Some((&first, rest)) = pattern.split_first() else {
        return name.is_empty();
    };
    match first {
        b'*' => (0..=name.len()).any(|i| fits(rest, &name[i..], steps)),
        b'?' => !name.is_empty() && fits(rest, &name[1..], steps),
        b'[' => {
            let Some(end) = rest.iter().skip(1).position(|&b| b == b']').map(|i| i + 1) else {
                return literal(first, rest, name, steps);
            };
            let (set, after) = (&rest[..end], &rest[end + 1..]);
            let (negated, set) = match set.first() {
                Some(b'!' | b'^') => (true, &set[1..]),
                _ => (false, set),
            };
            !name.is_empty() && in_set(set, name[0]) != negated && fits(after, &name[1..], steps)
        }
        b'{' => {
            let Some(end) = rest.iter().position(|&b| b == b'}') else {
                return literal(first, rest, name, steps);
            };
            let after = &rest[end + 1..];
            rest[..end].split(|&b| b == b',').any(|choice| {
                let whole: Vec<u8> = [choice, after].concat();
                fits(&whole, name, steps)
            })
        }
        _ => literal(first, rest, name, steps),
    }
}

fn literal(first: u8, rest: &[u8], name: &[u8], steps: &mut u32) -> bool {
    name.first() == Some(&first) && fits(rest, &name[1..], steps)
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let mut i = 0;
    while i < set.len() {
        if i + 2 < set.len() && set[i + 1] == b'-' {
            if (set[i]..=set[i + 2]).contains(&byte) {
                return true;
            }
            i += 3;
        } else {
            if set[i] == byte {
                return true;
            }
            i += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_patterns() {
        for (pattern, name, wanted) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[!a-c]x", "dx", true),
            ("{syslog,heartbeat}.conf", "heartbeat.conf", true),
            ("{syslog,heartbeat}.conf", "monitor.conf", false),
            ("[x", "[x", true),
            (
                "*****************a",
                "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                false,
            ),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), name.as_bytes(), &mut 100_000),
                wanted,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn fragments_come_first_and_in_name_order() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().join("omsagent.d");
        std::fs::create_dir(&d).unwrap();
        std::fs::write(d.join("b.conf"), "<source>\n type b\n</source>\n").unwrap();
        std::fs::write(d.join("a.conf"), "<source>\n type a\n</source>\n").unwrap();
        std::fs::write(d.join("c.conf.bak"), "broken <").unwrap();
        std::fs::write(d.join(".hidden.conf"), "broken <").unwrap();
        std::fs::create_dir(d.join("folder.conf")).unwrap();
        let main = dir.path().join("omsagent.conf");
        std::fs::write(
            &main,
            "@include omsagent.d/*.conf\n<match **>\n type m\n</match>\n",
        )
        .unwrap();
        let doc = load(&main).unwrap();
        let kinds: Vec<_> = doc
            .elements
            .iter()
            .map(|e| e.kind().unwrap().value.as_str())
            .collect();
        assert_eq!(kinds, ["a", "b", "m"]);
        assert!(doc.elements[0].place.file.ends_with("omsagent.d/a.conf"));
    }

    #[test]
    fn a_file_that_includes_itself_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("omsagent.conf");
        std::fs::write(&main, "# loop\n@include omsagent.conf\n").unwrap();
        let error = load(&main).unwrap_err().to_string();
        assert!(
            error.contains("omsagent.conf:2: includes are nested"),
            "{error}"
        );
    }

    #[test]
    fn a_plain_name_must_exist_a_glob_need_not() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("omsagent.conf");
        std::fs::write(&main, "@include none/*.conf\n").unwrap();
        assert!(load(&main).unwrap().elements.is_empty());
        std::fs::write(&main, "@include none.conf\n").unwrap();
        let error = load(&main).unwrap_err().to_string();
        assert!(
            error.contains("omsagent.conf:1:") && error.contains("none.conf"),
            "{error}"
        );
    }

    #[test]
    fn an_oversized_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("omsagent.conf");
        std::fs::write(&main, vec![b'\n'; FILE_LIMIT]).unwrap();
        assert!(load(&main).is_ok());
        std::fs::write(&main, vec![b'\n'; FILE_LIMIT + 1]).unwrap();
        assert!(load(&main).is_err());
    }
}
