//! Reads what else this machine shows of a target: queues, descriptors, tasks, pressure.
//!
//! Some of it takes a file per process, so it is read only when a remedy may follow. Each part may
//! be missing: a file that cannot be read is no witness, and no error.
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
};

use paramedic_core::{
    signal::{Pressure, Share, Witnesses},
    target::{Cgroup, Target},
};

use crate::{
    cgroup::members,
    cgroup_files::some_avg10,
    mountinfo::Mount,
    procfs::{Stat, Tree, read_text},
    socket::{self, Line, State},
};

/// Maximum number of processes to read, and of descriptors per process.
const MAX_PROCESSES: usize = 64;
const MAX_DESCRIPTORS: usize = 65_536;
/// Maximum size of a socket table: some ten thousand connections, a few milliseconds.
const MAX_TABLE: u64 = 2 << 20;

/// A source of witnesses on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What is read.
    pub name: &'static str,
    /// Where from.
    pub from: &'static str,
    /// Why it cannot be read here; `None` if it can.
    pub missing: Option<String>,
}

/// What of a target can be read on this machine before a remedy.
#[must_use]
pub fn sources(tree: &Tree) -> Vec<Source> {
    let own = std::process::id().cast_signed();
    let file = |pid, name: &str| {
        let path = tree.of(pid, name);
        File::open(&path).err().map(|error| format!("{}: {error}", path.display()))
    };
    let folder = |pid, name: &str| {
        let path = tree.of(pid, name);
        fs::read_dir(&path).err().map(|error| {
            let right = "CAP_SYS_PTRACE is needed for processes of other users";
            format!("{}: {error}: {right}", path.display())
        })
    };
    let root = tree.hierarchies().ok().and_then(|found| found.unified);
    let root = root.ok_or_else(|| "no cgroup2 is mounted".to_owned());
    let at = |mount: Mount| tree.root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
    let controllers = root.map(|mount| at(mount).join("cgroup.controllers"));
    let has_pids = controllers.as_ref().map(|path| {
        read_text(path).is_ok_and(|all| all.split_ascii_whitespace().any(|one| one == "pids"))
    });
    let tasks = match has_pids {
        Ok(true) => None,
        Ok(false) => Some("the controller pids is not in cgroup2".to_owned()),
        Err(why) => Some(why.clone()),
    };
    let pressure = match (&controllers, File::open(tree.proc.join("pressure/cpu"))) {
        (Err(why), _) => Some(why.clone()),
        (_, Err(error)) => Some(format!("/proc/pressure: {error}: boot with psi=1")),
        _ => None,
    };
    [
        ("accept_queue", "/proc/PID/net/tcp", file(own, "net/tcp")),
        ("unread_data", "/proc/PID/net/tcp", file(own, "net/tcp")),
        ("process_states", "/proc/PID/stat", file(1, "stat")),
        ("descriptors", "/proc/PID/fd, limits", folder(1, "fd")),
        ("tasks", "pids.current, pids.max", tasks),
        ("pressure", "cpu.pressure and others", pressure),
    ]
    .map(|(name, from, missing)| Source { name, from, missing })
    .into()
}

