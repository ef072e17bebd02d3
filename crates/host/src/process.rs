//! Process mode: the process behind a port of this machine.
//!
//! Its main process is the one that its workers come from. Ending a worker alone would repair
//! nothing, and ending the process that merely started the service would end more than the service
//! ([`family`] distinguishes them: a service accepts connections). If the owners of a port are not
//! one family, the target is ambiguous, and nothing is watched. A service in another network
//! namespace (most containers) is out of scope here.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
};

use paramedic_core::{
    boot_time::BootTime,
    target::{Cgroup, Cgroups, ProcessId},
};

use crate::{
    cgroup, diag,
    mountinfo::Hierarchies,
    procfs::{Table, Tree, started},
    socket::{self, Listening},
};
use family::Known;

pub mod accepts;
mod family;

/// A service found by its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The main process; as text it is a target's `instance`.
    pub instance: ProcessId,
    /// When the main process started.
    pub started: BootTime,
    /// The main process's command, at most 15 bytes.
    pub name: String,
    /// The address to use.
    pub address: SocketAddr,
    /// All processes that hold the socket. The main one may not be among them; one that merely
    /// holds it is.
    pub owners: Vec<i32>,
    /// Its cgroups, with whether they are shared.
    pub cgroups: Cgroups,
    /// The version of the main process's executable, if it can be read.
    pub version: Option<String>,
}

/// Why no service was found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// Nothing listens on the port.
    #[error(
        "nothing listens on port {0}: start the service first, or correct the port \
         (a service inside a container has its own network: name the container)"
    )]
    NotListening(u16),
    /// Something listens on the port at another address.
    #[error("nothing listens on port {port} at that address, only at {found}: use that address")]
    OtherAddress {
        /// The port.
        port: u16,
        /// The listening addresses.
        found: String,
    },
    /// The owner is another user's process.
    #[error(
        "cannot see which process listens on port {0}: run as root (or with CAP_SYS_PTRACE and \
         CAP_DAC_READ_SEARCH) to watch another user's service"
    )]
    Denied(u16),
    /// No owner of the socket is visible.
    #[error(
        "no process of this PID namespace listens on port {0}: run outside the container, or \
         with the host's PID namespace"
    )]
    NoOwner(u16),
    /// Several processes, without a main process that runs nothing else.
    #[error(
        "port {port} belongs to unrelated processes ({owners}): give each its own port, or start \
         them by a master that runs nothing else"
    )]
    Unrelated {
        /// The port.
        port: u16,
        /// Names and pids.
        owners: String,
    },
    /// Docker's helper forwards the port's connections.
    #[error(
        "port {0} leads into a container: name that as well, as in \
         `paramedic watch http://localhost:{0} CONTAINER`"
    )]
    Published(u16),
    /// It ended during the search.
    #[error("the process behind port {0} ended while it was looked at: try again")]
    Ended(u16),
    /// `/proc` could not be read.
    #[error("cannot read the process table: {0}; is /proc mounted?")]
    Proc(#[from] io::Error),
}

/// Programs that listen in place of a container: for Docker with and without root, and for Podman.
const PROXIES: [&str; 7] =
    ["docker-proxy", "rootlesskit", "rootlessport", "conmon", "slirp4netns", "pasta", "pasta.avx2"];

