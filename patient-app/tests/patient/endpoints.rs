//! Every endpoint of an app without illnesses, and every refusal.
use serde_json::json;

use crate::support::Patient;

#[tokio::test]
async fn the_overview_lists_every_endpoint_and_each_answers() {
    let patient = Patient::start();
    let overview = patient.client.get("/").await;
    assert_eq!(overview.status, 200);
    assert_eq!(overview.header("content-type"), Some("application/json"));
    let overview = overview.json();
    let paths: Vec<_> = overview["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "/",
            "/healthz",
            "/health",
            "/metrics",
            "/heal",
            "/simulate-error",
            "/data",
            "/clock",
            "/illness",
            "/illness/{name}"
        ]
    );
    for path in paths {
        let status = patient.client.get(&path.replace("{name}", "slow")).await.status;
        let expected = match path {
            "/heal" => 405,
            "/simulate-error" => 500,
            _ => 200,
        };
        assert_eq!(status, expected, "{path}");
    }
}

#[tokio::test]
async fn healthz_says_ok() {
    let patient = Patient::start();
    assert_eq!(patient.client.get("/healthz").await.json(), json!({ "status": "ok" }));
}

#[tokio::test]
async fn health_reports_whole_numbers() {
    let patient = Patient::start();
    let health = patient.client.get("/health").await.json();
    assert_eq!(health["error_count"], 0);
    for key in ["cpu_usage", "memory_usage"] {
        let percent = health[key].as_u64().unwrap_or_else(|| panic!("{key}: {health}"));
        assert!(percent <= 100, "{key}: {percent}");
    }
    assert!(health["uptime"].as_u64().is_some_and(|s| s < 60));
    assert!(health["status"].is_string());
}

