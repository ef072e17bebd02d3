//! `cargo xtask image`: agent and patient as images that need no registry, no base image and no
//! Docker to be made.
//!
//! Each holds one self-contained binary: what is not in the image cannot be out of date, and cannot
//! be run by whoever gets in. The same checkout gives the same bytes.
use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use self::layer::Entry;
use crate::{build_ebpf, dynamic, process, workspace::Workspace};

mod archive;
mod layer;

/// What is built, and what the manifests name: `docker.io/paramedic/NAME:VERSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Image {
    /// The node agent
    Agent,
    /// The demo workload
    Patient,
}

/// Build the images of agent and patient, to be loaded into a cluster without a registry.
///
/// Writes target/images/paramedic-NAME-VERSION.tar: from-scratch images of self-contained binaries,
/// for this machine's architecture, as `docker load`, `kind load image-archive` and `ctr images
/// import` take them. The date within is SOURCE_DATE_EPOCH, else that of the last commit.
///
/// Takes some minutes for the first time: everything is linked statically, and so compiled apart.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Which images [default: both]
    #[arg(value_enum)]
    images: Vec<Image>,
}

/// Builds the binaries, writes the archives, and says how to load them.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let images = match args.images.as_slice() {
        [] => &[Image::Agent, Image::Patient],
        some => some,
    };
    if images.contains(&Image::Agent) {
        build_ebpf::run(workspace, &build_ebpf::Args {})?;
    }
    let binaries = compile(workspace, images)?;
    let created = created(workspace)?;
    let folder = workspace.target.join("images");
    let write = |image: &Image| {
        let binary = read(&binaries.join(image.binary()))?;
        image.write(&image.content(&binary, Vec::new())?, created, &folder)
    };
    let files = images.iter().map(write).collect::<Result<Vec<_>>>()?;
    print!("{}", how_to_load(&files));
    Ok(())
}

/// Writes both archives into the folder, of ordinary builds: for tests, which have those already.
/// The images differ from what is shipped in the binary and its shared libraries alone.
#[cfg_attr(not(test), expect(dead_code, reason = "for `cargo xtask docker`, which is to come"))]
pub(crate) fn of_programs(
    workspace: &Workspace,
    folder: &Path,
    agent: &Path,
    patient: &Path,
) -> Result<[PathBuf; 2]> {
    let created = created(workspace)?;
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let write = |image: Image, program| {
        let libraries = dynamic::libraries([program])?;
        let entry = |path: &PathBuf| {
            let place = path.strip_prefix("/")?.to_str().context("a library without a name")?;
            Ok(Entry::executable(place, &read(path)?))
        };
        let others = libraries.iter().map(entry).collect::<Result<Vec<_>>>()?;
        let binary = read(&dynamic::strip(program, scratch.path())?)?;
        image.write(&image.content(&binary, others)?, created, folder)
    };
    Ok([write(Image::Agent, agent)?, write(Image::Patient, patient)?])
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

impl Image {
    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Patient => "patient",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Agent => "paramedic",
            Self::Patient => "patient-app",
        }
    }

    /// Binaries have the name of their package.
    const fn binary(self) -> &'static str {
        self.package()
    }

    fn file(self) -> String {
        format!("paramedic-{}-{VERSION}.tar", self.name())
    }

    /// As the manifests name it.
    fn reference(self) -> String {
        format!("docker.io/paramedic/{}:{VERSION}", self.name())
    }

    /// Of the binary and what else it needs in order to run.
    fn content(self, binary: &[u8], others: Vec<Entry>) -> Result<archive::Content> {
        let mut entries = others;
        entries.push(Entry::executable(self.binary(), binary));
        let (user, passwd, port) = match self {
            // Root without capabilities but those that the manifest grants.
            Self::Agent => ("0:0", "root:x:0:0:root:/:/nologin\n", 9100),
            Self::Patient => {
                entries.push(Entry::link("bin/kill", "/patient-app"));
                ("10001:10001", "patient:x:10001:10001:patient:/:/nologin\n", 5000)
            }
        };
        entries.push(Entry::file("etc/passwd", passwd.as_bytes()));
        Ok(archive::Content {
            reference: self.reference(),
            tag: VERSION,
            title: format!("Paramedic: {}", self.name()),
            entrypoint: format!("/{}", self.binary()),
            user,
            port,
            layer: layer::write(entries)?,
        })
    }

    /// Writes the archive into the folder.
    fn write(self, content: &archive::Content, created: i64, folder: &Path) -> Result<PathBuf> {
        let bytes = archive::write(content, created)?;
        let file = folder.join(self.file());
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&file, &bytes))
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}: {}, {} bytes", file.display(), self.reference(), bytes.len());
        Ok(file)
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Compiles the binaries, which then lie in the folder that is returned.
fn compile(workspace: &Workspace, images: &[Image]) -> Result<PathBuf> {
    for image in images {
        let mut cargo = Command::new("cargo");
        cargo.args(["rustc", "--package", image.package(), "--bin", image.binary()]);
        as_shipped(&mut cargo, workspace).args(["--", RELOCATIONS]);
        let what = format!("compile a self-contained {}", image.name());
        process::run(&what, &mut cargo).context(
            "no self-contained binary (glibc's static libraries are in Debian's libc6-dev)",
        )?;
    }
    let target = target();
    Ok(workspace.target.join(target).join(PROFILE))
}

fn target() -> String {
    format!("{ARCH}-unknown-linux-gnu")
}

/// Has cargo compile as for an image.
pub(crate) fn as_shipped<'a>(cargo: &'a mut Command, workspace: &Workspace) -> &'a mut Command {
    let mut flags = workspace.without_paths();
    flags.push("-Ctarget-feature=+crt-static".to_owned());
    cargo
        .args(["--locked", "--profile", PROFILE])
        // Given even where it is the host's own: so the flags leave build scripts and macros alone.
        .args(["--target", &target()])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .current_dir(&workspace.root)
}

/// A binary that may be loaded anywhere has a table of its own addresses: 24 bytes for each, or one
/// bit. glibc 2.36 and newer read the short form.
const RELOCATIONS: &str = "-Clink-arg=-Wl,-z,pack-relative-relocs";

/// The cargo profile for images.
const PROFILE: &str = "image";

/// The date that the images carry, in seconds since 1970.
fn created(workspace: &Workspace) -> Result<i64> {
    if let Ok(date) = std::env::var("SOURCE_DATE_EPOCH") {
        return date.parse().with_context(|| format!("SOURCE_DATE_EPOCH={date} is no number"));
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(&workspace.root);
    let date = process::capture(&mut git)
        .context("no commit to take the date from: set SOURCE_DATE_EPOCH")?;
    date.parse().with_context(|| format!("git says that the last commit is of {date:?}"))
}

/// What to type where a cluster does not have the images.
pub(crate) fn how_to_get(workspace: &Workspace) -> String {
    let folder = workspace.target.join("images");
    let files = [Image::Agent, Image::Patient].map(|image| folder.join(image.file()));
    format!("\n  cargo xtask image\n{}", how_to_load(&files))
}

/// The commands for those who run a cluster by one of the three.
fn how_to_load(files: &[PathBuf]) -> String {
    let ways = [
        ("Docker", "docker load --input"),
        ("kind", "kind load image-archive"),
        ("containerd, on each node", "ctr --namespace k8s.io images import"),
    ];
    let mut text = String::new();
    for (what, command) in ways {
        text += &format!("\n{what}:\n");
        for file in files {
            text += &format!("  {command} {}\n", file.display());
        }
    }
    text
}

#[cfg(test)]
mod tests;
