//! Finds the mount points of the cgroup hierarchies in `/proc/self/mountinfo`.
//!
//! A host has cgroup2 alone (`unified`), the v1 controllers alone, or both (hybrid). A mount may
//! show only part of its hierarchy (a bind mount, a container's view): `root` names that part, as
//! seen from the reader's cgroup namespace, and begins with `/..` if it reaches further up.
use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount point.
    pub point: PathBuf,
    /// The cgroup that appears at the mount point: `/`, or another if the mount shows a part.
    pub root: PathBuf,
    /// The reader's namespace root below the mount point, if known; needed only if `root` is above
    /// it.
    pub namespace: Option<PathBuf>,
}

impl Mount {
    /// The directory of a cgroup named as in `/proc/PID/cgroup`; `None` if the mount does not show
    /// it.
    #[must_use]
    pub fn directory(&self, cgroup: &str) -> Option<PathBuf> {
        let below = Path::new(cgroup).strip_prefix(&self.root).ok().and_then(plain);
        Some(self.point.join(below.or_else(|| self.through_namespace(cgroup))?))
    }

    /// The cgroup's name starts at the namespace's root, which is below the mount's.
    fn through_namespace(&self, cgroup: &str) -> Option<PathBuf> {
        let mut path = self.namespace.clone()?;
        for part in Path::new(cgroup).components() {
            match part {
                Component::ParentDir if !path.pop() => return None,
                Component::Normal(name) => path.push(name),
                _ => {}
            }
        }
        Some(path)
    }

    /// How far above the reader's namespace the mount starts: the number of leading `..`.
    pub fn above(&self) -> usize {
        self.root.components().filter(|c| matches!(c, Component::ParentDir)).count()
    }

    /// A mount that starts further up shows more.
    fn shows_more_than(&self, other: &Self) -> bool {
        let depth = |m: &Self| m.root.components().count() - m.above();
        (self.above(), depth(other)) > (other.above(), depth(self))
    }
}

/// The path, if it contains no `..`.
fn plain(path: &Path) -> Option<PathBuf> {
    path.components().all(|c| matches!(c, Component::Normal(_))).then(|| path.to_owned())
}

/// The relevant mounts. The v1 controllers are `None` on a host with cgroup2 alone, `unified` is
/// `None` on one with v1 alone, and a hybrid has both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// cgroup2.
    pub unified: Option<Mount>,
    /// The v1 hierarchy of `cpu`.
    pub cpu: Option<Mount>,
    /// The v1 hierarchy of `cpuacct`; often the same as `cpu`.
    pub cpuacct: Option<Mount>,
    /// The v1 hierarchy of `memory`.
    pub memory: Option<Mount>,
}

impl Hierarchies {
    /// Parses the text of mountinfo. Skips invalid lines and other file systems. Of several mounts
    /// of one hierarchy, takes the one that shows most.
    #[must_use]
    pub fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for (mount, kind, options) in mountinfo.lines().filter_map(line) {
            if kind == "cgroup2" {
                keep(&mut found.unified, &mount);
            } else if kind == "cgroup" {
                for option in options.split(',') {
                    match option {
                        "cpu" => keep(&mut found.cpu, &mount),
                        "cpuacct" => keep(&mut found.cpuacct, &mount),
                        "memory" => keep(&mut found.memory, &mount),
                        _ => {}
                    }
                }
            }
        }
        found
    }

    /// All mounts.
    pub fn mounts_mut(&mut self) -> impl Iterator<Item = &mut Mount> {
        [&mut self.unified, &mut self.cpu, &mut self.cpuacct, &mut self.memory]
            .into_iter()
            .flatten()
    }
}

fn keep(slot: &mut Option<Mount>, mount: &Mount) {
    if slot.as_ref().is_none_or(|kept| mount.shows_more_than(kept)) {
        *slot = Some(mount.clone());
    }
}

/// `id parent device root point options [optional…] - type source super-options`
fn line(line: &str) -> Option<(Mount, &str, &str)> {
    let mut fields = line.split(' ');
    let root = unescape(fields.nth(3)?);
    let point = unescape(fields.next()?);
    fields.next()?;
    fields.find(|&field| field == "-")?;
    let kind = fields.next()?;
    let options = fields.nth(1)?;
    let absolute = root.is_absolute() && point.is_absolute();
    absolute.then_some((Mount { point, root, namespace: None }, kind, options))
}

/// A file system that a process sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The mount point.
    pub point: PathBuf,
    /// Its type, such as `ext4`.
    pub kind: &'a str,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// All file systems in the text of a process's mountinfo, in the order of mounting: a later one
/// hides an earlier one at the same point. Skips invalid lines.
pub fn places(mountinfo: &str) -> impl Iterator<Item = Place<'_>> {
    mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let point = unescape(fields.nth(4)?);
        let options = fields.next()?;
        fields.find(|&field| field == "-")?;
        let kind = fields.next()?;
        let more = fields.nth(1)?;
        let read_only = options.split(',').chain(more.split(',')).any(|option| option == "ro");
        point.is_absolute().then_some(Place { point, kind, read_only })
    })
}

