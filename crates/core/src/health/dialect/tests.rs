//! Bodies as the libraries write them, and their classification.
use super::super::classify::{self, Answer, Reading};
use super::*;

/// The result of a 2xx, 4xx or 5xx with this body.
pub(in super::super) fn read(
    code: u16,
    headers: &[(&'static str, &str)],
    body: impl AsRef<[u8]>,
) -> Result<Reading, HealthError> {
    use http::header::{HeaderName, HeaderValue};
    let header = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    classify::read(&Answer {
        status: code.try_into().unwrap(),
        headers: headers.iter().map(header).collect(),
        body: body.as_ref().to_vec(),
    })
}

pub(in super::super) fn json(code: u16, body: &str) -> Result<Says, HealthError> {
    let headers = [("content-type", "application/json; charset=utf-8")];
    read(code, &headers, body).map(|reading| reading.health.says)
}

pub(in super::super) fn plain(code: u16, body: &str) -> Result<Says, HealthError> {
    read(code, &[("content-type", "text/plain")], body).map(|reading| reading.health.says)
}

pub(in super::super) fn blames(name: &str) -> Says {
    Says::Blames(Component::new(name))
}

#[track_caller]
pub(in super::super) fn all_say(expected: &[(u16, &str, Says)]) {
    for (code, body, says) in expected {
        assert_eq!(json(*code, body).as_ref(), Ok(says), "HTTP {code}: {body}");
    }
}

#[test]
fn spring_boot_actuator() {
    all_say(&[
        (200, r#"{"status":"UP"}"#, Says::Well),
        (200, r#"{"status":"UP","groups":["liveness","readiness"]}"#, Says::Well),
        (200, r#"{"status":"UNKNOWN"}"#, Says::Well),
        (503, r#"{"status":"DOWN"}"#, Says::Ill),
        (503, r#"{"status":"OUT_OF_SERVICE"}"#, Says::NotNow),
        // Boot 3 and 2.2: the first of two is blamed, and details are ignored.
        (
            503,
            r#"{"status":"DOWN","components":{"diskSpace":{"status":"UP","details":
                {"total":1,"free":1,"threshold":10485760,"exists":true}},"redis":{"status":"DOWN",
                "details":{"error":"org.springframework: Unable to connect"}},
                "db":{"status":"DOWN"},"ping":{"status":"UP"}}}"#,
            blames("redis"),
        ),
        // Boot 2.0.
        (
            503,
            r#"{"status":"DOWN","details":{"db":{"status":"DOWN","details":{"database":"MySQL"}}}}"#,
            blames("db"),
        ),
        // Boot 1.
        (
            503,
            r#"{"status":"DOWN","diskSpace":{"status":"UP","free":9},"rabbit":{"status":"DOWN"}}"#,
            blames("rabbit"),
        ),
        // A composite, with and without its own status.
        (
            503,
            r#"{"status":"DOWN","components":{"stores":{"status":"DOWN","components":
                {"primary":{"status":"DOWN"}}}}}"#,
            blames("stores"),
        ),
        (
            503,
            r#"{"status":"DOWN","components":{"stores":{"components":{"primary":{"status":"UP"},
                "second":{"status":"DOWN"}}}}}"#,
            blames("second"),
        ),
        // A restart makes no room on a disk.
        (
            503,
            r#"{"status":"DOWN","components":{"diskSpace":{"status":"DOWN"}}}"#,
            blames("diskSpace"),
        ),
        (503, r#"{"status":"DOWN","components":{"livenessState":{"status":"DOWN"}}}"#, Says::Ill),
        (
            503,
            r#"{"status":"OUT_OF_SERVICE","components":{"readinessState":
                {"status":"OUT_OF_SERVICE"}}}"#,
            Says::NotNow,
        ),
        (
            503,
            r#"{"status":"DOWN","components":{"readinessState":{"status":"DOWN"}}}"#,
            Says::NotNow,
        ),
        (
            503,
            r#"{"status":"DOWN","components":{"livenessState":{"status":"DOWN"},
                "readinessState":{"status":"OUT_OF_SERVICE"}}}"#,
            Says::Ill,
        ),
        (
            503,
            r#"{"status":"DOWN","components":{"livenessState":{"status":"DOWN"},
                "mongo":{"status":"DOWN"}}}"#,
            blames("mongo"),
        ),
        // Served with 200, which a mapping may configure.
        (200, r#"{"status":"DOWN"}"#, Says::Warns),
        (200, r#"{"status":"DOWN","components":{"db":{"status":"DOWN"}}}"#, blames("db")),
        (200, r#"{"status":"UP","components":{"db":{"status":"DOWN"}}}"#, Says::Warns),
        // Spring's own page for an exception is not a report.
        (
            500,
            r#"{"timestamp":1,"status":500,"error":"Internal Server Error","path":"/"}"#,
            Says::Ill,
        ),
        (503, r#"{"timestamp":1,"status":503,"error":"Service Unavailable"}"#, Says::NotNow),
    ]);
}

#[test]
fn microprofile_and_quarkus() {
    all_say(&[
        (200, r#"{"status":"UP","checks":[]}"#, Says::Well),
        (
            200,
            r#"{"status":"UP","checks":[{"name":"a","status":"UP","data":{"x":1}}]}"#,
            Says::Well,
        ),
        (
            503,
            r#"{"status":"DOWN","checks":[{"name":"a","status":"UP"},
                {"name":"Database connections health check","status":"DOWN"}]}"#,
            blames("Database connections health check"),
        ),
        (503, r#"{"status":"DOWN","checks":[{"name":"deadlock","status":"DOWN"}]}"#, Says::Ill),
        (503, r#"{"status":"DOWN","checks":[{"status":"DOWN"}]}"#, blames("unnamed")),
        (503, r#"{"outcome":"DOWN","checks":[{"name":"pg","state":"DOWN"}]}"#, blames("pg")),
        (503, r#"{"status":"DOWN","checks":[]}"#, Says::Ill),
        (500, r#"{"status":"DOWN","checks":[{"name":"pg","status":"DOWN"}]}"#, blames("pg")),
    ]);
}

#[test]
fn asp_net() {
    for (code, body, says) in [
        (200, "Healthy", Says::Well),
        (200, "Degraded", Says::Warns),
        (503, "Unhealthy", Says::Ill),
        (503, "Degraded", Says::Warns),
        (503, "Healthy", Says::NotNow),
    ] {
        assert_eq!(plain(code, body), Ok(says), "{code} {body}");
    }
    all_say(&[
        (200, r#"{"status":"Degraded","results":{"cache":{"status":"Degraded"}}}"#, Says::Warns),
        (
            503,
            r#"{"status":"Unhealthy","results":{"self":{"status":"Healthy"},"sql":
                {"status":"Unhealthy","description":"no","data":{}}}}"#,
            blames("sql"),
        ),
        (
            503,
            r#"{"status":"Unhealthy","totalDuration":"00:00:00.05","entries":{"npgsql":
                {"data":{},"duration":"00:00:00.04","status":"Unhealthy","tags":[]}}}"#,
            blames("npgsql"),
        ),
        (
            503,
            r#"{"Status":"Unhealthy","Checks":[{"Component":"Redis","Status":"Unhealthy"}]}"#,
            blames("Redis"),
        ),
        (503, r#"{"status":"Unhealthy","results":{"self":{"status":"Unhealthy"}}}"#, Says::Ill),
    ]);
}

#[test]
fn nestjs_terminus() {
    all_say(&[
        (
            200,
            r#"{"status":"ok","info":{"db":{"status":"up"}},"error":{},"details":{}}"#,
            Says::Well,
        ),
        (
            503,
            r#"{"status":"error","info":{"db":{"status":"up"}},"error":{"redis":{"status":"down",
                "message":"timeout"}},"details":{"db":{"status":"up"},"redis":{"status":"down"}}}"#,
            blames("redis"),
        ),
        (
            503,
            r#"{"status":"error","info":{},"error":{"memory_heap":{"status":"down"}},"details":{}}"#,
            Says::Ill,
        ),
        (503, r#"{"status":"shutting_down","info":{},"error":{},"details":{}}"#, Says::NotNow),
    ]);
}

#[test]
fn go_libraries() {
    all_say(&[
        (200, r#"{"status":"OK","timestamp":"2026-01-01T00:00:00Z","system":{}}"#, Says::Well),
        (
            200,
            r#"{"status":"Partially Available","failures":{"mq":"Failed during RabbitMQ check"}}"#,
            Says::Warns,
        ),
        (
            503,
            r#"{"status":"Unavailable","failures":{"mongo":"no reachable servers"}}"#,
            blames("mongo"),
        ),
        (503, r#"{"status":"Unavailable","failures":["pg","mq"]}"#, blames("pg")),
        (503, r#"{"status":"Unavailable","failures":{}}"#, Says::Ill),
        (503, r#"{"status":"Unavailable"}"#, Says::Ill),
    ]);
}

#[test]
fn lightship_answers_one_word() {
    for (code, body, says) in [
        (200, "SERVER_IS_READY", Says::Well),
        (200, "SERVER_IS_NOT_SHUTTING_DOWN", Says::Well),
        (500, "SERVER_IS_NOT_READY", Says::NotNow),
        (500, "SERVER_IS_SHUTTING_DOWN", Says::NotNow),
    ] {
        assert_eq!(plain(code, body), Ok(says), "{code} {body}");
    }
}

#[test]
fn django_health_check() {
    all_say(&[
        (200, r#"{"Cache backend: default": "working", "DatabaseBackend": "working"}"#, Says::Well),
        (200, r#"{"DiskUsage": "warning: disk is 91% full"}"#, Says::Well),
        (
            500,
            r#"{"Cache": "working", "DatabaseBackend": "unavailable: Database error"}"#,
            blames("DatabaseBackend"),
        ),
        (500, r#"{"Storage": "unexpected result: no file"}"#, blames("Storage")),
        (500, r#"{"detail": "error", "code": "x"}"#, Says::Ill),
    ]);
    // HTML, unless JSON is requested.
    let html = read(500, &[("content-type", "text/html")], "<html>DatabaseBackend</html>").unwrap();
    assert_eq!(html.health.says, Says::Ill);
    assert!(html.by_status_alone);
}

#[test]
fn dropwizard() {
    all_say(&[
        (200, r#"{"deadlocks":{"healthy":true},"db":{"healthy":true}}"#, Says::Well),
        (500, r#"{"deadlocks":{"healthy":true},"db":{"healthy":false}}"#, blames("db")),
        (500, r#"{"deadlocks":{"healthy":false,"message":"[a, b]"}}"#, Says::Ill),
    ]);
}

#[test]
fn the_draft_of_the_ietf() {
    const FAILS: &str = r#"{"status":"fail","version":"1","checks":{
        "cassandra:responseTime":[{"componentType":"datastore","status":"pass"},
            {"componentType":"datastore","status":"FAIL","output":"timeout"}],
        "memory:utilization":[{"componentType":"system","status":"warn"}]}}"#;
    all_say(&[
        (200, r#"{"status":"pass"}"#, Says::Well),
        (200, r#"{"status":"Ok"}"#, Says::Well),
        (200, r#"{"status":"warn","checks":{"db:size":[{"status":"warn"}]}}"#, Says::Warns),
        (207, r#"{"status":"warn"}"#, Says::Warns),
        (503, FAILS, blames("cassandra:responseTime")),
        (400, FAILS, blames("cassandra:responseTime")),
        (503, r#"{"status":"down"}"#, Says::Ill),
        (
            500,
            r#"{"status":"fail","checks":{"memory:utilization":[{"status":"fail"}]}}"#,
            Says::Ill,
        ),
        (503, r#"{"status":"fail","checks":{"pg":{"status":"error"}}}"#, blames("pg")),
    ]);
    let draft = |code, body| {
        let headers = [("content-type", "application/health+json")];
        read(code, &headers, body).map(|reading| reading.health.says)
    };
    assert_eq!(draft(400, r#"{"status":"fail"}"#), Ok(Says::Ill));
    assert_eq!(draft(400, r#"{"status":"pass"}"#), Err(HealthError::StatusNotOk(400)));
    assert_eq!(draft(404, FAILS), Err(HealthError::NotFound(404)));
    assert_eq!(draft(401, FAILS), Err(HealthError::Refused(401)));
}

#[test]
fn the_original_demo_always_answers_200() {
    all_say(&[
        (200, r#"{"status":"healthy","error_count":0}"#, Says::Well),
        (200, r#"{"status":"degraded","error_count":6}"#, Says::Warns),
        (200, r#"{"status":"critical","error_count":11}"#, Says::Warns),
        (200, r#"{"status":true}"#, Says::Well),
        (200, r#"{"status":false}"#, Says::Warns),
        (500, r#"{"status":false}"#, Says::Ill),
        (200, r#"{"status":"maintenance"}"#, Says::NotNow),
        (200, r#"{"status":"splendid"}"#, Says::Well),
        (200, r#"{"state":"running","role":"replica"}"#, Says::Well),
        (200, "{}", Says::Well),
    ]);
    let body = r#"{"status":"critical","cpu_usage":85,"error_count":11}"#;
    let health = read(200, &[], body).unwrap().health;
    assert_eq!((health.cpu_usage, health.error_count), (Some(85.0), Some(11)));
}

#[test]
fn names_of_parts_are_made_printable_and_short() {
    let name = "\\u001b[31m\\nEVIL\\u0000\u{202e}é";
    let body = format!(r#"{{"status":"DOWN","checks":[{{"name":"{name}","status":"DOWN"}}]}}"#);
    assert_eq!(json(503, &body), Ok(blames("?[31m?EVIL???")));
    let long = "x".repeat(9000);
    let body = format!(r#"{{"status":"DOWN","checks":{{"{long}":false}}}}"#);
    assert_eq!(json(503, &body), Ok(blames(&"x".repeat(64))));
}

#[test]
fn deep_and_wide_reports_are_read() {
    let deep = format!("{}{}", "[".repeat(7_000), "]".repeat(7_000));
    let body = format!(
        r#"{{"x":{deep},"status":"DOWN","checks":{{"a":{deep}}},"components":{{"db":
            {{"details":{deep},"status":"DOWN"}}}}}}"#
    );
    assert_eq!(json(503, &body), Ok(blames("db")));
    let nested =
        format!(r#"{}{{"status":"DOWN"}}{}"#, r#"{"components":"#.repeat(2000), "}".repeat(2000));
    assert_eq!(json(503, &nested), Ok(Says::NotNow));
    let wide = format!(r#"{{"status":"UP","checks":[{}1]}}"#, "{},".repeat(15_000));
    assert_eq!(json(200, &wide), Ok(Says::Well));
}

#[test]
fn parts_of_a_wrong_type_are_ignored() {
    for parts in
        ["1", "null", "[]", "[1,\"a\",null,[]]", "{\"db\":1}", "{\"db\":null}", "\"db\"", "[[{}]]"]
    {
        for key in ["checks", "components", "details", "entries", "error", "results", "failures"] {
            let body = format!(r#"{{"status":"UP","{key}":{parts}}}"#);
            if (key, parts.contains("db")) == ("failures", true) || parts.contains("\"a\"") {
                continue;
            }
            assert_eq!(json(200, &body), Ok(Says::Well), "{body}");
            let body = format!(r#"{{"status":"DOWN","{key}":{parts}}}"#);
            assert_eq!(json(503, &body), Ok(Says::Ill), "{body}");
        }
    }
}

#[test]
fn a_status_that_is_not_a_word_is_ignored() {
    for (status, fault) in [
        ("1", parse::Fault::WrongType),
        ("{}", parse::Fault::WrongType),
        ("NaN", parse::Fault::WrongType),
        (r#""UP","status":"DOWN""#, parse::Fault::Repeated),
    ] {
        let body = format!(r#"{{"status":{status},"uptime":3}}"#);
        let health = read(200, &[], &body).unwrap().health;
        assert_eq!(health.says, Says::Well, "{body}");
        assert_eq!(health.left_out, Some((parse::Field::Status, fault)), "{body}");
        assert_eq!(health.uptime, Some(3.0), "{body}");
    }
}
