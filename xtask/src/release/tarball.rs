//! Compressed tar archives, the same bytes for the same files.
use std::io::Write as _;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

use super::content::{CHANGELOG, Content, DEFAULT, LICENSE, UNIT};
use crate::image::layer::{self, Entry};

/// The name of the folder in the archive of the program, and of the archive.
pub(super) fn name(content: &Content) -> String {
    format!("paramedic-{}-linux-{}", content.version, content.arch.rust())
}

/// The program with its manual pages, completions and unit, for any distribution.
pub(super) fn of_program(content: &Content) -> Result<Vec<u8>> {
    let root = name(content);
    let mut entries = vec![Entry::executable(&format!("{root}/paramedic"), &content.program)];
    let mut add =
        |path: &str, bytes: &[u8]| entries.push(Entry::file(&format!("{root}/{path}"), bytes));
    for (path, file) in [
        ("LICENSE", LICENSE),
        ("CHANGELOG.md", CHANGELOG),
        ("systemd/paramedic.service", UNIT),
        ("systemd/default", DEFAULT),
    ] {
        add(path, content.file(file));
    }
    for (page, text) in &content.pages {
        add(&format!("man1/{page}"), text);
    }
    for (shell, script) in &content.completions {
        add(&format!("completions/paramedic.{shell}"), script);
    }
    gzip(&layer::write_dated(entries, content.created)?)
}

/// The bytes, compressed: without a name and a time.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).context("cannot compress")
}
