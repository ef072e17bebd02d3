//! Each column: its source, its fallback, and what must not change it.
use super::*;
use agent_common::Latencies;

use crate::{
    features::{Notable, Sight},
    health::{HealthError, Poll, Transport},
    signal::{KernelReading, Polled, ProcessState, Trigger},
};

const STARTED: BootTime = BootTime::from_nanos(1_000_000_000);

fn at(ms: u64) -> BootTime {
    BootTime::from_nanos(100_000_000_000 + ms * 1_000_000)
}

/// An empty sample.
fn look(ms: u64) -> Sample {
    Sample {
        at: at(ms),
        trigger: Trigger::Tick,
        kernel: Some(KernelReading::default()),
        poll: Polled::Never,
        usage: CgroupReading::default(),
        process: None,
        host: None,
    }
}

fn healthy() -> Health {
    Health {
        says: Says::Well,
        cpu_usage: Some(40.0),
        memory_usage: Some(50.0),
        error_count: Some(0),
        uptime: Some(77.0),
        ..Health::default()
    }
}

fn polled(ms: u64, result: Result<Health, HealthError>) -> Sample {
    polled_so(ms, result, |_| ())
}

/// A poll of which something is other than usual.
fn polled_so(
    ms: u64,
    result: Result<Health, HealthError>,
    change: impl FnOnce(&mut Poll),
) -> Sample {
    let latency = Duration::from_millis(250);
    let responses = if result.is_ok() { [0, 1, 0, 0, 0] } else { [0; 5] };
    let mut poll = Poll { latency, responses, ..Poll::for_tests(at(ms), result) };
    change(&mut poll);
    Sample { poll: Polled::Now(poll), ..look(ms) }
}

fn timeout() -> HealthError {
    HealthError::Transport(Transport::Timeout)
}

/// A sample with these counts of the kernel.
fn counted(ms: u64, change: impl FnOnce(&mut KernelReading)) -> Sample {
    let mut kernel = KernelReading::default();
    change(&mut kernel);
    Sample { kernel: Some(kernel), ..look(ms) }
}

fn row_after(samples: &[Sample]) -> FeatureVector {
    let mut window = Window::new();
    samples.iter().for_each(|sample| window.push(sample));
    window.features(13, STARTED)
}

#[test]
fn an_empty_window_is_a_row_of_zeros() {
    assert_eq!(Window::new().features(13, STARTED), FeatureVector::default());
}

#[test]
fn values_in_health_are_used() {
    let row = row_after(&[polled(0, Ok(healthy()))]);
    assert_eq!(row[Feature::CpuUsage], 40.0);
    assert_eq!(row[Feature::MemoryUsage], 50.0);
    assert_eq!(row[Feature::ErrorCount], 0.0);
    assert_eq!(row[Feature::Uptime], 77.0);
    assert_eq!(row[Feature::HourOfDay], 13.0);
    assert_eq!(row[Feature::HealthLatency], 0.25);
}

#[test]
fn values_missing_in_health_come_from_kernel_and_cgroup() {
    let silent = Health {
        cpu_usage: None,
        memory_usage: None,
        error_count: None,
        uptime: None,
        ..healthy()
    };
    let with_usage = |ms, cpu_ns, errors| {
        let mut sample = counted(ms, |k| k.counters.responses[4] = errors);
        sample.poll = polled(ms, Ok(silent.clone())).poll;
        sample.usage = CgroupReading {
            cpu_usage_ns: Some(cpu_ns),
            cpu_limit: Some(2.0),
            memory_bytes: Some(30),
            memory_limit_bytes: Some(120),
            ..CgroupReading::default()
        };
        sample
    };
    let row = row_after(&[with_usage(0, 1_000_000_000, 0), with_usage(2000, 3_000_000_000, 4)]);
    assert_eq!(row[Feature::CpuUsage], 50.0, "2 s of CPU in 2 s on 2 cores");
    assert_eq!(row[Feature::MemoryUsage], 25.0);
    assert_eq!(row[Feature::ErrorCount], 4.0);
    assert_eq!(row[Feature::Uptime], 101.0);
}

#[test]
fn a_gap_in_cpu_readings_is_not_a_burst() {
    let with_cpu = |ms, cpu_usage_ns| Sample {
        usage: CgroupReading { cpu_usage_ns, cpu_limit: Some(1.0), ..CgroupReading::default() },
        ..look(ms)
    };
    let row = row_after(&[with_cpu(0, None), with_cpu(5000, None), with_cpu(6000, Some(90 << 30))]);
    assert_eq!(row[Feature::CpuUsage], 0.0);
    let row = row_after(&[
        with_cpu(0, None),
        with_cpu(5000, Some(7_000_000_000)),
        with_cpu(7000, Some(8_000_000_000)),
    ]);
    assert_eq!(row[Feature::CpuUsage], 50.0);
}

