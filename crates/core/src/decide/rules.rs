//! The documented rules, which decide if there is no usable model.
//!
//! They follow what the shipped model was trained on, with sharp thresholds and without its sense
//! for mixtures. So an agent without a model loses precision but still treats its targets:
//!
//! | What | Verdict |
//! |---|---|
//! | more than 10 errors, and hardly a request that is answered well | `restart_service` |
//! | cpu and memory both ≥ 90 | `restart_service` |
//! | 3 failed polls in a row; 2 while nearly all responses fail | `restart_service` |
//! | a fifth of the requests get no response, and nothing excuses it | `restart_service` |
//! | more than 5 errors; cpu or memory ≥ 80 | `reset_errors` |
//! | a fifth of the responses fail, at least one a second, whatever `/health` says | `reset_errors` |
//!
//! When not to act: a throttled pod's cpu does not count (it needs CPU, not a restart). Errors do
//! not count while the pod *receives* about as many (the cause is elsewhere), nor when they are a
//! small share of much traffic. Requests without a response do not count while a quota or
//! neighbours take its CPU, or while its backends do not answer it. Nothing that `/health` says counts while the kernel sees requests
//! that are all answered well and soon. A target that hangs for lack of CPU would lack it after a
//! restart too. Amid traffic many errors are reset first: recorded faults look the same whether a
//! reset clears them or only a restart. Rules know no probability; their confidence is a constant,
//! and the guard limits them to the remedy soft by default.
use super::{Action, Decision, Source};
use crate::features::schema::{COUNT, Feature, FeatureVector};

/// The confidence of the rules: above the default gate of 0.8, below certainty.
pub const CONFIDENCE: f32 = 0.9;

const DEGRADED_ERRORS: f32 = 5.0;
const CRITICAL_ERRORS: f32 = 10.0;
const HIGH_PERCENT: f32 = 80.0;
const CRITICAL_PERCENT: f32 = 90.0;
const THROTTLED_RATIO: f32 = 0.05;
const FAILING_RATE: f32 = 1.0;
const FAILING_RATIO: f32 = 0.2;
const NEARLY_ALL_RATIO: f32 = 0.9;
const UPSTREAM_RATE: f32 = 0.3;
const UPSTREAM_SHARE: f32 = 0.5;
const RARE_RATIO: f32 = 0.05;
const RARE_REQUEST_RATE: f32 = 50.0;
const SINGLE_RATE: f32 = 0.25;
const STUCK_FAILURES: f32 = 3.0;
const SUSPECT_FAILURES: f32 = 2.0;
const WITNESSED_RATE: f32 = 2.5;
const PROMPT_S: f32 = 0.3;
/// A probe a second is no traffic.
const SPARSE_GOOD: f32 = 1.1;
const BURST_RATE: f32 = 0.55;
const STARVED_RATIO: f32 = 0.2;
const LEFT_RATIO: f32 = 0.2;
const STARVED_PRESSURE: f32 = 0.4;
const WAITING_RATIO: f32 = 0.3;
const REFUSED_RATE: f32 = 0.3;

/// Decides a finite row.
#[must_use]
pub fn decide(row: &FeatureVector) -> Decision {
    let (action, _) = verdict(row);
    let rest = (1.0 - CONFIDENCE) / 2.0;
    let mut probabilities = [rest; 3];
    probabilities[action as usize] = CONFIDENCE;
    let (confidence, source) = (CONFIDENCE, Source::Rules);
    Decision { action, confidence, probabilities, source, unfamiliar: None }
}

/// 1 for each column that decided; all zero for another action.
#[must_use]
pub fn shares(row: &FeatureVector, action: Action) -> [f32; COUNT] {
    let (decided, because) = verdict(row);
    let mut shares = [0.0; COUNT];
    for &feature in because.iter().filter(|_| decided == action) {
        shares[feature as usize] = 1.0;
    }
    shares
}

