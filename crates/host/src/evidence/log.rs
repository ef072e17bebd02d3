//! The end of a pod's log, where the kubelet keeps it.
use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use paramedic_core::target::PodRef;
use serde::{Deserialize, Serialize};

use super::{Reading, plain};

/// The kubelet's directory of logs.
pub const POD_LOGS: &str = "/var/log/pods";

/// Maximum size of a log's end, in bytes.
pub const MAX_LOG: usize = 64 << 10;

/// A text that others wrote, and where it is from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Its source, in words.
    pub from: String,
    /// Whether it is only a part: the end of a log, the beginning of a dump.
    pub cut: bool,
    /// The text, without control characters but line breaks and tabs.
    pub text: String,
}

impl Text {
    /// The last [`MAX_LOG`] bytes of a log, from the beginning of a line on.
    #[must_use]
    pub fn end_of_log(from: String, bytes: &[u8], cut: bool) -> Self {
        let cut = cut || bytes.len() > MAX_LOG;
        let end = bytes.get(bytes.len().saturating_sub(MAX_LOG)..).unwrap_or_default();
        let lines = if cut { from_next_line(end) } else { end };
        // Replaced bytes make it longer: then the newest lines are kept again.
        let text = plain(lines, usize::MAX);
        let text = match text.len().checked_sub(MAX_LOG) {
            None | Some(0) => text,
            Some(over) => {
                let rest = text.get(text.ceil_char_boundary(over)..).unwrap_or_default();
                rest.split_once('\n').map_or("", |(_, lines)| lines).to_owned()
            }
        };
        Self { from, cut, text }
    }

    /// The first `most` bytes of a text.
    #[must_use]
    pub fn beginning(from: String, bytes: &[u8], most: usize, cut: bool) -> Self {
        let text = plain(bytes, most);
        Self { from, cut: cut || bytes.len() > most, text }
    }
}

/// What follows the first line break. A part of a line could begin within a secret.
fn from_next_line(bytes: &[u8]) -> &[u8] {
    let line = bytes.iter().position(|byte| *byte == b'\n');
    line.and_then(|at| bytes.get(at + 1..)).unwrap_or_default()
}

/// Reads the end of the newest log of a pod's container below `root`, usually [`POD_LOGS`].
#[must_use]
pub fn read(root: &Path, pod: &PodRef) -> Reading<Text> {
    let found = newest(root, pod)
        .and_then(|path| tail(&path).map_err(|error| format!("{}: {error}", path.display())));
    match found {
        Ok(text) => Reading { found: Some(text), missing: Vec::new() },
        Err(why) => Reading::nothing("log", why),
    }
}

/// The log with the highest number, which counts the container's restarts.
fn newest(root: &Path, pod: &PodRef) -> Result<PathBuf, String> {
    let PodRef { namespace, name, uid, container, .. } = pod;
    if [namespace, name, uid, container].into_iter().any(|part| part.contains('/')) {
        return Err("its name is not that of a directory".to_owned());
    }
    if !root.is_dir() {
        return Err(format!(
            "{} is not mounted in the agent; docs/evidence.md shows how to mount it",
            root.display()
        ));
    }
    let folder = root.join(format!("{namespace}_{name}_{uid}")).join(container);
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_suffix(".log")?.parse::<u32>().ok()
    };
    let logs = entries.flatten().map(|entry| entry.path());
    let newest = logs.filter_map(|path| Some((number(&path)?, path))).max();
    newest.map(|(_, path)| path).ok_or_else(|| format!("{} holds no log", folder.display()))
}

/// The end of a regular file. A link is not followed: it could lead anywhere on the node.
fn tail(path: &Path) -> io::Result<Text> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // One byte more: if it is a line break, the text begins with a whole line.
    let start = metadata.len().saturating_sub(MAX_LOG as u64 + 1);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Text::end_of_log(path.display().to_string(), &bytes, start > 0))
}

#[cfg(test)]
mod tests {
    use paramedic_core::target::Target;

    use super::*;

    fn pod() -> PodRef {
        PodRef::clone(Target::pod_for_tests("web", 1).pod().unwrap())
    }

    fn folder_of(root: &Path) -> PathBuf {
        let folder = root.join("default_web_uid-web").join("app");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn the_log_of_the_last_restart_is_read() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder_of(root.path());
        fs::write(folder.join("2.log"), "old\n").unwrap();
        fs::write(folder.join("10.log"), "first\nlast\n").unwrap();
        fs::write(folder.join("10.log.20260101"), "rotated\n").unwrap();
        let text = read(root.path(), &pod()).found.unwrap();
        assert_eq!((text.text.as_str(), text.cut), ("first\nlast\n", false));
        assert!(text.from.ends_with("10.log"), "{}", text.from);
    }

    #[test]
    fn a_long_log_is_cut_at_a_line() {
        let root = tempfile::tempdir().unwrap();
        let lines: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        fs::write(folder_of(root.path()).join("0.log"), lines).unwrap();
        let text = read(root.path(), &pod()).found.unwrap();
        assert!(text.cut && text.text.len() <= MAX_LOG);
        assert!(text.text.starts_with("line ") && text.text.ends_with("line 19999\n"));
    }

    #[test]
    fn one_line_without_an_end_and_bytes_that_are_no_text_stay_within_the_limit() {
        let endless = Text::end_of_log(String::new(), &[b'x'; 200_000], false);
        assert_eq!((endless.text.as_str(), endless.cut), ("", true));
        let bytes: Vec<u8> = [&[0xff; 99][..], b"\n"].concat().repeat(2000);
        let replaced = Text::end_of_log(String::new(), &bytes, false);
        assert!(!replaced.text.is_empty() && replaced.text.len() <= MAX_LOG);
        let dump = Text::beginning(String::new(), &[0xff; 1000], 100, false);
        assert!(dump.cut && dump.text.len() <= 100);
    }

    #[test]
    fn a_missing_mount_a_missing_pod_and_a_link_are_said() {
        let root = tempfile::tempdir().unwrap();
        let why = |root: &Path| read(root, &pod()).missing[0].why.clone();
        assert!(why(&root.path().join("none")).contains("not mounted"));
        assert!(why(root.path()).contains("default_web_uid-web"));
        let folder = folder_of(root.path());
        assert!(why(root.path()).contains("holds no log"));
        std::os::unix::fs::symlink("/etc/hostname", folder.join("0.log")).unwrap();
        assert!(why(root.path()).contains("0.log"), "a link is not followed");
        let evil = PodRef { name: "../..".to_owned(), ..pod() };
        assert!(read(root.path(), &evil).found.is_none());
    }
}
