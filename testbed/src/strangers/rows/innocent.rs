//! Ordinary events in the life of a healthy service.
use nix::sys::signal::Signal::{SIGCONT, SIGHUP, SIGSTOP};

use crate::strangers::{
    clients::Habit::{Also, CutOff, Dawdle, Scan},
    episode::Episode,
    known::*,
    step::Step::{self, Clients, Memory, Neighbours, Quota, Reload, Restart, Signal, Tell, Write},
    truth::Seen::{Cut, Status, Well},
};

/// Like a long garbage collection, or a suspended machine.
pub(super) const PAUSE: &[(u64, Step)] = &[(0, Signal(SIGSTOP)), (7, Signal(SIGCONT))];

const RELOADS: &[(u64, Step)] = &[(0, Reload(SIGHUP)), (7, Reload(SIGHUP)), (14, Reload(SIGHUP))];
const RESTARTS: &[(u64, Step)] = &[(0, Restart), (8, Restart), (16, Restart)];

/// Its next process finds the clocks a day ahead, as after a migration to another machine.
const STEPS: &[(u64, Step)] = &[(0, Write("clock", "86400")), (0, Restart)];

pub(super) const ROWS: &[Episode] = &[
    Episode::nothing(&FLASK_IDLE, "idle-and-pauses", PAUSE).lasting(20).quick(),
    Episode::nothing(&UVICORN_IDLE, "idle-and-pauses", PAUSE).lasting(20),
    Episode::nothing(&NGINX, "reload", RELOADS).served().required(),
    Episode::nothing(&GUNICORN, "reload", RELOADS).sees(Well, 90.0).required(),
    Episode::nothing(&GUNICORN, "rolling-restart", RESTARTS).sees(Well, 50.0).required(),
    Episode::nothing(&EXPRESS, "rolling-restart", RESTARTS).sees(Well, 50.0).required(),
    Episode::nothing(&NGINX, "scanner", &[(0, Clients(Scan))]).sees(Status(404), 30.0).required(),
    Episode::nothing(&PHP, "scanner", &[(0, Clients(Scan))]).sees(Status(404), 30.0).required(),
    Episode::nothing(&GUNICORN, "clients-reset", &[(0, Clients(CutOff))])
        .sees(Cut, 30.0)
        .required()
        .quick(),
    Episode::nothing(&NGINX, "slow-clients", &[(0, Clients(Dawdle))]).sees(Cut, 15.0),
    Episode::nothing(&EXPRESS, "slow-clients", &[(0, Clients(Dawdle))]).sees(Cut, 15.0),
    Episode::nothing(&FLASK, "log-flood", &[(0, Tell("data=flood"))]).served().required(),
    Episode::nothing(&GUNICORN, "cpu-quota", &[(0, Tell("data=busy")), (0, Quota(20))])
        .sees(Well, 60.0)
        .at_its_load()
        .required(),
    Episode::nothing(&GUNICORN, "noisy-neighbours", &[(0, Neighbours)])
        .sees(Well, 60.0)
        .required()
        .at_its_load()
        .alone(),
    Episode::nothing(&FLASK, "unauthorised-clients", &[(0, Clients(Also("/private")))])
        .sees(Status(401), 30.0)
        .required(),
    Episode::nothing(&FLASK, "one-in-a-hundred-fails", &[(0, Tell("data=rare"))])
        .sees_between(Status(500), 0.2, 5.0)
        .at_its_load()
        .required(),
    Episode::nothing(&PHP, "one-in-fifty-fails", &[(0, Tell("data=rare"))])
        .sees_between(Status(500), 0.2, 8.0)
        .at_its_load()
        .lasting(40),
    Episode::nothing(&NGINX, "rate-limited", &[(0, Clients(Also("/limited")))])
        .sees_between(Status(429), 20.0, 60.0)
        .required(),
    Episode::nothing(&GUNICORN_CLOCK, "clock-steps", STEPS).sees(Well, 50.0),
    Episode::nothing(&EXPRESS_CLOCK, "clock-steps", STEPS).sees(Well, 50.0),
    Episode::nothing(&TOMCAT_CLOCK, "clock-steps", STEPS).sees(Well, 50.0),
    Episode::nothing(&FLASK, "out-of-memory", &[(0, Memory(160)), (0, Tell("data=eat once"))])
        .sees(Well, 50.0)
        .ends()
        .at_its_load()
        .required(),
];
