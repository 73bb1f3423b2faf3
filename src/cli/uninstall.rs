//! `OPT/bin/uninstall`: `R` removes, `P` purges (bundle.md 1.9).

use crate::cli::grammar::{Grammar, Section};
use crate::cli::report::Console;
use crate::cli::signals;
use crate::err;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::install::companions;
use crate::install::departure;
use crate::install::recovery::{self, Purpose};
use crate::install::withdraw::Depth;
use std::ffi::OsString;

/// Its command line as a table (bundle.md 1.9).
pub const GRAMMAR: Grammar = Grammar {
    name: "uninstall",
    about: "Remove or purge the package",
    synopsis: &["uninstall [R|P]"],
    sections: &[Section {
        title: "Words",
        rows: &[
            (
                "R",
                "Remove the package; workspace settings and keys stay; so it is without a word",
            ),
            ("P", "Remove the package and every file of its"),
        ],
    }],
};

/// Runs uninstall with the words after its name; `R` when there is none.
pub fn run(words: &[OsString]) -> u8 {
    let word = words.first().map(|w| w.to_string_lossy().into_owned());
    let depth = match word.as_deref() {
        None | Some("R") => Depth::Remove,
        Some("P") => Depth::Purge,
        Some(other) => {
            err!("Invalid option specified: \"{other}\"; Valid modes: R (remove), P (purge)");
            return 1;
        }
    };
    if !nix::unistd::geteuid().is_root() {
        err!("Must have root privileges to be able to perform uninstall operation");
        return 5;
    }
    let host = Host::detect(Layout::new("/"));
    let done = recovery::enter(&host, Purpose::Remove, &mut Console).and_then(|_lock| {
        signals::interrupt_plans();
        departure::withdraw_all(&host, depth, false, &mut Console)
    });
    match done {
        Ok(()) => 0,
        Err(e) => {
            err!("error\t{e:#}");
            companions::code_of(&e).unwrap_or(17)
        }
    }
}
