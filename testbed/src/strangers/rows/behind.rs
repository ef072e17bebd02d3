//! Dependencies that are slow, gone or half open: what is behind the service fails, and a restart
//! does not help.
use crate::strangers::{
    episode::Episode,
    known::*,
    step::Step::{self, NamesGone, Upstream, Write},
    truth::Seen::{Ill, Status, Unanswered},
    upstream::Behaviour::{Answers, Hangs, Refuses},
};

/// It accepts, and never answers.
const HALF_OPEN: &[(u64, Step)] = &[(0, Upstream(Hangs))];
const GONE: &[(u64, Step)] = &[(0, Upstream(Refuses))];
const FAILS: &[(u64, Step)] = &[(0, Upstream(Answers(500, 0)))];
const SLOW: &[(u64, Step)] = &[(0, Upstream(Answers(200, 600)))];
const NO_NAMES: &[(u64, Step)] = &[(0, NamesGone)];
const EXPIRED: &[(u64, Step)] = &[(0, Write("credential", "expired"))];
const TURNED_AWAY: &[(u64, Step)] = &[(0, Upstream(Answers(401, 0)))];
/// The app sets no limit of time.
const NO_LIMIT: &str = "limit=none";

pub(super) const ROWS: &[Episode] = &[
    // Servers with an event loop.
    Episode::nothing(&UVICORN_PRICES, "upstream-refuses", GONE).sees(Status(502), 90.0),
    Episode::nothing(&UVICORN_PRICES, "upstream-half-open", HALF_OPEN).sees(Status(504), 90.0),
    Episode::nothing(&UVICORN_PRICES, "upstream-half-open-without-limit", HALF_OPEN)
        .always(NO_LIMIT)
        .sees(Unanswered, 90.0),
    Episode::nothing(&UVICORN_PRICES, "upstream-is-slow", SLOW).served(),
    Episode::nothing(&EXPRESS_PRICES, "upstream-refuses", GONE).sees(Status(502), 90.0),
    Episode::nothing(&EXPRESS_PRICES, "upstream-half-open", HALF_OPEN).sees(Status(504), 90.0),
    Episode::nothing(&EXPRESS_PRICES, "upstream-half-open-without-limit", HALF_OPEN)
        .always(NO_LIMIT)
        .sees(Unanswered, 90.0),
    Episode::nothing(&EXPRESS_PRICES, "upstream-is-slow", SLOW).served(),
    // One request at a time, and a pool of two connections.
    Episode::nothing(&PHP_PRICES, "upstream-half-open", HALF_OPEN).sees(Ill, 80.0),
    Episode::nothing(&FLASK_QUOTES, "pool-waits-for-slow-upstream", SLOWER)
        .sees(Unanswered, 30.0)
        .at_its_load(),
    // Proxies.
    Episode::nothing(&HAPROXY, "backend-half-open", HALF_OPEN).sees(Status(504), 90.0),
    Episode::nothing(&HAPROXY, "backend-is-slow", SLOW).served(),
    Episode::nothing(&CADDY_PROXY, "upstream-half-open", HALF_OPEN).sees(Unanswered, 90.0),
    Episode::nothing(&CADDY_PROXY, "upstream-fails", FAILS).sees(Status(500), 90.0),
    Episode::nothing(&CADDY_PROXY, "upstream-is-slow", SLOW).served(),
    // gRPC: UNAVAILABLE, and calls that wait.
    Episode::nothing(&GRPC_PRICES, "dependency-refuses", GONE).sees(Status(500), 90.0),
    Episode::nothing(&GRPC_PRICES, "dependency-fails", FAILS).sees(Status(500), 90.0),
    Episode::nothing(&GRPC_PRICES, "dependency-is-slow", SLOW).served().at_its_load(),
    Episode::nothing(&GRPC_PRICES, "dependency-half-open-without-limit", HALF_OPEN)
        .always(NO_LIMIT)
        .sees(Unanswered, 90.0),
    // The name server does not answer.
    Episode::nothing(&FLASK_NAMES, "names-gone", NO_NAMES).sees(Status(502), 80.0),
    Episode::nothing(&UVICORN_NAMES, "names-gone", NO_NAMES).sees(Ill, 80.0),
    Episode::nothing(&EXPRESS_NAMES, "names-gone", NO_NAMES).sees(Ill, 80.0),
    // The credential itself has expired, whenever the process was started: what is behind turns the
    // app away.
    Episode::nothing(&FLASK_PRICES, "credential-expired", TURNED_AWAY).sees(Status(500), 90.0),
    Episode::nothing(&FLASK_BARE_PRICES, "credential-expired", TURNED_AWAY).sees(Status(500), 90.0),
    Episode::nothing(&EXPRESS_PRICES, "credential-expired", TURNED_AWAY).sees(Status(500), 90.0),
    Episode::nothing(&UVICORN_PRICES, "credential-expired", TURNED_AWAY).sees(Status(500), 90.0),
    Episode::nothing(&GRPC, "credential-expired", EXPIRED).sees(Status(500), 90.0),
    // The app itself finds that its licence has expired: nothing tells that from memory that is
    // poisoned.
    Episode::nothing(&PHP, "licence-expired", EXPIRED).sees(Status(500), 90.0),
];

const SLOWER: &[(u64, Step)] = &[(0, Upstream(Answers(200, 1000)))];
