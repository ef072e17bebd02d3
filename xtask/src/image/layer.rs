//! The one layer of an image: a tar archive of its root, the same bytes for the same files.
use anyhow::{Context, Result};
use tar::{EntryType, Header};

/// One file, folder or link; paths are relative to the root.
pub(super) struct Entry {
    path: String,
    kind: EntryType,
    mode: u32,
    /// A file's bytes.
    bytes: Vec<u8>,
    /// What a link points to.
    target: Option<&'static str>,
}

impl Entry {
    pub(super) fn executable(path: &str, bytes: &[u8]) -> Self {
        Self { mode: 0o755, ..Self::file(path, bytes) }
    }

    pub(super) fn file(path: &str, bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self { path: path.to_owned(), kind: EntryType::Regular, mode: 0o644, bytes, target: None }
    }

    pub(super) fn folder(path: &str) -> Self {
        Self { kind: EntryType::Directory, mode: 0o755, ..Self::file(&format!("{path}/"), &[]) }
    }

    pub(super) fn link(path: &str, target: &'static str) -> Self {
        let kind = EntryType::Symlink;
        Self { kind, mode: 0o777, target: Some(target), ..Self::file(path, &[]) }
    }
}

/// The archive, sorted by path, all of it root's and of the year 1970.
pub(super) fn write(mut entries: Vec<Entry>) -> Result<Vec<u8>> {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let shown = || format!("cannot put {} into an archive", entry.path);
        let mut header = Header::new_ustar();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(entry.bytes.len().try_into()?);
        if let Some(target) = entry.target {
            header.set_link_name(target).with_context(shown)?;
        }
        tar.append_data(&mut header, &entry.path, entry.bytes.as_slice()).with_context(shown)?;
    }
    tar.into_inner().context("cannot end an archive")
}