/// The mildest remedy that could help, and the columns that call for it.
fn verdict(row: &FeatureVector) -> (Action, &'static [Feature]) {
    use Action::{NoAction, ResetErrors, RestartService};
    use Feature::*;

    let excuse = excuse_for_errors(row);
    let throttled = row[CpuThrottledRatio] >= THROTTLED_RATIO;
    let served = is_served(row);
    let errors = if excuse.is_empty() { row[ErrorCount] } else { 0.0 };
    let cpu = if throttled || served { 0.0 } else { row[CpuUsage] };
    let memory = if served { 0.0 } else { row[MemoryUsage] };
    let served_others = row[HttpRequestRate] - row[Http5xxRate] >= SPARSE_GOOD;
    // A single 5xx does not turn an old count into a burst.
    let old = row[Http5xxRate] > 0.0 && row[Http5xxRate] < BURST_RATE;
    let failing =
        !is_upstream(row) && row[Http5xxRate] >= FAILING_RATE && row[Http5xxRatio] >= FAILING_RATIO;

    if row[HealthFailures] >= STUCK_FAILURES && row[CpuThrottledRatio] < STARVED_RATIO {
        (RestartService, &[HealthFailures])
    } else if row[UnansweredRatio] >= LEFT_RATIO && excuse_for_silence(row).is_empty() {
        (RestartService, &[UnansweredRatio])
    } else if failing
        && row[Http5xxRatio] >= NEARLY_ALL_RATIO
        && row[HealthFailures] >= SUSPECT_FAILURES
    {
        (RestartService, &[Http5xxRatio, HealthFailures])
    } else if errors > CRITICAL_ERRORS && !served_others && !old {
        (RestartService, &[ErrorCount])
    } else if cpu >= CRITICAL_PERCENT && memory >= CRITICAL_PERCENT {
        (RestartService, &[CpuUsage, MemoryUsage])
    } else if errors > DEGRADED_ERRORS {
        (ResetErrors, &[ErrorCount])
    } else if failing {
        (ResetErrors, &[Http5xxRatio, Http5xxRate])
    } else if cpu >= HIGH_PERCENT {
        (ResetErrors, &[CpuUsage])
    } else if memory >= HIGH_PERCENT {
        (ResetErrors, &[MemoryUsage])
    } else if row[ErrorCount] > DEGRADED_ERRORS {
        (NoAction, excuse)
    } else if row[UnansweredRatio] >= LEFT_RATIO {
        (NoAction, excuse_for_silence(row))
    } else if throttled {
        (NoAction, &[CpuThrottledRatio])
    } else if served && row[CpuUsage].max(row[MemoryUsage]) >= HIGH_PERCENT {
        (NoAction, &[HttpRequestRate])
    } else {
        (NoAction, &[])
    }
}

/// The columns that show that errors have another cause than this target; empty otherwise.
fn excuse_for_errors(row: &FeatureVector) -> &'static [Feature] {
    let much = row[Feature::HttpRequestRate] >= RARE_REQUEST_RATE;
    let single =
        row[Feature::Http5xxRate] <= SINGLE_RATE && row[Feature::HttpRequestRate] >= WITNESSED_RATE;
    let rare = row[Feature::Http5xxRate] > 0.0
        && row[Feature::Http5xxRatio] < RARE_RATIO
        && (much || single);
    if is_upstream(row) {
        &[Feature::Upstream5xxRate]
    } else if rare {
        &[Feature::Http5xxRatio, Feature::HttpRequestRate]
    } else if is_served(row) {
        &[Feature::HttpRequestRate]
    } else {
        &[]
    }
}

