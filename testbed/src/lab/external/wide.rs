//! The wide layout, as in Cloud-OpsBench: a line for each instant, a column for each metric of each
//! service (`SERVICE-METRIC`), all services of an application in one file.
use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use jiff::civil::DateTime;

/// Rates over a longer time hide what happened in it.
const LONGEST_STEP_S: f64 = 60.0;
/// Maximum number of services, as many as an agent watches.
const MOST_SERVICES: usize = 500;
/// Larger values are no measurements, and sums of them would overflow.
const LARGEST: f64 = 1e12;
/// A container is at its quota if it is throttled for this share of the time.
const AT_QUOTA: f64 = 0.5;

/// All services of one file.
#[derive(Debug)]
pub(super) struct Recording {
    /// Hour of the day at the first line.
    pub(super) hour: u8,
    /// The time of each line, in seconds since the first.
    pub(super) times_s: Vec<f64>,
    pub(super) services: Vec<Service>,
    /// Metrics without a counterpart in a trace.
    pub(super) unused: BTreeSet<String>,
}

/// One service: a value for each line, `None` where the file has none.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    /// Requests per second, and the share of them that succeeded.
    pub(super) requests: Vec<Option<f64>>,
    pub(super) success: Vec<Option<f64>>,
    /// CPU in cores, and seconds per second for which it was throttled.
    pub(super) cpu: Vec<Option<f64>>,
    pub(super) throttled: Vec<Option<f64>>,
    /// Bytes.
    pub(super) memory: Vec<Option<f64>>,
}

/// The metrics that are used.
const USED: [&str; 5] = ["rps", "success_rate", "cpu", "cpu_cfs", "mem"];

/// Whether a file of this first line has the layout.
pub(super) fn is_this(head: &str) -> bool {
    let columns: Vec<&str> = columns(head).collect();
    let has = |metric| columns.iter().any(|column| metric_of(column, metric).is_some());
    columns.first() == Some(&"time") && has("rps") && has("success_rate")
}

fn columns(head: &str) -> impl Iterator<Item = &str> {
    head.trim_start_matches('\u{feff}').trim_end().split(',')
}

fn is_used(column: &str) -> bool {
    USED.iter().any(|metric| metric_of(column, metric).is_some())
}

/// The service of a column of this metric.
fn metric_of<'a>(column: &'a str, metric: &str) -> Option<&'a str> {
    column.strip_suffix(metric)?.strip_suffix('-').filter(|service| !service.is_empty())
}

impl Recording {
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let (head, _) = lines.next().context("it is empty")?;
        ensure!(is_this(head), "line 1: it has no columns time, SERVICE-rps, SERVICE-success_rate");
        let columns: Vec<&str> = columns(head).collect();
        let names: Vec<&str> = columns.iter().filter_map(|c| metric_of(c, "rps")).collect();
        ensure!(names.len() <= MOST_SERVICES, "line 1: more than {MOST_SERVICES} services");
        let unique: BTreeSet<&str> = columns.iter().copied().collect();
        ensure!(unique.len() == columns.len(), "line 1: a column appears twice");
        let (mut times, mut values) = (Vec::new(), vec![Vec::new(); columns.len()]);
        for (line, number) in lines {
            let at = || format!("line {number}");
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            ensure!(
                fields.len() == columns.len(),
                "line {number}: it has {} fields, and the first line has {}",
                fields.len(),
                columns.len()
            );
            let time = fields[0].parse::<DateTime>();
            let time = time.with_context(|| format!("{}: {:?} is no time", at(), fields[0]))?;
            times.push((number, time));
            for (column, field) in fields.iter().enumerate().filter(|(n, _)| is_used(columns[*n])) {
                let value = value(field, columns[column]);
                values[column].push(
                    value.with_context(|| {
                        format!("{}, column {}: {field:?}", at(), columns[column])
                    })?,
                );
            }
        }
        let (_, first) = *times.first().context("it has no line after the first")?;
        let since = |(_, time): &(i32, DateTime)| time.duration_since(first).as_secs_f64();
        let times_s: Vec<f64> = times.iter().map(since).collect();
        for (step, (number, _)) in times_s.windows(2).zip(&times[1..]) {
            let step = step[1] - step[0];
            ensure!(
                step > 0.0 && step <= LONGEST_STEP_S,
                "line {number}: it is {step} s after the line before, not up to {LONGEST_STEP_S} s"
            );
        }
        let services = services(&names, &columns, &values, times.len());
        let unused = unused(&columns);
        Ok(Self { hour: u8::try_from(first.hour()).unwrap_or(0), times_s, services, unused })
    }
}

