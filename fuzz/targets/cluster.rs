//! What the API server passes on: pods, the records on Leases, the loads in ConfigMaps, the agents'
//! frames, and the requests of the HPA.
//!
//! Every reader gets every input; a seed is meant for one of them.
#![no_main]
use k8s_openapi::api::core::v1::Pod;
use libfuzzer_sys::{Corpus, fuzz_target};
use paramedic_core::target::{HealthAsk, MAX_GRACE, Soft};
use paramedic_forecast::{Load, Malformed, STORED_BYTES};
use paramedic_kubernetes::{
    lease::Record,
    pod::{NotWatchable, WatchedPod, watched_pod},
};
use paramedic_metrics_api::{
    path::{Asked, Pods},
    selector,
};
use paramedic_pod_metrics::{Frame, MAX_READINGS, Metric};

fuzz_target!(|input: &[u8]| -> Corpus {
    frame(input);
    load(input);
    let Ok(text) = std::str::from_utf8(input) else { return Corpus::Keep };
    record(text);
    request(text);
    if let Ok(pod) = serde_json::from_str::<Pod>(text) {
        let watched = watched_pod(&pod);
        assert_eq!(watched, watched_pod(&pod));
        if let Ok(watched) = watched {
            check(&pod, &watched);
        }
        // Whatever else it is, without the label it is not a target.
        let mut pod = pod;
        pod.metadata.labels = None;
        assert_eq!(watched_pod(&pod), Err(NotWatchable::NoConsent));
    }
    Corpus::Keep
});

fn check(pod: &Pod, watched: &WatchedPod) {
    let settings = &watched.settings;
    assert!((0.0..=1.0).contains(&settings.min_confidence), "{settings:?}");
    assert_eq!(Soft::read(&settings.soft.to_string()).as_ref(), Ok(&settings.soft));
    assert!(settings.health.as_ref().is_none_or(|probe| probe.port > 0), "{settings:?}");
    assert!(
        settings.health.as_ref().is_none_or(|probe| {
            let asks = probe.asks.to_string();
            HealthAsk::read(&asks).is_ok_and(|read| read == probe.asks)
        }),
        "{settings:?}"
    );
    assert!(watched.pod.grace <= MAX_GRACE, "{:?}", watched.pod);
    assert!(!watched.pod.container_id.is_empty() && !watched.pod.container_id.contains('/'));
    assert!(watched.address.is_none_or(|(_, port)| port > 0));
    let containers = &pod.spec.as_ref().unwrap().containers;
    assert!(containers.iter().any(|container| container.name == watched.pod.container));
    // A setting that cannot be read lowers the ceiling.
    let observes = settings.ceiling == paramedic_core::target::Remedy::Observe;
    assert!(watched.invalid_settings.is_empty() || observes, "{watched:?}");
}

fn record(text: &str) {
    let Ok(mut record) = Record::parse(Some(text)) else { return };
    let written = serde_json::to_string(&record).unwrap();
    assert_eq!(Record::parse(Some(&written)).unwrap(), record);
    for now in [i64::MIN, -1, 0, 1_800_000_000, i64::MAX] {
        let heals = u32::try_from(record.heals.len()).unwrap();
        assert!(record.recent(now) <= heals && record.in_vain(now) <= heals);
        let _ = (record.sick(now), record.is_counting("node1", now));
    }
    record.report("node1", 1_800_000_000, u32::MAX);
    assert_eq!(record.sick(1_800_000_000), u32::MAX, "this node's pods count");
    record.prune(1_800_000_000);
    assert!(record.heals.len() <= 200 && record.sick.contains_key("node1"));
}

/// A stored load is longer than inputs are: it repeats them.
fn load(input: &[u8]) {
    const NOW: u32 = 30_000_000;
    // More would take the time of the other readers.
    const MOST: usize = 128;
    if input.len() != STORED_BYTES {
        assert_eq!(Load::from_bytes(input, NOW), Err(Malformed::Length(input.len())));
    }
    if input.len() > MOST {
        return;
    }
    let repeated: Vec<u8> = input.iter().copied().cycle().take(STORED_BYTES).collect();
    let Ok(mut load) = Load::from_bytes(&repeated, u32::MAX) else { return };
    assert_eq!(Load::from_bytes(&load.to_bytes(), u32::MAX).as_ref(), Ok(&load));
    let last = load.last();
    if let Some(before) = last.checked_sub(1) {
        let early = Load::from_bytes(&repeated, before);
        assert_eq!(early, Err(Malformed::Future(1)));
    }
    for (minute, rate) in [(1, 0.0), (2, 1e9), (1441, f32::MAX)] {
        let now = last.saturating_add(minute);
        if let Ok(most) = load.expect(now, 60, 1.0) {
            assert!(most.is_finite() && most >= 1.0, "{most}");
        }
        load.observe(now, rate);
    }
    // What was learned since can be stored.
    assert!(Load::from_bytes(&load.to_bytes(), u32::MAX).is_ok(), "{load:?}");
}

fn frame(line: &[u8]) {
    let Ok(frame) = Frame::parse(line) else { return };
    assert!(frame.pods.len() <= MAX_READINGS);
    for (pod, metric) in frame.pods.iter().flat_map(|pod| Metric::ALL.map(|metric| (pod, metric))) {
        assert!(pod.value(metric).is_none_or(|value| (0.0..=1e9).contains(&value)), "{pod:?}");
        assert!(pod.age(metric).as_secs() <= 60 && pod.window(metric).as_secs() <= 60, "{pod:?}");
    }
    let written = serde_json::to_vec(&frame).unwrap();
    assert_eq!(Frame::parse(&written).unwrap(), frame);
}

fn request(text: &str) {
    if let Ok(selector) = selector::parse(text) {
        // What is written the way that it was understood is understood the same way.
        let terms: Vec<_> = selector.into_iter().map(|term| term.to_string()).collect();
        let again = selector::parse(&terms.join(",")).unwrap();
        let again: Vec<_> = again.into_iter().map(|term| term.to_string()).collect();
        assert_eq!(terms, again);
    }
    let Ok(uri) = text.parse() else { return };
    match Asked::parse(&uri) {
        Ok(Asked::Values(_, values)) => {
            assert!(!values.namespace.is_empty());
            assert!(!matches!(&values.pods, Pods::Named(name) if name.is_empty()));
        }
        Ok(_) => {}
        Err(error) => assert!(error.to_string().len() <= 1000 + 2 * text.len(), "{error}"),
    }
}