#[test]
fn the_kernels_error_count_covers_the_window_only() {
    let mut samples = vec![look(0)];
    samples.extend((1..=20).map(|n| counted(n * 1000, |k| k.counters.responses[4] = n)));
    let row = row_after(&samples);
    assert_eq!(row[Feature::ErrorCount], 10.0, "one a second: ten in ten seconds");
    assert_eq!(row[Feature::Http5xxRate], 1.0);
}

#[test]
fn rates_are_over_the_whole_span_even_while_it_fills() {
    let row = row_after(&[look(0), counted(100, |k| k.counters.responses = [0, 3, 0, 0, 1])]);
    assert_eq!(row[Feature::Http5xxRate], 0.1);
    assert_eq!(row[Feature::HttpRequestRate], 0.4);
    assert_eq!(row[Feature::Http5xxRatio], 0.25);
}

#[test]
fn the_agents_own_polls_do_not_count_as_traffic() {
    let poll = |n: u64| {
        move |k: &mut KernelReading| {
            k.counters.responses = [0, 0, 0, n, n];
            k.own_responses = [0, 0, 0, n, n];
            k.counters.resets_received = n;
            k.own_resets = n;
        }
    };
    let row = row_after(&[counted(0, poll(0)), counted(5000, poll(50))]);
    assert_eq!(
        row,
        FeatureVector::new({
            let mut values = [0.0; crate::features::schema::COUNT];
            values[Feature::HourOfDay as usize] = 13.0;
            values[Feature::Uptime as usize] = 104.0;
            values
        })
    );
}

#[test]
fn resets_retransmits_and_upstream_errors_are_rates() {
    let row = row_after(&[
        look(0),
        counted(5000, |k| {
            k.counters.resets_received = 7;
            k.counters.resets_sent = 3;
            k.counters.retransmits = 5;
            k.counters.upstream_5xx = 20;
        }),
    ]);
    assert_eq!(row[Feature::TcpResetRate], 1.0);
    assert_eq!(row[Feature::TcpRetransmitRate], 0.5);
    assert_eq!(row[Feature::Upstream5xxRate], 2.0);
}

#[test]
fn polls_that_fail_count_only_after_one_success() {
    let never = row_after(&[polled(0, Err(timeout())), polled(2000, Err(timeout()))]);
    assert_eq!(never[Feature::HealthFailures], 0.0);
    let after = [polled(0, Ok(healthy())), polled(1, Err(timeout())), polled(2, Err(timeout()))];
    assert_eq!(row_after(&after)[Feature::HealthFailures], 2.0);
    let again = [polled(0, Ok(healthy())), polled(1, Err(timeout())), polled(2, Ok(healthy()))];
    assert_eq!(row_after(&again)[Feature::HealthFailures], 0.0);
    let no_endpoint = [polled(0, Ok(healthy())), polled(1, Err(HealthError::NotFound(404)))];
    assert_eq!(row_after(&no_endpoint)[Feature::HealthFailures], 0.0);
}

#[test]
fn throttling_shows_within_a_second_and_lasts_the_window() {
    let throttled = |ms, periods| {
        counted(ms, |k| {
            k.throttling.periods = periods;
            k.throttling.period_ns = 100_000_000;
        })
    };
    let quiet: Vec<_> = (0..=5).map(|n| throttled(n * 2000, 0)).collect();
    let mut samples = quiet.clone();
    samples.push(throttled(11_000, 8));
    assert_eq!(row_after(&samples)[Feature::CpuThrottledRatio], 0.8);
    samples.push(throttled(12_500, 8));
    let later = row_after(&samples)[Feature::CpuThrottledRatio];
    assert!((0.05..0.2).contains(&later), "8 periods of 85 to 105: {later}");
    assert_eq!(row_after(&quiet)[Feature::CpuThrottledRatio], 0.0);
}

#[test]
fn without_the_kernel_side_cpu_stat_is_used() {
    let polled = |ms, periods| Sample {
        usage: CgroupReading {
            throttled_periods: Some(periods),
            period_ns: Some(100_000_000),
            ..CgroupReading::default()
        },
        ..look(ms)
    };
    let row = row_after(&[polled(0, 1000), polled(2000, 1010)]);
    assert_eq!(row[Feature::CpuThrottledRatio], 0.5);
}

