//! Every illness on and off. `process.rs` measures what it costs the process.
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Patient, within};

const HEAL: &str = r#"{"action":"reset_errors"}"#;

#[tokio::test]
async fn all_are_listed_with_state_and_parameters() {
    let patient = Patient::start();
    let list = patient.client.get("/illness").await.json();
    let illnesses = list["illnesses"].as_object().unwrap();
    assert_eq!(illnesses.len(), 8);
    for (name, illness) in illnesses {
        assert_eq!((&illness["active"], &illness["name"]), (&json!(false), &json!(name)));
        assert!(illness["parameters"].is_null());
        assert!(!illness["expected"].as_object().unwrap().is_empty());
    }

    let slow = patient.client.post("/illness/slow", r#"{"milliseconds":1}"#).await.json();
    assert_eq!(slow["active"], true);
    assert_eq!(
        slow["parameters"],
        json!({ "milliseconds": 1, "health": true, "cleared_by": "restart" })
    );
    assert_eq!(patient.client.get("/illness/slow").await.json(), slow);
    assert_eq!(patient.client.get("/illness").await.json()["illnesses"]["slow"], slow);
    assert_eq!(patient.client.get("/metrics").await.json()["illnesses"], json!(["slow"]));

    assert_eq!(patient.client.delete("/illness/slow").await.json()["active"], false);
    assert_eq!(patient.client.delete("/illness/slow").await.status, 200, "twice is no error");
}

#[tokio::test]
async fn bad_parameters_get_400_with_the_expected_ones() {
    let patient = Patient::start();
    for (name, body) in [
        ("errors", r#"{"ratio":1.5}"#),
        ("leak", r#"{"max_mib":"all"}"#),
        ("burn", r#"{"thread":1}"#),
        ("lie", "true"),
        ("stuck", "{"),
    ] {
        let answer = patient.client.post(&format!("/illness/{name}"), body).await;
        assert_eq!(answer.status, 400, "{name} {body}");
        let listed = patient.client.get(&format!("/illness/{name}")).await.json();
        assert_eq!(answer.json()["expected"], listed["expected"]);
        assert_eq!(listed["active"], false);
    }
}

#[tokio::test]
async fn errors_end_with_a_heal() {
    let patient = Patient::start();
    patient.client.post("/illness/errors", r#"{"ratio":1}"#).await;
    assert_eq!(patient.client.data(6).await, [500; 6]);
    let health = patient.client.get("/health").await.json();
    assert_eq!(health["error_count"], 6);

    let healed = patient.client.post("/heal", HEAL).await.json();
    assert_eq!(healed["previous_error_count"], 6);
    assert_eq!(patient.client.get("/illness/errors").await.json()["active"], false);
    assert_eq!(patient.client.data(6).await, [200; 6]);
    assert_eq!(patient.client.get("/health").await.json()["error_count"], 0);
}

#[tokio::test]
async fn a_hang_holds_its_share_of_requests_until_it_ends_and_health_answers() {
    let patient = Patient::start_with(&["--data-failure-ratio", "0"]);
    patient.client.post("/illness/hang", r#"{"ratio":1,"cleared_by":"reset_errors"}"#).await;
    let waiting = patient.client.data(1);
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(patient.client.get("/health").await.status, 200);
    patient.client.post("/heal", HEAL).await;
    assert_eq!(waiting.await, [200]);
}

#[tokio::test]
async fn a_slow_handler_leaves_health_prompt() {
    let patient = Patient::start_with(&["--data-failure-ratio", "0"]);
    patient.client.post("/illness/slow", r#"{"milliseconds":400,"health":false}"#).await;
    let begun = Instant::now();
    assert_eq!(patient.client.get("/health").await.status, 200);
    assert!(begun.elapsed() < Duration::from_millis(400));
    assert_eq!(patient.client.data(1).await, [200]);
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn half_of_the_requests_fail_by_default() {
    let patient = Patient::start_with(&["--data-failure-ratio", "0", "--seed", "1"]);
    patient.client.post("/illness/errors", "").await;
    let failed = patient.client.data(200).await.iter().filter(|s| **s == 500).count();
    assert!((70..130).contains(&failed), "{failed} of 200");
}

#[tokio::test]
async fn errors_that_need_a_restart_outlast_a_heal() {
    let patient = Patient::start();
    patient.client.post("/illness/errors", r#"{"ratio":1,"cleared_by":"restart"}"#).await;
    patient.client.data(11).await;
    let healed = patient.client.post("/heal", HEAL).await;
    assert_eq!(healed.status, 200);
    assert_eq!(healed.json()["previous_error_count"], 11);
    assert_eq!(healed.json()["current_status"], "critical");
    assert_eq!(patient.client.data(1).await, [500]);
    assert_eq!(patient.client.get("/health").await.json()["error_count"], 12);

    patient.client.delete("/illness/errors").await;
    assert_eq!(patient.client.data(3).await, [200; 3]);
    patient.client.post("/heal", HEAL).await;
    assert_eq!(patient.client.get("/health").await.json()["error_count"], 0);
}

#[tokio::test]
async fn stuck_requests_are_answered_once_it_ends() {
    let patient = Patient::start();
    let client = patient.client;
    client.post("/illness/stuck", "").await;
    let waiting = tokio::spawn(async move { client.get("/data").await.status });
    assert!(client.hangs("/data").await && client.hangs("/health").await);
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(client.get("/illness/stuck").await.json()["active"], true);
    assert!(!waiting.is_finished());

    client.delete("/illness/stuck").await;
    assert_eq!(within(waiting).await.unwrap(), 200);
    assert_eq!(client.get("/health").await.status, 200);
}

#[tokio::test]
async fn stuck_can_include_healthz() {
    let patient = Patient::start();
    patient.client.post("/illness/stuck", r#"{"healthz":true}"#).await;
    assert!(patient.client.hangs("/healthz").await);
    // Milder parameters replace it, and release what it held.
    patient.client.post("/illness/stuck", "{}").await;
    assert_eq!(patient.client.get("/healthz").await.status, 200);
    assert!(patient.client.hangs("/health").await);
}

#[tokio::test]
async fn slow_answers_late() {
    let patient = Patient::start();
    patient.client.post("/illness/slow", r#"{"milliseconds":200}"#).await;
    for path in ["/data", "/health"] {
        let asked = Instant::now();
        assert_eq!(patient.client.get(path).await.status, 200);
        assert!(asked.elapsed() >= Duration::from_millis(200), "{path}");
    }
    patient.client.post("/illness/slow", r#"{"milliseconds":600000}"#).await;
    assert!(patient.client.hangs("/data").await);
    patient.client.delete("/illness/slow").await;
    assert_eq!(patient.client.get("/data").await.status, 200);
}

#[tokio::test]
async fn resets_are_real_resets() {
    let patient = Patient::start();
    patient.client.post("/illness/resets", "").await;
    for _ in 0..5 {
        let error = patient.client.try_send("GET", "/data", "").await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(patient.client.get("/health").await.status, 200, "only /data is reset");
    let metrics = patient.client.get("/metrics").await.json();
    assert_eq!(metrics["connection_resets_total"], 5);
    assert_eq!(metrics["errors_total"], 0);
    patient.client.delete("/illness/resets").await;
    assert_eq!(patient.client.data(5).await, [200; 5]);
}

#[tokio::test]
async fn a_lie_changes_health_and_nothing_else() {
    let patient = Patient::start();
    for _ in 0..11 {
        patient.client.get("/simulate-error").await;
    }
    patient.client.post("/illness/lie", "").await;
    let mut told = patient.client.get("/health").await.json();
    assert!(told["uptime"].take().is_u64());
    let all_zero = json!({
        "status": "healthy", "cpu_usage": 0, "memory_usage": 0, "error_count": 0, "uptime": null
    });
    assert_eq!(told, all_zero);
    let metrics = patient.client.get("/metrics").await.json();
    assert_eq!((&metrics["status"], &metrics["error_count"]), (&json!("critical"), &json!(11)));

    patient.client.post("/heal", HEAL).await;
    patient.client.post("/illness/lie", r#"{"as":"critical"}"#).await;
    let told = patient.client.get("/health").await.json();
    assert_eq!((&told["status"], &told["error_count"]), (&json!("critical"), &json!(25)));
    assert_eq!((&told["cpu_usage"], &told["memory_usage"]), (&json!(97), &json!(97)));
    assert_eq!(patient.client.get("/illness/lie").await.json()["parameters"]["as"], "critical");

    patient.client.delete("/illness/lie").await;
    assert_eq!(patient.client.get("/health").await.json()["error_count"], 0);
}

#[tokio::test]
async fn one_delete_ends_them_all() {
    let patient = Patient::start_with(&[
        "--data-failure-ratio",
        "0",
        "--illness",
        "stuck={\"healthz\":true}",
        "--illness",
        "hang={\"ratio\":1}",
        "--illness",
        "errors={\"ratio\":1}",
        "--illness",
        "slow",
        "--illness",
        "lie",
        "--illness",
        "burn={\"threads\":1}",
        "--illness",
        "leak={\"max_mib\":1}",
        "--illness",
        "resets",
    ]);
    let ill = patient.client.get("/illness").await.json();
    assert!(ill["illnesses"].as_object().unwrap().values().all(|i| i["active"] == true));
    let well = patient.client.delete("/illness").await.json();
    assert!(well["illnesses"].as_object().unwrap().values().all(|i| i["active"] == false));
    assert_eq!(patient.client.data(3).await, [200; 3]);
    assert_eq!(patient.client.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_stuck_request_holds_up_the_end_only_for_the_grace_period() {
    let patient = Patient::start_with(&["--grace-seconds", "1", "--illness", "stuck"]);
    let client = patient.client;
    assert!(client.hangs("/data").await, "given up by its client, it holds up nothing");
    let waiting = tokio::spawn(async move { client.try_send("GET", "/data", "").await });
    while client.get("/metrics").await.json()["responses_total"]["2xx"].as_u64() < Some(3) {
        tokio::task::yield_now().await;
    }
    assert!(!patient.leave().await, "it was not finished");
    waiting.abort();
}

#[tokio::test]
async fn a_heal_ends_only_illnesses_that_it_clears() {
    let patient = Patient::start();
    let cleared = r#"{"cleared_by":"reset_errors","percent":1,"threads":1}"#;
    patient.client.post("/illness/burn", cleared).await;
    patient.client.post("/illness/slow", r#"{"milliseconds":1}"#).await;
    patient.client.post("/heal", HEAL).await;
    assert_eq!(patient.client.get("/metrics").await.json()["illnesses"], json!(["slow"]));
}

#[tokio::test]
async fn errors_in_spells_alternate() {
    let patient = Patient::start();
    patient.client.post("/illness/errors", r#"{"ratio":1,"spell_ms":200}"#).await;
    for expected in [500, 200, 500] {
        within(async {
            while patient.client.data(1).await != [expected] {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn data_fails_if_the_upstream_fails() {
    let behind = Patient::start();
    let address = format!("127.0.0.1:{}", behind.client.port());
    let patient = Patient::start_with(&["--data-failure-ratio", "0", "--upstream", &address]);
    assert_eq!(patient.client.data(2).await, [200; 2]);
    behind.client.post("/illness/errors", r#"{"ratio":1}"#).await;
    assert_eq!(patient.client.data(2).await, [502; 2]);
    assert_eq!(patient.client.get("/health").await.json()["error_count"], 2);
    patient.client.post("/heal", HEAL).await;
    assert_eq!(patient.client.data(1).await, [502], "no heal of this one helps the other");
}
