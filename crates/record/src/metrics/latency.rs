//! The kernel's histograms of response times, as Prometheus histograms.
use std::{collections::HashMap, sync::Arc};

use agent_common::Latencies;
use paramedic_core::target::Target;
use paramedic_protocol::latency::upper_bound;
use parking_lot::Mutex;
use prometheus::{
    Error,
    core::{Collector, Desc},
    proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::target::{TARGET, identity};

const NAME: &str = "paramedic_target_http_request_duration_seconds";
const HELP: &str = "Time from the first byte of a request to the head of its final response, as the \
                    kernel saw it, since the target's instance is watched. The sum is estimated: each \
                    response counts as the middle of its bucket.";

/// One histogram per target. Every second bucket of the kernel's is exported, which keeps the number
/// of series at a fixed 18 per target.
#[derive(Clone, Debug)]
pub(super) struct RequestDurations {
    description: Desc,
    /// By the target's uid.
    known: Arc<Mutex<HashMap<String, Counted>>>,
}

/// What the kernel has counted of one target.
#[derive(Debug)]
struct Counted {
    labels: [String; 3],
    latencies: Latencies,
}

impl RequestDurations {
    pub(super) fn new() -> Result<Self, Error> {
        let labels = TARGET.map(str::to_owned).to_vec();
        let description = Desc::new(NAME.to_owned(), HELP.to_owned(), labels, HashMap::new())?;
        Ok(Self { description, known: Arc::default() })
    }

    pub(super) fn set(&self, target: &Target, latencies: &Latencies) {
        let mut known = self.known.lock();
        if let Some(counted) = known.get_mut(&target.id.uid) {
            counted.latencies = *latencies;
        } else {
            let labels = identity(target).map(str::to_owned);
            known.insert(target.id.uid.clone(), Counted { labels, latencies: *latencies });
        }
    }

    pub(super) fn forget(&self, target: &Target) {
        self.known.lock().remove(&target.id.uid);
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn histogram(counted: &Latencies) -> Histogram {
    let (mut so_far, mut sum, mut lower) = (0, 0.0, 0);
    let mut buckets = Vec::new();
    for (bucket, &count) in counted.buckets.iter().enumerate() {
        so_far += count;
        let upper = upper_bound(bucket);
        sum += count as f64 * seconds(lower / 2 + upper.unwrap_or(lower) / 2);
        if let Some(upper) = upper.filter(|_| bucket.is_multiple_of(2)) {
            let mut exported = Bucket::default();
            exported.set_upper_bound(seconds(upper));
            exported.set_cumulative_count(so_far);
            buckets.push(exported);
        }
        lower = upper.unwrap_or(lower);
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(so_far);
    histogram.set_sample_sum(sum);
    histogram.set_bucket(buckets);
    histogram
}

impl Collector for RequestDurations {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let known = self.known.lock();
        let metrics = known.values().map(|counted| {
            let pairs = TARGET.iter().zip(&counted.labels).map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name((*name).to_owned());
                pair.set_value(value.clone());
                pair
            });
            let mut metric = Metric::default();
            metric.set_label(pairs.collect());
            metric.set_histogram(histogram(&counted.latencies));
            metric
        });
        let metrics = metrics.collect();
        let mut family = MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_sum_is_of_their_middles() {
        let mut counted = Latencies::default();
        counted.buckets[0] = 4;
        counted.buckets[3] = 2;
        counted.buckets[31] = 1;
        let histogram = histogram(&counted);
        assert_eq!(histogram.get_sample_count(), 7);
        let buckets = histogram.get_bucket();
        assert_eq!(buckets.len(), 16);
        let counts: Vec<_> = buckets.iter().map(Bucket::cumulative_count).collect();
        assert_eq!(counts[..3], [4, 4, 6], "every second bucket, with what is below");
        assert_eq!(counts[15], 6, "the last is only in +Inf");
        assert!(buckets.windows(2).all(|two| two[0].upper_bound() < two[1].upper_bound()));
        let middles = 4.0 * 0.000_262 + 2.0 * 0.001_835 + 17.18;
        assert!((histogram.get_sample_sum() - middles).abs() < 0.01, "{histogram:?}");
    }
}