#[test]
fn only_what_happens_now_is_a_cause() {
    let causes = |samples: &[Sample]| {
        let mut window = Window::new();
        samples.iter().for_each(|sample| window.push(sample));
        let row = window.features(13, STARTED);
        window.causes(&row)
    };
    let reports = |n| Ok(Health { error_count: Some(n), ..healthy() });
    let old = [polled(0, reports(400)), polled(2000, reports(400))];
    assert!(!causes(&old).event(), "the first count that is reported may be years old");
    let risen = [polled(0, reports(400)), polled(2000, reports(401))];
    assert!(causes(&risen).recent_error);
    let passed = [polled(0, reports(0)), polled(1, reports(9)), polled(10_002, reports(9))];
    assert!(!causes(&passed).event());
    let seen = [look(0), counted(1, |k| k.counters.responses[4] = 1)];
    assert!(causes(&seen).recent_error);
    let killed = [look(0), counted(1, |k| k.counters.oom_kills = 1)];
    assert!(causes(&killed).oom_kill);
    let in_file = |ms, kills| {
        let usage = CgroupReading { oom_kills: Some(kills), ..CgroupReading::default() };
        Sample { usage, ..look(ms) }
    };
    let old = [look(0), in_file(1, 5), look(2), in_file(3, 5)];
    assert!(!causes(&old).oom_kill, "the file may be read late, and its count be years old");
    assert!(causes(&[look(0), in_file(1, 5), in_file(2, 6)]).oom_kill);
    let late = Sample { usage: in_file(1, 6).usage, ..counted(1, |k| k.counters.oom_kills = 1) };
    assert!(causes(&[in_file(0, 5), late]).oom_kill);
    let failed = [polled(0, Ok(healthy())), polled(1, Err(timeout()))];
    assert!(causes(&failed).failed_poll);
    let full = [polled(0, Ok(Health { memory_usage: Some(80.0), ..healthy() }))];
    assert!(causes(&full).level);
}

#[test]
fn a_refreshed_window_forgets_earlier_errors() {
    let errors = |ms, n| counted(ms, |k| k.counters.responses[4] = n);
    let mut window = Window::new();
    [errors(0, 0), errors(1000, 50)].iter().for_each(|sample| window.push(sample));
    window.refresh();
    window.push(&errors(1200, 52));
    let row = window.features(13, STARTED);
    assert_eq!(row[Feature::Http5xxRate], 0.0, "the first look afterwards is the base");
    assert!(!window.causes(&row).event());
    window.push(&errors(1300, 53));
    assert_eq!(window.features(13, STARTED)[Feature::ErrorCount], 1.0);
}

#[test]
fn an_unread_value_looks_like_silence_and_never_like_a_jump() {
    let count = |ms, n| counted(ms, |k| k.counters.responses[4] = n);
    let blind = Sample { kernel: None, ..look(2000) };
    let row = row_after(&[count(0, 70), blind, count(4000, 71)]);
    assert_eq!(row[Feature::Http5xxRate], 0.1);
}

#[test]
fn more_samples_than_the_window_holds_keep_the_latest() {
    let mut window = Window::new();
    for n in 0..1000 {
        window.push(&counted(n * 10, |k| k.counters.responses[1] = n));
    }
    let row = window.features(13, STARTED);
    assert_eq!(row[Feature::HttpRequestRate], 12.7, "the last 128 points, 127 responses apart");
}

fn load_after(samples: &[Sample]) -> Option<Load> {
    let mut window = Window::new();
    samples.iter().for_each(|sample| window.push(sample));
    window.load()
}

#[test]
fn a_load_is_divided_by_the_time_that_was_watched() {
    let served = |ms, n| counted(ms, |k| k.counters.responses = [0, n, 0, 0, n / 10]);
    let load = load_after(&[served(0, 0), served(4000, 100)]).unwrap();
    assert_eq!(load.window, Duration::from_secs(4));
    assert_eq!(load.responses_per_second, Some(110.0 / 4.0));
    assert_eq!(load.ratio_5xx, Some(10.0 / 110.0));
    // The model's column understates it, on purpose.
    let row = row_after(&[served(0, 0), served(4000, 100)]);
    assert_eq!(row[Feature::HttpRequestRate], 11.0);
}

#[test]
fn a_too_short_window_has_no_load() {
    assert_eq!(load_after(&[]), None);
    assert_eq!(load_after(&[look(0), look(1999)]), None);
    assert!(load_after(&[look(0), look(2000)]).is_some());
}