#[tokio::test]
async fn errors_count_until_healed() {
    let patient = Patient::start();
    let mut answers = Vec::new();
    for _ in 0..11 {
        answers.push(patient.client.get("/simulate-error").await);
    }
    assert!(answers.iter().all(|a| a.status == 500));
    assert_eq!(answers[10].json()["error_count"], 11);
    let health = patient.client.get("/health").await.json();
    assert_eq!((&health["status"], &health["error_count"]), (&json!("critical"), &json!(11)));

    let healed = patient.client.post("/heal", r#"{"action":"reset_errors"}"#).await;
    assert_eq!(healed.status, 200);
    let healed = healed.json();
    assert_eq!(healed["message"], "Self-healing completed");
    assert_eq!(healed["action"], "Errors reset");
    assert_eq!(healed["previous_error_count"], 11);
    // The machine that runs the tests may be busy, but never both at 90 %.
    assert_ne!(healed["current_status"], "critical");
    assert_eq!(patient.client.get("/health").await.json()["error_count"], 0);
    let metrics = patient.client.get("/metrics").await.json();
    assert_eq!((&metrics["errors_total"], &metrics["heals_total"]), (&json!(11), &json!(1)));
}

#[tokio::test]
async fn heal_refuses_unknown_actions_and_bodies() {
    let patient = Patient::start();
    patient.client.get("/simulate-error").await;
    for body in [
        "",
        "{",
        "null",
        "[\"reset_errors\"]",
        "{}",
        r#"{"action":"pray"}"#,
        r#"{"action":7}"#,
        "\u{0}\u{1}",
        &"[".repeat(4000),
    ] {
        let answer = patient.client.post("/heal", body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["expected"], json!({ "action": "reset_errors" }));
        assert!(!answer.json()["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(patient.client.get("/health").await.json()["error_count"], 1, "none healed");
}

#[tokio::test]
async fn bodies_too_large_are_refused() {
    let patient = Patient::start();
    for size in [4097, 500_000] {
        let answer = patient.client.post("/heal", &" ".repeat(size)).await;
        assert_eq!(answer.status, 413, "{size}");
    }
    assert_eq!(patient.client.post("/illness/slow", &" ".repeat(5000)).await.status, 413);
    // Announced, but not sent: refused without waiting for it.
    let announced = b"POST /heal HTTP/1.1\r\nHost: p\r\nContent-Length: 99999999999\r\n\r\n";
    assert!(patient.client.raw(announced).await.unwrap().starts_with("HTTP/1.1 413 "));
    // In chunks, without an announced length.
    let mut chunked = b"POST /heal HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\
                        Transfer-Encoding: chunked\r\n\r\n2000\r\n"
        .to_vec();
    chunked.extend([b' '; 0x2000]);
    chunked.extend(b"\r\n0\r\n\r\n");
    assert!(patient.client.raw(&chunked).await.unwrap().starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn wrong_methods_get_405_with_allow() {
    let patient = Patient::start();
    for (method, path, allow) in [
        ("GET", "/heal", "POST"),
        ("PUT", "/heal", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/data", "GET, HEAD"),
        ("POST", "/illness", "GET, HEAD, DELETE"),
        ("PATCH", "/illness/slow", "GET, HEAD, POST, DELETE"),
    ] {
        let answer = patient.client.send(method, path, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let patient = Patient::start();
    for path in ["/nothing", "/health/", "//", "/illness/", "/illness/plague", "/illness/{name}"] {
        assert_eq!(patient.client.get(path).await.status, 404, "{path}");
    }
    assert_eq!(patient.client.get("/healthz?verbose=1").await.status, 200, "a query is no path");
}

#[tokio::test]
async fn invalid_http_is_refused_and_the_next_client_is_served() {
    let patient = Patient::start();
    let nonsense = patient.client.raw(b"\x16\x03\x01 what\r\n\r\n").await.unwrap();
    assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let refused = patient.client.raw(long.as_bytes()).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 431 "), "{refused}");
    assert_eq!(patient.client.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let patient = Patient::start();
    let answer = patient.client.send("HEAD", "/healthz", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("content-length"), Some("16"));
}

#[tokio::test]
async fn data_fails_at_the_ratio_given_and_repeats_for_a_seed() {
    let (one, other) =
        (Patient::start_with(&["--seed", "42"]), Patient::start_with(&["--seed", "42"]));
    let (first, second) = (one.client.data(200).await, other.client.data(200).await);
    assert_eq!(first, second);
    let failed = first.iter().filter(|status| **status == 500).count();
    assert!((20..60).contains(&failed), "{failed} of 200 at 20 %");
    assert!(first.iter().all(|status| [200, 500].contains(status)));

    let never = Patient::start_with(&["--data-failure-ratio", "0"]);
    assert!(never.client.data(50).await.iter().all(|status| *status == 200));
    let always = Patient::start_with(&["--data-failure-ratio", "1"]);
    assert!(always.client.data(50).await.iter().all(|status| *status == 500));
    assert_eq!(always.client.get("/health").await.json()["error_count"], 50);
}

#[tokio::test]
async fn metrics_are_json_unless_text_is_preferred() {
    let patient = Patient::start();
    patient.client.get("/simulate-error").await;
    patient.client.get("/nothing").await;
    let metrics = patient.client.get_accepting("/metrics", "*/*").await.json();
    assert_eq!(metrics["errors_total"], 1);
    assert_eq!(metrics["responses_total"]["5xx"], 1);
    assert_eq!(metrics["responses_total"]["4xx"], 1);
    assert!(metrics["memory"]["used_bytes"].as_u64().unwrap() > 0);
    assert!(metrics["cpu"]["limit_cores"].as_f64().unwrap() > 0.0);

    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.1";
    let text = patient.client.get_accepting("/metrics", accept).await;
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_valid_exposition(&text.body);
    assert!(text.body.contains("patient_errors_total 1\n"));
    assert!(text.body.contains("patient_http_responses_total{class=\"5xx\"} 1\n"));
    assert!(text.body.contains("patient_illness{name=\"leak\"} 0\n"));
    let types = text.body.lines().filter_map(|line| line.strip_prefix("# TYPE patient_"));
    assert_eq!(
        types.collect::<Vec<_>>(),
        [
            "connection_resets_total counter",
            "cpu_limit_cores gauge",
            "cpu_seconds_total counter",
            "cpu_usage_ratio gauge",
            "errors_since_reset gauge",
            "errors_total counter",
            "heals_total counter",
            "http_responses_total counter",
            "illness gauge",
            "memory_limit_bytes gauge",
            "memory_usage_bytes gauge",
            "uptime_seconds gauge",
        ]
    );
}

/// What `promtool check metrics` requires: each family has HELP and TYPE before its samples, once;
/// counters and only they end in `_total`; every value is a number.
fn assert_valid_exposition(text: &str) {
    let mut families = std::collections::BTreeSet::new();
    let mut current = ("", "");
    let mut helped = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').unwrap().0;
            assert!(families.insert(helped), "{helped} twice");
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            current = family.split_once(' ').unwrap();
            assert_eq!(current.0, helped);
            assert_eq!(current.0.ends_with("_total"), current.1 == "counter", "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(series.split('{').next(), Some(current.0), "{line}");
            assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
        }
    }
    assert!(families.len() > 10 && text.ends_with('\n'));
}

#[tokio::test]
async fn the_clock_reports_the_times_of_events() {
    let patient = Patient::start();
    let fresh = patient.client.get("/clock").await.json();
    assert!(fresh["last_error_at_boot_ns"].is_null() && fresh["last_heal_at_boot_ns"].is_null());
    let at = |clock: &serde_json::Value, key: &str| clock[key].as_u64().unwrap();
    assert!(at(&fresh, "started_at_boot_ns") <= at(&fresh, "boot_ns"));

    patient.client.get("/simulate-error").await;
    patient.client.post("/heal", r#"{"action":"reset_errors"}"#).await;
    let after = patient.client.get("/clock").await.json();
    let order = [
        at(&fresh, "boot_ns"),
        at(&after, "last_error_at_boot_ns"),
        at(&after, "last_heal_at_boot_ns"),
        at(&after, "boot_ns"),
    ];
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn connections_are_kept_alive() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let patient = Patient::start();
    let mut stream = patient.client.connect().await;
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: p\r\n\r\n").await.unwrap();
        let mut answer = [0; 512];
        let n = stream.read(&mut answer).await.unwrap();
        assert!(answer[..n].starts_with(b"HTTP/1.1 200 "));
    }
    // An idle connection does not delay the end.
    assert!(patient.leave().await);
}
