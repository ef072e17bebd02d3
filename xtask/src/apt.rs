//! Debian's packages, fetched and unpacked without root: nothing is installed, and the machine's
//! own package lists stay as they are.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{arch::Arch, process};

/// Some 150 MB.
pub const DOWNLOAD: Duration = Duration::from_secs(600);

/// Debian 12, which has nearly everything that the tasks need.
const RELEASE: &str = "bookworm";
const SOURCES: &str = "deb [signed-by=KEYRING] http://deb.debian.org/debian RELEASE main\n";
const SECURITY: &str =
    "deb [signed-by=KEYRING] http://deb.debian.org/debian-security RELEASE-security main\n";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with this machine's package lists, or with lists of its own below a folder.
pub enum Apt {
    /// This machine's lists.
    Shared,
    /// Lists of its own.
    Private {
        /// The folder of the lists and of the fetched packages.
        state: PathBuf,
        /// The source, if not that of the machine's packages.
        sources: Option<PathBuf>,
        /// The architecture of the packages, if not this machine's.
        foreign: Option<Arch>,
    },
}

/// A release of Debian for one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// Its code name.
    pub name: &'static str,
    /// The architecture of its packages.
    pub arch: Arch,
}

impl Release {
    /// Where its packages come from. sid has no archive of security updates, and that of Debian 11
    /// lists packages for arm64 which were removed.
    fn sources(self) -> String {
        let arm64 = self.arch == Arch::Arm64;
        let updated = self.name != "sid" && !(self.name == "bullseye" && arm64);
        let sources = if updated { format!("{SOURCES}{SECURITY}") } else { SOURCES.to_owned() };
        sources.replace("KEYRING", KEYRING).replace("RELEASE", self.name)
    }
}

impl Apt {
    /// Calls `work` with the machine's lists. If they are missing, out of date or of another
    /// release, calls it again with new lists of our own in `folder`.
    pub fn first_that_works<T>(folder: &Path, act: impl Fn(&Self) -> Result<T>) -> Result<T> {
        check_programs()?;
        let after = |error: anyhow::Error, apt: &Self| {
            eprintln!("    {error:#}");
            apt.updated(&act)
        };
        let own = Self::Private { state: folder.join("own"), sources: None, foreign: None };
        act(&Self::Shared).or_else(|error| after(error, &own)).or_else(|error| {
            if !Path::new(KEYRING).exists() {
                return Err(error);
            }
            after(error, &Self::debian(folder, Release { name: RELEASE, arch: Arch::here()? })?)
        })
    }

    /// Calls `work` with the lists of one release of Debian, whichever release this machine has. If
    /// that fails with the lists that were fetched before, calls it again with new ones.
    pub fn of_release<T>(
        folder: &Path,
        release: Release,
        act: impl Fn(&Self) -> Result<T>,
    ) -> Result<T> {
        check_programs()?;
        ensure!(Path::new(KEYRING).exists(), "no {KEYRING}: install debian-archive-keyring");
        let apt = Self::debian(folder, release)?;
        act(&apt).or_else(|_| apt.updated(&act))
    }

    fn updated<T>(&self, act: impl Fn(&Self) -> Result<T>) -> Result<T> {
        self.update()?;
        act(self)
    }

    fn debian(folder: &Path, release: Release) -> Result<Self> {
        let foreign = (!release.arch.is_here()).then_some(release.arch);
        let name = match foreign {
            None => release.name.to_owned(),
            Some(arch) => format!("{}-{}", release.name, arch.name()),
        };
        let state = folder.join(name);
        let sources = state.join("sources.list");
        fs::create_dir_all(&state)
            .and_then(|()| fs::write(&sources, release.sources()))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        Ok(Self::Private { state, sources: Some(sources), foreign })
    }

    /// One of apt's programs, set up for these lists.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=30"]);
        command.args(["-o", "APT::Sandbox::User=root"]);
        if let Self::Private { foreign: Some(arch), .. } = self {
            for setting in ["APT::Architecture", "APT::Architectures"] {
                command.arg("-o").arg(format!("{setting}={}", arch.name()));
            }
        }
        if let Self::Private { state, sources, .. } = self {
            let mut set = |setting: &str, path: &Path| {
                command.arg("-o").arg(format!("{setting}={}", path.display()));
            };
            set("Dir::State::lists", &state.join("lists"));
            set("Dir::Cache", &state.join("cache"));
            if let Some(sources) = sources {
                set("Dir::Etc::sourcelist", sources);
                set("Dir::Etc::sourceparts", Path::new("/dev/null"));
            }
        }
        command
    }

    /// Downloads packages into a folder, which is emptied before.
    pub fn download(&self, step: &str, packages: &[String], folder: &Path) -> Result<()> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut download = self.command("apt-get");
        download.args(["--quiet", "download"]).args(packages).current_dir(folder);
        process::run_within(step, DOWNLOAD, &mut download)
    }

    /// What `apt-cache depends --recurse` prints of the packages and all that they depend on.
    pub fn closure(&self, packages: &[&str]) -> Result<String> {
        let mut depends = self.command("apt-cache");
        depends.args(["depends", "--recurse", "--no-recommends", "--no-suggests"]);
        depends.args(["--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"]);
        process::capture(depends.args(packages))
    }

    fn update(&self) -> Result<()> {
        if let Self::Private { state, .. } = self {
            for folder in ["lists/partial", "cache/archives/partial"] {
                let folder = state.join(folder);
                fs::create_dir_all(&folder)
                    .with_context(|| format!("cannot make {}", folder.display()))?;
            }
        }
        let mut update = self.command("apt-get");
        process::run_within("fetch Debian's package lists", DOWNLOAD, update.arg("update"))
    }
}

/// The names of packages in what [`Apt::closure`] returns.
pub fn names(closure: &str) -> impl Iterator<Item = &str> {
    closure.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Unpacks all packages of a folder into a tree, which appears complete or not at all.
pub fn unpack(debs: &Path, tree: &Path) -> Result<()> {
    let part = tree.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    for deb in fs::read_dir(debs)? {
        process::capture(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(&part))?;
    }
    fs::rename(&part, tree).with_context(|| format!("cannot make {}", tree.display()))
}

fn check_programs() -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg"] {
        if process::on_path(program).is_none() {
            bail!("without {program} Debian's packages cannot be unpacked");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_security_updates_where_they_can_be_had() {
        let lines = |name, arch| Release { name, arch }.sources().lines().count();
        assert_eq!(lines("bullseye", Arch::Amd64), 2);
        assert_eq!(lines("bullseye", Arch::Arm64), 1);
        assert_eq!(lines("sid", Arch::Amd64), 1);
        let sources = Release { name: "bookworm", arch: Arch::Amd64 }.sources();
        assert!(sources.ends_with("debian-security bookworm-security main\n"), "{sources}");
        assert!(!sources.contains("KEYRING"), "{sources}");
    }
}