#[test]
fn without_kernel_counts_the_load_is_missing() {
    let blind = |ms| Sample { kernel: None, ..look(ms) };
    let load = load_after(&[blind(0), blind(3000)]).unwrap();
    assert_eq!(load.responses_per_second, None);
    assert_eq!(load.ratio_5xx, None);
    assert_eq!(load.throttled_ratio, None);
    // It uses TLS, or HTTP/2: the kernel side never understood anything.
    let silent = load_after(&[look(0), look(3000)]).unwrap();
    assert_eq!((silent.responses_per_second, silent.ratio_5xx), (None, None));
    let once = |ms| counted(ms, |k| k.counters.responses = [0, 1, 0, 0, 0]);
    let quiet = load_after(&[once(0), once(3000)]).unwrap();
    assert_eq!((quiet.responses_per_second, quiet.ratio_5xx), (Some(0.0), Some(0.0)));
}

#[test]
fn throttling_is_a_share_of_the_window() {
    let held = |ms, periods| {
        counted(ms, |k| {
            k.throttling.periods = periods;
            k.throttling.period_ns = 100_000_000;
        })
    };
    let load = load_after(&[held(0, 0), held(4000, 10)]).unwrap();
    assert_eq!(load.throttled_ratio, Some(0.25));
}

#[test]
fn gateway_statuses_count_as_load_and_not_as_own_errors() {
    let unavailable = |ms, n| {
        counted(ms, |k| {
            k.counters.responses[4] = n;
            k.counters.unavailable = n;
        })
    };
    let mut window = Window::new();
    for (ms, n) in [(0, 0), (2000, 40), (4000, 80)] {
        window.push(&unavailable(ms, n));
    }
    let row = window.features(0, STARTED);
    assert_eq!((row[Feature::Http5xxRate], row[Feature::ErrorCount]), (0.0, 0.0));
    assert_eq!(row[Feature::HttpRequestRate], 8.0);
    assert!(!window.causes(&row).event());
    assert_eq!(window.load().unwrap().ratio_5xx, Some(1.0), "a 5xx is a 5xx to an autoscaler");
    assert_eq!(window.unavailable_rate(), 8.0);
}

#[test]
fn the_agents_own_503s_are_subtracted_from_both() {
    let mut window = Window::new();
    window.push(&look(0));
    window.push(&counted(2000, |k| {
        k.counters.responses[4] = 5;
        k.counters.unavailable = 3;
        (k.own_responses[4], k.own_unavailable) = (2, 2);
    }));
    assert_eq!(window.responses(), (3, 2));
}

#[test]
fn silence_is_measured_from_the_first_poll_that_failed() {
    let mut window = Window::new();
    window.push(&polled(0, Ok(healthy())));
    for ms in [2000, 3500, 9000] {
        window.push(&polled(ms, Err(timeout())));
    }
    let causes = window.causes(&window.features(0, STARTED));
    assert_eq!((causes.failed_poll, causes.failing_for), (true, Duration::from_secs(7)));
    assert!(causes.only_failing());
    window.push(&polled(9500, Ok(healthy())));
    assert_eq!(window.causes(&window.features(0, STARTED)).failing_for, Duration::ZERO);
}

#[test]
fn silence_of_an_instance_that_never_answered_is_not_a_failure() {
    let mut window = Window::new();
    window.push(&polled(0, Err(timeout())));
    assert!(!window.service().is_failing());
    let not_found = Err(HealthError::NotFound(404));
    window.push(&polled_so(1000, not_found, |poll| poll.responses = [0, 0, 0, 1, 0]));
    window.push(&polled(2000, Err(timeout())));
    assert!(window.service().is_failing(), "one answer of any kind came before");
}

#[test]
fn an_unreadable_response_is_no_evidence_and_ends_a_silence() {
    let mut window = Window::new();
    window.push(&polled(0, Ok(healthy())));
    window.push(&polled(1000, Err(timeout())));
    for error in [HealthError::Redirect(302), HealthError::StatusNotOk(401)] {
        window.push(&polled(2000, Err(error)));
        assert!(!window.service().is_failing(), "{error}");
        assert!(!window.service().speaks_well(), "{error}");
    }
}

