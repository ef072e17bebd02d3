//! Properties of the shipped model: its decision surface, and that neither the hour nor the uptime
//! decides.
use super::super::{Action, Classifier};
use crate::features::schema::{Feature, FeatureVector};

fn row(values: &[(Feature, f32)]) -> FeatureVector {
    let mut row = FeatureVector::default();
    row[Feature::Uptime] = 300.0;
    row[Feature::HourOfDay] = 12.0;
    row[Feature::HealthLatency] = 0.003;
    for (feature, value) in values {
        row[*feature] = *value;
    }
    row
}

/// The rules of the original system.
const fn rules(cpu: u16, memory: u16, errors: u16) -> Action {
    if errors > 10 || (cpu >= 90 && memory >= 90) {
        Action::RestartService
    } else if errors > 5 || cpu >= 80 || memory >= 80 {
        Action::ResetErrors
    } else {
        Action::NoAction
    }
}

#[test]
fn the_known_decision_surface_holds_where_the_kernel_saw_nothing() {
    let classifier = Classifier::embedded();
    let percents = [0, 13, 40, 60, 78, 79, 80, 81, 85, 88, 89, 90, 91, 97, 100];
    for cpu in percents {
        for memory in percents {
            for errors in [0, 1, 4, 5, 6, 7, 9, 10, 11, 12, 15, 50, 1000] {
                let row = row(&[
                    (Feature::CpuUsage, cpu.into()),
                    (Feature::MemoryUsage, memory.into()),
                    (Feature::ErrorCount, errors.into()),
                ]);
                let said = classifier.decide(&row).unwrap();
                let case = format!("cpu {cpu}, memory {memory}, {errors} errors: {said:?}");
                assert_eq!(said.action, rules(cpu, memory, errors), "{case}");
            }
        }
    }
}

#[test]
fn the_hour_and_the_uptime_decide_nothing() {
    let classifier = Classifier::embedded();
    let situations: [&[(Feature, f32)]; 6] = [
        &[],
        &[(Feature::ErrorCount, 6.0)],
        &[(Feature::HealthFailures, 3.0), (Feature::HealthLatency, 1.0)],
        &[
            (Feature::Http5xxRate, 5.0),
            (Feature::Http5xxRatio, 0.5),
            (Feature::HttpRequestRate, 10.0),
        ],
        &[(Feature::CpuUsage, 100.0), (Feature::CpuThrottledRatio, 0.7)],
        &[(Feature::CpuUsage, 79.5), (Feature::MemoryUsage, 89.5), (Feature::ErrorCount, 5.5)],
    ];
    for situation in situations {
        let said = classifier.decide(&row(situation)).unwrap();
        for hour in 0..24_u8 {
            for uptime in [0.0, 60.0, 3600.0, 86_400.0, 30.0 * 86_400.0, 90.0 * 86_400.0] {
                let mut moved = row(situation);
                moved[Feature::HourOfDay] = hour.into();
                moved[Feature::Uptime] = uptime;
                let again = classifier.decide(&moved).unwrap();
                assert_eq!(
                    again.probabilities, said.probabilities,
                    "{situation:?} {hour} {uptime}"
                );
            }
        }
    }
}

/// Two sources: what `/health` reports, and what the kernel saw in the same minutes.
#[test]
fn good_responses_outweigh_a_bad_health_report() {
    let classifier = Classifier::embedded();
    let bad =
        [(Feature::ErrorCount, 25.0), (Feature::CpuUsage, 97.0), (Feature::MemoryUsage, 97.0)];
    assert_eq!(classifier.decide(&row(&bad)).unwrap().action, Action::RestartService);
    let served = [&bad[..], &[(Feature::HttpRequestRate, 20.0)]].concat();
    assert_eq!(classifier.decide(&row(&served)).unwrap().action, Action::NoAction);
}
