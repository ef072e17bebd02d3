//! Conditions on this machine that a restart would not change.
//!
//! A full file system is full for the next process too. A worker that started after the service was
//! last seen well, and has failed since, shows the result of a start: another start does not repair
//! a bad configuration that was just reloaded. Both are reasons to leave the service to an
//! operator. A condition that cannot be checked is no reason.
use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::statvfs::{FsFlags, Statvfs, fstatvfs},
};
use paramedic_core::{boot_time::BootTime, target::ProcessId};
use paramedic_host::{
    mountinfo::{Place, places},
    process::accepts::{self, Accepts},
    procfs::{Table, Tree, started},
    socket,
};

/// Maximum number of file systems to check per process.
const MAX_PLACES: usize = 200;

/// Local file systems: a remote one (or one of a user's program) may take forever to answer.
const LOCAL: [&str; 11] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs", "bcachefs", "jfs"];

/// Full on purpose, or irrelevant for a service.
const LEFT_OUT: [&str; 3] = ["/boot", "/dev/shm", "/run/lock"];

/// A worker that existed this long before the service was last seen well may not have contributed:
/// an old one ends after the new one has started, and samples are seconds apart.
const OVERLAP: Duration = Duration::from_secs(5);

/// Why a restart of the process would change nothing, if that is visible; `well_at` is when it was
/// last seen well. Without a `port` its workers are unknown. Blocks while it reads `/proc`.
#[must_use]
pub fn would_not_help(
    tree: &Tree,
    main: ProcessId,
    port: Option<u16>,
    well_at: Option<BootTime>,
) -> Option<String> {
    if !tree.still_alive(main) {
        return None;
    }
    let full = || {
        let point = full(tree, main.pid)?;
        Some(format!("the file system at {} is full: a restart makes no room", point.display()))
    };
    let failed = || {
        let age =
            paramedic_host::clock::now().since(new_workers(tree, main, port?, well_at?)?).as_secs();
        Some(format!(
            "its workers are new (the first started {age} s ago, after the service was last seen \
             well) and have not been well since: a restart would start them the same way"
        ))
    };
    full().or_else(failed)
}

/// The first full file system of the process.
fn full(tree: &Tree, pid: i32) -> Option<PathBuf> {
    let mountinfo = tree.read(pid, "mountinfo").ok()?;
    let mut root = File::options();
    root.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
    let root = root.open(tree.of(pid, "root")).ok()?;
    let is_full = |point: &Path| look(&root, point).is_some_and(|stat| has_no_room(&stat));
    writable(&mountinfo).into_iter().find(|point| is_full(point))
}

/// The mount points to check, in order.
fn writable(mountinfo: &str) -> Vec<PathBuf> {
    let all: Vec<Place<'_>> = places(mountinfo).collect();
    let is_local = |place: &Place<'_>| LOCAL.contains(&place.kind);
    // A later mount hides an earlier one, and a path through a hidden one ends there.
    let behind = |place: &Place<'_>| {
        let hides = |other: &&Place<'_>| place.point.starts_with(&other.point);
        let distant = |other: &Place<'_>| is_distant(other.kind);
        let last = all.iter().rfind(|other| other.point == place.point);
        all.iter().filter(hides).any(distant) || last != Some(place)
    };
    let left_out = |place: &Place<'_>| LEFT_OUT.iter().any(|dir| place.point.starts_with(dir));
    let meant = |place: &&Place<'_>| {
        is_local(place) && !place.read_only && !left_out(place) && !behind(place)
    };
    let mut points: Vec<PathBuf> = Vec::new();
    for place in all.iter().take(MAX_PLACES).filter(meant) {
        if !points.contains(&place.point) {
            points.push(place.point.clone());
        }
    }
    points
}

/// Whether the file system may wait for another machine or program.
fn is_distant(kind: &str) -> bool {
    kind.starts_with("nfs")
        || kind.starts_with("fuse")
        || ["cifs", "smb3", "9p", "ceph", "afs", "autofs", "glusterfs", "lustre"].contains(&kind)
}

/// Opens a path of the process: nothing in it may lead outside of what the process sees.
fn look(root: &File, point: &Path) -> Option<Statvfs> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).resolve(resolve | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let directory = openat2(root.as_fd(), point, how).ok()?;
    fstatvfs(&directory).ok()
}

/// As `df` shows it: space that is reserved for root does not count.
fn has_no_room(stat: &Statvfs) -> bool {
    let writable = !stat.flags().contains(FsFlags::ST_RDONLY);
    let no_blocks = stat.blocks() > 0 && stat.blocks_available() == 0;
    let no_files = stat.files() > 0 && stat.files_available() == 0;
    writable && (no_blocks || no_files)
}

