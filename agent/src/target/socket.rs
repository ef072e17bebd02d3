//! Who listens on a port: `/proc/net/tcp{,6}` names the socket, `/proc/PID/fd` its owners.
//!
//! Only the agent's own network namespace is looked at: what listens inside a container's is that
//! container's business, and found through its runtime.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::procfs::Tree;

/// More of a socket table than this is not read: over a million sockets.
const LIMIT: u64 = 256 << 20;

/// A socket that waits for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) inode: u64,
}

impl Listening {
    /// One line of `/proc/net/tcp{,6}`: `sl local remote state … inode`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (address, port) = fields.nth(1)?.split_once(':')?;
        let listens = fields.nth(1)? == "0A";
        let inode = fields.nth(5)?.parse().ok()?;
        let address = SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?);
        listens.then_some(Self { address, inode })
    }

    /// Whether a connection to `ip` arrives here.
    pub(crate) fn accepts(&self, ip: IpAddr) -> bool {
        match self.address.ip() {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.to_canonical().is_ipv4(),
            own => own.to_canonical() == ip.to_canonical(),
        }
    }

    /// An address to reach it by, where none was asked for.
    pub(crate) fn reachable(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            own => own.to_canonical(),
        };
        SocketAddr::new(ip, self.address.port())
    }
}

/// Hexadecimal words of 32 bits, each printed as the machine's own integer of bytes that stand in
/// network order.
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

/// All sockets that listen on `port`. A machine without IPv6 has no tcp6.
pub(crate) fn listening(tree: &Tree, port: u16) -> io::Result<Vec<Listening>> {
    let mut found = read(tree, "self/net/tcp", port)?;
    match read(tree, "self/net/tcp6", port) {
        Ok(more) => found.extend(more),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

fn read(tree: &Tree, file: &str, port: u16) -> io::Result<Vec<Listening>> {
    let mut lines = BufReader::new(File::open(tree.proc.join(file))?.take(LIMIT)).lines();
    lines.try_fold(Vec::new(), |mut found, line| {
        found.extend(Listening::parse(&line?).filter(|s| s.address.port() == port));
        Ok(found)
    })
}

/// Who holds which of some sockets.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// The inodes of the sockets that each process holds.
    pub(crate) held: BTreeMap<i32, BTreeSet<u64>>,
    /// Whether some process would not let us look.
    pub(crate) denied: bool,
}

/// Looks through all processes' open files for the sockets with these inodes.
pub(crate) fn owners(tree: &Tree, inodes: &BTreeSet<u64>) -> io::Result<Owners> {
    let mut owners = Owners::default();
    for pid in tree.pids()? {
        let entries = match fs::read_dir(tree.of(pid, "fd")) {
            Ok(entries) => entries,
            Err(error) => {
                owners.denied |= error.kind() == io::ErrorKind::PermissionDenied;
                continue;
            }
        };
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let held: BTreeSet<u64> = links
            .filter_map(|l| socket_inode(l.to_str()?))
            .filter(|i| inodes.contains(i))
            .collect();
        if !held.is_empty() {
            owners.held.insert(pid, held);
        }
    }
    Ok(owners)
}

fn socket_inode(link: &str) -> Option<u64> {
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
        assert_eq!(Listening::parse(&line.replace(" 0A ", " 01 ")), None, "a connection");
        assert_eq!(Listening::parse(&line.replace("46211", "x")), None);
        assert_eq!(Listening::parse(&line.replace("0100007F", "0100é7F")), None);
        assert_eq!(Listening::parse("  sl  local_address rem_address   st tx_queue"), None);
        for cut in 0..line.find(" 1 0000").unwrap() - 4 {
            let _ = Listening::parse(&line[..cut]);
        }
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