/// The value of a field; `None` if the field is empty or `nan`.
fn value(field: &str, column: &str) -> Result<Option<f64>> {
    if field.is_empty() || field.eq_ignore_ascii_case("nan") {
        return Ok(None);
    }
    let value: f64 = field.parse().ok().context("it is no number")?;
    if metric_of(column, "success_rate").is_some() {
        ensure!((0.0..=1.0).contains(&value), "a share is from 0 to 1");
    }
    ensure!((0.0..=LARGEST).contains(&value), "it is negative or absurdly large");
    Ok(Some(value))
}

/// The entities with requests; others, such as nodes, are no services.
fn services(
    names: &[&str],
    columns: &[&str],
    values: &[Vec<Option<f64>>],
    lines: usize,
) -> Vec<Service> {
    let of = |name: &str, metric: &str| {
        let found = columns.iter().position(|column| metric_of(column, metric) == Some(name));
        found.map_or_else(|| vec![None; lines], |column| values[column].clone())
    };
    let service = |name: &&str| Service {
        name: (*name).to_owned(),
        requests: of(name, "rps"),
        success: of(name, "success_rate"),
        cpu: of(name, "cpu"),
        throttled: of(name, "cpu_cfs"),
        memory: of(name, "mem"),
    };
    names.iter().map(service).collect()
}

/// The metrics without a counterpart, whatever the service.
fn unused(columns: &[&str]) -> BTreeSet<String> {
    let metric = |column: &&str| {
        let name = column.rsplit_once('-').map_or(*column, |(_, metric)| metric);
        (!is_used(column)).then(|| name.to_owned())
    };
    columns.iter().skip(1).filter_map(metric).collect()
}

impl Service {
    /// The quota in cores, if the file shows it: what the service uses while it is throttled most
    /// of the time.
    pub(super) fn quota(&self) -> Option<f64> {
        let throttled = self.cpu.iter().zip(&self.throttled);
        let at_quota = throttled.filter(|(_, share)| share.is_some_and(|share| share >= AT_QUOTA));
        at_quota.filter_map(|(cpu, _)| *cpu).filter(|cpu| *cpu > 0.0).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\u{feff}time,web-rps,web-success_rate,web-cpu,web-cpu_cfs,web-p90latency,\
                       node1-cpu\n\
                       2026-01-02 23:00:00,2.5,1.0,0.1,0,fast,7.1\n\
                       2026-01-02 23:00:05,,nan,0.2,0.9,4.5,7.1\r\n";

    fn refused(text: &str) -> String {
        format!("{:#}", Recording::read(text).unwrap_err())
    }

    #[test]
    fn each_service_gets_its_columns_and_a_node_is_none() {
        let recording = Recording::read(TWO).unwrap();
        assert_eq!((recording.hour, &recording.times_s[..]), (23, &[0.0, 5.0][..]));
        assert_eq!(recording.services.len(), 1);
        let web = &recording.services[0];
        assert_eq!(web.name, "web");
        assert_eq!(
            (&web.requests[..], &web.success[..]),
            (&[Some(2.5), None][..], &[Some(1.0), None][..])
        );
        assert_eq!(web.memory, [None, None], "it has no such column");
        assert_eq!(recording.unused, BTreeSet::from(["p90latency".to_owned()]));
    }

    #[test]
    fn the_quota_is_what_a_throttled_service_uses() {
        assert_eq!(Recording::read(TWO).unwrap().services[0].quota(), Some(0.2));
        let calm = TWO.replace("0.2,0.9", "0.2,0.1");
        assert_eq!(Recording::read(&calm).unwrap().services[0].quota(), None);
    }

    #[test]
    fn a_malformed_file_is_refused_by_line() {
        for (from, to, why) in [
            ("2.5", "many", "line 2, column web-rps: \"many\": it is no number"),
            ("2.5", "-1", "line 2, column web-rps: \"-1\": it is negative"),
            ("2.5", "inf", "line 2, column web-rps"),
            ("1.0,0.1", "1.5,0.1", "line 2, column web-success_rate: \"1.5\": a share"),
            ("0.2,0.9", "0.2", "line 3: it has 6 fields, and the first line has 7"),
            ("23:00:05", "23:00:00", "line 3: it is 0 s after the line before"),
            ("23:00:05", "22:00:00", "line 3: it is -3600 s after"),
            ("23:00:05", "23:05:00", "line 3: it is 300 s after"),
            ("\n2026-01-02 23:00:05", "\n\n2026-01-02 23:00:00", "line 4: it is 0 s after"),
            ("2026-01-02 23:00:05", "later", "line 3: \"later\" is no time"),
            ("web-p90latency", "web-rps", "line 1: a column appears twice"),
            ("web-success_rate", "web-good", "line 1: it has no columns"),
        ] {
            let error = refused(&TWO.replacen(from, to, 1));
            assert!(error.starts_with(why), "{error}");
        }
        assert_eq!(refused(""), "it is empty");
        assert!(refused(TWO.lines().next().unwrap()).contains("no line after the first"));
    }
}
