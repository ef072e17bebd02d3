//! The archive that a kernel unpacks as its first root: cpio in the form `newc`, written here
//! because it can hold device files, which only root could make for a tool to pick up.
use std::{collections::BTreeSet, io, path::Path};

/// Types of files, as in `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

/// An archive under way.
pub(super) struct Archive<W> {
    to: W,
    written: usize,
    entries: u32,
    directories: BTreeSet<String>,
}

/// What stands in an entry's head beside its name.
#[derive(Default)]
struct Head {
    mode: u32,
    size: u32,
    device: (u32, u32),
}

impl<W: io::Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, written: 0, entries: 0, directories: BTreeSet::new() }
    }

    /// A directory and those above it.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        let above: Vec<&Path> = path.ancestors().collect();
        for directory in above.into_iter().rev() {
            let name = name(directory)?;
            if !name.is_empty() && self.directories.insert(name.to_owned()) {
                self.entry(name, &Head { mode: DIRECTORY | 0o755, ..Head::default() }, &[])?;
            }
        }
        Ok(())
    }

    /// A file that all may read and execute.
    pub(super) fn file(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.parent(path)?;
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.entry(name(path)?, &Head { mode: REGULAR | 0o755, size, ..Head::default() }, bytes)
    }

    /// A character device by its numbers.
    pub(super) fn device(&mut self, path: &Path, device: (u32, u32)) -> io::Result<()> {
        self.parent(path)?;
        self.entry(name(path)?, &Head { mode: CHARACTER_DEVICE | 0o600, device, size: 0 }, &[])
    }

    /// Writes the end.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", &Head::default(), &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn parent(&mut self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(&mut self, name: &str, head: &Head, bytes: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let (major, minor) = head.device;
        // Magic, inode, mode, owner, group, links, time, size, two devices, name's length, sum.
        let fields =
            [self.entries, head.mode, 0, 0, 1, 0, head.size, 0, 0, major, minor, length, 0];
        let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.write(format!("070701{fields}{name}\0").as_bytes())?;
        self.write(bytes)
    }

    /// Writes, and fills up to a multiple of four.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.written += bytes.len();
        let fill = self.written.next_multiple_of(4) - self.written;
        self.to.write_all(&[0; 4][..fill])?;
        self.written += fill;
        Ok(())
    }
}

/// A name in the archive begins at its root.
fn name(path: &Path) -> io::Result<&str> {
    let name = path.to_str().ok_or_else(|| io::Error::other("a name that is not UTF-8"))?;
    Ok(name.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_each_directory_once_and_ends() {
        let mut archive = Archive::new(Vec::new());
        archive.file(Path::new("/a/b/one"), b"12345").unwrap();
        archive.file(Path::new("/a/two"), b"").unwrap();
        archive.device(Path::new("/dev/console"), (5, 1)).unwrap();
        let bytes = archive.finish().unwrap();
        assert!(bytes.len().is_multiple_of(4));
        let text = String::from_utf8(bytes).unwrap();
        let heads: Vec<&str> = text.split("070701").skip(1).collect();
        let names: Vec<&str> =
            heads.iter().map(|head| head[104..].split('\0').next().unwrap()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/two", "dev", "dev/console", "TRAILER!!!"]);
        assert_eq!(&heads[2][8..16], "000081ed", "a regular file that may be executed");
        assert_eq!(&heads[2][48..56], "00000005", "its size");
        assert_eq!(&heads[5][72..88], "0000000500000001", "the device's numbers");
    }
}