#[test]
fn an_app_that_reports_sick_fails_and_one_that_blames_another_does_not() {
    let says = |says| polled(1000, Ok(Health { says, ..Health::default() }));
    let heard = |sample: Sample| {
        let mut window = Window::new();
        window.push(&polled(0, Ok(healthy())));
        window.push(&sample);
        (window.service().is_failing(), window.excuse())
    };
    use crate::health::Component;
    let db = Component::new("db");
    assert_eq!(heard(says(Says::Ill)), (true, None));
    assert_eq!(heard(says(Says::Blames(db.clone()))), (false, Some(Excuse::Blames(db))));
    assert_eq!(heard(says(Says::NotNow)), (false, Some(Excuse::NotNow)));
    assert_eq!(heard(says(Says::Warns)), (false, None));
    let vague = Health { says: Says::Ill, is_vague: true, ..Health::default() };
    assert_eq!(heard(polled(1000, Ok(vague))), (true, Some(Excuse::Vague)));
}

#[test]
fn an_app_that_never_reported_better_does_not_fail_by_reporting_sick() {
    let mut window = Window::new();
    for ms in [0, 2000, 4000] {
        window.push(&polled(ms, Ok(Health { says: Says::Ill, ..Health::default() })));
    }
    assert!(!window.service().is_failing());
}

/// Polls time out from the second sample on, while the kernel counts these good responses and 5xx.
fn failing_while(counts: &[(u64, u64, u64)]) -> Window {
    let mut window = Window::new();
    for (i, &(ms, good, errors)) in counts.iter().enumerate() {
        let result = if i == 0 { Ok(healthy()) } else { Err(timeout()) };
        let mut sample = polled(ms, result);
        let kernel = sample.kernel.as_mut().unwrap();
        (kernel.counters.responses[1], kernel.counters.responses[4]) = (good, errors);
        window.push(&sample);
    }
    window
}

#[test]
fn a_health_check_that_fails_while_others_are_served_is_excused() {
    let served = failing_while(&[(0, 50, 0), (2000, 60, 0), (4000, 70, 0)]);
    assert_eq!(served.excuse(), Some(Excuse::Serves { good: 10 }));
    let stopped = failing_while(&[(0, 50, 0), (2000, 60, 0), (4000, 60, 0)]);
    assert_eq!(stopped.excuse(), None, "what was served before says nothing of now");
    let failing = failing_while(&[(0, 50, 0), (2000, 60, 0), (4000, 70, 6)]);
    assert_eq!(failing.excuse(), None);
    // It served for a while after its health check had begun to fail, and then stopped.
    let counts: Vec<_> = (0..20).map(|n| (n * 2000, 10 * n.min(8), 0)).collect();
    assert_eq!(failing_while(&counts).excuse(), None);
}

#[test]
fn requests_without_a_response_are_an_excuse_after_some_seconds() {
    let waits = |ms, requests, responses, errors| {
        counted(ms, |k| {
            k.counters.upstream_requests = requests;
            k.counters.upstream_responses = responses;
            k.counters.responses[1] = 1;
            k.counters.responses[4] = errors;
        })
    };
    let mut window = Window::new();
    window.push(&waits(0, 10, 10, 0));
    window.push(&counted(1000, |k| {
        (k.counters.upstream_requests, k.counters.upstream_responses) = (20, 20);
        k.counters.responses[1] = 4;
    }));
    window.push(&waits(2000, 23, 20, 2));
    assert_eq!(window.excuse(), None, "they were only just sent");
    window.push(&waits(4000, 23, 20, 3));
    window.push(&waits(5500, 23, 20, 4));
    assert_eq!(window.excuse(), Some(Excuse::Unanswered { waiting: 3 }));
}

#[test]
fn a_window_that_begins_with_the_last_sample_counts_what_follows_it() {
    let mut window = Window::new();
    let answered =
        |ms, good, bad| counted(ms, |kernel| kernel.counters.responses = [0, good, 0, 0, bad]);
    window.push(&answered(0, 0, 0));
    window.push(&answered(2_000, 9, 9));
    window.refresh_from_here();
    assert_eq!(window.responses(), (0, 0));
    window.push(&answered(4_000, 12, 10));
    assert_eq!(window.responses(), (4, 1));
}

#[test]
fn errors_go_on_as_long_as_less_than_a_window_is_between_them() {
    let mut window = Window::new();
    let mut after = |ms, errors| {
        window.push(&counted(ms, |kernel| kernel.counters.responses = [0, 9, 0, 0, errors]));
        let causes = window.causes(&window.features(13, STARTED));
        (causes.erring_for.as_secs(), causes.few_errors)
    };
    assert_eq!(after(0, 0), (0, true));
    assert_eq!(after(2_000, 3), (0, true));
    assert_eq!(after(6_000, 4), (4, true));
    assert_eq!(after(14_000, 5), (12, true), "eight seconds lie between them");
    assert_eq!(after(30_000, 90), (0, false), "this is another run");
}