/// The columns that show why its clients wait for want of something that a restart would not bring;
/// empty otherwise.
fn excuse_for_silence(row: &FeatureVector) -> &'static [Feature] {
    if row[Feature::CpuThrottledRatio] >= STARVED_RATIO {
        &[Feature::CpuThrottledRatio]
    } else if row[Feature::CpuPressure] >= STARVED_PRESSURE {
        &[Feature::CpuPressure]
    } else if row[Feature::UpstreamWaitingRatio] >= WAITING_RATIO {
        &[Feature::UpstreamWaitingRatio]
    } else if row[Feature::UpstreamRefusedRate] >= REFUSED_RATE {
        &[Feature::UpstreamRefusedRate]
    } else if row[Feature::Upstream5xxRate] >= UPSTREAM_RATE {
        &[Feature::Upstream5xxRate]
    } else {
        &[]
    }
}

/// Whether the kernel sees requests that are all answered well, and polls are answered in time.
fn is_served(row: &FeatureVector) -> bool {
    row[Feature::Http5xxRate] == 0.0
        && row[Feature::HttpRequestRate] >= WITNESSED_RATE
        && row[Feature::HealthLatency] < PROMPT_S
        && row[Feature::HealthFailures] == 0.0
        && row[Feature::UnansweredRatio] == 0.0
}

