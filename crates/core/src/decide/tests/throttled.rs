//! A target that only needs more CPU is never restarted: a restart would cost it what it has.
use super::super::{Action, Classifier};
use crate::features::schema::{Feature, FeatureVector};

/// Whatever it does with the CPU that it gets, with this many failed polls in a row.
fn never_restarted(throttled: &[f32], failures: &[f32]) {
    let classifier = Classifier::embedded();
    for cpu in [20.0, 80.0, 90.0, 95.0, 100.0] {
        for memory in [10.0, 40.0, 75.0] {
            for rate in [0.0, 0.5, 20.0, 400.0] {
                for &throttled in throttled {
                    for &failures in failures {
                        let mut row = FeatureVector::default();
                        row[Feature::CpuUsage] = cpu;
                        row[Feature::MemoryUsage] = memory;
                        row[Feature::CpuThrottledRatio] = throttled;
                        row[Feature::HttpRequestRate] = rate;
                        row[Feature::HealthFailures] = failures;
                        row[Feature::HealthLatency] = f32::from(failures > 0.0);
                        row[Feature::Uptime] = 3600.0;
                        let action = classifier.decide(&row).unwrap().action;
                        assert_ne!(action, Action::RestartService, "{row:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_throttled_target_is_not_restarted() {
    never_restarted(&[0.2, 0.5, 0.8, 1.0], &[0.0]);
}

/// The forest has learnt the edge at a fifth from examples: up to half a hundredth beyond it a
/// hanging target is restarted.
#[test]
fn a_throttled_target_that_hangs_is_not_restarted() {
    never_restarted(&[0.205, 0.25, 0.5, 0.8, 1.0], &[3.0, 4.0, 5.0, 10.0]);
}