#[test]
fn clients_that_hold_it_are_an_excuse_as_long_as_they_do() {
    let mut window = Window::new();
    let held = |ms, holding| {
        counted(ms, |kernel| {
            let requests = crate::signal::Requests { holding, ..Default::default() };
            kernel.requests = Some(requests);
        })
    };
    window.push(&held(0, 0));
    window.push(&held(2000, 32));
    assert_eq!(window.excuse(), Some(Excuse::Held { clients: 32 }));
    window.push(&held(4000, 1));
    assert_eq!(window.excuse(), None);
}

#[test]
fn answered_polls_that_are_not_counted_make_the_kernel_blind() {
    let mut window = Window::new();
    let seen = |own, counted_| {
        counted(0, |k| {
            k.own_responses[1] = own;
            k.counters.responses[1] = counted_;
        })
    };
    window.push(&seen(2, 0));
    assert_eq!(window.blind(), None, "too few to tell");
    window.push(&seen(3, 0));
    assert_eq!(window.blind(), Some(Blind::NotCounted));
    assert!(!window.sees_traffic());
    window.push(&seen(3, 3));
    assert_eq!(window.blind(), None);
    assert!(window.sees_traffic());
}

#[test]
fn an_instance_whose_traffic_begins_with_errors_fails_since_its_start() {
    let fails = |counts: &[(u64, u64)]| {
        let mut window = Window::new();
        for (i, &(good, errors)) in counts.iter().enumerate() {
            window.push(&counted(i as u64 * 2000, |k| {
                (k.counters.responses[1], k.counters.responses[4]) = (good, errors);
            }));
        }
        window.service().fails_since_start()
    };
    assert!(fails(&[(0, 0), (0, 9), (0, 18)]).only_errors);
    assert!(!fails(&[(0, 0), (1, 9), (1, 18)]).only_errors);
    assert!(!fails(&[(0, 0), (0, 4)]).only_errors, "too few to tell");
    assert!(fails(&[(0, 0), (0, 4)]).never_served);
    assert!(!fails(&[(0, 0), (1, 0)]).never_served);
}

#[test]
fn a_reported_total_counts_by_its_rise() {
    let reports = |ms, n| polled(ms, Ok(Health { error_count: Some(n), ..healthy() }));
    let row = row_after(&[reports(0, 1200), reports(2000, 1200), reports(4000, 1203)]);
    assert_eq!(row[Feature::ErrorCount], 3.0);
    let row = row_after(&[reports(0, 1200), reports(2000, 0), reports(4000, 7)]);
    assert_eq!(row[Feature::ErrorCount], 7.0);
}

#[test]
fn between_two_errors_it_is_not_well() {
    let mut window = Window::new();
    for (ms, errors) in [(0, 0), (2000, 0), (4000, 3), (4100, 3), (4250, 4), (9000, 4)] {
        let mut sample = polled(ms, Ok(healthy()));
        sample.kernel.as_mut().unwrap().counters.responses[4] = errors;
        window.push(&sample);
    }
    assert_eq!(window.service().well_at(), Some(at(2000)));
    window.push(&polled(14_250, Ok(healthy())));
    assert_eq!(window.service().well_at(), Some(at(14_250)));
}

/// A poll that is answered well after this long.
fn answered_after(ms: u64, latency_ms: u64) -> Sample {
    polled_so(ms, Ok(healthy()), |poll| poll.latency = Duration::from_millis(latency_ms))
}

#[test]
fn late_responses_of_a_prompt_app_are_in_the_row_and_not_a_failure() {
    let mut window = Window::new();
    window.push(&answered_after(0, 20));
    window.push(&polled(1000, Err(timeout())));
    window.push(&answered_after(2000, 1900));
    window.push(&answered_after(4000, 1700));
    let row = window.features(0, STARTED);
    assert_eq!(row[Feature::HealthFailures], 3.0);
    let causes = window.causes(&row);
    assert!(!causes.event() && causes.only_slow() && !window.service().is_failing());
    window.push(&answered_after(5000, 900));
    assert_eq!(window.features(0, STARTED)[Feature::HealthFailures], 0.0);
}

#[test]
fn a_health_check_that_was_always_slow_is_not_late() {
    let mut window = Window::new();
    for ms in [0, 2000, 4000] {
        window.push(&answered_after(ms, 1900));
        assert_eq!(window.features(0, STARTED)[Feature::HealthFailures], 0.0);
    }
}

