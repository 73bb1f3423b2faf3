//! From a file and what it includes to a [`Document`].

use super::{Document, FILE_LIMIT, Included, Includes, parse};
use crate::base::order;
use crate::base::{files, glob::fits};
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
        order::ascending(&mut next);
        found = next;
    }
    found.retain(|p| p.is_file());
    order::ascending(&mut found);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

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
