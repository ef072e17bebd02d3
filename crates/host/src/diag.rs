//! Asks the kernel by netlink (sock_diag(7)) in which cgroup a listening socket was created.
//!
//! A socket belongs to the cgroup of the process that created it, and its traffic is counted there,
//! whichever process holds it now. A kernel before 5.8, or without cgroups for sockets, does not
//! report it.
use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
        sockopt::ReceiveTimeout,
    },
    time::TimeVal,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `TCP_LISTEN` among the states to list.
const LISTENING: u32 = 1 << 10;

const HEADER: usize = 16;
/// `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// `struct inet_diag_msg`, which the attributes follow.
const MESSAGE: usize = 72;
/// The inode is its last field.
const INODE: usize = MESSAGE - 4;

/// Maximum number of datagrams to read.
const MAX_READS: usize = 256;

/// The cgroup ids of the sockets that listen on `port`, by inode.
pub(super) fn cgroups(port: u16) -> io::Result<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        list(family as u8, port, &mut found)?;
    }
    Ok(found)
}

fn list(family: u8, port: u16, found: &mut BTreeMap<u64, u64>) -> io::Result<()> {
    let protocol = SockProtocol::NetlinkSockDiag;
    let flags = SockFlag::SOCK_CLOEXEC;
    let kernel: OwnedFd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    // The kernel answers at once; if it did not, the search for a target must not stop.
    setsockopt(&kernel, ReceiveTimeout, &TimeVal::new(1, 0))?;
    send(kernel.as_raw_fd(), &request(family, port), MsgFlags::empty())?;
    let mut buffer = vec![0; 32 << 10];
    for _ in 0..MAX_READS {
        let length = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if messages(buffer.get(..length).unwrap_or_default(), found)? {
            return Ok(());
        }
    }
    Err(io::Error::other("the kernel lists too many sockets"))
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, all zero except for the values set here.
fn request(family: u8, port: u16) -> [u8; HEADER + REQUEST] {
    let mut request = [0; HEADER + REQUEST];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = request.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &((HEADER + REQUEST) as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    put(HEADER, &[family, libc::IPPROTO_TCP as u8]);
    put(HEADER + 4, &LISTENING.to_ne_bytes());
    put(HEADER + 8, &port.to_be_bytes());
    request
}

/// Reads the messages of one datagram; true at the end of the list.
fn messages(mut datagram: &[u8], found: &mut BTreeMap<u64, u64>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
        let length = length as usize;
        let Some(message) = datagram.get(HEADER..length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if kind == libc::NLMSG_DONE as u16 {
            return Ok(true);
        }
        if kind == libc::NLMSG_ERROR as u16 {
            let code = u32_at(message, 0).map_or(libc::EIO, |code| -code.cast_signed());
            return Err(io::Error::from_raw_os_error(code));
        }
        if let (Some(inode), Some(cgroup)) = (u32_at(message, INODE), cgroup(message)) {
            found.insert(inode.into(), cgroup);
        }
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attribute with the cgroup.
fn cgroup(message: &[u8]) -> Option<u64> {
    let mut attributes = message.get(MESSAGE..)?;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == INET_DIAG_CGROUP_ID {
            return Some(u64::from_ne_bytes(value.try_into().ok()?));
        }
        attributes = attributes.get(aligned(length)..)?;
    }
}

/// Messages and attributes start at multiples of four.
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::procfs::Tree;

    /// A message of this kind: a socket with an inode, and attributes.
    fn message(kind: u16, inode: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0; MESSAGE];
        body[INODE..].copy_from_slice(&inode.to_ne_bytes());
        for (name, value) in attributes {
            body.extend(((4 + value.len()) as u16).to_ne_bytes());
            body.extend(name.to_ne_bytes());
            body.extend(*value);
            body.resize(aligned(body.len()), 0);
        }
        let mut whole = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        whole.extend(kind.to_ne_bytes());
        whole.resize(HEADER, 0);
        whole.extend(body);
        whole
    }

    #[test]
    fn the_cgroup_is_found_among_the_attributes() {
        let id = 4711_u64.to_ne_bytes();
        let first = message(SOCK_DIAG_BY_FAMILY, 5, &[(8, &[1]), (INET_DIAG_CGROUP_ID, &id)]);
        let silent = message(SOCK_DIAG_BY_FAMILY, 6, &[(8, &[1])]);
        let mut found = BTreeMap::new();
        let both = [first.clone(), silent].concat();
        assert!(!messages(&both, &mut found).unwrap(), "more may come");
        assert_eq!(found, [(5, 4711)].into());
        let done = message(libc::NLMSG_DONE as u16, 0, &[]);
        assert!(messages(&done, &mut found).unwrap());
        for cut in 0..first.len() {
            let _ = messages(&first[..cut], &mut BTreeMap::new());
        }
    }

    #[test]
    fn invalid_lengths_end_the_parsing() {
        for length in [0_u32, 3, 15, u32::MAX] {
            let mut bad = message(SOCK_DIAG_BY_FAMILY, 5, &[]);
            bad[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(messages(&bad, &mut BTreeMap::new()).is_err(), "{length}");
        }
        let mut bad = message(SOCK_DIAG_BY_FAMILY, 5, &[(8, &[0; 8])]);
        for length in [0_u16, 3, u16::MAX] {
            bad[HEADER + MESSAGE..][..2].copy_from_slice(&length.to_ne_bytes());
            let mut found = BTreeMap::new();
            assert!(!messages(&bad, &mut found).unwrap() && found.is_empty(), "{length}");
        }
        let mut refused = message(libc::NLMSG_ERROR as u16, 0, &[]);
        refused[HEADER..][..4].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        let error = messages(&refused, &mut BTreeMap::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_socket_belongs_to_the_cgroup_of_its_creator() {
        let tree = Tree::default();
        let own = std::process::id().cast_signed();
        let home = tree.cgroups(&tree.hierarchies().unwrap(), own).unwrap().unified.unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = TcpListener::bind(address).unwrap();
            let inode = nix::sys::stat::fstat(&socket).unwrap().st_ino;
            let found = cgroups(socket.local_addr().unwrap().port()).unwrap();
            assert_eq!(found, [(inode, home.id)].into());
        }
    }
}
