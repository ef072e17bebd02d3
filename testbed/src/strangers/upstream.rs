//! The service that another depends on: a server in this process that answers, fails, hangs or does
//! not listen.
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;

/// Its behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// It answers with this status, after this many milliseconds.
    Answers(u16, u64),
    /// It accepts requests and never answers.
    Hangs,
    /// Nothing listens any more.
    Refuses,
}

/// What it shares with its threads.
#[derive(Debug)]
struct Shared {
    over: AtomicBool,
    behaviour: Mutex<Behaviour>,
}

impl Shared {
    fn now(&self) -> Behaviour {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A running one; it ends when dropped.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

const PAUSE: Duration = Duration::from_millis(10);
/// The longest line of a request that is read.
const HEAD: usize = 8192;

impl Upstream {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let behaviour = Mutex::new(Behaviour::Answers(200, 0));
        let shared = Arc::new(Shared { over: AtomicBool::new(false), behaviour });
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { port, shared, thread: Some(thread) })
    }

    /// Changes the behaviour from now on. One that refuses never listens again.
    pub(super) fn set(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.is_over() && shared.now() != Behaviour::Refuses {
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                // A client that breaks the connection off comes again.
                thread::spawn(move || serve(stream, &shared).unwrap_or_default());
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            n => head.extend_from_slice(&part[..n]),
        }
    }
    let (status, late) = loop {
        match shared.now() {
            Behaviour::Answers(status, late) => break (status, late),
            _ if shared.is_over() => return Ok(()),
            Behaviour::Hangs => thread::sleep(PAUSE),
            Behaviour::Refuses => return Ok(()),
        }
    };
    thread::sleep(Duration::from_millis(late));
    // In one write, as servers do.
    let answer = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\
         Connection: close\r\n\r\n{{\"price\":3}}"
    );
    stream.write_all(answer.as_bytes())
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strangers::ask::{Given, get};

    #[test]
    fn it_answers_fails_hangs_and_refuses_as_told() {
        let upstream = Upstream::start().unwrap();
        assert_eq!(get(upstream.port, "/"), Given::Status(200));
        upstream.set(Behaviour::Answers(500, 0));
        assert_eq!(get(upstream.port, "/"), Given::Status(500));
        upstream.set(Behaviour::Hangs);
        assert_eq!(get(upstream.port, "/"), Given::Silence);
        upstream.set(Behaviour::Refuses);
        thread::sleep(PAUSE * 5);
        assert_eq!(get(upstream.port, "/"), Given::Broken);
    }
}