/// Finds the service that listens on `port` of this machine, at one of `addresses` (in the order of
/// preference) or at any if there are none. Blocks while it reads `/proc`.
///
/// # Errors
/// See [`DiscoverError`]; each says what to do.
pub fn discover(tree: &Tree, port: u16, addresses: &[IpAddr]) -> Result<Listener, DiscoverError> {
    let (sockets, address) = reachable(socket::listening(tree, port)?, port, addresses)?;
    let owners = socket::owners(tree, &sockets)?;
    if owners.held.is_empty() {
        let why = if owners.denied { DiscoverError::Denied } else { DiscoverError::NoOwner };
        return Err(why(port));
    }
    let table = tree.table()?;
    let is_proxy = |pid| table.0.get(pid).is_some_and(|stat| PROXIES.contains(&&*stat.name));
    if owners.held.keys().any(is_proxy) {
        return Err(DiscoverError::Published(port));
    }
    let accepts = match owners.held.len() {
        1 => BTreeMap::new(),
        _ => accepts::look(tree, port, &owners.held)?,
    };
    let main = family::main_of(&owners.held, &table, &Known { tree, table: &table, accepts })
        .ok_or_else(|| DiscoverError::Unrelated { port, owners: list(&owners.held, &table) })?;
    let stat = table.0.get(&main).ok_or(DiscoverError::Ended(port))?;
    let hierarchies = tree.hierarchies()?;
    let mut cgroups = tree.cgroups(&hierarchies, main).map_err(|_| DiscoverError::Ended(port))?;
    cgroup::claim(tree, &mut cgroups, &table, main);
    cgroups.traffic = made_elsewhere(tree, &hierarchies, &cgroups, port, &sockets);
    if !tree.still_alive(stat.instance()) {
        return Err(DiscoverError::Ended(port));
    }
    Ok(Listener {
        instance: stat.instance(),
        started: started(stat.start_time),
        name: stat.name.clone(),
        address,
        owners: owners.held.into_keys().collect(),
        cgroups,
        version: version(tree, main),
    })
}

/// The file that a process executes, by inode and time of its last change: a new build of a program
/// is another file or a changed one. A new script of the same interpreter is not told apart.
fn version(tree: &Tree, pid: i32) -> Option<String> {
    let file = fs::metadata(tree.of(pid, "exe")).ok()?;
    Some(format!("{:x}-{:x}", file.ino(), file.mtime()))
}

/// The inodes of the matching sockets, and the address to reach them.
fn reachable(
    sockets: Vec<Listening>,
    port: u16,
    addresses: &[IpAddr],
) -> Result<(BTreeSet<u64>, SocketAddr), DiscoverError> {
    let first = sockets.first().ok_or(DiscoverError::NotListening(port))?;
    let asked = addresses.iter().find(|&&ip| sockets.iter().any(|s| s.accepts(ip)));
    let address = match asked {
        Some(&ip) => SocketAddr::new(ip, port),
        None if addresses.is_empty() => first.reachable(),
        None => {
            let found: Vec<_> = sockets.iter().map(|s| s.address.to_string()).collect();
            return Err(DiscoverError::OtherAddress { port, found: found.join(", ") });
        }
    };
    let meant = |s: &&Listening| addresses.is_empty() || addresses.iter().any(|&ip| s.accepts(ip));
    Ok((sockets.iter().filter(meant).map(|s| s.inode).collect(), address))
}

/// The cgroup in which the service's sockets were created, if it differs from its main process's: a
/// socket belongs to the cgroup of the process that created it, even if another holds it (socket
/// activation).
fn made_elsewhere(
    tree: &Tree,
    hierarchies: &Hierarchies,
    cgroups: &Cgroups,
    port: u16,
    sockets: &BTreeSet<u64>,
) -> Option<Cgroup> {
    // A kernel that does not report it counts by the process's own cgroup.
    let made = diag::cgroups(port).ok()?;
    let mut ids = sockets.iter().map(|inode| made.get(inode).copied());
    let id = ids.next()??;
    let home = cgroups.unified.as_ref()?;
    let elsewhere = id != home.id && ids.all(|other| other == Some(id));
    elsewhere.then(|| tree.cgroup_of_id(hierarchies, id))?
}

/// At most eight owners, by name and pid.
fn list(held: &BTreeMap<i32, BTreeSet<u64>>, table: &Table) -> String {
    let mut text = String::new();
    for pid in held.keys().take(8) {
        let name = table.0.get(pid).map_or("ended", |s| s.name.as_str());
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{name} pid {pid}");
    }
    if held.len() > 8 { format!("{text} and {} more", held.len() - 8) } else { text }
}

#[cfg(test)]
mod tests;