/// Start of the service's first worker, if all workers are newer than the last time that it was
/// seen well, and they alone serve.
fn new_workers(tree: &Tree, main: ProcessId, port: u16, well_at: BootTime) -> Option<BootTime> {
    let sockets = socket::listening(tree, port).ok()?;
    let inodes = sockets.iter().map(|socket| socket.inode).collect();
    let table = tree.table().ok()?;
    let family = table.0.keys().copied().filter(|&pid| table.descends(pid, main.pid));
    let mut held = socket::owners_among(tree, family, &inodes).held;
    if held.remove(&main.pid).is_some_and(|sockets| {
        let seen = accepts::look(tree, port, &[(main.pid, sockets)].into());
        !seen.is_ok_and(|seen| seen.get(&main.pid) == Some(&Accepts::No))
    }) {
        return None;
    }
    newest(&table, held.keys().copied(), well_at)
}

fn newest(
    table: &Table,
    workers: impl Iterator<Item = i32>,
    well_at: BootTime,
) -> Option<BootTime> {
    let begun = |pid| table.0.get(&pid).map(|stat| started(stat.start_time));
    let first = workers.map(begun).collect::<Option<Vec<BootTime>>>()?.into_iter().min()?;
    (first + OVERLAP >= well_at).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use paramedic_host::{
        process::discover,
        procfs::Stat,
        testing::{Service, listen},
    };

    #[test]
    fn only_local_writable_reachable_file_systems_are_checked() {
        let text = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                    2 1 0:2 / /proc rw - proc proc rw\n\
                    3 1 0:3 / /dev/shm rw - tmpfs t rw\n\
                    4 1 0:4 / /run rw - tmpfs t rw\n\
                    5 4 0:5 / /run/lock rw - tmpfs t rw\n\
                    6 1 0:6 / /snap ro - squashfs s ro\n\
                    7 1 8:2 / /boot rw - ext4 /dev/b rw\n\
                    8 1 0:8 / /home rw - nfs4 far rw\n\
                    9 8 8:3 / /home/near rw - xfs /dev/c rw\n\
                    10 1 8:4 / /data rw - xfs /dev/d rw\n\
                    11 1 0:9 / /data rw - nfs far rw\n\
                    12 1 8:5 / /old ro - ext4 /dev/e ro\n\
                    13 1 8:6 / /srv rw - btrfs /dev/f rw\n";
        let found = writable(text);
        assert_eq!(found, ["/", "/run", "/srv"].map(PathBuf::from));
        let many = (0..300).map(|n| format!("{n} 1 8:1 / /{n} rw - xfs /dev/a rw\n"));
        assert_eq!(writable(&many.collect::<String>()).len(), MAX_PLACES);
        assert!(writable("").is_empty());
    }

    fn workers(started: &[u64], well_at: u64) -> Option<BootTime> {
        let ticks = |seconds: u64| seconds * 100;
        let stat = |(pid, start): (i32, u64)| {
            let (name, state, start_time) = ("x".to_owned(), 'S', ticks(start));
            (pid, Stat { pid, name, state, parent: 1, group: 1, start_time, ..Stat::default() })
        };
        let table = Table((1..).zip(started.iter().copied()).map(stat).collect());
        newest(&table, table.0.keys().copied(), BootTime::from(Duration::from_secs(well_at)))
    }

    #[test]
    fn workers_count_as_new_if_all_started_after_the_service_was_well() {
        let second = |second| Some(BootTime::from(Duration::from_secs(second)));
        assert_eq!(workers(&[100, 101], 90), second(100));
        assert_eq!(workers(&[100], 105), second(100), "both were there for a moment");
        assert_eq!(workers(&[100, 101], 106), None);
        assert_eq!(workers(&[80, 101], 90), None, "one of them was there");
        assert_eq!(workers(&[], 90), None, "it has none");
    }

    #[test]
    fn a_main_process_that_serves_has_no_new_workers() {
        // The worker ends with its parent (PR_SET_PDEATHSIG), and so with the test.
        let script = "import ctypes, os, socket\n\
                      s = socket.socket(fileno=0)\n\
                      if os.fork(): print('ready', flush=True)\n\
                      else: ctypes.CDLL(None).prctl(1, 9)\n\
                      s.accept()\n";
        let (socket, port) = listen("127.0.0.1");
        let mut service = Service::start(socket, &["python3", "-c", script]);
        service.says("ready");
        let tree = Tree::default();
        let main = discover(&tree, port, &[]).unwrap().instance;
        assert_eq!(main.pid, service.pid());
        assert_eq!(new_workers(&tree, main, port, BootTime::from_nanos(1)), None);
        let room = would_not_help(&tree, main, Some(port), Some(BootTime::from_nanos(1)));
        assert_eq!(room, None, "and there is room on this machine's disks");
    }
}
