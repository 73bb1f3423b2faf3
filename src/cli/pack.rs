//! The door `omsagent pack`: packages and bundles, built and looked at.

use crate::base::files::{self, Look};
use crate::bundle::kit::{Condition, Group, KitRule};
use crate::bundle::signature::TEXT_LIMIT;
use crate::bundle::{self, Bundle, Kind, Plan, SecretKey, Source, Trust};
use crate::cli::{papers, verify};
use crate::out;
use crate::package::manifest::Manifest;
use crate::package::{self, Arch, Build, deb, rpm};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde::Serialize;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest document that is shown, unpacked.
const DOCUMENT_LIMIT: usize = 64 << 20;

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
    /// Make a pair of keys for signing: NAME.key and NAME.pub
    Keys(KeysArgs),
    /// Write an .rpm
    Rpm(PackageArgs),
    /// Sign a bundle; writes its .minisig and .sha256sums anew
    Sign(SignArgs),
    /// Check every byte of a bundle; exit code 1 when it is damaged, or not signed by --public-key
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
    /// Licences of what the program was made of; put among the package's documentation
    #[arg(long, value_name = "FILE")]
    licences: Option<PathBuf>,
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
    /// Print one entry of a bundle, a licence or a list of parts, and nothing else
    #[arg(long, value_name = "ENTRY", conflicts_with = "json")]
    show: Option<String>,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The bundle
    file: PathBuf,
    /// Whose signature it must have: minisign's public key file, or its second line
    #[arg(long, value_name = "FILE|KEY")]
    public_key: Option<String>,
}

#[derive(Debug, clap::Args)]
struct SignArgs {
    /// The bundle
    file: PathBuf,
    /// A secret key without password, as `minisign -G -W` or `pack keys` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, clap::Args)]
struct KeysArgs {
    /// Both files' path without its ending
    name: PathBuf,
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
        Command::Keys(args) => keys(&args.name),
        Command::Rpm(args) => package(&args, |manifest, build| {
            let bytes = rpm::write(manifest, build, &args.binary)?;
            Ok((rpm::file_name(manifest, build), bytes))
        }),
        Command::Sign(args) => sign(&args),
        Command::Verify(args) => verify(&args),
    }
}

fn package(
    args: &PackageArgs,
    write: impl Fn(&Manifest, &Build) -> Result<(String, Vec<u8>)>,
) -> Result<u8> {
    let mut manifest = Manifest::load(&args.manifest)?;
    if let Some(licences) = &args.licences {
        let path = format!("/usr/share/doc/{}/licences.txt.gz", manifest.name);
        manifest.add_document(path, licences)?;
    }
    let build = Build {
        arch: args.arch,
        label: &args.version_label,
        time: time(args.time)?,
    };
    papers::supply(&mut manifest, build.time)?;
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

fn inspect(args: &InspectArgs) -> Result<u8> {
    let name = args.file.to_string_lossy();
    if name.ends_with(".deb") || name.ends_with(".rpm") {
        return inspect_package(args);
    }
    let bundle = verify::open(&args.file)?;
    if let Some(name) = &args.show {
        return show(&bundle, name);
    }
    let trust = bundle.trust(None)?;
    if args.json {
        #[derive(Serialize)]
        struct Inspection<'a> {
            bundle: &'a bundle::Header,
            size: u64,
            /// By which key, as the signature itself says; null when there is none.
            signed_by: Option<String>,
            entries: &'a [bundle::Entry],
        }
        let inspection = Inspection {
            bundle: bundle.header(),
            size: bundle.size(),
            signed_by: match trust {
                Trust::Unchecked { by } | Trust::Signed { by, .. } => Some(by.to_string()),
                Trust::Unsigned => None,
            },
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
    match trust {
        Trust::Unchecked { by } | Trust::Signed { by, .. } => {
            out!("signed by key {by} (not checked)")
        }
        Trust::Unsigned => out!("not signed"),
    }
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

fn show(bundle: &Bundle, name: &str) -> Result<u8> {
    let entry = bundle
        .entry(name)
        .filter(|entry| matches!(entry.kind, Kind::Licence | Kind::Sbom))
        .with_context(|| format!("no licence or list of parts `{name}` inside"))?;
    let mut bytes = bundle.document(entry)?;
    if name.ends_with(".gz") {
        bytes = package::gunzip(&bytes, DOCUMENT_LIMIT).with_context(|| format!("`{name}`"))?;
    }
    out!("{}", String::from_utf8_lossy(&bytes).trim_end());
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

fn verify(args: &VerifyArgs) -> Result<u8> {
    let what = || format!("`{}`", args.file.display());
    let key = args.public_key.as_deref().map(verify::public_key);
    let bundle = verify::open(&args.file)?;
    let trust = bundle.trust(key.transpose()?.as_ref()).with_context(what)?;
    bundle.verify(&mut |_, _| {}).with_context(what)?;
    let n = bundle.entries().len();
    let signed = match trust {
        Trust::Signed { by, .. } => format!("; signed by key {by}"),
        Trust::Unsigned | Trust::Unchecked { .. } => String::new(),
    };
    out!(
        "{}: {n} entries, all as packed{signed}",
        args.file.display()
    );
    Ok(0)
}

fn sign(args: &SignArgs) -> Result<u8> {
    let what = || format!("secret key `{}`", args.key.display());
    let text = files::read(&args.key, TEXT_LIMIT)?
        .with_context(|| format!("no such file: `{}`", args.key.display()))?;
    let text = Zeroizing::new(String::from_utf8(text).with_context(what)?);
    let key = SecretKey::parse(&text).with_context(what)?;
    bundle::sign(&args.file, &key).with_context(|| format!("`{}`", args.file.display()))?;
    let sums = bundle::write_sums(&args.file)?;
    let sidecar = bundle::sidecar(&args.file, &key)?;
    for written in [&args.file, &sums, &sidecar] {
        out!("{}", written.display());
    }
    Ok(0)
}

fn keys(name: &Path) -> Result<u8> {
    let secret = SecretKey::make()?;
    let public = SecretKey::parse(&secret)?.public();
    let with = |ending: &str| {
        let mut path = name.as_os_str().to_owned();
        path.push(ending);
        PathBuf::from(path)
    };
    // A key that is there may be the only one that existing hosts trust.
    for path in [with(".key"), with(".pub")] {
        if path.symlink_metadata().is_ok() {
            bail!("`{}` is there already", path.display());
        }
    }
    files::write_atomic(&with(".key"), secret.as_bytes(), Look::mode(0o600))?;
    files::write_atomic(&with(".pub"), public.text().as_bytes(), Look::mode(0o644))?;
    out!("{}", with(".pub").display());
    Ok(0)
}
