//! The files whose code a process has mapped, from the text of `/proc/PID/maps`.
use std::{ffi::OsString, os::unix::ffi::OsStringExt};

/// A file whose code is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    /// The range of addresses, as the name of the entry in `map_files`.
    pub(super) range: String,
    /// Device and inode, as the kernel writes them.
    pub(super) file: String,
    /// Its path in the process's mount namespace.
    pub(super) path: OsString,
    /// Whether the path leads to it no more.
    pub(super) deleted: bool,
}

impl Mapped {
    /// The name of the file, as it can be shown: the process chose it.
    pub(super) fn name(&self) -> String {
        let path = self.path.to_string_lossy();
        let name = path.rsplit('/').next().unwrap_or_default();
        name.chars().map(|c| if c.is_control() { '?' } else { c }).take(80).collect()
    }
}

/// Files with code, each once. Lines that do not look like the kernel's are passed over: a process
/// chooses its files' names.
pub(super) fn mapped(text: &[u8]) -> Vec<Mapped> {
    let mut all: Vec<Mapped> = Vec::new();
    for found in text.split(|byte| *byte == b'\n').filter_map(line) {
        if !all.iter().any(|other| other.file == found.file) {
            all.push(found);
        }
    }
    all
}

/// `7f..-7f.. r-xp 00001000 fd:00 1234    /usr/lib/libssl.so.3`
fn line(line: &[u8]) -> Option<Mapped> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(words.next()?).ok();
    let (range, rights, _, device, inode) = (word()?, word()?, word()?, word()?, word()?);
    let (begin, end) = range.split_once('-')?;
    u64::from_str_radix(begin, 16).ok()?;
    u64::from_str_radix(end, 16).ok()?;
    if !rights.contains('x') || inode.parse::<u64>().ok()? == 0 {
        return None;
    }
    let path = words.next()?.trim_ascii_start();
    let (path, deleted) = match path.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    if path.first() != Some(&b'/') {
        return None;
    }
    Some(Mapped {
        range: range.to_owned(),
        file: format!("{device} {inode}"),
        path: OsString::from_vec(unescaped(path)),
        deleted,
    })
}

/// The kernel writes a line feed in a path as `\012`.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = behind;
        } else {
            plain.push(*first);
            rest = behind;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
558d0d25a000-558d0d25c000 r--p 00000000 fd:00 1318     /usr/bin/cat
558d0d25c000-558d0d261000 r-xp 00002000 fd:00 1318     /usr/bin/cat
558d0e000000-558d0e021000 rw-p 00000000 00:00 0        [heap]
7f00-7f10 r-xp 00001000 00:3c 77 /usr/lib/x86_64-linux-gnu/libssl.so.3
7f10-7f20 rwxp 00001000 00:3c 77 /usr/lib/x86_64-linux-gnu/libssl.so.3
7f20-7f30 r-xp 00001000 00:3c 78 /tmp/a b\\012c (deleted)
7f30-7f40 r-xp 00000000 00:00 0
7f40-7f50 r-xp 00000000 00:05 9 /memfd:x (deleted)
7ffd-7fff r-xp 00000000 00:00 0                        [vdso]";

    #[test]
    fn files_with_code_are_found_once() {
        let found = mapped(TEXT.as_bytes());
        let names: Vec<_> = found.iter().map(|mapped| (mapped.name(), mapped.deleted)).collect();
        let expected = [("cat", false), ("libssl.so.3", false), ("a b?c", true), ("memfd:x", true)];
        assert_eq!(names, expected.map(|(name, deleted)| (name.to_owned(), deleted)));
        assert_eq!(found[1].range, "7f00-7f10");
        assert_eq!(found[1].path, "/usr/lib/x86_64-linux-gnu/libssl.so.3");
    }

    #[test]
    fn other_lines_are_passed_over() {
        for text in [
            "",
            "\n\n",
            "x-y r-xp 0 0:0 5 /a",
            "1-2 r-xp 0 0:0 x /a",
            "1-2 r-xp 0 0:0 5",
            "1-2 r-xp 0 0:0 5 relative",
            "1-2 rw-p 0 0:0 5 /a",
            "\u{fffd}-2 r-xp 0 0:0 5 /a",
        ] {
            assert_eq!(mapped(text.as_bytes()), [], "{text:?}");
        }
    }

    #[test]
    fn this_process_is_among_what_it_maps() {
        let text = std::fs::read("/proc/self/maps").unwrap();
        let own = std::env::current_exe().unwrap();
        assert!(mapped(&text).iter().any(|mapped| own == *mapped.path));
    }
}
