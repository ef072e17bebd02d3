//! The one layer of an image: a tar archive of its root, the same bytes for the same files. The packages of
//! a release are made of such archives too.
use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use tar::{EntryType, Header};

/// One file or link, or a folder above them; paths are relative to the root.
pub(crate) struct Entry {
    path: String,
    kind: EntryType,
    mode: u32,
    /// A file's bytes.
    bytes: Vec<u8>,
    /// What a link points to.
    target: Option<&'static str>,
}

impl Entry {
    pub(crate) fn executable(path: &str, bytes: &[u8]) -> Self {
        Self { mode: 0o755, ..Self::file(path, bytes) }
    }

    pub(crate) fn file(path: &str, bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self { path: path.to_owned(), kind: EntryType::Regular, mode: 0o644, bytes, target: None }
    }

    fn folder(path: &str) -> Self {
        Self { kind: EntryType::Directory, mode: 0o755, ..Self::file(path, &[]) }
    }

    pub(crate) fn link(path: &str, target: &'static str) -> Self {
        let kind = EntryType::Symlink;
        Self { kind, mode: 0o777, target: Some(target), ..Self::file(path, &[]) }
    }
}

/// The archive, sorted by path, each folder before what is in it, all of it root's and of the year
/// 1970.
pub(crate) fn write(entries: Vec<Entry>) -> Result<Vec<u8>> {
    write_dated(entries, 0)
}

/// The same with another time of all entries, in seconds since 1970: archivers and Debian's tools warn of
/// files that are older than they can be.
pub(crate) fn write_dated(entries: Vec<Entry>, time: u64) -> Result<Vec<u8>> {
    let mut sorted = BTreeMap::new();
    for entry in entries {
        for folder in Path::new(&entry.path).ancestors().skip(1) {
            let path = format!("{}/", folder.display());
            if path != "/" {
                sorted.entry(path.clone()).or_insert_with(|| Entry::folder(&path));
            }
        }
        sorted.insert(entry.path.clone(), entry);
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (path, entry) in sorted {
        let shown = || format!("cannot put {path} into an archive");
        let mut header = Header::new_ustar();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header.set_size(entry.bytes.len().try_into()?);
        if let Some(target) = entry.target {
            header.set_link_name(target).with_context(shown)?;
        }
        tar.append_data(&mut header, &path, entry.bytes.as_slice()).with_context(shown)?;
    }
    tar.into_inner().context("cannot end an archive")
}
