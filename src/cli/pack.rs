//! The door `omsagent pack`: packages and bundles, built and looked at.

use crate::base::files::{self, Look};
use crate::bundle::kit::{Condition, Group, KitRule};
use crate::bundle::{self, Bundle, Kind, Plan, Source};
use crate::out;
use crate::package::manifest::Manifest;
use crate::package::{self, Arch, Build, deb, rpm};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put runners and packages into one self-extracting bundle
    Build(BuildArgs),
    /// Write a .deb
    Deb(PackageArgs),
    /// List what a bundle holds
    Inspect(InspectArgs),
    /// Write an .rpm
    Rpm(PackageArgs),
    /// Check every byte of a bundle; exit code 1 when it is damaged
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
struct PackageArgs {
    /// What the package is and holds
    #[arg(long, value_name = "FILE", default_value = "bundle/omsagent.toml")]
    manifest: PathBuf,
    /// The program that is packed
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// The processor the program is for: x86_64 or aarch64
    #[arg(long, value_name = "NAME")]
    arch: Arch,
    /// Folder the package is written to
    #[arg(long, value_name = "FOLDER", default_value = "dist")]
    out: PathBuf,
    /// Version with revision
    #[arg(long, value_name = "VERSION", default_value_t = package::label())]
    version_label: String,
    /// Seconds since 1970 for every file and the package itself; else SOURCE_DATE_EPOCH
    #[arg(long, value_name = "SECONDS")]
    time: Option<u32>,
}

#[derive(Debug, clap::Args)]
struct BuildArgs {
    /// A program that does the bundle's work on one processor (repeatable)
    #[arg(long, value_name = "ARCH=FILE", required = true, value_parser = runner)]
    runner: Vec<(Arch, PathBuf)>,
    /// A .deb or .rpm (repeatable, or several at once)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    package: Vec<PathBuf>,
    /// A provider bundle for `oss-kits`, run after the packages (repeatable)
    #[arg(long, value_name = "NAME=FILE", value_parser = named)]
    kit: Vec<(String, PathBuf)>,
    /// The same for `bundles` (repeatable)
    #[arg(long, value_name = "NAME=FILE", value_parser = named)]
    bundled_kit: Vec<(String, PathBuf)>,
    /// A kit is run only where CONDITION holds: `command:NAME`, `path:FILE`, `socket:FILE`,
    /// `service:NAME` (repeatable)
    #[arg(long, value_name = "NAME=CONDITION", value_parser = condition)]
    kit_when: Vec<(String, Condition)>,
    /// A licence text (repeatable)
    #[arg(long, value_name = "FILE")]
    licence: Vec<PathBuf>,
    /// A list of what the programs were made of (repeatable)
    #[arg(long, value_name = "FILE")]
    sbom: Vec<PathBuf>,
    /// A line for `--source-references`, `REPOSITORY: COMMIT` (repeatable)
    #[arg(long, value_name = "TEXT")]
    source_reference: Vec<String>,
    /// Version with revision
    #[arg(long, value_name = "VERSION", default_value_t = package::label())]
    version_label: String,
    /// The bundle; a .sha256sums file is written beside it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// The bundle, a .deb or an .rpm
    file: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The bundle
    file: PathBuf,
}

/// Runs it; the number is the exit code.
pub fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Build(args) => build(args),
        Command::Deb(args) => package(&args, |manifest, build| {
            let bytes = deb::write(manifest, build, &args.binary)?;
            Ok((deb::file_name(manifest, build), bytes))
        }),
        Command::Inspect(args) => inspect(&args),
        Command::Rpm(args) => package(&args, |manifest, build| {
            let bytes = rpm::write(manifest, build, &args.binary)?;
            Ok((rpm::file_name(manifest, build), bytes))
        }),
        Command::Verify(args) => verify(&args.file),
    }
}

fn package(
    args: &PackageArgs,
    write: impl Fn(&Manifest, &Build) -> Result<(String, Vec<u8>)>,
) -> Result<u8> {
    let manifest = Manifest::load(&args.manifest)?;
    let build = Build {
        arch: args.arch,
        label: &args.version_label,
        time: time(args.time)?,
    };
    let (name, bytes) = write(&manifest, &build)?;
    let path = args.out.join(name);
    files::write_atomic(&path, &bytes, Look::mode(0o644))?;
    out!("{}", path.display());
    Ok(0)
}

/// The time a package carries. Never the clock: the same sources shall give the same bytes.
fn time(given: Option<u32>) -> Result<u32> {
    if let Some(time) = given {
        return Ok(time);
    }
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else {
        bail!(
            "no time for the package: set SOURCE_DATE_EPOCH, or give --time SECONDS (`git log -1 --format=%ct`)"
        );
    };
    text.trim()
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH: not seconds since 1970: `{text}`"))
}

