use super::*;
use crate::procfs::Stat;

/// A process table with the facts about each process: `(pid, parent, program)`.
#[derive(Default)]
struct Told {
    table: Table,
    programs: BTreeMap<i32, &'static str>,
    accepts: BTreeMap<i32, Accepts>,
    places: BTreeMap<i32, &'static str>,
    forks: Vec<i32>,
    helpers: Vec<i32>,
    agent: i32,
}

impl Facts for Told {
    fn accepts(&self, pid: i32) -> Accepts {
        self.accepts.get(&pid).copied().unwrap_or(Accepts::No)
    }

    fn program(&self, pid: i32) -> Option<(u64, u64)> {
        let name = self.programs.get(&pid).filter(|name| !name.is_empty())?;
        Some((1, name.bytes().map(u64::from).sum()))
    }

    fn is_fork(&self, pid: i32, _: i32) -> bool {
        self.forks.contains(&pid)
    }

    fn is_helper(&self, pid: i32) -> bool {
        self.helpers.contains(&pid)
    }

    fn place(&self, pid: i32) -> Option<String> {
        Some((*self.places.get(&pid).unwrap_or(&"/")).to_owned())
    }

    fn protected(&self, pid: i32) -> bool {
        self.table.descends(self.agent, pid)
    }
}

