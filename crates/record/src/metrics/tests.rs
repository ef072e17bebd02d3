use std::collections::{BTreeMap, BTreeSet};

use paramedic_core::{boot_time::BootTime, features::schema::COUNT};

use super::*;

/// The samples of each family, after the checks of a format linter.
fn lint(text: &str) -> BTreeMap<String, Vec<String>> {
    let (mut helps, mut types) = (BTreeMap::new(), BTreeMap::new());
    let mut samples = BTreeMap::<String, Vec<String>>::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            assert!(help.len() > 20 && help.ends_with('.'), "{name} is not explained: {help}");
            assert!(helps.insert(name.to_owned(), help).is_none(), "{name} helped twice");
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            assert!(helps.contains_key(name), "{name} has no help before its type");
            assert!(types.insert(name.to_owned(), kind).is_none(), "{name} typed twice");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value == "+Inf" || value.parse::<f64>().unwrap().is_finite(), "{line}");
            assert!(seen.insert(series), "{series} twice");
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|base| types.get(*base) == Some(&"histogram"))
                .unwrap_or(name);
            assert!(types.contains_key(family), "{family} has no type");
            samples.entry(family.to_owned()).or_default().push(line.to_owned());
        }
    }
    for (name, kind) in types {
        assert!(name.starts_with("paramedic_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{name} lacks its unit");
        assert!(samples.contains_key(&name), "{name} has no samples");
    }
    samples
}

fn named(name: &str) -> Target {
    Target::for_tests(name, 1)
}

fn decision() -> Decision {
    Decision {
        action: Action::ResetErrors,
        confidence: 0.75,
        probabilities: [0.25, 0.75, 0.0],
        source: Source::Model,
        unfamiliar: None,
    }
}

/// Metrics with a value in every family.
fn busy() -> Metrics {
    let metrics = Metrics::new("0.1.0").unwrap();
    metrics.set_targets(1);
    metrics.sample(Trigger::Wakeup, Duration::from_micros(70));
    metrics.wakeup(Cause::OomKill);
    metrics.health_poll("timeout");
    metrics.decision(Action::ResetErrors, Source::Rules);
    metrics.refusal(Gate::Cooldown);
    metrics.heal(Remedy::Soft, "http", Outcome::Healed, Some(Duration::from_millis(300)));
    metrics.heal(Remedy::Evict, "quarantine", Outcome::Healed, None);
    metrics.drain("drained");
    metrics.probe("throttling", "fentry", true);
    metrics.model("flat_forest", "embedded", "1");
    metrics.set_journal_writable(true);
    metrics.api_request("GET", 200);
    metrics.withheld(Remedy::Restart);
    metrics.set_api_server_heard(true);
    metrics.notification("slack", NotificationResult::Expired);
    metrics.notifications_pending("webhook", 3);
    metrics.notifications_pending("webhook", -1);
    metrics.target_verdict(&named("web"), &FeatureVector::new([1.5; COUNT]), &decision(), true);
    metrics.target_responses(&named("web"), &[0, 10, 0, 1, 4]);
    metrics.target_state(&named("web"), TargetState::Sick);
    metrics
}

fn of_target(samples: &BTreeMap<String, Vec<String>>, target: &str) -> usize {
    let label = format!("target=\"{target}\"");
    samples.values().flatten().filter(|line| line.contains(&label)).count()
}

