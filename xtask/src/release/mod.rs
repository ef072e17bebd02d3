//! `cargo xtask release`: everything that a release publishes for one architecture, as files.
//!
//! What needs an identity (signatures, provenance, the publication itself) is left to
//! `.github/workflows/release.yml`, which calls this task. The same checkout gives the same bytes, with the
//! same compilers: the eBPF object is the committed one, and every file is dated by the last commit.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

pub use self::{content::Content, deb::write as deb};
use crate::{
    arch::Arch,
    build_ebpf,
    image::{self, Image, layer},
    process,
    workspace::{Workspace, read},
};

mod ar;
mod content;
mod deb;
mod sums;
mod tarball;
#[cfg(test)]
mod tests;
mod version;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The list of all files with their SHA-256.
const SUMS: &str = "SHA256SUMS";

/// Make everything that a release publishes for one architecture.
///
/// Writes into target/release-files, which is emptied before:
///   paramedic-VERSION-linux-ARCH.tar.gz   the agent with its unit, manual pages and completions
///   paramedic_VERSION-1_ARCH.deb          the same as a Debian package
///   paramedic-NAME-VERSION-ARCH.tar       the images, as of `cargo xtask image`
///   paramedic-NAME-VERSION-ARCH.cdx.json  what their binaries are made of, as CycloneDX
///   paramedic-kubernetes-VERSION.tar.gz   the manifests and the Helm chart
///   SHA256SUMS                            of all of them
/// and the notes of the version, from CHANGELOG.md, into target/release-notes.md.
///
/// The agent embeds the committed eBPF object. The date of all files is SOURCE_DATE_EPOCH, else that of
/// the last commit. The same checkout gives the same bytes with the same Rust, C compiler and glibc;
/// --expect tells whether it did.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The architecture [default: this machine's]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Fail unless this is the tag of the version, such as v0.2.0
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Only check the tag and the section of CHANGELOG.md, and build nothing
    #[arg(long)]
    check: bool,
    /// Fail unless the files are those of this list, such as the SHA256SUMS of another build
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    expect: Option<PathBuf>,
}

/// Checks the version, builds, and writes the files.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let expected = args.expect.as_deref().map(read).transpose()?;
    let changelog = text(read(&workspace.root.join("CHANGELOG.md"))?)?;
    let notes = version::notes(&changelog, VERSION)?;
    if let Some(tag) = &args.tag {
        version::check_tag(tag, VERSION)?;
    }
    if args.check {
        println!("{VERSION}: CHANGELOG.md has its section");
        return Ok(());
    }
    let arch = args.arch.map_or_else(Arch::here, Ok)?;
    build_ebpf::take_committed(workspace, arch)?;
    let created = image::created(workspace)?.try_into().context("a date before 1970")?;
    image::compile(workspace, &Image::ALL, arch)?;
    let images = image::make(workspace, &Image::ALL, &[arch], &image::suffix(&[arch]))?;
    process::announce("pack");
    let mut files = Files::new();
    files.extend(packages(workspace, arch, created)?);
    for file in images.iter().flat_map(|made| made.sboms.iter().chain([&made.archive])) {
        let name = file.file_name().and_then(|name| name.to_str());
        files.insert(name.context("a file without a name")?.to_owned(), read(file)?);
    }
    files.insert(format!("paramedic-kubernetes-{VERSION}.tar.gz"), kubernetes(workspace, created)?);
    let list = sums::list(&files);
    files.insert(SUMS.to_owned(), list.clone().into_bytes());
    put(&workspace.target.join("release-files"), &files)?;
    let file = workspace.target.join("release-notes.md");
    fs::write(&file, format!("{notes}\n"))
        .with_context(|| format!("cannot write {}", file.display()))?;
    match expected {
        Some(expected) => sums::compare(&text(expected)?, &list),
        None => Ok(()),
    }
}

/// Files by their names.
type Files = BTreeMap<String, Vec<u8>>;

/// The packages of the agent's binary, as it is in its image.
fn packages(workspace: &Workspace, arch: Arch, created: u64) -> Result<Files> {
    let program = Image::Agent.compiled(workspace, arch);
    let papers = if arch.is_here() { program.clone() } else { ordinary(workspace)? };
    let content = Content::of(workspace, arch, &program, &papers, created)?;
    Ok(Files::from([
        (format!("{}.tar.gz", tarball::name(&content)), tarball::of_program(&content)?),
        (deb::name(&content), deb::write(&content)?),
    ]))
}

/// The agent as an ordinary build, which runs on this machine.
fn ordinary(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--package", "paramedic"]).current_dir(&workspace.root);
    process::run("build the agent for this machine, for its manual pages", &mut cargo)?;
    Ok(workspace.target.join("debug/paramedic"))
}

/// The manifests and the Helm chart, whose link to the manifests holds in the archive too.
fn kubernetes(workspace: &Workspace, created: u64) -> Result<Vec<u8>> {
    let root = format!("paramedic-kubernetes-{VERSION}");
    let mut entries = Vec::new();
    for folder in ["manifests", "charts"] {
        for path in below(&workspace.root.join(folder))? {
            let place =
                path.strip_prefix(&workspace.root)?.to_str().context("a name that is no text")?;
            entries.push(layer::Entry::file(&format!("{root}/{place}"), &read(&path)?));
        }
    }
    entries
        .push(layer::Entry::link(&format!("{root}/charts/paramedic/manifests"), "../../manifests"));
    tarball::gzip(&layer::write_dated(entries, created)?)
}

/// The files below a folder, without links.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let unread = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(unread)? {
        let entry = entry.with_context(unread)?;
        let kind = entry.file_type().with_context(unread)?;
        if kind.is_dir() {
            files.extend(below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Empties the folder and writes the files into it.
fn put(folder: &Path, files: &Files) -> Result<()> {
    let unwritten = || format!("cannot write into {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(unwritten)?;
    }
    fs::create_dir_all(folder).with_context(unwritten)?;
    for (name, bytes) in files {
        let file = folder.join(name);
        fs::write(&file, bytes).with_context(unwritten)?;
        println!("{}: {} bytes", file.display(), bytes.len());
    }
    Ok(())
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).context("a list or a changelog that is no text")
}
