//! `cargo xtask image`: makes the images of agent, metrics API, policy controller and patient-app, without a registry,
//! a base image or Docker.
//!
//! Each image holds one self-contained binary and nothing else that could be out of date or that an
//! attacker could run. The same checkout gives the same bytes, with the same compilers.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

pub use self::archive::sha256;
use self::{archive::Origin, layer::Entry};
use crate::{
    arch::Arch,
    build_ebpf, cross, process,
    workspace::{Workspace, read},
};

mod archive;
#[cfg(test)]
mod dockerfile;
pub(crate) mod layer;
mod sbom;

/// The images, with the names in the manifests: `docker.io/paramedic/NAME:VERSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Image {
    /// The node agent
    Agent,
    /// The metrics API
    MetricsApi,
    /// The controller of HealingPolicies
    Policy,
    /// The demo workload
    Patient,
}

impl Image {
    pub(crate) const ALL: [Self; 4] = [Self::Agent, Self::MetricsApi, Self::Policy, Self::Patient];
}

/// Build the images of agent, metrics API, policy controller and patient-app, to load them into a cluster without a
/// registry.
///
/// Writes target/images/paramedic-NAME-VERSION.tar: from-scratch images of self-contained binaries,
/// for this machine's architecture, as `docker load`, `kind load image-archive` and `ctr images
/// import` take them. With --arch the name has the architectures too; with several the archive is an
/// index of an image for each. For another architecture than this machine's it is cross-built, with
/// Debian's C compiler, unpacked below target/cross, unless there is one. The date in them is SOURCE_DATE_EPOCH, else that of the last commit. A file
/// beside each lists the parts of its binary, as CycloneDX: paramedic-NAME-VERSION.cdx.json.
///
/// The first run takes a quarter of an hour: everything is linked statically, so it is compiled
/// separately, and each binary is optimized as a whole.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Which images [default: all]
    #[arg(value_enum)]
    images: Vec<Image>,
    /// The architecture, repeatable [default: this machine's]
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// Write the files of each image into DIR/NAME, and no archive: for the Dockerfile
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Builds the binaries, writes the archives, and says how to load them.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let images = match args.images.as_slice() {
        [] => &Image::ALL,
        some => some,
    };
    let archs = match args.arch.as_slice() {
        [] => vec![Arch::here()?],
        some => some.to_vec(),
    };
    for arch in &archs {
        if images.contains(&Image::Agent) {
            build_ebpf::build(workspace, *arch)?;
        }
        compile(workspace, images, *arch)?;
    }
    if let Some(root) = &args.root {
        let [arch] = archs.as_slice() else { bail!("--root takes one --arch") };
        for image in images {
            let binary = read(&image.compiled(workspace, *arch))?;
            image.unpack(&image.content(*arch, &binary, Vec::new())?, root)?;
        }
        return Ok(());
    }
    let made = make(workspace, images, &archs, &suffix(&args.arch))?;
    let archives = made.into_iter().map(|made| made.archive).collect::<Vec<_>>();
    print!("{}", how_to_load(&archives));
    Ok(())
}

/// The files of one image.
pub(crate) struct Made {
    pub(crate) archive: PathBuf,
    /// What the binary of each architecture is made of.
    pub(crate) sboms: Vec<PathBuf>,
}

/// Writes archives and lists of the compiled binaries into target/images. Their names end with the suffix.
pub(crate) fn make(
    workspace: &Workspace,
    images: &[Image],
    archs: &[Arch],
    suffix: &str,
) -> Result<Vec<Made>> {
    let origin = origin(workspace)?;
    let folder = workspace.target.join("images");
    let write = |image: &Image| {
        let (mut contents, mut sboms) = (Vec::new(), Vec::new());
        for arch in archs {
            let binary = read(&image.compiled(workspace, *arch))?;
            let content = image.content(*arch, &binary, Vec::new())?;
            image.check(content.layer.len())?;
            contents.push(content);
            let list = sbom::of(workspace, *image, *arch, &binary, &origin.created)?;
            let one = if suffix.is_empty() { String::new() } else { format!("-{}", arch.name()) };
            let sbom = folder.join(image.file(&format!("{one}.cdx.json")));
            put(&sbom, &serde_json::to_vec_pretty(&list)?)?;
            println!("{}: what the binary is made of", sbom.display());
            sboms.push(sbom);
        }
        let archive = image.put(&archive::write(&contents, &origin)?, suffix, &folder)?;
        Ok(Made { archive, sboms })
    };
    images.iter().map(write).collect()
}

