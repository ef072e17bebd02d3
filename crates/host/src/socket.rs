//! Finds the listeners of a port: `/proc/net/tcp{,6}` names the socket, `/proc/PID/fd` its owners.
//!
//! Only the agent's own network namespace is searched. A listener inside a container's namespace is
//! found through its runtime.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::procfs::Tree;

/// Maximum size of a socket table: over a million sockets.
const LIMIT: u64 = 256 << 20;

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address and port.
    pub address: SocketAddr,
    /// Its inode, as `/proc/PID/fd` names it.
    pub inode: u64,
}

/// One line of `/proc/net/tcp{,6}`.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// The kernel's number (`net/tcp_states.h`).
    pub(crate) number: u8,
    pub(crate) state: State,
    /// Bytes that the other end has not acknowledged.
    pub(crate) unsent: u32,
    /// Bytes that were not read; of a listening socket, connections that were not accepted.
    pub(crate) unread: u32,
    /// The peer has closed its window, and the kernel asks now and then whether it reads again.
    pub(crate) not_read: bool,
    pub(crate) inode: u64,
}

#[derive(PartialEq, Eq)]
pub(crate) enum State {
    Listens,
    /// Connected, whether or not the other end has closed its half.
    Connected,
    Other,
}

impl Line {
    /// Parses `sl local remote state tx_queue:rx_queue timer:when … inode`. Timer 4 is that of
    /// probes of a closed window (`proc_net_tcp.rst` of the kernel's documentation).
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let address = endpoint(fields.nth(1)?)?;
        let peer = endpoint(fields.next()?)?;
        let number = u8::from_str_radix(fields.next()?, 16).ok()?;
        let state = match number {
            10 => State::Listens,
            1 | 8 => State::Connected,
            _ => State::Other,
        };
        let (unsent, unread) = fields.next()?.split_once(':')?;
        let bytes = |hex| u32::from_str_radix(hex, 16).ok();
        let (unsent, unread) = (bytes(unsent)?, bytes(unread)?);
        let not_read = fields.next()?.starts_with("04:");
        let inode = fields.nth(3)?.parse().ok()?;
        Some(Self { address, peer, number, state, unsent, unread, not_read, inode })
    }
}

impl Listening {
    fn parse(line: &str) -> Option<Self> {
        let line = Line::parse(line).filter(|line| line.state == State::Listens)?;
        Some(Self { address: line.address, inode: line.inode })
    }

    /// Whether a connection to `ip` arrives at this socket.
    pub fn accepts(&self, ip: IpAddr) -> bool {
        match self.address.ip() {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.to_canonical().is_ipv4(),
            own => own.to_canonical() == ip.to_canonical(),
        }
    }

    /// An address to reach it, if the caller has no preference.
    pub fn reachable(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            own => own.to_canonical(),
        };
        SocketAddr::new(ip, self.address.port())
    }
}

/// An address and a port in hexadecimal digits, as the tables have them.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    Some(SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?))
}

/// Hexadecimal words of 32 bits, each printed as the machine's own integer of bytes in network
/// order.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::from(bytes))
        }
        _ => None,
    }
}

/// All listening sockets.
pub fn all_listening(tree: &Tree) -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    tables(tree, |line| found.extend(Listening::parse(line)))?;
    Ok(found)
}

/// All sockets that listen on `port`.
pub fn listening(tree: &Tree, port: u16) -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    tables(tree, |line| {
        found.extend(Listening::parse(line).filter(|s| s.address.port() == port));
    })?;
    Ok(found)
}

/// The inodes of the connections whose local port is `port`: a process that holds one has accepted
/// it. A connection that is not yet accepted has no inode.
pub fn connected(tree: &Tree, port: u16) -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    tables(tree, |line| {
        let meant = |line: &Line| line.address.port() == port && line.inode != 0;
        let line = Line::parse(line).filter(|line| line.state == State::Connected);
        found.extend(line.filter(meant).map(|line| line.inode));
    })?;
    Ok(found)
}

