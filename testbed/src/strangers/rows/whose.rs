//! 5xx with an external cause, 5xx that are intended, and 5xx that a restart does not end.
use nix::sys::signal::Signal::SIGHUP;

use crate::strangers::{
    episode::Episode,
    known::*,
    step::Step::{DiskFull, Reload, Restart, Tell, Upstream, Write},
    truth::Seen::{Status, Unanswered, Well},
    upstream::Behaviour::{Answers, Hangs, Refuses},
};

const MAINTENANCE: &str = "app=maintenance";
/// The key that the app needs is missing.
const WRONG: &str = "{}";

pub(super) const ROWS: &[Episode] = &[
    // A backend fails.
    Episode::nothing(&NGINX_PROXY, "upstream-refuses", &[(0, Upstream(Refuses))])
        .sees(Status(502), 90.0)
        .quick(),
    Episode::nothing(&NGINX_PROXY, "upstream-hangs", &[(0, Upstream(Hangs))])
        .sees(Status(504), 90.0),
    Episode::nothing(&NGINX_PROXY, "upstream-is-slow", &[(0, Upstream(Answers(200, 600)))])
        .served(),
    Episode::nothing(&NGINX_PROXY, "upstream-fails", &[(0, Upstream(Answers(500, 0)))])
        .sees(Status(500), 90.0),
    Episode::nothing(&FLASK_PRICES, "upstream-refuses", &[(0, Upstream(Refuses))])
        .sees(Status(502), 90.0),
    Episode::nothing(&FLASK_PRICES, "upstream-hangs", &[(0, Upstream(Hangs))])
        .sees(Status(504), 90.0),
    Episode::nothing(&FLASK_BARE_PRICES, "upstream-refuses", &[(0, Upstream(Refuses))])
        .sees(Status(502), 90.0),
    Episode::nothing(&HAPROXY, "backend-fails", &[(0, Upstream(Answers(500, 0)))])
        .sees(Status(500), 90.0),
    Episode::nothing(&HAPROXY, "backend-answers-503", &[(0, Upstream(Answers(503, 0)))])
        .sees(Status(503), 90.0)
        .quick(),
    Episode::nothing(&HAPROXY, "no-server-up", &[(0, Upstream(Refuses))]).sees(Status(503), 90.0),
    Episode::nothing(&CADDY_PROXY, "upstream-refuses", &[(0, Upstream(Refuses))])
        .sees(Status(502), 90.0),
    // An intended 503.
    Episode::nothing(&GUNICORN, "maintenance", &[(0, Tell(MAINTENANCE))])
        .sees(Status(503), 90.0)
        .health(503)
        .or_soft()
        .quick(),
    Episode::nothing(&FLASK_BARE, "maintenance", &[(0, Tell(MAINTENANCE))]).sees(Status(503), 90.0),
    Episode::nothing(&EXPRESS, "maintenance", &[(0, Tell(MAINTENANCE))])
        .sees(Status(503), 90.0)
        .health(503),
    Episode::nothing(&NGINX, "maintenance", &[(0, Write("maintenance", ""))])
        .sees(Status(503), 90.0),
    Episode::nothing(&TOMCAT, "maintenance", &[(0, Tell(MAINTENANCE))]).sees(Status(503), 90.0),
    Episode::nothing(&FLASK, "cold-start", &[(0, Tell("app=cold")), (0, Restart)])
        .sees(Status(503), 30.0)
        .lasting(32)
        .quick(),
    Episode::nothing(&FLASK_BARE, "cold-start", &[(0, Tell("app=cold")), (0, Restart)])
        .sees(Status(503), 30.0)
        .lasting(32),
    Episode::nothing(&TOMCAT, "slow-start", &[(0, Tell("app=cold")), (0, Restart)])
        .sees(Status(503), 20.0)
        .lasting(40),
    // A restart does not help.
    Episode::nothing(&FLASK, "wrong-configuration-deployed", WRONG_AND_RESTART)
        .sees(Status(500), 80.0)
        .quick(),
    Episode::nothing(&FLASK_BARE, "wrong-configuration-deployed", WRONG_AND_RESTART)
        .sees(Status(500), 80.0),
    Episode::nothing(
        &GUNICORN,
        "wrong-configuration-reloaded",
        &[(0, Write("config.json", WRONG)), (0, Reload(SIGHUP))],
    )
    .sees(Status(500), 80.0)
    .or_soft(),
    Episode::nothing(
        &PHP,
        "wrong-configuration-deployed",
        &[(0, Tell("data=broken")), (0, Restart)],
    )
    .sees(Status(500), 80.0),
    Episode::nothing(&FLASK_HEAL, "disk-full", &[(0, DiskFull)]).sees(Status(500), 90.0).or_soft(),
    Episode::nothing(&FLASK, "disk-full", &[(0, DiskFull)]).sees(Status(500), 90.0),
    Episode::nothing(&FLASK_BARE, "disk-full", &[(0, DiskFull)]).sees(Status(500), 90.0).quick(),
    Episode::nothing(&FLASK_REPORTS, "one-path-fails", &[(0, Tell("data=reports"))]).sees_between(
        Status(500),
        3.0,
        20.0,
    ),
    Episode::nothing(&FLASK_BARE_REPORTS, "one-path-fails", &[(0, Tell("data=reports"))])
        .sees_between(Status(500), 3.0, 20.0),
    Episode::nothing(&UVICORN, "database-down-and-needed", &[(0, Tell("db=down data=needs-db"))])
        .sees(Status(500), 90.0)
        .health(503)
        .quick(),
    Episode::nothing(&UVICORN, "database-down", &[(0, Tell("db=down"))])
        .sees(Well, 97.0)
        .health(503)
        .quick(),
    Episode::nothing(&ACTUATOR, "database-down", &[(0, Tell("db=down"))]).served(),
    Episode::nothing(&FLASK, "pauses-under-load", PAUSE).sees(Unanswered, 2.0).lasting(20),
];

const WRONG_AND_RESTART: &[(u64, crate::strangers::step::Step)] =
    &[(0, Write("config.json", WRONG)), (0, Restart)];

use super::innocent::PAUSE;
