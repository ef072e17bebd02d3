//! Who merely needs more CPU is never restarted: that would take away even what it has.
use super::super::{Action, Brain};
use crate::features::schema::{Feature, FeatureVector};

#[test]
fn what_its_quota_holds_back_is_not_restarted() {
    let brain = Brain::embedded();
    for cpu in [80.0, 90.0, 95.0, 100.0] {
        for memory in [10.0, 40.0, 75.0] {
            for throttled in [0.2, 0.5, 0.8, 1.0] {
                for rate in [0.0, 20.0, 400.0] {
                    let mut row = FeatureVector::default();
                    row[Feature::CpuUsage] = cpu;
                    row[Feature::MemoryUsage] = memory;
                    row[Feature::CpuThrottledRatio] = throttled;
                    row[Feature::HttpRequestRate] = rate;
                    row[Feature::Uptime] = 3600.0;
                    let action = brain.decide(&row).unwrap().action;
                    assert_ne!(action, Action::RestartService, "{row:?}");
                }
            }
        }
    }
}
