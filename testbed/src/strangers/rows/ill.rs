//! Faults that a restart ends. Those that Paramedic has always judged right are required.
use nix::sys::signal::Signal::SIGSTOP;

use crate::strangers::{
    episode::Episode,
    known::*,
    step::Step::{Signal, Tell},
    truth::Seen::{Status, Unanswered},
};

const POISON: &str = "data=poison once";
const DEADLOCK: &str = "app=deadlock once";
const BLOCKED: &str = "app=blocked once";

pub(super) const ROWS: &[Episode] = &[
    Episode::restart(&GUNICORN, "deadlock", &[(0, Tell(DEADLOCK))])
        .sees(Unanswered, 80.0)
        .no_health()
        .required()
        .quick(),
    Episode::restart(&FLASK, "stopped", &[(0, Signal(SIGSTOP))])
        .sees(Unanswered, 90.0)
        .no_health()
        .required()
        .quick(),
    Episode::restart(&UVICORN, "stopped", &[(0, Signal(SIGSTOP))])
        .sees(Unanswered, 90.0)
        .no_health()
        .required(),
    Episode::restart(&UVICORN, "event-loop-blocked", &[(0, Tell(BLOCKED))])
        .sees(Unanswered, 90.0)
        .no_health()
        .required(),
    Episode::restart(&EXPRESS, "event-loop-blocked", &[(0, Tell(BLOCKED))])
        .sees(Unanswered, 90.0)
        .no_health()
        .required()
        .quick(),
    Episode::restart(&FLASK, "poisoned", &[(0, Tell(POISON))])
        .sees(Status(500), 80.0)
        .striking(0.5)
        .health(200)
        .required()
        .quick(),
    Episode::restart(&FLASK_HEAL, "poisoned", &[(0, Tell(POISON))])
        .sees(Status(500), 80.0)
        .striking(0.5)
        .required(),
    Episode::restart(&EXPRESS, "poisoned", &[(0, Tell(POISON))])
        .sees(Status(500), 80.0)
        .striking(0.5)
        .required(),
    Episode::restart(&FLASK, "descriptors-leak", &[(0, Tell("data=leak once"))])
        .sees(Status(500), 20.0)
        .required(),
    // The process that holds the port has other children, so it must stay alive.
    Episode::restart(&HOLDER, "deadlock", &[(0, Tell(DEADLOCK))]).sees(Unanswered, 80.0).holds(),
    // Each worker has a socket of its own; the report is elsewhere, cannot be read, or does not
    // exist; the protocol is another.
    Episode::restart(&REUSEPORT, "deadlock", &[(0, Tell(DEADLOCK))])
        .sees(Unanswered, 80.0)
        .no_health(),
    Episode::restart(&ACTUATOR, "event-loop-blocked", &[(0, Tell(BLOCKED))]).sees(Unanswered, 90.0),
    Episode::restart(
        &FLASK,
        "deadlock-with-text-health",
        &[(0, Tell("health=200-text app=deadlock once"))],
    )
    .always("health=200-text")
    .sees(Unanswered, 80.0)
    .no_health(),
    Episode::restart(&FLASK_BARE, "deadlock", &[(0, Tell(DEADLOCK))]).sees(Unanswered, 80.0),
    Episode::restart(&NGINX, "stopped", &[(0, Signal(SIGSTOP))]).sees(Unanswered, 90.0),
    Episode::restart(&REDIS, "stopped", &[(0, Signal(SIGSTOP))]).sees(Unanswered, 90.0),
    Episode::restart(&EXPRESS, "pool-used-up", &[(0, Tell("data=pool once"))])
        .sees(Unanswered, 20.0),
    Episode::restart(&GRPC, "every-call-fails", &[(0, Tell("rpc=internal once"))])
        .sees(Status(500), 80.0)
        .striking(0.5),
    Episode::restart(&GRPC, "every-call-hangs", &[(0, Tell("rpc=hang once"))])
        .sees(Unanswered, 80.0),
];