fn runner(text: &str) -> Result<(Arch, PathBuf)> {
    let (arch, path) = text.split_once('=').context("want ARCH=FILE")?;
    Ok((arch.parse()?, PathBuf::from(path)))
}

fn build(args: BuildArgs) -> Result<u8> {
    let mut members = Vec::new();
    for (arch, path) in &args.runner {
        members.push(Source::runner(*arch, path));
    }
    for path in &args.package {
        members.push(Source::package(path, package::identify(path)?)?);
    }
    members.extend(kits(&args)?);
    for path in &args.licence {
        members.push(Source::document(path, Kind::Licence)?);
    }
    for path in &args.sbom {
        members.push(Source::document(path, Kind::Sbom)?);
    }
    let plan = Plan {
        product: "omsagent".to_owned(),
        release: args.version_label,
        members,
        sources: args.source_reference,
    };
    bundle::write(&plan, &args.out)?;
    let sums = bundle::write_sums(&args.out)?;
    out!("{}", args.out.display());
    out!("{}", sums.display());
    Ok(0)
}

fn named(text: &str) -> Result<(String, PathBuf)> {
    let (name, path) = text.split_once('=').context("want NAME=FILE")?;
    Ok((name.to_owned(), PathBuf::from(path)))
}

fn condition(text: &str) -> Result<(String, Condition)> {
    let (name, condition) = text.split_once('=').context("want NAME=CONDITION")?;
    let condition = condition.parse().map_err(anyhow::Error::msg)?;
    Ok((name.to_owned(), condition))
}

fn kits(args: &BuildArgs) -> Result<Vec<Source>> {
    let groups = [
        (Group::OssKits, &args.kit),
        (Group::Bundles, &args.bundled_kit),
    ];
    let known = |name: &str| {
        groups
            .iter()
            .any(|(_, kits)| kits.iter().any(|k| k.0 == name))
    };
    if let Some((name, _)) = args.kit_when.iter().find(|(name, _)| !known(name)) {
        bail!("--kit-when {name}=...: there is no --kit or --bundled-kit of that name");
    }
    let mut sources = Vec::new();
    for (group, kits) in groups {
        for (name, path) in kits {
            let when = args.kit_when.iter().filter(|(of, _)| of == name);
            let rule = KitRule {
                name: name.clone(),
                group,
                when: when.map(|(_, condition)| condition.clone()).collect(),
            };
            sources.push(Source::kit(path, rule)?);
        }
    }
    Ok(sources)
}

fn open(path: &Path) -> Result<Bundle> {
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Bundle::open(file).with_context(|| format!("`{}`", path.display()))
}

fn inspect(args: &InspectArgs) -> Result<u8> {
    let name = args.file.to_string_lossy();
    if name.ends_with(".deb") || name.ends_with(".rpm") {
        return inspect_package(args);
    }
    let bundle = open(&args.file)?;
    if args.json {
        #[derive(Serialize)]
        struct Inspection<'a> {
            bundle: &'a bundle::Header,
            size: u64,
            entries: &'a [bundle::Entry],
        }
        let inspection = Inspection {
            bundle: bundle.header(),
            size: bundle.size(),
            entries: bundle.entries(),
        };
        out!("{}", serde_json::to_string_pretty(&inspection)?);
        return Ok(0);
    }
    let header = bundle.header();
    out!(
        "{} {}, {} bytes, {} entries",
        header.product,
        header.release,
        bundle.size(),
        header.entries
    );
    for entry in bundle.entries() {
        let arch = entry.arch.map_or("any".to_owned(), |a| a.to_string());
        out!(
            "{:>10} {:>10}  {:<8} {:<8} {}  {}",
            entry.offset,
            entry.size,
            format!("{:?}", entry.kind).to_lowercase(),
            arch,
            entry.sha256.as_str().get(..16).unwrap_or(""),
            entry.name
        );
    }
    Ok(0)
}

fn inspect_package(args: &InspectArgs) -> Result<u8> {
    let identity = package::identify(&args.file)?;
    if args.json {
        out!("{}", serde_json::to_string_pretty(&identity)?);
    } else {
        out!(
            "{} {} ({}), {} bytes when installed",
            identity.name,
            identity.version,
            identity.arch_word,
            identity.installed
        );
    }
    Ok(0)
}

fn verify(path: &Path) -> Result<u8> {
    let bundle = open(path)?;
    bundle
        .verify(&mut |_, _| {})
        .with_context(|| format!("`{}`", path.display()))?;
    let n = bundle.entries().len();
    out!("{}: {n} entries, all as packed", path.display());
    Ok(0)
}