#[test]
fn what_it_waits_for_and_how_long_its_responses_take_are_in_the_row() {
    let mut window = Window::new();
    for ms in (0..=10_000).step_by(1_000) {
        let mut sample = look(ms);
        let kernel = sample.kernel.as_mut().unwrap();
        let mut latencies = Latencies::default();
        latencies.buckets[paramedic_protocol::latency::bucket(80_000_000)] = ms;
        kernel.latencies = Some(latencies);
        kernel.counters.upstream_requests = 3 + ms / 1_000;
        kernel.counters.upstream_responses = ms / 1_000;
        kernel.counters.connects_failed = ms / 1_000;
        sample.usage.cpu_pressure = Some(0.25);
        window.push(&sample);
    }
    let row = window.features(0, STARTED);
    assert!((0.06..=0.1).contains(&row[Feature::ResponseTime]), "{row:?}");
    assert_eq!(row[Feature::UpstreamWaitingRatio], 3.0 / 13.0);
    assert_eq!(row[Feature::UpstreamRefusedRate], 1.0);
    assert_eq!(row[Feature::CpuPressure], 0.25);
    assert_eq!(row[Feature::UnansweredRatio], 0.0);
}

#[test]
fn a_process_that_waits_in_the_kernel_is_stuck_after_five_seconds() {
    let waits = |ms, state| Sample { process: Some(state), ..look(ms) };
    let mut window = Window::new();
    for ms in [0, 2_000, 4_000] {
        window.push(&waits(ms, ProcessState::Uninterruptible));
        assert!(!window.service().is_stuck_in_the_kernel(), "{ms}");
    }
    window.push(&waits(5_000, ProcessState::Uninterruptible));
    assert!(window.service().is_stuck_in_the_kernel());
    assert!(!window.service().is_failing(), "no signal ends that, so no restart does");
    window.push(&waits(7_000, ProcessState::Active));
    window.push(&waits(9_000, ProcessState::Uninterruptible));
    assert!(!window.service().is_stuck_in_the_kernel(), "it waits for something else now");
}

#[test]
fn a_stopped_process_fails_without_polls_and_until_it_is_continued() {
    let process = |ms, state| Sample { process: state, ..look(ms) };
    let mut window = Window::new();
    window.push(&process(0, Some(ProcessState::Active)));
    window.push(&process(2_000, Some(ProcessState::Stopped)));
    window.push(&process(4_000, Some(ProcessState::Stopped)));
    let row = window.features(13, STARTED);
    assert_eq!(row[Feature::HealthFailures], 2.0);
    assert_eq!(window.causes(&row).failing_for, Duration::from_secs(2));
    assert!(!window.service().fails_since_start().never_served, "it ran before");
    window.push(&process(6_000, Some(ProcessState::Active)));
    assert!(!window.service().is_failing());
}

#[test]
fn interim_responses_and_in_trailers_are_no_further_responses() {
    let base = counted(0, |_| ());
    let later = counted(5_000, |kernel| {
        // Twenty calls of gRPC: five failed in their trailers, after a head with 200. Ten 1xx.
        kernel.counters.responses = [10, 20, 0, 0, 5];
        kernel.counters.in_trailers = 5;
    });
    let row = row_after(&[base, later]);
    assert_eq!(row[Feature::HttpRequestRate], 2.0);
    assert_eq!(row[Feature::Http5xxRatio], 0.25);
}

/// A server without health service answers each poll with a fault, in trailers or alone.
#[test]
fn own_polls_of_grpc_are_neither_traffic_nor_errors() {
    let polled = |ms, polls: u64, late: bool| {
        counted(ms, |kernel| {
            // Twenty calls of clients, all good.
            kernel.counters.responses = [0, 20, 0, 0, polls];
            kernel.own_responses = [0, 0, 0, 0, polls];
            if late {
                kernel.counters.responses[1] += polls;
                kernel.own_responses[1] += polls;
                kernel.counters.in_trailers = polls;
                kernel.own_in_trailers = polls;
            }
        })
    };
    for late in [false, true] {
        let mut window = Window::new();
        window.push(&counted(0, |_| ()));
        window.push(&polled(5_000, 5, late));
        let row = window.features(13, STARTED);
        assert_eq!(row[Feature::HttpRequestRate], 2.0, "{late}");
        assert_eq!(row[Feature::Http5xxRate], 0.0, "{late}");
        assert_eq!(window.good_responses(), 20, "{late}");
        assert_eq!(window.blind(), None, "{late}");
    }
}

