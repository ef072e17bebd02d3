//! Whether a process accepts connections on a listening socket, or only holds it.
//!
//! `/proc` shows it without touching the process: a thread that waits in `accept` names the
//! descriptor; an epoll instance lists what it watches; `poll` and `select` point to their lists in
//! the process's memory; and a process with a connection of the port has accepted it. A process
//! that cannot be inspected (io_uring, another user's threads) may accept. A process that does none
//! of this at that instant may still be a busy server: one sample proves that a process accepts,
//! never alone that it does not.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

use libc::c_long;

use crate::{procfs::Tree, socket};

/// Maximum number of threads to inspect per process.
const MAX_THREADS: usize = 4096;

/// Maximum number of epoll instances to inspect per process.
const MAX_EPOLLS: usize = 256;

/// Maximum length of the lists of `poll` and `select`; longer ones may contain anything.
const MAX_WAITED: usize = 4096;

const ACCEPTS: [c_long; 2] = [libc::SYS_accept, libc::SYS_accept4];
#[cfg(target_arch = "x86_64")]
const POLLS: [c_long; 2] = [libc::SYS_poll, libc::SYS_ppoll];
#[cfg(not(target_arch = "x86_64"))]
const POLLS: [c_long; 1] = [libc::SYS_ppoll];
#[cfg(target_arch = "x86_64")]
const SELECTS: [c_long; 2] = [libc::SYS_select, libc::SYS_pselect6];
#[cfg(not(target_arch = "x86_64"))]
const SELECTS: [c_long; 1] = [libc::SYS_pselect6];

/// Whether a holder accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Accepts {
    /// Nothing shows that it does.
    No,
    /// It cannot be determined.
    Maybe,
    /// It does.
    Yes,
}

/// Inspects each of the processes that hold some of the sockets, which listen on `port`.
pub fn look(
    tree: &Tree,
    port: u16,
    held: &BTreeMap<i32, BTreeSet<u64>>,
) -> io::Result<BTreeMap<i32, Accepts>> {
    let connected = socket::connected(tree, port)?;
    let look = |(&pid, sockets): (&i32, &BTreeSet<u64>)| {
        // A process that can no longer be inspected has ended, or belongs to another user.
        let seen = accepts(tree, pid, sockets, &connected);
        (pid, seen.unwrap_or(Accepts::Maybe))
    };
    Ok(held.iter().map(look).collect())
}

fn accepts(
    tree: &Tree,
    pid: i32,
    sockets: &BTreeSet<u64>,
    connected: &BTreeSet<u64>,
) -> io::Result<Accepts> {
    let files = Files::of(tree, pid, sockets, connected)?;
    if files.connected || files.epolls.iter().any(|&fd| watches(tree, pid, fd, sockets)) {
        return Ok(Accepts::Yes);
    }
    let seen = if files.ring { Accepts::Maybe } else { Accepts::No };
    Ok(seen.max(threads(tree, pid, &files.listening)?))
}

/// The relevant open files of a process.
#[derive(Debug, Default)]
struct Files {
    listening: BTreeSet<i32>,
    epolls: Vec<i32>,
    ring: bool,
    connected: bool,
}

impl Files {
    fn of(
        tree: &Tree,
        pid: i32,
        sockets: &BTreeSet<u64>,
        connected: &BTreeSet<u64>,
    ) -> io::Result<Self> {
        let mut files = Self::default();
        for entry in fs::read_dir(tree.of(pid, "fd"))?.flatten() {
            let name = entry.file_name();
            let Some(fd) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(link) = fs::read_link(entry.path()) else { continue };
            let Some(link) = link.to_str() else { continue };
            match socket::inode(link) {
                Some(inode) if sockets.contains(&inode) => {
                    files.listening.insert(fd);
                }
                Some(inode) => files.connected |= connected.contains(&inode),
                None if link == "anon_inode:[eventpoll]" && files.epolls.len() < MAX_EPOLLS => {
                    files.epolls.push(fd);
                }
                None => files.ring |= link == "anon_inode:[io_uring]",
            }
        }
        Ok(files)
    }
}

/// Whether an epoll instance waits for connections of the sockets.
fn watches(tree: &Tree, pid: i32, fd: i32, sockets: &BTreeSet<u64>) -> bool {
    let text = tree.read(pid, &format!("fdinfo/{fd}")).unwrap_or_default();
    text.lines().filter_map(watched).any(|inode| sockets.contains(&inode))
}