/// Writes the archive of an ordinary build with its shared libraries into the folder: for tests,
/// which have those already. The image differs from the shipped one only in these files.
pub fn of_program(
    workspace: &Workspace,
    folder: &Path,
    image: Image,
    program: &Path,
    libraries: &[PathBuf],
) -> Result<PathBuf> {
    let entry = |path: &PathBuf| {
        let place = path.strip_prefix("/")?.to_str().context("a library without a name")?;
        Ok(Entry::executable(place, &read(path)?))
    };
    let others = libraries.iter().map(entry).collect::<Result<Vec<_>>>()?;
    let content = image.content(Arch::here()?, &read(program)?, others)?;
    image.put(&archive::write(&[content], &origin(workspace)?)?, "", folder)
}

/// What the names of archives end with, if the architectures were given: `-amd64-arm64`.
pub(crate) fn suffix(archs: &[Arch]) -> String {
    archs.iter().map(|arch| format!("-{}", arch.name())).collect()
}

/// Writes the archive of one static program, the entrypoint, under a name of its own: for the
/// sandboxes of a cluster of the test bed.
pub fn of_sandbox(workspace: &Workspace, file: &Path, name: &str, program: &Path) -> Result<()> {
    let content = archive::Content {
        arch: Arch::here()?,
        reference: name.to_owned(),
        tag: VERSION,
        title: "Paramedic: sandbox".to_owned(),
        description: "Holds the namespaces of a pod in a cluster of the test bed",
        entrypoint: "/pause".to_owned(),
        user: "65535:65535",
        port: 0,
        layer: layer::write(vec![Entry::executable("pause", &read(program)?)])?,
    };
    put(file, &archive::write(&[content], &origin(workspace)?)?)
}

/// Writes a file, and the folder that it is in.
fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))
        .and_then(|()| fs::write(file, bytes))
        .with_context(|| format!("cannot write {}", file.display()))
}

impl Image {
    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::MetricsApi => "metrics-api",
            Self::Policy => "policy",
            Self::Patient => "patient",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Agent => "paramedic",
            Self::MetricsApi => "paramedic-metrics-api",
            Self::Policy => "paramedic-policy",
            Self::Patient => "patient-app",
        }
    }

    /// Binaries have the name of their package.
    const fn binary(self) -> &'static str {
        self.package()
    }

    /// The version of the package.
    const fn description(self) -> &'static str {
        match self {
            Self::Agent => {
                "The first responder on every node: watches, decides, heals, verifies, explains"
            }
            Self::MetricsApi => {
                "Serves the agents' measurements to the HPA as custom.metrics.k8s.io"
            }
            Self::Policy => {
                "Turns each HealingPolicy into the labels and annotations that the agents obey"
            }
            Self::Patient => {
                "Paramedic's demo workload: a small HTTP service with injectable illnesses"
            }
        }
    }

    /// The maximum size of its archive, which every node pulls.
    const fn limit(self) -> usize {
        match self {
            Self::Agent => 32_000_000,
            Self::MetricsApi | Self::Policy => 12_000_000,
            Self::Patient => 10_000_000,
        }
    }

    /// Where cargo leaves its binary.
    pub(crate) fn compiled(self, workspace: &Workspace, arch: Arch) -> PathBuf {
        workspace.target.join(arch.target()).join(PROFILE).join(self.binary())
    }

    fn file(self, ending: &str) -> String {
        format!("paramedic-{}-{VERSION}{ending}", self.name())
    }

    /// Its name in the manifests.
    fn reference(self) -> String {
        format!("docker.io/paramedic/{}:{VERSION}", self.name())
    }

    /// The image of the binary and of the other files that it needs.
    fn content(self, arch: Arch, binary: &[u8], others: Vec<Entry>) -> Result<archive::Content> {
        let mut entries = others;
        entries.push(Entry::executable(self.binary(), binary));
        let (user, passwd, port) = match self {
            // Root without capabilities but those that the manifest grants.
            Self::Agent => ("0:0", "root:x:0:0:root:/:/nologin\n", 9100),
            Self::MetricsApi => {
                ("10002:10002", "metrics-api:x:10002:10002:metrics-api:/:/nologin\n", 6443)
            }
            Self::Policy => ("10003:10003", "policy:x:10003:10003:policy:/:/nologin\n", 8080),
            Self::Patient => {
                entries.push(Entry::link("bin/kill", "/patient-app"));
                ("10001:10001", "patient:x:10001:10001:patient:/:/nologin\n", 5000)
            }
        };
        entries.push(Entry::file("etc/passwd", passwd.as_bytes()));
        Ok(archive::Content {
            arch,
            reference: self.reference(),
            tag: VERSION,
            title: format!("Paramedic: {}", self.name()),
            description: self.description(),
            entrypoint: format!("/{}", self.binary()),
            user,
            port,
            layer: layer::write(entries)?,
        })
    }

    fn check(self, bytes: usize) -> Result<()> {
        let (name, limit) = (self.name(), self.limit());
        ensure!(
            bytes <= limit,
            "the image of {name} has {bytes} bytes, and may have {limit}: look what has grown \
             (CARGO_PROFILE_IMAGE_STRIP=none, then nm --size-sort)"
        );
        Ok(())
    }

    /// Puts the archive into the folder.
    fn put(self, archive: &[u8], suffix: &str, folder: &Path) -> Result<PathBuf> {
        let file = folder.join(self.file(&format!("{suffix}.tar")));
        put(&file, archive)?;
        println!("{}: {}, {} bytes", file.display(), self.reference(), archive.len());
        Ok(file)
    }

    /// Writes the contents of the image below the folder, which must not have this image yet.
    fn unpack(self, content: &archive::Content, folder: &Path) -> Result<()> {
        self.check(content.layer.len())?;
        let root = folder.join(self.name());
        if root.exists() {
            bail!("{} is there already", root.display());
        }
        tar::Archive::new(content.layer.as_slice())
            .unpack(&root)
            .with_context(|| format!("cannot write {}", root.display()))?;
        println!("{}: what is in {}", root.display(), self.reference());
        Ok(())
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Compiles the binaries. The agent embeds the eBPF object that is there.
pub(crate) fn compile(workspace: &Workspace, images: &[Image], arch: Arch) -> Result<()> {
    for image in images {
        let mut cargo = Command::new("cargo");
        cargo.args(["rustc", "--package", image.package(), "--bin", image.binary()]);
        as_shipped_for(&mut cargo, workspace, arch).args(["--", RELOCATIONS]);
        cross::set_up(workspace, arch, &mut cargo)?;
        let what = format!("compile a self-contained {} for {}", image.name(), arch.name());
        process::run(&what, &mut cargo).context(
            "no self-contained binary (glibc's static libraries are in Debian's libc6-dev)",
        )?;
    }
    Ok(())
}

/// Runs cargo with the settings for images, for this machine's architecture.
///
/// # Errors
/// There are no images for it.
pub fn as_shipped<'a>(cargo: &'a mut Command, workspace: &Workspace) -> Result<&'a mut Command> {
    Ok(as_shipped_for(cargo, workspace, Arch::here()?))
}

