//! mdBook: the one on PATH, else Debian's, which is there in seconds and runs with its own C library.
use std::{
    env::consts::ARCH,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, bail};
use xtask::{
    apt::{Apt, Release},
    arch::Arch,
    process,
};

use crate::vm::packages;

/// What the workflow of a release installs.
pub(crate) const VERSION: &str = "0.4.52";
/// Debian 13, the first with mdBook.
const RELEASE: &str = "trixie";
/// The libraries that it is linked with.
const LIBRARIES: [&str; 2] = ["libc6", "libgcc-s1"];

/// What Debian's leaves out of every site: fonts, and the script of the buttons above a page.
const LEFT_OUT: [&str; 2] = ["fonts/fonts.css", "book.js"];

/// mdBook, as it was found.
pub(super) struct MdBook {
    pub(super) command: Command,
    /// The files that its sites lack.
    pub(super) left_out: &'static [&'static str],
}

pub(super) fn find(home: &Path) -> Result<MdBook> {
    if let Some(program) = process::on_path("mdbook") {
        return Ok(MdBook { command: Command::new(program), left_out: &[] });
    }
    let release = Release { name: RELEASE, arch: Arch::here()? };
    let root = Apt::of_release(&home.join("apt"), release, |apt| {
        packages::unpacked_with(apt, home, "mdbook", &LIBRARIES)
    })
    .with_context(|| {
        format!("install mdBook (cargo install mdbook --version {VERSION} --locked)")
    })?;
    println!("    Debian's mdBook: good for a check, and its sites lack {}", LEFT_OUT.join(", "));
    let libraries = root.join(format!("usr/lib/{ARCH}-linux-gnu"));
    let mut command = Command::new(libraries.join(loader()));
    command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin/mdbook"));
    Ok(MdBook { command, left_out: &LEFT_OUT })
}

/// The loader of Debian's C library.
fn loader() -> String {
    match ARCH {
        "aarch64" => "ld-linux-aarch64.so.1".to_owned(),
        other => format!("ld-linux-{}.so.2", other.replace('_', "-")),
    }
}

/// Runs it and returns what it said.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let output = command.output();
    let output = output.with_context(|| format!("cannot start: {}", process::shown(command)))?;
    let Output { status, stdout, stderr } = output;
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if !status.success() {
        bail!("{status}: {}\n{said}", process::shown(command));
    }
    Ok(said)
}

/// Whether none of its messages is a warning or an error.
pub(super) fn is_content(said: &str) -> bool {
    !said.lines().any(|line| line.contains("[WARN]") || line.contains("[ERROR]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_noticed_among_messages() {
        let info = "2026-11-30 14:00:00 [INFO] (mdbook::book): Book building has started\n";
        assert!(is_content(info));
        assert!(!is_content(&format!("{info}2026-11-30 14:00:01 [WARN] (mdbook::renderer): x\n")));
    }
}