#[test]
fn responses_of_unknown_status_count_as_load_and_not_as_good() {
    let mut window = Window::new();
    window.push(&counted(0, |_| ()));
    window.push(&counted(5_000, |kernel| {
        kernel.counters.responses = [0, 30, 0, 0, 0];
        kernel.counters.unknown = 10;
    }));
    assert_eq!(window.features(13, STARTED)[Feature::HttpRequestRate], 4.0);
    assert_eq!(window.good_responses(), 30);
}

/// Of a connection of gRPC that began before the agent did, the heads say 200 and the codes are
/// unknown: the calls may all have failed.
#[test]
fn heads_of_calls_with_unknown_codes_are_not_good() {
    let mut window = Window::new();
    window.push(&counted(0, |_| ()));
    window.push(&counted(5_000, |kernel| {
        kernel.counters.responses = [0, 30, 0, 0, 0];
        kernel.counters.unknown = 30;
        kernel.counters.in_trailers = 30;
        kernel.counters.resets_sent = 20;
    }));
    assert_eq!(window.good_responses(), 0);
    let sight = Sight { answers_well: window.good_responses() > 0, ..Sight::default() };
    let row = window.features(13, STARTED);
    assert_eq!(Notable::first(&row, sight), Some(Notable::ResetsAlone));
}

#[test]
fn clients_wait_in_silence_only_if_nobody_was_answered_since_the_oldest() {
    let waits = |ms, oldest_ms: u64, answered| {
        counted(ms, |kernel| {
            kernel.counters.responses[1] = answered;
            kernel.waiting = Some(Waiting { requests: 3, oldest: Some(at(oldest_ms)) });
        })
    };
    let mut window = Window::new();
    window.push(&waits(0, 0, 7));
    window.push(&waits(4_000, 1_000, 7));
    window.push(&waits(8_000, 1_000, 7));
    assert_eq!(window.silent_to_clients(), Some(Duration::from_secs(7)));
    window.push(&waits(9_000, 1_000, 8));
    assert_eq!(window.silent_to_clients(), None, "a long poll beside other requests");
}

#[test]
fn the_load_tells_how_slow_responses_are_or_how_long_the_oldest_request_waits() {
    let mut window = Window::new();
    let mut push = |ms, fast, slow, oldest: Option<u64>| {
        window.push(&counted(ms, |kernel| {
            kernel.counters.responses[1] = fast + slow;
            let mut latencies = Latencies::default();
            (latencies.buckets[2], latencies.buckets[11]) = (fast, slow);
            kernel.latencies = Some(latencies);
            let requests = oldest.is_some().into();
            kernel.waiting = Some(Waiting { requests, oldest: oldest.map(at) });
        }));
        window.load()
    };
    assert_eq!(push(0, 5, 0, None), None);
    let quick = push(3_000, 99, 1, None).unwrap();
    assert!(quick.p95_seconds.unwrap() < 0.002, "{quick:?}");
    assert_eq!(quick.in_flight, Some(0.0));
    let slow = push(6_000, 99, 51, Some(5_000)).unwrap();
    assert!((0.02..0.05).contains(&slow.p95_seconds.unwrap()), "{slow:?}");
    assert_eq!(slow.in_flight, Some(1.0));
    for ms in (9_000..60_000).step_by(3_000) {
        push(ms, 99, 51, Some(5_000));
    }
    let silent = push(60_000, 99, 51, Some(5_000)).unwrap();
    assert_eq!(silent.p95_seconds, Some(55.0), "nobody is answered: as long as the oldest waits");
    assert_eq!(push(63_000, 99, 51, None).unwrap().p95_seconds, Some(0.0), "idle");
}

#[test]
fn a_poll_that_stands_keeps_what_it_told_and_is_no_proof_of_a_later_time() {
    let mut window = Window::new();
    window.push(&polled(0, Ok(healthy())));
    let told = window.features(0, STARTED);
    window.push(&Sample { poll: Polled::LastStands, ..look(2000) });
    let now = window.features(0, STARTED);
    for feature in [Feature::CpuUsage, Feature::MemoryUsage, Feature::HealthLatency] {
        assert_eq!(now[feature], told[feature]);
    }
    assert!(window.service().speaks_well());
    assert_eq!(window.service().well_at(), Some(at(0)));
    window.push(&Sample { poll: Polled::Never, ..look(4000) });
    assert!(!window.service().speaks_well());
}