#[test]
fn the_exposition_is_clean_and_complete() {
    let samples = lint(&busy().render().unwrap());
    let names: Vec<_> = samples.keys().map(|n| n.trim_start_matches("paramedic_")).collect();
    assert_eq!(
        names,
        [
            "api_requests_total",
            "api_server_heard",
            "build_info",
            "decisions_total",
            "drains_total",
            "heal_duration_seconds",
            "heals_total",
            "heals_withheld_total",
            "health_polls_total",
            "journal_writable",
            "model_info",
            "notifications_pending",
            "notifications_total",
            "probe_attached",
            "refusals_total",
            "resize_refusals_total",
            "rules_active",
            "sample_duration_seconds",
            "samples_total",
            "target_feature",
            "target_http_responses_total",
            "target_state",
            "target_unhealthy_probability",
            "targets",
            "wakeups_total",
        ]
    );
    let text = busy().render().unwrap();
    for line in [
        "paramedic_build_info{version=\"0.1.0\"} 1",
        "paramedic_targets 1",
        "paramedic_samples_total{trigger=\"wakeup\"} 1",
        "paramedic_samples_total{trigger=\"tick\"} 0",
        "paramedic_sample_duration_seconds_bucket{le=\"0.0001\"} 1",
        "paramedic_wakeups_total{cause=\"oom_kill\"} 1",
        "paramedic_health_polls_total{result=\"timeout\"} 1",
        "paramedic_decisions_total{action=\"reset_errors\",source=\"rules\"} 1",
        "paramedic_refusals_total{gate=\"cooldown\"} 1",
        "paramedic_heals_total{means=\"http\",outcome=\"healed\",remedy=\"soft\"} 1",
        "paramedic_heals_total{means=\"\",outcome=\"worse\",remedy=\"evict\"} 0",
        "paramedic_heals_total{means=\"quarantine\",outcome=\"healed\",remedy=\"evict\"} 1",
        "paramedic_heals_total{means=\"drain\",outcome=\"healed\",remedy=\"restart\"} 0",
        "paramedic_drains_total{result=\"drained\"} 1",
        "paramedic_drains_total{result=\"abandoned\"} 0",
        "paramedic_heal_duration_seconds_sum{remedy=\"soft\"} 0.3",
        "paramedic_probe_attached{mechanism=\"fentry\",signal=\"throttling\"} 1",
        "paramedic_model_info{engine=\"flat_forest\",source=\"embedded\",version=\"1\"} 1",
        "paramedic_rules_active 0",
        "paramedic_journal_writable 1",
        "paramedic_api_requests_total{method=\"GET\",status=\"200\"} 1",
        "paramedic_heals_withheld_total{remedy=\"restart\"} 1",
        "paramedic_api_server_heard 1",
        "paramedic_notifications_total{channel=\"slack\",result=\"expired\"} 1",
        "paramedic_notifications_total{channel=\"pagerduty\",result=\"delivered\"} 0",
        "paramedic_notifications_pending{channel=\"webhook\"} 2",
        "paramedic_target_feature{feature=\"cpu_usage\",namespace=\"\",pod=\"\",target=\"web\"} 1.5",
        "paramedic_target_http_responses_total{class=\"5xx\",namespace=\"\",pod=\"\",target=\"web\"} 4",
        "paramedic_target_state{namespace=\"\",pod=\"\",state=\"sick\",target=\"web\"} 1",
        "paramedic_target_state{namespace=\"\",pod=\"\",state=\"well\",target=\"web\"} 0",
        "paramedic_target_unhealthy_probability{namespace=\"\",pod=\"\",target=\"web\"} 0.75",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
}

fn load() -> Load {
    Load {
        at: BootTime::default(),
        window: Duration::from_secs(10),
        responses_per_second: Some(3.0),
        ratio_5xx: Some(0.5),
        throttled_ratio: Some(0.1),
        p95_seconds: Some(0.25),
        in_flight: Some(2.0),
    }
}

#[test]
fn a_removed_target_has_no_series() {
    let metrics = busy();
    for target in ["gone", "unseen"] {
        metrics.target_verdict(&named("gone"), &FeatureVector::default(), &decision(), true);
        metrics.target_load(&named("gone"), Some(&load()));
        metrics.target_responses(&named("gone"), &[1; 5]);
        metrics.target_state(&named("gone"), TargetState::Exhausted);
        assert_eq!(of_target(&lint(&metrics.render().unwrap()), "gone"), 5 + COUNT + 1 + 4 + 6);
        metrics.forget_target(&named(target));
    }
    metrics.forget_target(&named("gone"));
    let samples = lint(&metrics.render().unwrap());
    assert_eq!(of_target(&samples, "gone"), 0);
    assert_eq!(of_target(&samples, "web"), 5 + COUNT + 1 + 6);
}

#[test]
fn a_target_whose_process_has_ended_has_no_load_and_no_verdict() {
    let metrics = busy();
    let web = named("web");
    metrics.target_load(&web, Some(&load()));
    let before = of_target(&lint(&metrics.render().unwrap()), "web");
    metrics.target_absent(&web);
    let samples = lint(&metrics.render().unwrap());
    assert_eq!(of_target(&samples, "web"), before - 5);
    for name in
        ["http_requests_per_second", "http_request_duration_p95_seconds", "unhealthy_probability"]
    {
        assert!(!samples.contains_key(&format!("paramedic_target_{name}")), "{name}");
    }
}

#[test]
fn a_renamed_target_has_series_of_its_new_name_alone() {
    let metrics = busy();
    let before = of_target(&lint(&metrics.render().unwrap()), "web");
    let renamed = Target { name: "shop".to_owned(), ..named("web") };
    metrics.target_verdict(&renamed, &FeatureVector::default(), &decision(), true);
    let samples = lint(&metrics.render().unwrap());
    assert_eq!((of_target(&samples, "web"), of_target(&samples, "shop")), (0, before));
}

/// An evicted pod of a StatefulSet is kept until its eviction is verified, beside the pod of its name.
#[test]
fn two_targets_of_one_name_have_one_set_of_series() {
    let metrics = busy();
    let before = of_target(&lint(&metrics.render().unwrap()), "web");
    let mut next = named("web");
    next.id.uid = "next".to_owned();
    metrics.target_verdict(&next, &FeatureVector::default(), &decision(), true);
    metrics.target_responses(&next, &[0; 5]);
    metrics.target_state(&next, TargetState::Well);
    assert_eq!(of_target(&lint(&metrics.render().unwrap()), "web"), before);
    metrics.forget_target(&named("web"));
    assert_eq!(of_target(&lint(&metrics.render().unwrap()), "web"), before, "those of the next");
}

#[test]
fn a_hostile_name_cannot_forge_a_series() {
    let metrics = Metrics::new("0.1.0").unwrap();
    metrics.target_state(&named("a\"} 1\nparamedic_targets 99\\"), TargetState::Well);
    let samples = lint(&metrics.render().unwrap());
    assert_eq!(samples["paramedic_targets"], ["paramedic_targets 0"]);
    assert_eq!(samples["paramedic_target_state"].len(), 6);
}

#[test]
fn responses_follow_the_kernels_count_and_its_resets() {
    let metrics = Metrics::new("0.1.0").unwrap();
    for (so_far, shown) in [(4, 4), (4, 4), (9, 9), (2, 2), (3, 3)] {
        metrics.target_responses(&named("web"), &[0, 0, 0, 0, so_far]);
        let line = format!(
            "paramedic_target_http_responses_total{{class=\"5xx\",namespace=\"\",pod=\"\",target=\"web\"}} {shown}"
        );
        assert!(metrics.render().unwrap().contains(&line), "{so_far}");
    }
}

#[test]
fn either_one_model_or_the_rules_are_active() {
    let metrics = busy();
    metrics.model("tract", "file", "2");
    assert_eq!(lint(&metrics.render().unwrap())["paramedic_model_info"].len(), 1);
    metrics.rules();
    let samples = lint(&metrics.render().unwrap());
    assert!(!samples.contains_key("paramedic_model_info"));
    assert_eq!(samples["paramedic_rules_active"], ["paramedic_rules_active 1"]);
}

#[test]
fn an_unknown_load_has_no_series() {
    let metrics = Metrics::new("1").unwrap();
    let load = Load {
        at: BootTime::default(),
        window: Duration::from_secs(10),
        responses_per_second: Some(12.5),
        ratio_5xx: Some(0.0),
        throttled_ratio: None,
        p95_seconds: None,
        in_flight: None,
    };
    let series = |metrics: &Metrics| {
        let page = metrics.render().unwrap();
        let of = |name: &&str| page.contains(&format!("paramedic_target_{name}{{"));
        ["http_requests_per_second", "http_5xx_ratio", "cpu_throttled_ratio"]
            .iter()
            .filter(|n| of(n))
            .count()
    };
    metrics.target_load(&named("web"), Some(&load));
    assert_eq!(series(&metrics), 2);
    // It was restarted, and uses TLS now.
    metrics.target_load(&named("web"), Some(&Load { responses_per_second: None, ..load }));
    assert_eq!(series(&metrics), 1);
    metrics.target_load(&named("web"), None);
    assert_eq!(series(&metrics), 0);
}