fn as_shipped_for<'a>(
    cargo: &'a mut Command,
    workspace: &Workspace,
    arch: Arch,
) -> &'a mut Command {
    let mut flags = workspace.without_paths();
    flags.push("-Ctarget-feature=+crt-static".to_owned());
    cargo
        .args(["--locked", "--profile", PROFILE])
        // Given even if it is the host's own, so that the flags do not affect build scripts and
        // macros.
        .args(["--target", &arch.target()])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .current_dir(&workspace.root)
}

/// A binary that may be loaded anywhere has a table of its own addresses: 24 bytes for each, or one
/// bit. glibc 2.36 and newer read the short form. Linkers before 2.43 ignore the flag for arm64.
const RELOCATIONS: &str = "-Clink-arg=-Wl,-z,pack-relative-relocs";

/// The cargo profile for images.
const PROFILE: &str = "image";

/// The origin of the images, for their labels.
fn origin(workspace: &Workspace) -> Result<Origin> {
    let created = jiff::Timestamp::from_second(created(workspace)?).context("no such date")?;
    let mut git = Command::new("git");
    // No tag is looked for: the whole hash, with `-dirty` where files differ from the commit.
    git.args(["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]);
    // Without git there is a date at least.
    let revision = process::capture(git.current_dir(&workspace.root)).ok();
    Ok(Origin { created: created.to_string(), revision })
}

/// The date of what is built, in seconds since 1970.
pub(crate) fn created(workspace: &Workspace) -> Result<i64> {
    if let Ok(date) = std::env::var("SOURCE_DATE_EPOCH") {
        return date.parse().with_context(|| format!("SOURCE_DATE_EPOCH={date} is no number"));
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(&workspace.root);
    let date = process::capture(&mut git)
        .context("no commit to take the date from: set SOURCE_DATE_EPOCH")?;
    date.parse().with_context(|| format!("git says that the last commit is of {date:?}"))
}

/// The paths of all archives in the folder, whether they exist or not.
pub fn archives(folder: &Path) -> [PathBuf; 4] {
    Image::ALL.map(|image| folder.join(image.file(".tar")))
}

/// The commands that load the images: containerd, kind and Docker.
pub fn how_to_load(files: &[PathBuf]) -> String {
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
