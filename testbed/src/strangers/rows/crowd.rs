//! Clients that ask for too much, and what owners do: deployments, reloads, maintenance.
use nix::sys::signal::Signal::{SIGHUP, SIGUSR2};

use crate::strangers::{
    clients::Habit::{Herd, Retry},
    episode::Episode,
    known::*,
    loris::Manner,
    step::Step::{self, Amend, Clients, Loris, Reload, Restart, Tell, Upstream, Write},
    truth::Seen::{Status, Unanswered, Well},
    upstream::Behaviour::Answers,
};

/// Each connection of an app's pool of threads, and some more.
const LORIS: &[(u64, Step)] = &[(0, Loris(Manner::Heads, 32))];
const CRUMBS: &[(u64, Step)] = &[(0, Loris(Manner::Bodies, 32))];
const UNREAD: &[(u64, Step)] = &[(0, Loris(Manner::Pages, 32))];
const HERD: &[(u64, Step)] = &[(0, Clients(Herd(8)))];
const STORM: &[(u64, Step)] = &[(0, Clients(Retry(4))), (0, Upstream(Answers(503, 0)))];
/// A new version whose cache is still empty.
const DEPLOYED: &[(u64, Step)] = &[(0, Tell("app=warming-up")), (0, Restart)];
const RESTARTS: &[(u64, Step)] = &[(0, Restart), (8, Restart), (16, Restart)];

pub(super) const ROWS: &[Episode] = &[
    // Slow-loris: an attack that a restart interrupts for a moment.
    Episode::nothing(&GUNICORN, "slow-loris", LORIS).sees(Unanswered, 25.0),
    Episode::nothing(&SINGLE, "slow-loris", LORIS).sees(Unanswered, 80.0),
    Episode::nothing(&NGINX, "slow-loris", LORIS).served(),
    Episode::nothing(&EXPRESS, "slow-loris", LORIS).served(),
    Episode::nothing(&TOMCAT, "slow-loris", LORIS).served(),
    // The same with bodies, and with responses that nobody reads.
    Episode::nothing(&GUNICORN, "slow-bodies", CRUMBS).sees(Unanswered, 25.0),
    Episode::nothing(&SINGLE, "slow-bodies", CRUMBS).sees(Unanswered, 80.0),
    Episode::nothing(&UVICORN, "slow-bodies", CRUMBS).served(),
    Episode::nothing(&GUNICORN, "slow-readers", UNREAD).sees(Unanswered, 25.0),
    Episode::nothing(&SINGLE, "slow-readers", UNREAD).sees(Unanswered, 80.0),
    Episode::nothing(&FLASK, "slow-readers", UNREAD).served(),
    // Retries multiply the load of a dependency's failure.
    Episode::nothing(&FLASK_PRICES, "retry-storm", STORM).sees(Status(502), 90.0),
    Episode::nothing(&NGINX_PROXY, "retry-storm", STORM).sees(Status(503), 90.0),
    Episode::nothing(&EXPRESS_PRICES, "retry-storm", STORM).sees(Status(502), 90.0),
    // All at the same instant.
    Episode::nothing(&FLASK, "thundering-herd", HERD).sees(Well, 80.0),
    Episode::nothing(&GUNICORN, "thundering-herd", HERD).sees(Well, 80.0),
    Episode::nothing(&PHP, "thundering-herd", HERD).sees(Well, 80.0),
    Episode::nothing(&UVICORN, "thundering-herd", HERD).sees(Well, 80.0),
    // Slow at first, and well.
    Episode::nothing(&FLASK, "cache-warms-up", DEPLOYED).sees(Well, 80.0),
    Episode::nothing(&GUNICORN, "cache-warms-up", DEPLOYED).sees(Well, 80.0),
    Episode::nothing(&EXPRESS, "cache-warms-up", DEPLOYED).sees(Well, 80.0),
    Episode::nothing(&UVICORN, "cache-warms-up", DEPLOYED).sees(Well, 80.0),
    Episode::nothing(&TOMCAT, "cache-warms-up", DEPLOYED).sees(Well, 60.0),
    Episode::nothing(&UVICORN, "rolling-restart", RESTARTS).sees(Well, 50.0),
    Episode::nothing(&CADDY, "rolling-restart", RESTARTS).sees(Well, 50.0),
    Episode::nothing(&REDIS, "rolling-restart", RESTARTS).sees(Well, 50.0),
    // Garbage that the collector removes without trouble.
    Episode::nothing(&TOMCAT, "much-garbage", &[(0, Tell("data=garbage"))]).served(),
    // A reload with another configuration: wrong, or one that the server refuses.
    Episode::nothing(
        &NGINX,
        "wrong-folder-reloaded",
        &[(0, Amend("nginx.conf", "/www;", "/absent;")), (0, Reload(SIGHUP))],
    )
    .sees(Status(404), 80.0),
    Episode::nothing(
        &NGINX_PROXY,
        "wrong-upstream-reloaded",
        &[(0, Amend("nginx.conf", "proxy_pass http://127.0.0.1", WRONG)), (0, Reload(SIGHUP))],
    )
    .sees(Status(502), 80.0),
    Episode::nothing(
        &NGINX,
        "broken-configuration-reloaded",
        &[(0, Amend("nginx.conf", "limit_req_status", "limit_status")), (0, Reload(SIGHUP))],
    )
    .served(),
    Episode::nothing(
        &HAPROXY,
        "wrong-server-reloaded",
        &[(0, Amend("haproxy.cfg", "one 127.0.0.1", "one 127.0.0.9")), (0, Reload(SIGUSR2))],
    )
    .sees(Status(503), 80.0),
    Episode::nothing(
        &EXPRESS,
        "wrong-configuration-deployed",
        &[(0, Write("config.json", "{}")), (0, Restart)],
    )
    .sees(Status(500), 80.0),
    Episode::nothing(
        &UVICORN,
        "wrong-configuration-deployed",
        &[(0, Write("config.json", "{}")), (0, Restart)],
    )
    .sees(Status(500), 80.0),
];

/// Nothing listens there.
const WRONG: &str = "proxy_pass http://127.0.0.9";
