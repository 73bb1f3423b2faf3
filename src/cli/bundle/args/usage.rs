//! What `--help` says, as a table.

use crate::cli::grammar::{Grammar, Section};

/// The bundle's command line (bundle.md 1.2, and what is ours).
pub const GRAMMAR: Grammar = Grammar {
    name: "omsagent-bundle",
    about: "The self-extracting bundle",
    synopsis: &["sh ./omsagent-VERSION.universal.ARCH.sh MODE [OPTIONS]"],
    sections: &[
        Section {
            title: "Modes (one of them)",
            rows: &[
                ("--install", "Install the packages"),
                ("--upgrade", "Install or upgrade the packages"),
                (
                    "--remove",
                    "Remove the packages; workspace settings and keys stay",
                ),
                ("--purge", "Remove the packages and every file of theirs"),
                (
                    "--extract",
                    "Write the packages to ./omsbundle.<pid>/ and stop",
                ),
                ("--version-check", "Show installed and bundled versions"),
                ("--version", "Show the version of this bundle"),
                (
                    "--source-references",
                    "Show from which commits this bundle was made",
                ),
                ("-h, --help, -?", "Show this text"),
            ],
        },
        Section {
            title: "Onboarding (with --install or --upgrade)",
            rows: &[
                ("-w, --id ID", "Workspace id"),
                (
                    "-s, --shared KEY",
                    "Shared key of the workspace; `-` reads it from standard input",
                ),
                (
                    "--shared-key-file FILE",
                    "Read the shared key from a file, so that `ps` does not show it; the environment variable OMSAGENT_SHARED_KEY serves as well",
                ),
                (
                    "-d, --domain DOMAIN",
                    "Domain of the service (default opinsights.azure.com)",
                ),
                (
                    "-p, --proxy CONF",
                    "Proxy: [protocol://][user:password@]host[:port]",
                ),
                ("-a, --azure-resource ID", "Azure resource id of this host"),
                (
                    "-m, --multi-homing-marker TEXT",
                    "Onboard as a secondary workspace",
                ),
                (
                    "--ca-file FILE",
                    "Trust the CA certificates in this PEM file too (environment variable OMSAGENT_CA_FILE)",
                ),
            ],
        },
        Section {
            title: "Other options",
            rows: &[
                (
                    "--force",
                    "Install even when the installed version is the same or newer, or space seems short; replace or remove an omi or scx that others use",
                ),
                ("--dry-run", "Show what would be done, change nothing"),
                (
                    "--lock-timeout SECONDS",
                    "Wait so long for another omsagent command and for dpkg, apt, rpm, dnf or zypper to end (default 120; environment variable OMSAGENT_LOCK_TIMEOUT)",
                ),
                (
                    "--portable",
                    "Lay the files down without dpkg or rpm, listed in a receipt (done without being asked where there is neither)",
                ),
                (
                    "--root DIR",
                    "Work on the image in this folder: nothing is started, and what -w and -s say is onboarded at its first boot",
                ),
                ("--noDigest", "Do not let rpm check package digests"),
                (
                    "--enable-opsmgr",
                    "Let Operations Manager reach this host (port 1270)",
                ),
                (
                    "--skip-docker-provider-install",
                    "Leave out the kit `docker`",
                ),
                ("--restart-deps", "Passed on to the kits"),
                (
                    "--extract-script FILE",
                    "Write the shell text at the beginning of this file to FILE",
                ),
                (
                    "--extract-binary FILE",
                    "Write everything behind it to FILE",
                ),
                ("--debug", "Say on standard error what is run from where"),
            ],
        },
        Section {
            title: "For programs and for people",
            rows: &[
                (
                    "--json",
                    "One JSON object on standard output, everything else on standard error",
                ),
                (
                    "--detailed-exitcode",
                    "100 instead of 0 when the host was changed",
                ),
                (
                    "--answers FILE",
                    "Take options from a TOML file, per host if need be",
                ),
                ("--log FILE", "Write every line to this file, too"),
                (
                    "--progress auto|always|never",
                    "Show how far the run is (auto: on a terminal)",
                ),
                (
                    "--interactive",
                    "Ask for what is missing, show the plan, ask whether to go on",
                ),
                (
                    "--yes",
                    "Do not ask (--purge asks on a terminal, never in a script)",
                ),
                ("--explain CODE", "What an exit code means and what to do"),
            ],
        },
    ],
};

/// The help text; on standard error, as the original's.
pub fn usage(argv0: &str) -> String {
    format!(
        "usage: {argv0} MODE [OPTIONS]

{}

Examples:
  sudo sh {argv0} --upgrade -w ID -s KEY
  sudo sh {argv0} --upgrade -w ID --shared-key-file /root/key -d example.org --ca-file ca.pem
  sudo sh {argv0} --purge",
        GRAMMAR.table()
    )
}
