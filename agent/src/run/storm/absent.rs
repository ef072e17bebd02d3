//! A pod between two containers.
use super::*;

/// It exists while it crashes, but values of its last container do not describe it.
#[tokio::test(start_paused = true)]
async fn a_pod_whose_container_waits_to_be_restarted_has_no_series_for_autoscalers() {
    let storm = Arc::new(rbac::hospital());
    let lock = StateLock::acquire(&storm.state.path().join("node1")).unwrap();
    let (living, metrics) = (Arc::clone(&storm), untold());
    let told = Arc::clone(&metrics);
    let agent = tokio::spawn(async move {
        let fuse = Fuse::new(None, None, false);
        living.live("node1".to_owned(), &lock, fuse, told).await;
    });
    let pod = storm.ward.pods_of("log").remove(0);
    let has_verdict = || {
        let page = metrics.render().unwrap();
        let of_pod = format!("pod=\"{pod}\"");
        let mut lines = page.lines();
        lines
            .any(|l| l.starts_with("paramedic_target_unhealthy_probability") && l.contains(&of_pod))
    };
    sleep(Duration::from_secs(30)).await;
    assert!(has_verdict());
    // The second back-off takes ten seconds.
    for _ in 0..2 {
        storm.fake.restart_container("default", &pod, "app", 1).unwrap();
        sleep(Duration::from_secs(8)).await;
    }
    assert!(!has_verdict());
    sleep(Duration::from_secs(30)).await;
    assert!(has_verdict(), "it is back");
    assert!(!agent.is_finished(), "the agent has panicked");
    agent.abort();
}