/// Decodes the kernel's `\040`: three octal digits for space, tab, line feed, `\` and `#`.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = (byte == b'\\').then(|| tail.get(..3)).flatten().and_then(octal);
        bytes.push(digits.unwrap_or(byte));
        rest = if digits.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    OsString::from_vec(bytes).into()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let valid = digits.iter().all(|d| (b'0'..=b'7').contains(d));
    let text = std::str::from_utf8(digits).ok()?;
    valid.then(|| u8::from_str_radix(text, 8).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(point: &str, root: &str) -> Mount {
        Mount { point: point.into(), root: root.into(), namespace: None }
    }

    #[test]
    fn escapes_and_optional_fields_are_understood() {
        let text = "41 31 0:38 / /mnt/a\\040b\\134c rw shared:9 master:1 - cgroup2 none rw\n";
        assert_eq!(Hierarchies::parse(text).unified, Some(mount("/mnt/a b\\c", "/")));
        assert_eq!(unescape("a\\04"), PathBuf::from("a\\04"));
        assert_eq!(unescape("\\999\\777\\"), PathBuf::from("\\999\\777\\"));
        assert_eq!(unescape("\\é"), PathBuf::from("\\é"));
    }

    #[test]
    fn controllers_mounted_together_share_a_mount() {
        let text = "36 31 0:34 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let found = Hierarchies::parse(text);
        assert_eq!(found.cpu, Some(mount("/sys/fs/cgroup/cpu,cpuacct", "/")));
        assert_eq!(found.cpu, found.cpuacct);
        assert_eq!((found.unified, found.memory), (None, None));
    }

    #[test]
    fn invalid_lines_are_skipped() {
        let text = "\n \n36\n36 31 0:34 / /a rw\n36 31 0:34 / /a rw - cgroup2\n\
                    36 31 0:34 x y rw - cgroup2 a rw\n36 31 0:34 / /a rw shared:1 cgroup2 c rw\n";
        assert_eq!(Hierarchies::parse(text), Hierarchies::default());
    }

    #[test]
    fn places_have_their_type_and_whether_they_are_read_only() {
        let text = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/a rw\n\
                    23 22 0:5 / /a\\040b ro,nosuid - tmpfs t rw\n\
                    24 22 0:6 / /c rw - xfs /dev/c ro,attr2\n\
                    25 22 0:6 / d rw - xfs /dev/c rw\n26 22 0:7 / /e rw - xfs\n";
        let place = |point: &str, kind, read_only| Place { point: point.into(), kind, read_only };
        let found: Vec<_> = places(text).collect();
        let right = [("/", "ext4", false), ("/a b", "tmpfs", true), ("/c", "xfs", true)];
        assert_eq!(found, right.map(|(point, kind, ro)| place(point, kind, ro)));
    }

    #[test]
    fn the_mount_that_shows_most_is_taken() {
        let line = |root: &str, point: &str| format!("1 1 0:1 {root} {point} rw - cgroup2 c rw\n");
        let part = line("/kubepods/a", "/part");
        let own = line("/", "/sys/fs/cgroup");
        let host = line("/../../..", "/host/cgroup");
        for text in [format!("{part}{own}{host}"), format!("{host}{own}{part}")] {
            assert_eq!(Hierarchies::parse(&text).unified.unwrap().point, Path::new("/host/cgroup"));
        }
        let unified = Hierarchies::parse(&format!("{part}{own}")).unified;
        assert_eq!(unified.unwrap().point, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn a_cgroup_is_found_below_the_mount_or_not_at_all() {
        let at = |root, cgroup| mount("/c", root).directory(cgroup);
        assert_eq!(at("/", "/a/b"), Some("/c/a/b".into()));
        assert_eq!(at("/", "/"), Some("/c".into()));
        assert_eq!(at("/docker/1", "/docker/1/x"), Some("/c/x".into()));
        assert_eq!(at("/docker/1", "/docker/12"), None);
        assert_eq!(at("/docker/1", "/"), None);
        assert_eq!(at("/", "/../escape"), None, "above the reader's namespace");
        assert_eq!(at("/../..", "/../../kubepods/x"), Some("/c/kubepods/x".into()));
        assert_eq!(at("/../..", "/../sibling"), None, "the step between is unknown");
    }

    #[test]
    fn a_known_namespace_leads_to_siblings() {
        let host = Mount { namespace: Some("kubepods/agent".into()), ..mount("/c", "/../..") };
        assert_eq!(host.directory("/../sibling"), Some("/c/kubepods/sibling".into()));
        assert_eq!(host.directory("/"), Some("/c/kubepods/agent".into()));
        assert_eq!(host.directory("/../../system"), Some("/c/system".into()));
        assert_eq!(host.directory("/../../../x"), None);
    }
}
