//! Debian's packages, fetched and unpacked without root: nothing is installed, and the machine's own
//! package lists stay as they are.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::process;

/// Some 150 MB.
pub(crate) const DOWNLOAD: Duration = Duration::from_secs(600);

/// apt with this machine's package lists, or with lists of its own below a folder.
pub(crate) enum Apt {
    Shared,
    Private(PathBuf),
}

impl Apt {
    /// Does something with the machine's lists; where they are missing or out of date it is done
    /// again with lists of our own, fetched anew into `folder`.
    pub(crate) fn first_that_works<T>(
        folder: &Path,
        act: impl Fn(&Self) -> Result<T>,
    ) -> Result<T> {
        for program in ["apt-get", "apt-cache", "dpkg"] {
            if process::on_path(program).is_none() {
                bail!("without {program} Debian's packages cannot be unpacked");
            }
        }
        act(&Self::Shared).or_else(|error| {
            eprintln!("    {error:#}");
            let apt = Self::Private(folder.to_owned());
            apt.update()?;
            act(&apt)
        })
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=30"]);
        command.args(["-o", "APT::Sandbox::User=root"]);
        if let Self::Private(state) = self {
            for (setting, folder) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
                command.arg("-o").arg(format!("{setting}={}", state.join(folder).display()));
            }
        }
        command
    }

    /// What `apt-cache depends --recurse` prints of the packages and all that they depend on.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<String> {
        let mut depends = self.command("apt-cache");
        depends.args(["depends", "--recurse", "--no-recommends", "--no-suggests"]);
        depends.args(["--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"]);
        process::capture(depends.args(packages))
    }

    fn update(&self) -> Result<()> {
        if let Self::Private(state) = self {
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
