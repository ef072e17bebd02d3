//! Whether a forecast is worth it: public traces of requests, replayed against a simulated HPA that
//! scales on the forecast of `paramedic-forecast`, on the last value, or on that of a day ago.
mod hpa;
mod traces;

use anyhow::Result;
use paramedic_forecast::Load;
use serde_json::{Map, Value, json};
use xtask::workspace::Workspace;

use hpa::{Hpa, SYNC, Sum};
use traces::SOURCES;

const DAY: usize = 24 * 60;
/// Minutes at the start that do not count: then a forecast is known.
const WARM: usize = 2 * DAY;
/// Minutes that are looked ahead, as in the metrics API.
const HORIZON: usize = 3;
/// The share of its capacity at which a pod meets its target.
const UTILISATION: f64 = 0.7;
/// Pods at the rate that 95 % of the minutes do not exceed.
const PODS: f64 = 20.0;
/// How many more replica-minutes a forecast may cost.
const DEARER: f64 = 1.1;

/// What the HPA scales on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// The present rate: the metric `http_requests_per_second`.
    Last,
    /// The highest rate of the same minutes a day ago.
    Yesterday,
    Forecast,
    /// For comparison: a tenth more than the present rate.
    LastAndTenth,
    /// For comparison: the highest rate of the last minutes.
    Lately,
    /// For comparison: the higher one of the present rate and that of a day ago.
    Higher,
}

impl Method {
    const ALL: [Self; 6] = [
        Self::Last,
        Self::Yesterday,
        Self::Forecast,
        Self::LastAndTenth,
        Self::Lately,
        Self::Higher,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Last => "last value",
            Self::Yesterday => "same time yesterday",
            Self::Forecast => "forecast",
            Self::LastAndTenth => "(last value + 10 %)",
            Self::Lately => "(highest of 3 min)",
            Self::Higher => "(last or yesterday)",
        }
    }

    /// The metric in the minute `at`, when `present` is the rate and `rates` ends before it, but
    /// for the minutes of a day ago.
    fn metric(self, rates: &[f32], at: usize, present: f32, load: &Load) -> f32 {
        let highest = |minutes: &[f32]| minutes.iter().copied().fold(0.0, f32::max);
        let yesterday = || highest(&rates[at - DAY..=at - DAY + HORIZON]);
        match self {
            _ if at < WARM => present,
            Self::Last => present,
            Self::Yesterday => yesterday(),
            Self::Forecast => load.expect(minute(at), HORIZON as u32, present).unwrap_or(present),
            Self::LastAndTenth => present * 1.1,
            Self::Lately => present.max(highest(&rates[at - HORIZON..at])),
            Self::Higher => present.max(yesterday()),
        }
    }
}

/// The trace's minutes begin a day after those of the epoch.
const fn minute(at: usize) -> u32 {
    (DAY + at) as u32
}

/// How a method did on a trace.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// The mean distance of the metric from the highest rate within the horizon, as a share of the
    /// mean rate.
    error: f64,
    sum: Sum,
}

/// Replays every trace with every method, and prints what came of it.
pub(super) fn measure(workspace: &Workspace) -> Result<Map<String, Value>> {
    let mut results = Map::new();
    let mut better = 0;
    for source in &SOURCES {
        let rates = source.rates(workspace)?;
        println!("\n{}, {} days", source.name, rates.len() / DAY);
        let outcomes = Method::ALL.map(|method| replay(&rates, method));
        let [last, yesterday, forecast, ..] = outcomes;
        print(&outcomes);
        let is_better = is_better(forecast.sum, &[last.sum, yesterday.sum]);
        better += usize::from(is_better);
        println!("  the forecast is {}", if is_better { "better" } else { "not better" });
        let of_methods = Method::ALL.iter().zip(outcomes).map(|(method, Outcome { error, sum })| {
            let Sum { short, idle, total } = sum;
            let figures = json!({
                "error": round(error, 1e3), "short": round(short, 1.0), "idle": round(idle, 1.0),
                "total": round(total, 1.0),
            });
            (method.name().to_owned(), figures)
        });
        results.insert(source.name.to_owned(), of_methods.collect::<Map<_, _>>().into());
    }
    println!(
        "\nThe forecast has less shortage than the last value and the same time yesterday, at no \
         more than 10 % more\nreplica-minutes, on {better} of {} traces.",
        SOURCES.len()
    );
    Ok(Map::from_iter([("forecast".to_owned(), results.into())]))
}

