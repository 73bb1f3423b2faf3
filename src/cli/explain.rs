//! `--explain CODE`: what an exit code of the bundle, or the named cause of a failed onboarding,
//! means and what to do. The tables of `docs/exit-codes.md` are the data: page and program cannot
//! disagree.

const PAGE: &str = include_str!("../../docs/exit-codes.md");
/// The heading above the bundle's table.
const HEADING: &str = "## The bundle";

/// One exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// The code.
    pub code: u8,
    /// What it means.
    pub meaning: String,
    /// What to do.
    pub advice: String,
}

/// Every exit code of the bundle.
pub fn all() -> impl Iterator<Item = Meaning> {
    let section = PAGE.split(HEADING).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(plain);
        Some(Meaning {
            code: cells.next()?.parse().ok()?,
            meaning: cells.next()?,
            advice: cells.next()?,
        })
    })
}

/// A cell without Markdown's marks.
fn plain(cell: &str) -> String {
    cell.replace(['`', '*'], "").trim().to_owned()
}

/// The heading above the table of causes.
const CAUSES: &str = "## Why an onboarding failed";

/// A named cause: name, exit code, meaning and advice.
fn cause(name: &str) -> Option<String> {
    let section = PAGE.split(CAUSES).nth(1)?.split("\n## ").next()?;
    section.lines().find_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(plain);
        if cells.next()? != name {
            return None;
        }
        let (code, meaning, advice) = (cells.next()?, cells.next()?, cells.next()?);
        Some(format!(
            "{name}: {meaning} (exit code {code})\nWhat to do: {advice}"
        ))
    })
}

/// The text for a person; `Err` with what to say when the code is not one of the bundle's.
pub fn text(word: &str) -> Result<String, String> {
    let code = word.parse::<u8>().ok();
    if let Some(found) = all().find(|m| Some(m.code) == code) {
        let advice = match found.advice.as_str() {
            "" => String::new(),
            advice => format!("\nWhat to do: {advice}"),
        };
        return Ok(format!("{}: {}{advice}", found.code, found.meaning));
    }
    if let Some(text) = cause(word.trim_matches(['[', ']'])) {
        return Ok(text);
    }
    let known: Vec<String> = all().map(|m| m.code.to_string()).collect();
    Err(format!(
        "'{}' is no exit code of the bundle; it has {}",
        crate::base::secret::shown_word(word),
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::deploy::DeployError;

    #[test]
    fn the_page_has_every_code_once_with_advice() {
        let codes: Vec<u8> = all().map(|m| m.code).collect();
        let mut once = codes.clone();
        once.dedup();
        assert!(codes.is_sorted() && codes == once && codes.len() >= 12);
        for meaning in all() {
            assert!(!meaning.meaning.is_empty(), "{meaning:?}");
            assert!(
                meaning.code == 0 || !meaning.advice.is_empty(),
                "{meaning:?}"
            );
        }
    }

    /// What [`crate::cli::signals`] ends with.
    fn signal_codes() -> [i32; 3] {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        [SIGHUP, SIGINT, SIGTERM].map(|signal| 128 + signal)
    }

    #[test]
    fn what_the_program_can_end_with_is_on_the_page() {
        let why = || anyhow::anyhow!("x");
        for error in [
            DeployError::NoPackageManager("any".into()),
            DeployError::AlreadyInstalled,
            DeployError::Package(why()),
            DeployError::Internal(why()),
            DeployError::WrongKind { kit: "", host: "" },
        ] {
            assert!(text(&error.exit_code().to_string()).is_ok(), "{error}");
        }
        let own = [crate::cli::bundle::CHANGED, crate::cli::bundle::DECLINED];
        for code in own
            .into_iter()
            .chain([0, 2, 3, 4, 5, 6, 7, 8, 18, 19, 20, 21, 22, 52])
        {
            assert!(text(&code.to_string()).is_ok(), "{code}");
        }
        // Those that callers know of the original, and of a shell.
        for code in [55, 60, 61, 62, 63, 64, 65] {
            let told = text(&code.to_string()).unwrap();
            assert!(told.contains("never given here"), "{told}");
        }
        for signal in signal_codes() {
            let told = text(&signal.to_string()).unwrap();
            assert!(told.contains("signal"), "{told}");
        }
        assert!(text("5").unwrap().contains("What to do: "));
        for named in ["proxy-auth", "[proxy-auth]"] {
            let told = text(named).unwrap();
            assert!(
                told.contains("(exit code 4)") && told.contains("-p user"),
                "{told}"
            );
        }
        for wrong in ["99", "", "x", "-1", "256"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }
}
