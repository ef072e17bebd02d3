//! Health reports that cannot be read, that fail by design, or that count old errors. The clients
//! are served all the time.
use crate::strangers::{
    clients::Habit, episode::Episode, known::*, step::Step::Clients, step::Step::Tell,
};

macro_rules! variant {
    ($name:literal, $status:literal) => {
        Episode::nothing(&FLASK, concat!("health-", $name), &[(0, Tell(concat!("health=", $name)))])
            .served()
            .health($status)
    };
}

pub(super) const ROWS: &[Episode] = &[
    variant!("200-text", 200),
    variant!("204", 204),
    variant!("302", 302).quick(),
    variant!("401", 401).quick(),
    variant!("403", 403),
    variant!("404", 404),
    variant!("407", 407),
    variant!("429", 429),
    variant!("503", 503),
    variant!("html", 200),
    variant!("gzip", 200),
    variant!("bom", 200),
    variant!("nan", 200),
    variant!("cpu-135", 200).quick(),
    variant!("memory-mb", 200),
    variant!("too-large", 200),
    // One error every six seconds, and many old ones.
    Episode::nothing(&FLASK, "old-errors", &[]).always("health=old-errors").served().quick(),
    Episode::nothing(&PATRONI, "replica", &[])
        .always("role=replica")
        .with(&["--health-path", "/primary"])
        .served(),
    Episode::nothing(&PATRONI, "switchover", &[(0, Tell("role=replica"))])
        .with(&["--health-path", "/primary"])
        .served()
        .quick(),
    // A server with one connection, which must stay free for clients even if the agent only
    // observes.
    Episode::nothing(&SINGLE, "observed", &[]).with(&["--dry-run"]).served().required(),
    // Not even a report.
    Episode::nothing(&SINGLE, "no-health", &[]).always("health=none").served().required(),
    // A body that looks like failed responses.
    Episode::nothing(&FLASK, "log-of-others-errors", &[(0, Clients(Habit::Also("/log")))]).served(),
];
