//! The TCP sockets of a target by state: who waits for it, and for whom it waits.
use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    time::Instant,
};

use paramedic_core::target::{Kind, Target};
use serde::{Deserialize, Serialize};

use super::{Missing, NO_TIME, Reading, is_over, members_of};
use crate::{
    procfs::Tree,
    socket::{self, Line},
};

/// Maximum size of a socket table: some ten thousand connections.
const MAX_TABLE: u64 = 2 << 20;
/// Maximum number of peers of one side.
const MAX_PEERS: usize = 20;
/// Maximum number of descriptors to read of one process.
const MAX_DESCRIPTORS: usize = 65_536;

/// Names of the kernel's states, by number from 1 (`net/tcp_states.h`).
const STATES: [&str; 12] = [
    "established",
    "syn_sent",
    "syn_received",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_received",
];

/// Which sockets besides those at the target's port were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Those that its processes hold.
    Own,
    /// None: its descriptors cannot be read, and other processes share its network namespace.
    Port,
    /// All of its network namespace, because its descriptors cannot be read.
    Namespace,
}

/// The sockets of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// Which others were counted.
    pub scope: Scope,
    /// At its own ports: those on which it listens.
    pub serving: Side,
    /// The others: as a client, mostly.
    pub others: Side,
}

/// Sockets of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// How many are in each state.
    pub states: BTreeMap<String, u32>,
    /// Connections that wait to be accepted.
    pub accept_queue: u32,
    /// Connections with data that the target has not read.
    pub unread_connections: u32,
    /// Bytes that it has not read.
    pub unread_bytes: u64,
    /// Bytes that the peers have not acknowledged.
    pub unsent_bytes: u64,
    /// The peers with most connections, at most 20. Of clients the address without the port.
    pub peers: Vec<Peer>,
    /// The number of peers in all.
    pub peers_total: usize,
}

/// A peer and its connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its address.
    pub address: String,
    /// The number of connections with it.
    pub connections: u32,
}

/// One line of `/proc/PID/net/tcp{,6}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Connection {
    local: SocketAddr,
    peer: SocketAddr,
    state: &'static str,
    unsent: u32,
    unread: u32,
    inode: u64,
}

impl Connection {
    /// `None` for a line of another form, or of a state that has no name here.
    fn parse(line: &str) -> Option<Self> {
        let Line { address: local, peer, number, unsent, unread, inode, .. } = Line::parse(line)?;
        let state = STATES.get(usize::from(number).checked_sub(1)?)?;
        Some(Self { local, peer, state, unsent, unread, inode })
    }

    fn listens(&self) -> bool {
        self.state == "listen"
    }
}

/// Reads the sockets of a target in its network namespace.
#[must_use]
pub fn read(tree: &Tree, target: &Target, until: Instant) -> Reading<Sockets> {
    let pids = match members_of(tree, target) {
        Ok((pids, _)) => pids,
        Err(why) => return Reading::nothing("sockets", why),
    };
    let main = pids.first().copied().unwrap_or_default();
    let own = inodes(tree, &pids, until);
    let (table, complete) = match table(tree, main, until) {
        Ok(read) => read,
        Err(why) => return Reading::nothing("sockets", why),
    };
    let scope = match &target.kind {
        _ if !own.is_empty() => Scope::Own,
        // On the node's network a container has no address of its own.
        Kind::Pod(_) | Kind::Container(_) if target.address.is_some() => Scope::Namespace,
        _ => Scope::Port,
    };
    let port = target.address.map(|address| address.port()).or(target.port);
    let sockets = count(&table, port, scope, &own);
    let missing = (!complete).then(|| Missing::new("sockets", NO_TIME));
    Reading { found: Some(sockets), missing: missing.into_iter().collect() }
}

