//! Healthy services under ordinary traffic: no remedy is right.
use crate::strangers::{episode::Episode, known::*};

pub(super) const ROWS: &[Episode] = &[
    Episode::healthy(&GUNICORN).quick(),
    Episode::healthy(&REUSEPORT),
    Episode::healthy(&FLASK_BARE),
    Episode::healthy(&HOLDER),
    Episode::healthy(&GRANIAN),
    Episode::healthy(&EXPRESS).quick(),
    Episode::healthy(&NGINX),
    Episode::healthy(&HAPROXY),
    Episode::healthy(&TOMCAT),
    Episode::healthy(&UVICORN),
    Episode::healthy(&PHP),
    Episode::healthy(&CADDY),
    Episode::healthy(&REDIS).quick(),
    Episode::healthy(&GRPC).quick(),
    Episode::healthy(&SINGLE).quick(),
    Episode::healthy(&PATRONI),
];
