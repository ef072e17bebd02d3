//! What a package of the agent holds, whatever its format.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    arch::Arch,
    process,
    workspace::{Workspace, read},
};

/// The program and its files, read or made.
pub struct Content {
    /// The architecture of the program.
    pub arch: Arch,
    /// The version, as in Cargo.toml.
    pub version: &'static str,
    /// The time of all files, in seconds since 1970.
    pub created: u64,
    pub(super) program: Vec<u8>,
    /// Manual pages by their names: `paramedic-watch.1`.
    pub(super) pages: BTreeMap<String, Vec<u8>>,
    /// What completes the command line, by shell.
    pub(super) completions: BTreeMap<&'static str, Vec<u8>>,
    /// Files of the checkout, by their paths in it.
    pub(super) files: BTreeMap<&'static str, Vec<u8>>,
}

/// The shells that packages have completions for.
const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

pub(super) const LICENSE: &str = "LICENSE";
pub(super) const CHANGELOG: &str = "CHANGELOG.md";
pub(super) const UNIT: &str = "packaging/paramedic.service";
pub(super) const DEFAULT: &str = "packaging/default";
pub(super) const COPYRIGHT: &str = "packaging/deb/copyright";
pub(super) const OVERRIDES: &str = "packaging/deb/lintian-overrides";
pub(super) const POSTINST: &str = "packaging/deb/postinst";
pub(super) const PRERM: &str = "packaging/deb/prerm";
pub(super) const POSTRM: &str = "packaging/deb/postrm";
const FILES: [&str; 9] =
    [LICENSE, CHANGELOG, UNIT, DEFAULT, COPYRIGHT, OVERRIDES, POSTINST, PRERM, POSTRM];

impl Content {
    /// Reads the program, and asks `papers`, the same program for this machine, for its manual pages and
    /// completions.
    ///
    /// # Errors
    /// If a file cannot be read, or the program does not do as it is asked.
    pub fn of(
        workspace: &Workspace,
        arch: Arch,
        program: &Path,
        papers: &Path,
        created: u64,
    ) -> Result<Self> {
        let file = |name| Ok((name, read(&workspace.root.join(name))?));
        Ok(Self {
            arch,
            version: env!("CARGO_PKG_VERSION"),
            created,
            program: read(program)?,
            pages: pages(papers)?,
            completions: completions(papers)?,
            files: FILES.into_iter().map(file).collect::<Result<_>>()?,
        })
    }

    /// A file of the checkout.
    pub(super) fn file(&self, name: &str) -> &[u8] {
        self.files.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

fn pages(program: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let folder = tempfile::tempdir().context("no folder for manual pages")?;
    process::capture(Command::new(program).args(["man", "--into"]).arg(folder.path()))?;
    let page = |entry: std::io::Result<fs::DirEntry>| {
        let path: PathBuf = entry?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).context("a page without a name")?;
        Ok((name.to_owned(), read(&path)?))
    };
    let pages = fs::read_dir(folder.path())?.map(page).collect::<Result<BTreeMap<_, _>>>()?;
    ensure!(pages.contains_key("paramedic.1"), "{} has no manual page", program.display());
    Ok(pages)
}

fn completions(program: &Path) -> Result<BTreeMap<&'static str, Vec<u8>>> {
    let of = |shell| {
        let script = process::capture(Command::new(program).args(["completions", shell]))?;
        Ok((shell, format!("{script}\n").into_bytes()))
    };
    SHELLS.into_iter().map(of).collect()
}

/// Content without a program to ask.
#[cfg(test)]
pub(super) fn example(arch: Arch) -> Content {
    let workspace = Workspace::find().unwrap();
    let file = |name| (name, read(&workspace.root.join(name)).unwrap());
    Content {
        arch,
        version: "0.2.0-rc.1",
        created: 1_700_000_000,
        program: b"\x7fELF".to_vec(),
        pages: ["paramedic.1", "paramedic-watch.1"]
            .map(|name| (name.to_owned(), b".TH".to_vec()))
            .into(),
        completions: SHELLS.map(|shell| (shell, shell.into())).into(),
        files: FILES.map(file).into(),
    }
}
