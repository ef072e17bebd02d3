//! The kernel's histograms of response times, as Prometheus histograms.
use agent_common::Latencies;
use paramedic_protocol::latency::upper_bound;
use prometheus::proto::{Bucket, Histogram};

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Every second bucket of the kernel's, which keeps the number of series at a fixed 18 per target.
pub(super) fn histogram(counted: &Latencies) -> Histogram {
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