fn is_upstream(row: &FeatureVector) -> bool {
    let received = row[Feature::Upstream5xxRate];
    received >= UPSTREAM_RATE && received >= UPSTREAM_SHARE * row[Feature::Http5xxRate]
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{NoAction, ResetErrors, RestartService};
    use Feature::*;

    fn check(signs: &[(Feature, f32)], action: Action, because: &[Feature]) {
        let mut row = FeatureVector::default();
        for &(feature, value) in signs {
            row[feature] = value;
        }
        let decision = decide(&row);
        let shares = shares(&row, action);
        let deciding = Feature::ALL.into_iter().filter(|&f| shares[f as usize] > 0.0);
        assert_eq!(decision.action, action, "{signs:?}");
        assert!(deciding.eq(because.iter().copied()), "{signs:?} {shares:?}");
        assert_eq!(decision.source, Source::Rules);
        assert_eq!(decision.probabilities[action as usize], decision.confidence);
        assert!((decision.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_known_decision_surface_holds() {
        for errors in 0..=20_u8 {
            for cpu in 0..=100_u8 {
                for memory in 0..=100_u8 {
                    let expected = if errors > 10 || (cpu >= 90 && memory >= 90) {
                        RestartService
                    } else if errors >= 6 || cpu >= 80 || memory >= 80 {
                        ResetErrors
                    } else {
                        NoAction
                    };
                    let mut row = FeatureVector::default();
                    row[ErrorCount] = errors.into();
                    row[CpuUsage] = cpu.into();
                    row[MemoryUsage] = memory.into();
                    assert_eq!(decide(&row).action, expected, "{errors} {cpu} {memory}");
                }
            }
        }
    }

    #[test]
    fn the_columns_that_decide_are_named() {
        check(&[], NoAction, &[]);
        check(&[(ErrorCount, 8.0)], ResetErrors, &[ErrorCount]);
        check(&[(CpuUsage, 95.0), (MemoryUsage, 91.0)], RestartService, &[CpuUsage, MemoryUsage]);
        check(&[(HealthFailures, 3.0)], RestartService, &[HealthFailures]);
        check(&[(HealthFailures, 2.0)], NoAction, &[]);
    }

    #[test]
    fn a_health_report_that_contradicts_the_kernel_is_ignored() {
        let lie = [(Http5xxRate, 1.0), (Http5xxRatio, 0.5), (HttpRequestRate, 2.0)];
        check(&lie, ResetErrors, &[Http5xxRate, Http5xxRatio]);
        check(&[lie[0], (Http5xxRatio, 0.1)], NoAction, &[]);
        check(&[(Http5xxRate, 0.5), lie[1]], NoAction, &[]);
        let dying = [lie[0], (Http5xxRatio, 0.95), (HealthFailures, 2.0)];
        check(&dying, RestartService, &[Http5xxRatio, HealthFailures]);
    }

    #[test]
    fn errors_with_an_external_cause_get_no_remedy() {
        check(&[(CpuUsage, 100.0), (CpuThrottledRatio, 0.6)], NoAction, &[CpuThrottledRatio]);
        let upstream = [(Upstream5xxRate, 2.0), (Http5xxRate, 2.0), (Http5xxRatio, 0.9)];
        check(&upstream, NoAction, &[]);
        let counted = [&upstream[..], &[(ErrorCount, 20.0)]].concat();
        check(&counted, NoAction, &[Upstream5xxRate]);
        let rare = [(ErrorCount, 80.0), (Http5xxRate, 8.0), (Http5xxRatio, 0.001)];
        let busy = [&rare[..], &[(HttpRequestRate, 8000.0)]].concat();
        check(&busy, NoAction, &[Http5xxRatio, HttpRequestRate]);
        check(&[(TcpResetRate, 300.0), (TcpRetransmitRate, 50.0)], NoAction, &[]);
    }

    #[test]
    fn a_service_that_serves_gets_no_remedy_whatever_health_reports() {
        let says = [(ErrorCount, 25.0), (CpuUsage, 97.0), (MemoryUsage, 97.0)];
        check(&says, RestartService, &[ErrorCount]);
        let serves =
            |more: &[(Feature, f32)]| [&says[..], &[(HttpRequestRate, 9.0)], more].concat();
        check(&serves(&[]), NoAction, &[HttpRequestRate]);
        check(&serves(&[])[1..], NoAction, &[HttpRequestRate]);
        check(&serves(&[(HealthLatency, 0.6)]), RestartService, &[CpuUsage, MemoryUsage]);
        check(&serves(&[(HealthFailures, 3.0)]), RestartService, &[HealthFailures]);
    }

    #[test]
    fn amid_traffic_a_reset_comes_first() {
        let alone = [(ErrorCount, 15.0), (Http5xxRate, 1.5), (Http5xxRatio, 1.0)];
        check(&[&alone[..], &[(HttpRequestRate, 1.5)]].concat(), RestartService, &[ErrorCount]);
        check(&[&alone[..], &[(HttpRequestRate, 9.0)]].concat(), ResetErrors, &[ErrorCount]);
    }

    #[test]
    fn a_throttled_service_that_hangs_is_not_restarted() {
        let hangs = (HealthFailures, 4.0);
        check(&[hangs, (CpuThrottledRatio, 0.9)], NoAction, &[CpuThrottledRatio]);
        check(&[hangs, (CpuThrottledRatio, 0.1)], RestartService, &[HealthFailures]);
    }

    #[test]
    fn requests_without_a_response_need_a_restart_unless_something_excuses_them() {
        let left = (UnansweredRatio, 0.5);
        check(&[left], RestartService, &[UnansweredRatio]);
        check(&[left, (HttpRequestRate, 9.0)], RestartService, &[UnansweredRatio]);
        check(&[(UnansweredRatio, 0.1)], NoAction, &[]);
        for excuse in [
            (CpuThrottledRatio, 0.5),
            (CpuPressure, 0.6),
            (UpstreamWaitingRatio, 0.9),
            (UpstreamRefusedRate, 2.0),
            (Upstream5xxRate, 2.0),
        ] {
            check(&[left, excuse], NoAction, &[excuse.0]);
        }
        check(&[(ResponseTime, 20.0), (CpuPressure, 1.0)], NoAction, &[]);
    }

    #[test]
    fn an_excuse_does_not_hide_other_symptoms() {
        check(&[(ErrorCount, 8.0), (CpuThrottledRatio, 0.5)], ResetErrors, &[ErrorCount]);
        check(&[(HealthFailures, 4.0), (Upstream5xxRate, 9.0)], RestartService, &[HealthFailures]);
        check(&[(MemoryUsage, 95.0), (CpuThrottledRatio, 0.5)], ResetErrors, &[MemoryUsage]);
    }
}
