//! An agent dies at each step of a drain and of a quarantine, before or just after the step takes
//! effect, and the next process finds what it left.
use tokio::time::timeout;

use super::*;

/// Number of requests and acts in which both are done.
const STEPS: u32 = 44;

/// A node with one workload of three pods.
fn clinic(name: &str, template: &PodTemplate, serving: bool) -> Storm {
    let fake = FakeApi::new();
    fake.add_namespace(OWN, &[], &[]);
    fake.add_node("node1");
    fake.fence(Some("system:serviceaccount:paramedic-system:paramedic-agent"));
    fake.add_deployment("default", name, 3, template, &[]);
    fake.add_pdb("default", name, name, &json!({ "maxUnavailable": 1 }));
    add_service(&fake, name, serving);
    Storm::over(fake, vec!["node1".to_owned()], Rng::with_seed(0))
}

/// One process dies at this step; some seconds later the next one begins.
async fn dies_at(storm: &Arc<Storm>, name: &str, cure: Remedy, fuse: Fuse) {
    let lock = StateLock::acquire(&storm.state.path().join("node1")).unwrap();
    let watching = tokio::spawn(aside::watch(Arc::clone(storm)));
    storm.alive.lock().insert("node1".to_owned());
    let ill = Arc::clone(storm);
    let (pod, falls_ill) = (storm.ward.pods_of(name).remove(0), name.to_owned());
    tokio::spawn(async move {
        sleep(Duration::from_secs(20)).await;
        assert!(ill.ward.pods_of(&falls_ill).contains(&pod));
        ill.ward.falls_ill(&pod, Illness::grave(cure));
    });
    let first = storm.live("node1".to_owned(), &lock, fuse, untold());
    let _ = timeout(Duration::from_secs(120), first).await;
    sleep(Duration::from_secs(5)).await;
    let next = storm.live("node1".to_owned(), &lock, Fuse::new(None, None, false), untold());
    let _ = timeout(LENGTH, next).await;
    assert!(!watching.is_finished(), "{}", watching.await.unwrap());
    watching.abort();
}

fn each_step(test: impl AsyncFn(Fuse) -> judge::Tally) -> judge::Tally {
    let mut total = judge::Tally::default();
    for steps in 4..STEPS {
        for applied in [false, true] {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            println!("step {steps}, applied {applied}");
            total.add(&runtime.block_on(test(Fuse::new(Some(steps), None, applied))));
            runtime.shutdown_background();
        }
    }
    total
}

#[test]
fn whoever_dies_in_a_drain_leaves_no_pod_out_of_its_services() {
    let total = each_step(async |fuse| {
        let template = PodTemplate::new()
            .label("paramedic.dev/heal", "restart")
            .label("paramedic.dev/serving", "true")
            .annotation("paramedic.dev/drain", "5s");
        let storm = Arc::new(clinic("shop", &template, true));
        dies_at(&storm, "shop", Remedy::Restart, fuse).await;
        for pod in storm.fake.list(Kind::Pod) {
            let metadata = &pod["metadata"];
            assert_eq!(metadata["labels"]["paramedic.dev/serving"], "true", "{metadata:#}");
            assert_eq!(metadata["annotations"]["paramedic.dev/drained-until"], Value::Null);
        }
        let tally = judge::judge(&storm.ward, &storm.fake).unwrap();
        assert!(tally.restarts <= 1, "{tally:?}");
        tally
    });
    assert!(total.drains > 0 && total.restarts > 0, "{total:?}");
}

#[test]
fn whoever_dies_in_a_quarantine_leaves_one_pod_at_most_and_the_workload_whole() {
    let total = each_step(async |fuse| {
        let template = PodTemplate::new()
            .label("paramedic.dev/heal", "evict")
            .annotation("paramedic.dev/give-up", "quarantine")
            .spec(&hooked());
        let storm = Arc::new(clinic("kept", &template, false));
        dies_at(&storm, "kept", Remedy::Evict, fuse).await;
        let tally = judge::judge(&storm.ward, &storm.fake).unwrap();
        assert!(tally.quarantines <= 1, "{tally:?}");
        assert_eq!(tally.evictions, 0, "its time has not passed");
        assert_eq!(storm.ward.pods_of("kept").len(), 3);
        assert_eq!(storm.fake.list(Kind::Pod).len(), 3 + tally.quarantines);
        tally
    });
    assert!(total.quarantines > 0, "{total:?}");
}
