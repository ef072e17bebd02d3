use std::{
    io::Read,
    net::TcpListener,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::*;

/// A child that holds a listening socket as its standard input, and ends with the test.
pub(crate) struct Service(pub(crate) Child);

impl Service {
    /// Starts a program; returns when it and its children alone hold the socket (another test's
    /// child holds all our files between its fork and its exec).
    pub(crate) fn start(socket: TcpListener, program: &[&str]) -> Self {
        let (name, arguments) = program.split_first().unwrap();
        let inode = nix::sys::stat::fstat(&socket).unwrap().st_ino;
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::from(OwnedFd::from(socket)));
        let service = Self(command.stdout(Stdio::piped()).spawn().unwrap());
        drop(command);
        let tree = Tree::default();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let owners = socket::owners(&tree, &[inode].into()).unwrap().held;
            let table = tree.table().unwrap();
            if owners.keys().all(|&pid| table.descends(pid, service.pid())) {
                return service;
            }
            assert!(Instant::now() < deadline, "{owners:?} keep the socket");
            std::thread::yield_now();
        }
    }

    /// Waits for a line that the program prints.
    pub(crate) fn says(&mut self, line: &str) {
        let mut said = String::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        let mut byte = [0];
        while !said.ends_with('\n') && stdout.read(&mut byte).unwrap() == 1 {
            said.push(char::from(byte[0]));
        }
        assert_eq!(said.trim_end(), line);
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn listen(address: &str) -> (TcpListener, u16) {
    let socket = TcpListener::bind((address, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

fn local() -> IpAddr {
    "127.0.0.1".parse().unwrap()
}

#[test]
fn the_process_behind_a_port_is_found() {
    let (socket, port) = listen("127.0.0.1");
    let service = Service::start(socket, &["sleep", "600"]);
    let tree = Tree::default();
    let found = discover(&tree, port, &[local()]).unwrap();
    assert_eq!(found.instance.pid, service.pid());
    assert_eq!(found.name, "sleep");
    assert_eq!(found.owners, [service.pid()]);
    assert_eq!(found.address, SocketAddr::new(local(), port));
    assert!(found.started <= Moment::now());
    assert!(found.cgroups.shared, "this test stands in the same cgroup");
    assert_eq!(discover(&tree, port, &[]).unwrap(), found);
    assert!(tree.still_alive(found.instance));
    drop(service);
    assert!(!tree.still_alive(found.instance));
    let error = discover(&tree, port, &[]).unwrap_err();
    assert!(matches!(error, DiscoverError::NotListening(p) if p == port), "{error}");
}

#[test]
fn the_wrong_address_names_the_right_one() {
    let (socket, port) = listen("127.0.0.2");
    let _service = Service::start(socket, &["sleep", "600"]);
    let error = discover(&Tree::default(), port, &[local()]).unwrap_err();
    assert!(error.to_string().contains(&format!("127.0.0.2:{port}")), "{error}");
}

#[test]
fn a_wildcard_is_reached_by_the_address_asked_for() {
    let (socket, port) = listen("0.0.0.0");
    let _service = Service::start(socket, &["sleep", "600"]);
    let asked = ["::1".parse().unwrap(), local()];
    let found = discover(&Tree::default(), port, &asked).unwrap();
    assert_eq!(found.address, SocketAddr::new(local(), port));
}

#[test]
fn strangers_on_one_port_are_listed_and_refused() {
    let (socket, port) = listen("127.0.0.1");
    let socket2 = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let one = Service::start(socket, &["sleep", "600"]);
    let two = Service::start(socket2, &["sleep", "600"]);
    let error = discover(&Tree::default(), port, &[]).unwrap_err().to_string();
    for service in [&one, &two] {
        assert!(error.contains(&format!("sleep pid {}", service.pid())), "{error}");
    }
    let found = discover(&Tree::default(), port, &[local()]).unwrap();
    assert_eq!(found.instance.pid, one.pid());
}

/// As its process table has it: Docker's helper is known by its name.
#[test]
fn a_port_that_leads_into_a_container_is_not_its_helpers() {
    let folder = tempfile::tempdir().unwrap();
    let helper = folder.path().join("docker-proxy");
    std::fs::copy("/bin/sleep", &helper).unwrap();
    let (socket, port) = listen("127.0.0.1");
    let _helper = Service::start(socket, &[helper.to_str().unwrap(), "600"]);
    let error = discover(&Tree::default(), port, &[]).unwrap_err();
    assert!(matches!(error, DiscoverError::Published(_)), "{error}");
    assert!(error.to_string().contains(&format!("watch http://localhost:{port} CONTAINER")));
}