/// The rule by which the forecast is advised.
fn is_better(forecast: Sum, baselines: &[Sum]) -> bool {
    baselines.iter().all(|baseline| {
        forecast.short < baseline.short && forecast.total <= DEARER * baseline.total
    })
}

fn replay(rates: &[f32], method: Method) -> Outcome {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f32::total_cmp);
    let mut hpa = Hpa::new(f64::from(sorted[sorted.len() * 95 / 100]) / PODS, UTILISATION);
    let mut load = Load::default();
    let (mut sum, mut distance, mut mean) = (Sum::default(), 0.0, 0.0);
    let counted = WARM..rates.len() - HORIZON;
    for (at, &rate) in rates.iter().enumerate() {
        for sync in 0..60 / SYNC {
            // A sync reads what was measured before it.
            let present = if sync == 0 { rates[at.saturating_sub(1)] } else { rate };
            let metric = method.metric(rates, at, present, &load);
            let now = at as u32 * 60 + sync * SYNC;
            hpa.sync(now, metric.into());
            if !counted.contains(&at) {
                continue;
            }
            sum += hpa.serve(now, rate.into());
            if sync == 0 {
                let highest = rates[at..=at + HORIZON].iter().copied().fold(present, f32::max);
                distance += f64::from((metric - highest).abs());
                mean += f64::from(rate);
            }
        }
        load.observe(minute(at), rate);
    }
    Outcome { error: distance / mean, sum }
}

fn print(outcomes: &[Outcome]) {
    let last = outcomes[0].sum;
    println!("  {:<22}{:>8}{:>10}{:>10}{:>10}", "", "error", "short", "idle", "total");
    for (method, Outcome { error, sum }) in Method::ALL.iter().zip(outcomes) {
        let Sum { short, idle, total } = sum;
        let change = |now: f64, before: f64| 100.0 * (now / before - 1.0);
        println!(
            "  {:<22}{:>6.1} %{short:>10.0}{idle:>10.0}{total:>10.0}   short {:+.1} %, total {:+.1} %",
            method.name(),
            100.0 * error,
            change(*short, last.short),
            change(*total, last.total)
        );
    }
}

fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(short: f64, total: f64) -> Sum {
        Sum { short, idle: 0.0, total }
    }

    #[test]
    fn a_forecast_must_beat_both_and_cost_little() {
        let baselines = [sum(10.0, 100.0), sum(20.0, 120.0)];
        assert!(is_better(sum(9.0, 110.0), &baselines));
        assert!(!is_better(sum(9.0, 110.1), &baselines));
        assert!(!is_better(sum(10.0, 90.0), &baselines));
        assert!(!is_better(sum(15.0, 90.0), &baselines));
    }

    /// Five days with a leap at every noon: pods that start at the leap are a minute late.
    #[test]
    fn a_leap_of_every_day_is_served_only_by_those_who_expect_it() {
        let rates: Vec<f32> =
            (0..5 * DAY).map(|at| if at % DAY < DAY / 2 { 10.0 } else { 100.0 }).collect();
        let short = |method| replay(&rates, method).sum.short;
        assert!(short(Method::Last) > 10.0, "{}", short(Method::Last));
        assert!(short(Method::Forecast) < 0.5 * short(Method::Last), "{}", short(Method::Forecast));
        assert_eq!(short(Method::Yesterday), 0.0);
        assert_eq!(short(Method::Higher), 0.0);
    }

    /// What a method says must not depend on what comes later.
    #[test]
    fn no_method_knows_the_future() {
        let rates: Vec<f32> = (0..3 * DAY).map(|at| (at % 7) as f32 + 1.0).collect();
        let at = WARM + 100;
        let mut other = rates.clone();
        other[at..].fill(1e6);
        let mut load = Load::default();
        for (at, rate) in rates[..at].iter().enumerate() {
            load.observe(minute(at), *rate);
        }
        for method in Method::ALL {
            let metric = |rates: &[f32]| method.metric(rates, at, 5.0, &load);
            assert_eq!(metric(&rates), metric(&other), "{}", method.name());
        }
    }
}