/// The inodes of the sockets that the processes hold; empty if they may not be seen.
fn inodes(tree: &Tree, pids: &[i32], until: Instant) -> HashSet<u64> {
    let mut found = HashSet::new();
    for pid in pids {
        let Ok(entries) = fs::read_dir(tree.of(*pid, "fd")) else { continue };
        for entry in entries.take(MAX_DESCRIPTORS).flatten() {
            if is_over(until) {
                return found;
            }
            let link = fs::read_link(entry.path());
            found.extend(link.ok().and_then(|link| socket::inode(link.to_str()?)));
        }
    }
    found
}

/// Both tables, and whether there was time for all of them.
fn table(tree: &Tree, pid: i32, until: Instant) -> Result<(Vec<Connection>, bool), String> {
    let mut table = Vec::new();
    let mut refused = None;
    for name in ["net/tcp", "net/tcp6"] {
        let path = tree.of(pid, name);
        match File::open(&path) {
            Ok(file) => {
                for line in BufReader::new(file.take(MAX_TABLE)).lines().map_while(Result::ok) {
                    if is_over(until) {
                        return Ok((table, false));
                    }
                    table.extend(Connection::parse(&line));
                }
            }
            // A machine without IPv6 has no second table.
            Err(error) if name == "net/tcp" => {
                refused = Some(format!("{}: {error}", path.display()));
            }
            Err(_) => {}
        }
    }
    match refused {
        Some(why) if table.is_empty() => Err(why),
        _ => Ok((table, true)),
    }
}

/// Counts the connections of a table: those at `port` or at a port on which the target listens, and
/// the others of `scope`.
fn count(table: &[Connection], port: Option<u16>, scope: Scope, own: &HashSet<u64>) -> Sockets {
    let is_own = |line: &Connection| match scope {
        Scope::Own => own.contains(&line.inode),
        Scope::Port => false,
        Scope::Namespace => true,
    };
    let listening = table.iter().filter(|line| line.listens() && is_own(line));
    let ports: HashSet<u16> = listening.map(|line| line.local.port()).chain(port).collect();
    let (serving, others): (Vec<_>, Vec<_>) =
        table.iter().partition(|line| ports.contains(&line.local.port()));
    Sockets {
        scope,
        // A connection that waits to be accepted belongs to no process yet.
        serving: side(serving.into_iter(), |line| line.peer.ip().to_canonical().to_string()),
        others: side(others.into_iter().filter(|line| is_own(line)), |line| {
            SocketAddr::new(line.peer.ip().to_canonical(), line.peer.port()).to_string()
        }),
    }
}