/// Reads all witnesses of a target. Blocks while it reads `/proc`.
#[must_use]
pub fn read(tree: &Tree, target: &Target) -> Witnesses {
    let Some(main) = target.main.filter(|main| tree.still_alive(*main)) else {
        return Witnesses::default();
    };
    let own = if target.cgroups.shared { None } else { target.cgroups.unified.as_ref() };
    let mut pids = own.and_then(|group| members(group).ok()).unwrap_or_default();
    if !pids.contains(&main.pid) {
        pids = vec![main.pid];
    }
    pids.truncate(MAX_PROCESSES);
    let stats: Vec<Stat> = pids.iter().filter_map(|pid| tree.stat(*pid).ok()).collect();
    let in_state =
        |state: char| u32::try_from(stats.iter().filter(|stat| stat.state == state).count()).ok();
    let threads = stats.iter().fold(0, |sum: u32, stat| sum.saturating_add(stat.threads));
    let mut sockets = HashSet::new();
    let descriptors = pids.iter().filter_map(|pid| descriptors(tree, *pid, &mut sockets));
    let nearest = |a: &Share, b: &Share| {
        (u128::from(a.used) * u128::from(b.limit)).cmp(&(u128::from(b.used) * u128::from(a.limit)))
    };
    let descriptors = descriptors.max_by(nearest);
    // Without the right to list its sockets, those at its port count: the port is in the network
    // namespace of its pod or container, or it is known to be its own.
    let port = target.address.map(|address| address.port());
    let is_own = |line: &Line| match sockets.is_empty() {
        true => Some(line.address.port()) == port,
        false => sockets.contains(&line.inode),
    };
    let queues = queues(tree, main.pid, is_own);
    Witnesses {
        accept_queue: queues.map(|queues| queues.waiting),
        unread_connections: queues.map(|queues| queues.unread),
        threads: (threads > 0).then_some(threads),
        not_reading: queues.map(|queues| queues.not_read),
        stopped: in_state('T'),
        uninterruptible: in_state('D'),
        descriptors,
        tasks: own.and_then(tasks),
        pressure: own.map(pressure).unwrap_or_default(),
    }
}