/// Reads both tables. A machine without IPv6 has no tcp6.
fn tables(tree: &Tree, mut each: impl FnMut(&str)) -> io::Result<()> {
    for file in ["self/net/tcp", "self/net/tcp6"] {
        let table = match File::open(tree.proc.join(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => break,
            table => table?,
        };
        for line in BufReader::new(table.take(LIMIT)).lines() {
            each(&line?);
        }
    }
    Ok(())
}

/// The processes that hold some sockets.
#[derive(Debug, Default)]
pub struct Owners {
    /// The inodes of the sockets that each process holds.
    pub held: BTreeMap<i32, BTreeSet<u64>>,
    /// Whether a process could not be inspected for lack of permission.
    pub denied: bool,
}

/// Searches all processes' open files for the sockets with these inodes.
pub fn owners(tree: &Tree, inodes: &BTreeSet<u64>) -> io::Result<Owners> {
    Ok(owners_among(tree, tree.pids()?, inodes))
}

/// The same, in the files of these processes only.
pub fn owners_among(
    tree: &Tree,
    pids: impl IntoIterator<Item = i32>,
    inodes: &BTreeSet<u64>,
) -> Owners {
    let mut owners = Owners::default();
    for pid in pids {
        let entries = match fs::read_dir(tree.of(pid, "fd")) {
            Ok(entries) => entries,
            Err(error) => {
                owners.denied |= error.kind() == io::ErrorKind::PermissionDenied;
                continue;
            }
        };
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let held: BTreeSet<u64> =
            links.filter_map(|l| inode(l.to_str()?)).filter(|i| inodes.contains(i)).collect();
        if !held.is_empty() {
            owners.held.insert(pid, held);
        }
    }
    owners
}

/// The inode that a link in `/proc/PID/fd` names, if it is a socket.
pub fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_both_tables_are_understood() {
        let line = "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                    1000        0 46211 1 0000000000000000 100 0 0 10 0";
        let socket = Listening::parse(line).unwrap();
        assert_eq!(socket.address, "127.0.0.1:5000".parse().unwrap());
        assert_eq!(socket.inode, 46211);
        let six = line
            .replace("0100007F:", "00000000000000000000000001000000:")
            .replace("00000000:0000 0A", "00000000000000000000000000000000:0000 0A");
        assert_eq!(Listening::parse(&six).unwrap().address, "[::1]:5000".parse().unwrap());
        let connection = line.replace(" 0A ", " 01 ");
        assert_eq!(Listening::parse(&connection), None, "a connection");
        assert!(Line::parse(&connection).unwrap().state == State::Connected);
        assert_eq!(Listening::parse(&line.replace("46211", "x")), None);
        assert_eq!(Listening::parse(&line.replace("0100007F", "0100é7F")), None);
        assert_eq!(Listening::parse("  sl  local_address rem_address   st tx_queue"), None);
        for cut in 0..line.find(" 1 0000").unwrap() - 4 {
            let _ = Listening::parse(&line[..cut]);
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn connections_are_known_by_their_local_port() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree { proc: folder.path().to_owned(), ..Tree::default() };
        let line = |port, remote, state, inode| {
            format!(
                "   0: 0100007F:{port} 0100007F:{remote} {state} 00000000:00000000 00:00000000 \
                 00000000 1000 0 {inode} 1 0\n"
            )
        };
        let table = [
            line("1388", "0000", "0A", 5),
            line("1388", "C000", "01", 6),
            line("1388", "C001", "08", 7),
            line("1388", "C002", "01", 0),
            line("C000", "1388", "01", 8),
            line("1388", "C003", "06", 9),
        ];
        fs::create_dir_all(tree.proc.join("self/net")).unwrap();
        fs::write(tree.proc.join("self/net/tcp"), table.concat()).unwrap();
        assert_eq!(connected(&tree, 5000).unwrap(), [6, 7].into());
        assert_eq!(listening(&tree, 5000).unwrap().len(), 1);
        assert_eq!(all_listening(&tree).unwrap().len(), 1);
        fs::remove_file(tree.proc.join("self/net/tcp")).unwrap();
        assert!(connected(&tree, 5000).is_err());
    }

    #[test]
    fn a_wildcard_accepts_its_own_family_and_v6_accepts_both() {
        let socket =
            |ip: &str| Listening { address: SocketAddr::new(ip.parse().unwrap(), 80), inode: 1 };
        let accepts = |ip, to: &str| socket(ip).accepts(to.parse().unwrap());
        assert!(accepts("0.0.0.0", "127.0.0.1") && !accepts("0.0.0.0", "::1"));
        assert!(accepts("::", "127.0.0.1") && accepts("::", "::1"));
        assert!(accepts("127.0.0.1", "127.0.0.1") && !accepts("127.0.0.1", "127.0.0.2"));
        assert!(accepts("::ffff:127.0.0.1", "127.0.0.1"));
        assert_eq!(socket("::").reachable(), "[::1]:80".parse().unwrap());
        assert_eq!(socket("0.0.0.0").reachable(), "127.0.0.1:80".parse().unwrap());
    }
}
