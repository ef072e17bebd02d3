//! Fixtures for tests: real processes that hold real sockets.
#![expect(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]
use std::{
    io::Read,
    net::TcpListener,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{procfs::Tree, socket};

/// A child that holds a listening socket as its standard input, and ends with the test.
#[derive(Debug)]
pub struct Service(pub Child);

impl Service {
    /// Starts a program. Returns when only it and its children hold the socket (another test's
    /// child holds all files of this process between its fork and its exec).
    pub fn start(socket: TcpListener, program: &[&str]) -> Self {
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

    /// Waits for a line in the program's output.
    pub fn says(&mut self, line: &str) {
        let mut said = String::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        let mut byte = [0];
        while !said.ends_with('\n') && stdout.read(&mut byte).unwrap() == 1 {
            said.push(char::from(byte[0]));
        }
        assert_eq!(said.trim_end(), line);
    }

    pub fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn listen(address: &str) -> (TcpListener, u16) {
    let socket = TcpListener::bind((address, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}