/// The open descriptors of a process and its soft limit; collects the inodes of its sockets.
fn descriptors(tree: &Tree, pid: i32, sockets: &mut HashSet<u64>) -> Option<Share> {
    let mut used = 0;
    for entry in fs::read_dir(tree.of(pid, "fd")).ok()?.take(MAX_DESCRIPTORS).flatten() {
        used += 1;
        let link = fs::read_link(entry.path());
        sockets.extend(link.ok().and_then(|link| socket::inode(link.to_str()?)));
    }
    let limits = tree.read(pid, "limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Share { used, limit })
}

/// Connections of a target.
#[derive(Clone, Copy, Default)]
struct Queues {
    /// Those that wait to be accepted.
    waiting: u32,
    /// Those with data that it has not read.
    unread: u32,
    /// Those with data that their client does not read.
    not_read: u32,
}

/// Those at the target's own sockets, in the network namespace of `pid`; `None` without such
/// sockets.
fn queues(tree: &Tree, pid: i32, is_own: impl Fn(&Line) -> bool) -> Option<Queues> {
    let (mut queues, mut listens) = (Queues::default(), false);
    for name in ["net/tcp", "net/tcp6"] {
        let Ok(table) = File::open(tree.of(pid, name)) else { continue };
        for line in BufReader::new(table.take(MAX_TABLE)).lines() {
            match Line::parse(&line.ok()?).filter(&is_own) {
                Some(Line { state: State::Listens, unread, .. }) => {
                    listens = true;
                    queues.waiting = queues.waiting.saturating_add(unread);
                }
                Some(Line { state: State::Connected, unread, not_read, .. }) => {
                    queues.unread += u32::from(unread > 0);
                    queues.not_read += u32::from(not_read);
                }
                _ => {}
            }
        }
    }
    listens.then_some(queues)
}

/// `pids.current` and `pids.max` of a cgroup of version 2; `None` without a limit.
fn tasks(group: &Cgroup) -> Option<Share> {
    let number = |name: &str| read_text(&group.path.join(name)).ok()?.trim().parse().ok();
    Some(Share { used: number("pids.current")?, limit: number("pids.max")? })
}

fn pressure(group: &Cgroup) -> Pressure {
    let of = |name: &str| some_avg10(&read_text(&group.path.join(name)).ok()?);
    Pressure { cpu: of("cpu.pressure"), memory: of("memory.pressure"), io: of("io.pressure") }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
        thread,
        time::Duration,
    };

    use nix::sys::socket::{Backlog, listen};
    use paramedic_core::target::{Cgroups, ProcessId};

    use super::*;
    use crate::procfs::Tree;

    /// This process as a target.
    fn own() -> Target {
        let tree = Tree::default();
        let pid = std::process::id().cast_signed();
        let start_time = tree.stat(pid).unwrap().instance().start_time;
        let main = Some(ProcessId { pid, start_time });
        // Other processes are in its cgroup.
        let cgroups = Cgroups { shared: true, ..Cgroups::default() };
        Target { main, cgroups, ..Target::for_tests("own", 1) }
    }

    #[test]
    fn connections_that_nobody_accepts_and_data_that_nobody_reads_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listen(&listener, Backlog::new(20).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let before = read(&Tree::default(), &own());
        let (accepted, waiting) = (6, 12);
        let mut clients: Vec<_> =
            (0..accepted).map(|_| TcpStream::connect(address).unwrap()).collect();
        let served: Vec<_> = (0..accepted).map(|_| listener.accept().unwrap().0).collect();
        clients.iter_mut().for_each(|client| client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap());
        let queued: Vec<_> = (0..waiting).map(|_| TcpStream::connect(address).unwrap()).collect();
        // Loopback delivers at once, but in another context.
        thread::sleep(Duration::from_millis(50));
        let seen = read(&Tree::default(), &own());
        let risen = |of: fn(&Witnesses) -> Option<u32>| of(&seen).unwrap() - of(&before).unwrap();
        assert_eq!(risen(|seen| seen.accept_queue), waiting);
        assert!(risen(|seen| seen.unread_connections) >= accepted);
        assert!(seen.is_unusual(), "{seen}");
        drop((served, queued));
    }

    #[test]
    fn clients_that_do_not_read_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        served.set_nonblocking(true).unwrap();
        let not_reading = || read(&Tree::default(), &own()).not_reading.unwrap();
        let before = not_reading();
        while served.write(&[b'x'; 65_536]).is_ok() {}
        // The kernel asks for the first time after 200 ms.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while not_reading() == before {
            assert!(std::time::Instant::now() < deadline, "it is not seen");
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn descriptors_are_counted_against_the_soft_limit() {
        let before = read(&Tree::default(), &own()).descriptors.unwrap();
        let files: Vec<_> = (0..40).map(|_| File::open("/dev/null").unwrap()).collect();
        let seen = read(&Tree::default(), &own()).descriptors.unwrap();
        assert!(seen.used >= before.used + 30, "{before:?} {seen:?}");
        assert!(seen.limit >= 256, "{seen:?}");
        assert!(files[0].as_raw_fd() >= 0);
    }

    #[test]
    fn sources_say_why_they_are_missing() {
        let sources = sources(&Tree::default());
        assert_eq!(sources[0].missing, None, "one's own sockets are always readable");
        let folder = tempfile::tempdir().unwrap().path().to_owned();
        let nowhere = Tree { proc: folder.join("proc"), root: folder };
        for source in super::sources(&nowhere) {
            assert!(source.missing.is_some_and(|why| !why.is_empty()), "{}", source.name);
        }
    }

    #[test]
    fn a_process_that_has_ended_shows_nothing() {
        let mut target = own();
        target.main = Some(ProcessId { pid: i32::MAX, start_time: 1 });
        assert_eq!(read(&Tree::default(), &target), Witnesses::default());
    }

    #[test]
    fn files_of_a_cgroup_give_tasks_and_pressure() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let group = Cgroup { path: folder.path().to_owned(), id: 1 };
        assert_eq!((tasks(&group), pressure(&group)), (None, Pressure::default()));
        write("pids.current", "12\n");
        write("pids.max", "max\n");
        assert_eq!(tasks(&group), None, "without a limit there is no share");
        write("pids.max", "64\n");
        assert_eq!(tasks(&group), Some(Share { used: 12, limit: 64 }));
        write("cpu.pressure", "some avg10=41.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=0.00\n");
        write("memory.pressure", "some avg10=nan avg60=0.00\n");
        write("io.pressure", "some avg10=1000 avg60=0.00\n");
        let seen = pressure(&group);
        assert_eq!((seen.cpu, seen.memory, seen.io), (Some(41.5), None, None));
    }
}