fn side<'a>(
    lines: impl Iterator<Item = &'a Connection>,
    name: impl Fn(&Connection) -> String,
) -> Side {
    let mut side = Side::default();
    let mut peers: BTreeMap<String, u32> = BTreeMap::new();
    for line in lines {
        *side.states.entry(line.state.to_owned()).or_default() += 1;
        if line.listens() {
            side.accept_queue = side.accept_queue.saturating_add(line.unread);
            continue;
        }
        side.unread_connections += u32::from(line.unread > 0);
        side.unread_bytes += u64::from(line.unread);
        side.unsent_bytes += u64::from(line.unsent);
        *peers.entry(name(line)).or_default() += 1;
    }
    side.peers_total = peers.len();
    let mut peers: Vec<Peer> =
        peers.into_iter().map(|(address, connections)| Peer { address, connections }).collect();
    peers.sort_by_key(|peer| std::cmp::Reverse(peer.connections));
    peers.truncate(MAX_PEERS);
    side.peers = peers;
    side
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        thread,
        time::Duration,
    };

    use paramedic_core::target::Cgroups;

    use super::*;

    fn connection(local: &str, peer: &str, state: &'static str, inode: u64) -> Connection {
        let (local, peer) = (local.parse().unwrap(), peer.parse().unwrap());
        Connection { local, peer, state, unsent: 0, unread: 0, inode }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_has_both_ends_state_and_queues() {
        let line = "   1: 0100007F:1388 0200007F:C000 08 00000003:00000010 00:00000000 00000000  \
                    1000        0 46211 1 0000000000000000 100 0 0 10 0";
        let expected = Connection {
            unsent: 3,
            unread: 16,
            ..connection("127.0.0.1:5000", "127.0.0.2:49152", "close_wait", 46211)
        };
        assert_eq!(Connection::parse(line), Some(expected));
        assert_eq!(Connection::parse(&line.replace(" 08 ", " 00 ")), None);
        assert_eq!(Connection::parse(&line.replace(" 08 ", " 7F ")), None);
        for cut in 0..line.find("46211").unwrap() {
            assert_eq!(Connection::parse(&line[..cut]), None);
        }
    }

    #[test]
    fn sockets_at_its_port_and_those_that_it_holds_elsewhere_are_counted_apart() {
        let mut waiting = connection("0.0.0.0:80", "0.0.0.0:0", "listen", 1);
        waiting.unread = 7;
        let mut unread = connection("10.0.0.1:80", "10.0.0.9:4000", "established", 0);
        unread.unread = 100;
        let table = [
            waiting,
            unread,
            connection("10.0.0.1:80", "10.0.0.9:4001", "established", 2),
            connection("10.0.0.1:80", "10.0.0.8:4000", "close_wait", 3),
            connection("10.0.0.1:5001", "10.0.0.5:5432", "syn_sent", 4),
            connection("10.0.0.1:5002", "10.0.0.6:5432", "established", 99),
        ];
        let own = [1, 2, 3, 4].into();
        let seen = count(&table, Some(80), Scope::Own, &own);
        assert_eq!(seen.serving.accept_queue, 7);
        assert_eq!((seen.serving.unread_connections, seen.serving.unread_bytes), (1, 100));
        assert_eq!(seen.serving.states["established"], 2);
        assert_eq!(seen.serving.peers[0], Peer { address: "10.0.0.9".to_owned(), connections: 2 });
        assert_eq!(seen.others.states, [("syn_sent".to_owned(), 1)].into());
        assert_eq!(seen.others.peers[0].address, "10.0.0.5:5432");
        let by_port = count(&table, Some(80), Scope::Port, &HashSet::new());
        assert_eq!((by_port.serving, by_port.others), (seen.serving, Side::default()));
        let all = count(&table, Some(80), Scope::Namespace, &HashSet::new());
        assert_eq!(all.others.peers_total, 2);
    }

    #[test]
    fn at_most_20_peers_are_named() {
        let line = |n: u8| connection("10.0.0.1:80", &format!("10.0.1.{n}:9"), "established", 1);
        let table: Vec<Connection> = (0..100).map(line).collect();
        let serving = count(&table, Some(80), Scope::Port, &HashSet::new()).serving;
        assert_eq!((serving.peers.len(), serving.peers_total), (MAX_PEERS, 100));
    }

    #[test]
    fn unread_data_of_this_process_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let _served = listener.accept().unwrap().0;
        let _waiting = TcpStream::connect(address).unwrap();
        client.write_all(b"twelve bytes").unwrap();
        let tree = Tree::default();
        let stat = tree.stat(std::process::id().cast_signed()).unwrap();
        let cgroups = Cgroups { shared: true, ..Cgroups::default() };
        let target = Target {
            main: Some(stat.instance()),
            cgroups,
            address: Some(address),
            ..Target::for_tests("own", 1)
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let seen = loop {
            let seen = read(&tree, &target, deadline).found.unwrap();
            if seen.serving.unread_bytes >= 12 {
                break seen;
            }
            assert!(Instant::now() < deadline, "{seen:?}");
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(seen.scope, Scope::Own);
        assert!(seen.serving.accept_queue >= 1, "{seen:?}");
        assert!(seen.serving.peers.iter().any(|peer| peer.address == "127.0.0.1"), "{seen:?}");
    }
}
