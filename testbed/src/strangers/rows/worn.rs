//! Processes that wear out or hold on to something old: a restart gives them a new life.
use nix::sys::signal::Signal::SIGSTOP;

use crate::strangers::{
    episode::Episode,
    known::*,
    step::Step::{self, Send, Signal, Tell, Write},
    truth::Seen::{Ill, Status, Unanswered, Well},
};

const CONVOY: &[(u64, Step)] = &[(0, Tell("data=convoy once"))];
const THREADS: &[(u64, Step)] = &[(0, Tell("data=threads once"))];
const POOL: &[(u64, Step)] = &[(0, Tell("data=pool once"))];
/// Half of the connections end within the handler.
const CUT: &[(u64, Step)] = &[(0, Tell("data=cut once"))];
const POISON: &[(u64, Step)] = &[(0, Tell("data=poison once"))];
const RELOAD: &[&str] = &["--soft", "signal HUP"];
/// A new credential is on disk, and the process still has the old one.
const ROTATED: &[(u64, Step)] = &[(0, Write("credential", "second"))];

pub(super) const ROWS: &[Episode] = &[
    Episode::restart(&FLASK, "lock-convoy", CONVOY).sees(Unanswered, 50.0).at_its_load(),
    Episode::restart(&GUNICORN, "lock-convoy", CONVOY).sees(Ill, 30.0).at_its_load(),
    Episode::restart(&FLASK, "threads-leak", THREADS).sees(Ill, 60.0),
    // A worker that can start no thread ends, and gunicorn starts another.
    Episode::nothing(&GUNICORN, "threads-leak", THREADS).sees(Well, 50.0),
    Episode::restart(&FLASK, "pool-leaks", POOL).sees(Unanswered, 60.0),
    Episode::restart(&UVICORN, "pool-leaks", POOL).sees(Unanswered, 60.0),
    Episode::restart(&GUNICORN, "half-cut-off", CUT).sees(Unanswered, 30.0),
    Episode::restart(&EXPRESS, "half-cut-off", CUT).sees(Unanswered, 30.0),
    // A fault of the program, which a new process has too.
    Episode::nothing(&EXPRESS, "half-cut-off-by-a-bug", &[(0, Tell("data=cut"))])
        .sees(Unanswered, 30.0),
    Episode::restart(&FLASK, "credential-rotated", ROTATED).sees(Status(500), 90.0),
    Episode::restart(&FLASK_BARE, "credential-rotated", ROTATED).sees(Status(500), 90.0),
    Episode::restart(&UVICORN, "credential-rotated", ROTATED).sees(Status(500), 90.0),
    Episode::restart(&EXPRESS, "credential-rotated", ROTATED).sees(Status(500), 90.0),
    Episode::restart(&GRPC, "credential-rotated", ROTATED).sees(Status(500), 90.0),
    Episode::restart(&UVICORN, "poisoned", POISON).sees(Status(500), 80.0).striking(0.5),
    Episode::restart(&GRANIAN, "poisoned", POISON).sees(Status(500), 80.0).striking(0.5),
    Episode::restart(&FLASK_BARE, "poisoned", POISON).sees(Status(500), 80.0).striking(0.5),
    // gunicorn and granian replace their workers at SIGHUP, without an interruption.
    Episode::soft(&GUNICORN, "poisoned-and-reloads", POISON)
        .sees(Status(500), 2.0)
        .with(RELOAD)
        .quick(),
    Episode::soft(&REUSEPORT, "poisoned-and-reloads", POISON).sees(Status(500), 2.0).with(RELOAD),
    Episode::soft(&GRANIAN, "poisoned-and-reloads", POISON).sees(Status(500), 2.0).with(RELOAD),
    // Memory is nearly full, and the collector works all the time.
    Episode::restart(&TOMCAT_TIGHT, "collector-thrashes", &[(0, Tell("data=keep once"))])
        .sees(Ill, 50.0)
        .at_its_load(),
    Episode::restart(
        &REDIS,
        "script-without-end",
        &[(0, Send("EVAL \"while true do end\" 0\r\n"))],
    )
    .sees(Ill, 90.0),
    Episode::restart(&CADDY, "stopped", &[(0, Signal(SIGSTOP))]).sees(Unanswered, 90.0),
    Episode::restart(&HAPROXY, "stopped", &[(0, Signal(SIGSTOP))]).sees(Unanswered, 90.0),
    Episode::restart(&PHP, "stopped", &[(0, Signal(SIGSTOP))]).sees(Unanswered, 90.0),
    Episode::restart(&TOMCAT, "stopped", &[(0, Signal(SIGSTOP))]).sees(Unanswered, 90.0),
];
