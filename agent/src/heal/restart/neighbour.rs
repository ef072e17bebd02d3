//! Checks whether a restart would also end another service.
//!
//! A process that starts several services (a launcher, a shell script, a development server) is the
//! parent of all of them, and they end with it. A process among those to be signalled that serves
//! its own port is not part of the target, unless the target's family shares that port: a worker,
//! or the child of a worker, opens ports for metrics or for its own helpers.
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use paramedic_core::target::ProcessId;
use paramedic_host::{
    procfs::{Table, Tree},
    socket::{self, Listening},
};

/// A process that serves another port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) pid: i32,
    pub(super) name: String,
    pub(super) port: u16,
}

/// The first among `chosen` that serves another port than the target's. The agent cannot signal a
/// process whose files it cannot see.
pub(super) fn find(
    tree: &Tree,
    table: &Table,
    main: ProcessId,
    chosen: &[ProcessId],
    port: u16,
) -> io::Result<Option<Neighbour>> {
    if chosen.len() < 2 {
        return Ok(None);
    }
    let listening = socket::all_listening(tree)?;
    let inodes = listening.iter().map(|socket| socket.inode).collect();
    let pids = chosen.iter().map(|instance| instance.pid);
    let held = socket::owners_among(tree, pids, &inodes).held;
    Ok(judge(table, main.pid, &held, &listening, port))
}

fn judge(
    table: &Table,
    main: i32,
    held: &BTreeMap<i32, BTreeSet<u64>>,
    listening: &[Listening],
    port: u16,
) -> Option<Neighbour> {
    let ports: BTreeMap<u64, u16> =
        listening.iter().map(|socket| (socket.inode, socket.address.port())).collect();
    let of = |pid: i32| held.get(&pid).into_iter().flatten();
    let serves = |pid: i32| of(pid).any(|inode| ports.get(inode) == Some(&port));
    let of_main: BTreeSet<&u64> = of(main).collect();
    let foreign = |inode: &&u64| {
        ports.get(*inode).is_some_and(|&other| other != port) && !of_main.contains(*inode)
    };
    held.keys().filter(|&&pid| pid != main).find_map(|&pid| {
        let inode = of(pid).find(foreign)?;
        // A process that has left the family's tree has no ancestor in it.
        let line: Vec<i32> = match table.descends(pid, main) {
            true => table.line(pid).take_while(|&one| one != main).collect(),
            false => vec![pid],
        };
        let is_ours = line.into_iter().any(serves);
        let name = table.0.get(&pid).map_or_else(String::new, |stat| stat.name.clone());
        (!is_ours).then(|| Some(Neighbour { pid, name, port: *ports.get(inode)? }))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use paramedic_host::procfs::Stat;

    /// main 30 ─ worker 31 ─ helper 33; main ─ other 32 ─ its child 34; an orphan 40.
    fn neighbour(held: &[(i32, u64)]) -> Option<(i32, u16)> {
        let family = [(1, 0), (30, 1), (31, 30), (32, 30), (33, 31), (34, 32), (40, 1)];
        let stat = |(pid, parent)| {
            let (name, state, group) = ("x".to_owned(), 'S', 1);
            (pid, Stat { pid, name, state, parent, group, start_time: 1, ..Stat::default() })
        };
        let table = Table(family.into_iter().map(stat).collect());
        // In this test the inode encodes the port.
        let listening: Vec<Listening> = [5000_u16, 9100, 8080]
            .map(|port| Listening { address: ([0; 4], port).into(), inode: port.into() })
            .into();
        let mut owners = BTreeMap::<i32, BTreeSet<u64>>::new();
        for &(pid, inode) in held {
            owners.entry(pid).or_default().insert(inode);
        }
        judge(&table, 30, &owners, &listening, 5000).map(|found| (found.pid, found.port))
    }

    #[test]
    fn a_child_that_serves_another_port_is_another_service() {
        assert_eq!(neighbour(&[(30, 5000), (32, 8080)]), Some((32, 8080)));
        assert_eq!(neighbour(&[(31, 5000), (32, 8080)]), Some((32, 8080)), "main holds nothing");
        assert_eq!(neighbour(&[(30, 5000), (34, 8080)]), Some((34, 8080)), "a grandchild");
        assert_eq!(neighbour(&[(30, 5000), (40, 8080)]), Some((40, 8080)), "in the same cgroup");
    }

    #[test]
    fn other_ports_of_the_same_service_are_no_neighbour() {
        assert_eq!(neighbour(&[(30, 5000), (31, 5000)]), None);
        assert_eq!(neighbour(&[(30, 5000), (30, 9100)]), None, "main's");
        assert_eq!(neighbour(&[(30, 5000), (30, 9100), (32, 9100)]), None, "inherited from main");
        assert_eq!(neighbour(&[(30, 5000), (31, 5000), (31, 9100)]), None, "a worker's");
        assert_eq!(neighbour(&[(30, 5000), (31, 5000), (33, 9100)]), None, "a worker's helper's");
        assert_eq!(neighbour(&[(30, 5000), (31, 7)]), None, "a socket that does not listen");
        assert_eq!(neighbour(&[]), None);
    }
}