/// All in one process group, with ages in the order of their pids.
fn told(processes: &[(i32, i32, &'static str)]) -> Told {
    let stat = |&(pid, parent, _): &(i32, i32, &str)| {
        let (name, start_time) = ("x".to_owned(), u64::from(pid.unsigned_abs()));
        (pid, Stat { pid, name, state: 'S', parent, group: 1, start_time, ..Stat::default() })
    };
    let programs = processes.iter().map(|&(pid, _, program)| (pid, program)).collect();
    Told { table: Table(processes.iter().map(stat).collect()), programs, ..Told::default() }
}

impl Told {
    fn accepting(mut self, pids: &[i32]) -> Self {
        self.accepts = pids.iter().map(|&pid| (pid, Accepts::Yes)).collect();
        self
    }

    fn at(mut self, place: &'static str, pids: &[i32]) -> Self {
        self.places.extend(pids.iter().map(|&pid| (pid, place)));
        self
    }

    fn group(mut self, group: i32, pids: &[i32]) -> Self {
        for pid in pids {
            self.table.0.get_mut(pid).unwrap().group = group;
        }
        self
    }

    /// The main process among those that hold these sockets.
    fn main(&self, held: &[(i32, u64)]) -> Option<i32> {
        let mut holders = BTreeMap::<i32, BTreeSet<u64>>::new();
        for &(pid, inode) in held {
            holders.entry(pid).or_default().insert(inode);
        }
        main_of(&holders, &self.table, self)
    }
}

#[test]
fn without_facts_the_common_ancestor_is_the_service() {
    let family = [(1, 0, ""), (20, 1, ""), (10, 20, ""), (11, 20, ""), (12, 10, ""), (30, 20, "")];
    let family = told(&family);
    assert_eq!(family.main(&[(10, 5), (11, 5), (20, 5)]), Some(20), "master, workers");
    assert_eq!(family.main(&[(10, 5), (12, 5)]), Some(10));
    assert_eq!(family.main(&[(20, 5), (12, 6)]), Some(20), "grandchild, own socket");
    assert_eq!(family.main(&[(10, 5), (11, 5)]), Some(10), "inherited: the oldest");
    assert_eq!(family.main(&[(10, 5), (11, 6)]), None, "nothing in common");
    assert_eq!(family.main(&[(1, 5), (10, 5), (12, 5)]), Some(10), "socket activation");
    assert_eq!(family.main(&[(1, 5)]), Some(1));
    assert_eq!(family.main(&[(77, 5)]), Some(77), "ended meanwhile");
}

/// A launcher 20 that opened the socket, its service 30 with workers 31 and 32, and another child.
fn launcher() -> Told {
    told(&[(1, 0, "init"), (20, 1, "sh"), (30, 20, "app"), (31, 30, "app"), (32, 30, "app")])
}

fn with_stranger(mut family: Told) -> Told {
    let other = told(&[(40, 20, "other")]);
    family.table.0.extend(other.table.0);
    family.programs.extend(other.programs);
    family
}

#[test]
fn a_holder_that_never_accepts_is_not_the_service() {
    let held = [(20, 5), (30, 5)];
    let family = || with_stranger(launcher());
    assert_eq!(family().accepting(&[30]).main(&held), Some(30));
    assert_eq!(family().accepting(&[20, 30]).main(&held), Some(20), "it accepts");
    assert_eq!(family().main(&held), Some(20), "nothing is told");
    assert_eq!(launcher().accepting(&[30]).main(&held), Some(20), "all of its children serve");
    let held = [(20, 5), (30, 5), (31, 5), (32, 5)];
    assert_eq!(family().accepting(&[31, 32]).main(&held), Some(30), "its master holds it too");
    assert_eq!(family().accepting(&[31]).main(&held), Some(30));
    let held = [(20, 5), (31, 5), (32, 5)];
    assert_eq!(family().accepting(&[31, 32]).main(&held), Some(30), "its master let go of it");
}

#[test]
fn forks_and_language_helpers_belong_to_the_service() {
    let held = [(20, 5), (30, 5)];
    let family = || with_stranger(launcher()).accepting(&[30]);
    assert_eq!(family().main(&held), Some(30));
    assert_eq!(Told { forks: vec![30, 40], ..family() }.main(&held), Some(20), "its router serves");
    assert_eq!(Told { forks: vec![30], ..family() }.main(&held), Some(30), "another program");
    assert_eq!(Told { helpers: vec![40], ..family() }.main(&held), Some(20));
}

#[test]
fn a_fork_keeps_the_start_of_the_stack() {
    let tree = Tree::default();
    let own = std::process::id().cast_signed();
    let stack = |pid| first_stack(&tree.read(pid, "stat").unwrap());
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let pid = child.id().cast_signed();
    // Until it executes another program, its stack is a copy of this one's.
    let begun = std::time::Instant::now();
    let mut other = stack(pid);
    while (other.is_none() || other == stack(own)) && begun.elapsed().as_secs() < 20 {
        std::thread::yield_now();
        other = stack(pid);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(stack(own).is_some() && other.is_some() && other != stack(own));
    let text = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0 0 0 99 0 0\n";
    assert_eq!(first_stack(text), Some(99));
    assert_eq!(first_stack(&text.replace("99", "0")), None, "not told");
    assert_eq!(first_stack("7 (a) S 1"), None);
}

#[test]
fn a_child_in_another_cgroup_than_the_holder_is_the_service() {
    let family = launcher().accepting(&[30]).at("/app", &[30, 31, 32]);
    assert_eq!(family.main(&[(20, 5), (30, 5)]), Some(30));
}

#[test]
fn a_pre_fork_master_is_the_service_though_it_never_accepts() {
    let family = || told(&[(1, 0, ""), (20, 1, "app"), (30, 20, "app"), (31, 20, "app")]);
    let held = [(20, 5), (30, 5), (31, 5)];
    assert_eq!(family().accepting(&[30, 31]).main(&held), Some(20));
    assert_eq!(family().accepting(&[31]).main(&held), Some(20), "one accepts at a time");
    let with_helper = || with_stranger(family());
    assert_eq!(with_helper().accepting(&[30, 31]).main(&held), Some(20));
    assert_eq!(with_helper().accepting(&[31]).main(&held), Some(20), "the other is a spare one");
    let mut launched = with_helper().accepting(&[30, 31]);
    launched.programs.insert(20, "sh");
    assert_eq!(launched.main(&held), None, "two services of a script that does more");
}

#[test]
fn the_master_of_workers_with_a_socket_each_is_the_service() {
    let family = || told(&[(1, 0, ""), (20, 1, "app"), (30, 20, "app"), (31, 20, "app")]);
    let held = [(30, 5), (31, 6)];
    assert_eq!(family().accepting(&[30, 31]).main(&held), Some(20));
    assert_eq!(with_stranger(family()).main(&held), Some(20), "it has a helper");
    let mut script = family();
    script.programs.insert(20, "sh");
    assert_eq!(script.main(&held), Some(20), "a script that starts nothing else");
    assert_eq!(with_stranger(script).main(&held), None, "a script that does more");
}

#[test]
fn a_shell_or_supervisor_is_not_a_master() {
    let held = [(30, 5), (31, 6)];
    let family = || told(&[(1, 0, ""), (20, 1, "app"), (30, 20, "app"), (31, 20, "app")]);
    assert_eq!(family().group(30, &[30]).group(31, &[31]).main(&held), None, "jobs of a shell");
    assert_eq!(family().at("/30", &[30]).main(&held), None, "units of a supervisor");
    assert_eq!(Told { agent: 20, ..family() }.main(&held), None, "the agent's own parent");
    let orphans = told(&[(1, 0, "app"), (30, 1, "app"), (31, 1, "app")]);
    assert_eq!(orphans.main(&held), None, "the init system");
}

#[test]
fn of_orphans_the_accepting_ones_are_the_service() {
    let orphans = || told(&[(1, 0, ""), (30, 1, "app"), (31, 1, "app"), (32, 31, "app")]);
    let held = [(30, 5), (31, 5), (32, 5)];
    assert_eq!(orphans().main(&held), Some(30), "the oldest");
    assert_eq!(orphans().accepting(&[31, 32]).main(&held), Some(31));
    assert_eq!(orphans().accepting(&[32]).main(&[(30, 5), (32, 6)]), Some(32));
}

#[test]
fn the_master_of_the_only_holder_is_the_service() {
    let held = [(21, 5)];
    let proxy = |programs: &[(i32, i32, &'static str)]| told(programs).accepting(&[21]).main(&held);
    assert_eq!(proxy(&[(10, 1, "sh"), (20, 10, "proxy"), (21, 20, "proxy")]), Some(20));
    assert_eq!(proxy(&[(10, 1, "sh"), (20, 10, "sh"), (21, 20, "proxy")]), Some(21), "a shell");
    let more = [(20, 10, "proxy"), (21, 20, "proxy"), (22, 20, "sh")];
    assert_eq!(proxy(&more), Some(21), "a supervisor of others");
}
