//! The open descriptors of a target by kind, and the limits of its main process.
use std::{collections::BTreeMap, fs, time::Instant};

use paramedic_core::target::Target;
use serde::{Deserialize, Serialize};

use super::{Missing, NO_TIME, Reading, is_over, members_of, plain};
use crate::procfs::Tree;

/// Maximum number of descriptors to read of one process.
const MAX_DESCRIPTORS: usize = 65_536;
/// Maximum number of kinds; the rest counts as `other`.
const MAX_KINDS: usize = 64;
/// Width of the names in `/proc/PID/limits`.
const NAME_WIDTH: usize = 26;

/// The open descriptors of a target's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// How many are open.
    pub open: u32,
    /// The process with most of them, and its number.
    pub most: Option<(i32, u32)>,
    /// How many of each kind: `file`, `deleted file`, `device`, `socket`, `pipe`, `memfd`,
    /// `namespace`, `anon_inode:NAME`, `other`.
    pub kinds: BTreeMap<String, u32>,
}

/// Reads the descriptors of all processes of a target.
#[must_use]
pub fn read(tree: &Tree, target: &Target, until: Instant) -> Reading<Descriptors> {
    let pids = match members_of(tree, target) {
        Ok((pids, _)) => pids,
        Err(why) => return Reading::nothing("descriptors", why),
    };
    let mut seen = Descriptors::default();
    let mut missing = Vec::new();
    let mut any = false;
    for pid in pids {
        match count(tree, pid, &mut seen, until) {
            Ok(true) => any = true,
            Ok(false) => {
                any = true;
                missing.push(Missing::new("descriptors", NO_TIME));
                break;
            }
            // The reason is the same for each process.
            Err(why) if missing.is_empty() => missing.push(Missing::new("descriptors", why)),
            Err(_) => {}
        }
    }
    Reading { found: any.then_some(seen), missing }
}

/// Counts those of one process; returns whether there was time for all.
fn count(tree: &Tree, pid: i32, into: &mut Descriptors, until: Instant) -> Result<bool, String> {
    let path = tree.of(pid, "fd");
    let right = "CAP_SYS_PTRACE is needed for processes of other users";
    let entries =
        fs::read_dir(&path).map_err(|error| format!("{}: {error}: {right}", path.display()))?;
    let mut own = 0;
    for entry in entries.take(MAX_DESCRIPTORS).flatten() {
        if is_over(until) {
            return Ok(false);
        }
        let link = fs::read_link(entry.path());
        let kind = link.map_or_else(|_| "other".to_owned(), |link| kind(&link.to_string_lossy()));
        let known = into.kinds.len() < MAX_KINDS || into.kinds.contains_key(&kind);
        let kind = if known { kind } else { "other".to_owned() };
        *into.kinds.entry(kind).or_default() += 1;
        own += 1;
    }
    into.open += own;
    if into.most.is_none_or(|(_, most)| own > most) {
        into.most = Some((pid, own));
    }
    Ok(true)
}

/// The kind of a descriptor by its link in `/proc/PID/fd`.
fn kind(link: &str) -> String {
    let kind = match link {
        path if path.starts_with("/memfd:") => "memfd",
        path if path.starts_with('/') && path.ends_with(" (deleted)") => "deleted file",
        path if path.starts_with("/dev/") => "device",
        path if path.starts_with('/') => "file",
        other => match other.split_once(':') {
            Some(("socket", _)) => "socket",
            Some(("pipe", _)) => "pipe",
            Some(("anon_inode", name)) => {
                let name = name.trim_start_matches('[').trim_end_matches(']');
                return format!("anon_inode:{}", plain(name.as_bytes(), 32));
            }
            Some((_, inode)) if inode.starts_with('[') => "namespace",
            _ => "other",
        },
    };
    kind.to_owned()
}