/// Parses `tfd: 5 events: 19 data: 5 pos:0 ino:755d sdev:9`: returns the inode, if the instance
/// waits for input. One that has fired once waits for its owner to arm it.
fn watched(line: &str) -> Option<u64> {
    let mut fields = line.strip_prefix("tfd:")?.split_ascii_whitespace();
    let events = u32::from_str_radix(fields.nth(2)?, 16).ok()?;
    let inode = fields.find_map(|field| field.strip_prefix("ino:"))?;
    let for_input = (libc::EPOLLIN | libc::EPOLLRDNORM | libc::EPOLLONESHOT) as u32;
    (events & for_input != 0).then(|| u64::from_str_radix(inode, 16).ok())?
}

/// The calls in which the threads wait.
fn threads(tree: &Tree, pid: i32, listening: &BTreeSet<i32>) -> io::Result<Accepts> {
    let (mut seen, mut read) = (Accepts::No, false);
    for entry in fs::read_dir(tree.of(pid, "task"))?.flatten().take(MAX_THREADS) {
        match fs::read_to_string(entry.path().join("syscall")) {
            Ok(text) => {
                read = true;
                seen = seen.max(Call::parse(&text).map_or(Accepts::No, |call| {
                    call.accepts(|at, buffer| peek(tree, pid, at, buffer), listening)
                }));
            }
            // If the file exists but may not be read, nothing is known of this thread.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                seen = seen.max(Accepts::Maybe);
            }
            Err(_) => {}
        }
        if seen == Accepts::Yes {
            return Ok(seen);
        }
    }
    Ok(if read { seen } else { seen.max(Accepts::Maybe) })
}

/// Reads a part of a process's memory.
fn peek(tree: &Tree, pid: i32, at: u64, buffer: &mut [u8]) -> bool {
    File::open(tree.of(pid, "mem")).and_then(|memory| memory.read_exact_at(buffer, at)).is_ok()
}

/// A system call in which a thread is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    number: c_long,
    first: u64,
    second: u64,
}

impl Call {
    /// Parses `288 0x3 0x7ffc… …`; a thread that runs, or is in no call, has no arguments.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let number = fields.next()?.parse().ok().filter(|&number| number >= 0)?;
        let mut argument = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
        Some(Self { number, first: argument()?, second: argument()? })
    }

    fn accepts(self, peek: impl Fn(u64, &mut [u8]) -> bool, listening: &BTreeSet<i32>) -> Accepts {
        // The kernel reads the lower half of the register as an int.
        let int = |register: u64| (register as u32).cast_signed();
        let yes = |yes: bool| if yes { Accepts::Yes } else { Accepts::No };
        if ACCEPTS.contains(&self.number) {
            return yes(listening.contains(&int(self.first)));
        }
        let is_poll = POLLS.contains(&self.number);
        if !is_poll && !SELECTS.contains(&self.number) {
            return Accepts::No;
        }
        let (list, count) =
            if is_poll { (self.first, self.second) } else { (self.second, self.first) };
        let count = count as u32 as usize;
        if count == 0 || list == 0 {
            return Accepts::No;
        }
        if count > MAX_WAITED {
            return Accepts::Maybe;
        }
        let mut buffer = vec![0; 8 * if is_poll { count } else { count.div_ceil(64) }];
        if !peek(list, &mut buffer) {
            return Accepts::Maybe;
        }
        let holds = if is_poll { polled } else { selected };
        yes(listening.iter().any(|&fd| holds(&buffer, fd)))
    }
}

/// Whether a list of `struct pollfd` waits for input of the descriptor.
fn polled(list: &[u8], fd: i32) -> bool {
    let input = (libc::POLLIN | libc::POLLRDNORM).to_ne_bytes();
    list.chunks_exact(8).any(|one| match one {
        [a, b, c, d, low, high, _, _] => {
            i32::from_ne_bytes([*a, *b, *c, *d]) == fd
                && (low & input[0] != 0 || high & input[1] != 0)
        }
        _ => false,
    })
}

/// Whether the descriptor is in an `fd_set`: words of the machine's `long`.
fn selected(set: &[u8], fd: i32) -> bool {
    let Ok(fd) = usize::try_from(fd) else { return false };
    let word = set.chunks_exact(8).nth(fd / 64).and_then(|word| <[u8; 8]>::try_from(word).ok());
    word.is_some_and(|word| u64::from_ne_bytes(word) & (1 << (fd % 64)) != 0)
}

#[cfg(test)]
mod tests;
