//! The clients of a target: whether a service works is judged by their answers.
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::plan::Load;
use crate::stage::boot_ns;

/// An answer that takes longer counts as a failure to a user.
const PATIENCE: Duration = Duration::from_millis(500);
/// Seconds after which a client hangs up.
const TIMEOUT_S: u64 = 3;
/// Clients that share a load: one that waits does not keep the others from asking.
const CLIENTS: u32 = 8;

/// The result of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// When it ended, in nanoseconds since boot.
    pub(crate) at: u64,
    /// A 2xx in good time.
    pub(crate) good: bool,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    /// Requests a second beyond the load, in a surge.
    surge: AtomicU32,
    requests: Mutex<Vec<Request>>,
}

/// Clients that send requests until dropped.
#[derive(Debug)]
pub(crate) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    url: String,
}

impl Clients {
    /// Clients of the service at `url`. They do not send anything yet.
    pub(crate) fn of(url: &str) -> Self {
        let shared = Arc::new(Shared::default());
        Self { shared, threads: Vec::new(), url: format!("{url}/data") }
    }

    /// Starts the clients: each sends `GET /data`.
    pub(crate) fn come(&mut self, load: Load) {
        let clients = if load == Load::Idle { 2 } else { CLIENTS };
        for _ in 0..clients {
            self.spawn(move |begun, _| {
                let all = match load {
                    Load::Idle => 2.0,
                    Load::Steady(n) => f64::from(n),
                    Load::Bursty(n) if begun.elapsed().as_secs() % 5 < 2 => f64::from(n),
                    Load::Bursty(n) => (f64::from(n) / 10.0).max(1.0),
                };
                all / f64::from(clients)
            });
        }
    }

    /// More clients, each with this many requests a second as long as it gets answers.
    pub(crate) fn surge(&mut self, clients: u32, per_second: u32) {
        self.shared.surge.store(per_second, Ordering::Relaxed);
        for _ in 0..clients {
            self.spawn(|_, shared| f64::from(shared.surge.load(Ordering::Relaxed)));
        }
    }

    /// One thread, which asks at the rate that `rate` names.
    fn spawn(&mut self, rate: impl Fn(Instant, &Shared) -> f64 + Send + 'static) {
        let (shared, url) = (Arc::clone(&self.shared), self.url.clone());
        self.threads.push(thread::spawn(move || {
            let begun = Instant::now();
            let mut due = begun;
            while !shared.over.load(Ordering::Relaxed) {
                let request = ask(&url);
                shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                due += Duration::from_secs_f64(1.0 / rate(begun, &shared).max(0.1));
                let now = Instant::now();
                // Requests that were missed while waiting for an answer are not caught up.
                due = due.max(now);
                thread::sleep(due - now);
            }
        }));
    }

    /// All results so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn ask(url: &str) -> Request {
    let begun = Instant::now();
    let answer = minreq::get(url).with_timeout(TIMEOUT_S).send();
    let good = answer.is_ok_and(|answer| (200..300).contains(&answer.status_code));
    Request { at: boot_ns(), good: good && begun.elapsed() <= PATIENCE }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