/// The limits of the main process by name: `soft, hard unit` as the kernel writes them.
#[must_use]
pub fn limits(tree: &Tree, target: &Target) -> Reading<BTreeMap<String, String>> {
    let Some(main) = target.main else {
        return Reading::nothing("limits", "its process is not known");
    };
    match tree.read(main.pid, "limits") {
        Ok(text) => Reading { found: Some(parse_limits(&text)), missing: Vec::new() },
        Err(error) => Reading::nothing("limits", error.to_string()),
    }
}

/// Parses `/proc/PID/limits`: a heading, then lines of `name soft hard [unit]` in columns.
fn parse_limits(text: &str) -> BTreeMap<String, String> {
    let parse = |line: &str| {
        let (name, rest) = (line.get(..NAME_WIDTH)?.trim(), line.get(NAME_WIDTH..)?);
        let mut fields = rest.split_ascii_whitespace();
        let (soft, hard) = (fields.next()?, fields.next()?);
        let unit = fields.next().map(|unit| format!(" {unit}")).unwrap_or_default();
        let name = name.strip_prefix("Max ").unwrap_or(name);
        Some((plain(name.as_bytes(), 32), plain(format!("{soft}, {hard}{unit}").as_bytes(), 64)))
    };
    text.lines().skip(1).take(32).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, net::TcpListener, time::Duration};

    use paramedic_core::target::Cgroups;

    use super::*;

    fn own() -> Target {
        let stat = Tree::default().stat(std::process::id().cast_signed()).unwrap();
        let cgroups = Cgroups { shared: true, ..Cgroups::default() };
        Target { main: Some(stat.instance()), cgroups, ..Target::for_tests("own", 1) }
    }

    #[test]
    fn a_link_tells_the_kind() {
        for (link, expected) in [
            ("socket:[46211]", "socket"),
            ("pipe:[7]", "pipe"),
            ("anon_inode:[eventpoll]", "anon_inode:eventpoll"),
            ("anon_inode:inotify", "anon_inode:inotify"),
            ("net:[4026531833]", "namespace"),
            ("/var/log/app.log", "file"),
            ("/tmp/x (deleted)", "deleted file"),
            ("/memfd:ring (deleted)", "memfd"),
            ("/dev/null", "device"),
            ("", "other"),
            ("strange", "other"),
        ] {
            assert_eq!(kind(link), expected, "{link}");
        }
        assert!(kind(&format!("anon_inode:[{}]", "x".repeat(1000))).len() < 64);
    }

    #[test]
    fn descriptors_of_this_process_are_counted_by_kind() {
        let later = Instant::now() + Duration::from_secs(60);
        let before = read(&Tree::default(), &own(), later).found.unwrap();
        let _files: Vec<_> = (0..30).map(|_| File::open("/dev/null").unwrap()).collect();
        let _sockets: Vec<_> = (0..30).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let seen = read(&Tree::default(), &own(), later).found.unwrap();
        let risen = |kind| seen.kinds[kind] - before.kinds.get(kind).copied().unwrap_or_default();
        assert!(risen("device") >= 25 && risen("socket") >= 25, "{before:?} {seen:?}");
        assert!(seen.most.unwrap().1 >= 60 && seen.open >= seen.most.unwrap().1);
    }

    #[test]
    fn without_time_the_rest_is_missing() {
        let read = read(&Tree::default(), &own(), Instant::now());
        assert_eq!(read.missing, [Missing::new("descriptors", NO_TIME)]);
    }

    #[test]
    fn limits_have_names_and_two_values() {
        let limits = limits(&Tree::default(), &own()).found.unwrap();
        assert!(limits["open files"].contains(','), "{limits:?}");
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max realtime priority     0                    0                    \n\
                    broken\n";
        let parsed = parse_limits(text);
        assert_eq!(parsed["cpu time"], "unlimited, unlimited seconds");
        assert_eq!(parsed["realtime priority"], "0, 0");
        assert_eq!(parsed.len(), 2);
    }
}
