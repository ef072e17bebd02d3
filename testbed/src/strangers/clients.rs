//! The clients of a foreign service: whether it works is judged by their answers.
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    ask::{self, Given},
    plan::Draw,
    truth::Seen,
};
use crate::stage::boot_ns;

/// The requests of the clients.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// `GET` of each path in turn.
    Http(&'static [&'static str]),
    Redis,
    /// gRPC calls, by a client program.
    Rpc,
    /// No requests.
    Idle,
}

/// The behaviour of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    Ordinary,
    /// Every other request is for a path that does not exist, as a scanner sends.
    Scan,
    /// Every other connection is reset before the answer.
    CutOff,
    /// Every other request is never finished.
    Dawdle,
    /// Every other request is for this path.
    Also(&'static str),
    /// A request that fails is sent again at once, up to this often.
    Retry(u32),
    /// All clients come at the same instant, each with this many requests at once.
    Herd(u32),
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// When it began, in nanoseconds since boot.
    pub(super) at: u64,
    /// When it ended.
    pub(super) ended: u64,
    pub(super) given: Given,
}

#[derive(Debug)]
struct Shared {
    over: AtomicBool,
    habit: Mutex<Habit>,
    requests: Mutex<Vec<Request>>,
}

impl Shared {
    fn record(&self, at: u64, given: Given) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(Request { at, ended: boot_ns(), given });
    }
}

/// Clients that send requests until dropped.
#[derive(Debug)]
pub(super) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    program: Option<Child>,
}

/// The clients of a herd come this often.
const HERD: Duration = Duration::from_secs(2);
/// Paths that scanners try.
const ABSENT: [&str; 4] = ["/wp-login.php", "/.env", "/admin/config.php", "/cgi-bin/test"];

impl Clients {
    /// Starts the clients. `rpc` is the gRPC client program, if that is the load. Clients without an
    /// answer do not delay the others.
    pub(super) fn come(load: Load, port: u16, draw: Draw, rpc: Option<Command>) -> Result<Self> {
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            habit: Mutex::new(Habit::Ordinary),
            requests: Mutex::default(),
        });
        let mut clients = Self { shared, threads: Vec::new(), program: None };
        match load {
            Load::Idle => {}
            Load::Rpc => clients.listen(rpc.context("no client of gRPC")?)?,
            Load::Http(paths) => {
                clients.spawn(draw, move |n, habit| {
                    // Not by parity of `n`: each client would always do the same.
                    http(port, paths, n, habit, n / draw.clients % 2 == 1)
                });
            }
            Load::Redis => clients.spawn(draw, move |_, _| ask::ping(port)),
        }
        Ok(clients)
    }

    fn spawn(&mut self, draw: Draw, ask: impl Fn(u32, Habit) -> Given + Clone + Send + 'static) {
        let Draw { clients, per_second, .. } = draw;
        let period = Duration::from_secs(1) * clients / per_second;
        for client in 0..clients {
            let (shared, ask) = (Arc::clone(&self.shared), ask.clone());
            self.threads.push(thread::spawn(move || {
                let mut due = Instant::now() + period * client / clients;
                let mut n = client;
                while !shared.over.load(Ordering::Relaxed) {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let habit = *shared.habit.lock().unwrap_or_else(PoisonError::into_inner);
                    if matches!(habit, Habit::Herd(_)) {
                        thread::sleep(until_the_herd(boot_ns()));
                    }
                    let at = boot_ns();
                    shared.record(at, ask(n, habit));
                    n = n.wrapping_add(clients + 1);
                    // Requests that were missed while waiting for an answer are not caught up.
                    due = (due + period).max(Instant::now());
                }
            }));
        }
    }

    /// Reads the results that a client program prints.
    fn listen(&mut self, mut program: Command) -> Result<()> {
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = self.program.insert(program.spawn().context("cannot start the client")?);
        let said = child.stdout.take().context("the client has no standard output")?;
        let shared = Arc::clone(&self.shared);
        self.threads.push(thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                // The word, and how long it took.
                let (word, ms) = line.split_once(' ').unwrap_or((&line, ""));
                let given = match word {
                    "ok" => Given::Status(200),
                    "silent" => Given::Silence,
                    _ => Given::Status(500),
                };
                let took = Duration::from_millis(ms.parse().unwrap_or_default());
                shared.record(boot_ns().saturating_sub(took.as_nanos() as u64), given);
            }
        }));
        Ok(())
    }

    /// Changes their behaviour from now on.
    pub(super) fn behave(&self, habit: Habit) {
        *self.shared.habit.lock().unwrap_or_else(PoisonError::into_inner) = habit;
    }

    /// All results so far, in the order in which the requests ended.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn http(port: u16, paths: &[&'static str], n: u32, habit: Habit, other: bool) -> Given {
    let of = |paths: &[&'static str]| paths[n as usize % paths.len()];
    let get = || ask::get(port, of(paths));
    match habit {
        Habit::Scan if other => ask::get(port, of(&ABSENT)),
        Habit::CutOff if other => ask::cut(port, of(paths)),
        Habit::Dawdle if other => ask::dawdle(port, of(paths)),
        Habit::Also(path) if other => ask::get(port, path),
        Habit::Retry(times) => {
            let tries = (0..times).map(|_| get()).find(|given| Seen::Well.is(*given));
            tries.unwrap_or_else(get)
        }
        Habit::Herd(each) => thread::scope(|scope| {
            for _ in 1..each {
                scope.spawn(get);
            }
            get()
        }),
        _ => get(),
    }
}

/// From now to the next instant at which a herd comes.
fn until_the_herd(now: u64) -> Duration {
    let every = HERD.as_nanos() as u64;
    Duration::from_nanos(every - now % every)
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(mut program) = self.program.take() {
            let _ = program.kill();
            let _ = program.wait();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
