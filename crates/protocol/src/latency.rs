//! Buckets of a histogram of latencies: two per power of two, from half a millisecond to 17 s.

/// Number of buckets.
pub const BUCKETS: usize = 32;
/// The first bucket ends at 2^19 ns.
const FIRST: u32 = 19;

/// The bucket of a time in nanoseconds.
#[must_use]
#[inline(always)]
pub const fn bucket(nanoseconds: u64) -> usize {
    let halves = nanoseconds >> (FIRST - 1);
    // Position of the highest bit of `halves`, by halving: BPF has no instruction for it.
    if halves < 2 {
        return 0;
    }
    if halves >> 17 != 0 {
        return BUCKETS - 1;
    }
    let mut rest = halves as u32;
    let mut power = 0;
    if rest >> 16 != 0 {
        rest >>= 16;
        power += 16;
    }
    if rest >> 8 != 0 {
        rest >>= 8;
        power += 8;
    }
    if rest >> 4 != 0 {
        rest >>= 4;
        power += 4;
    }
    if rest >> 2 != 0 {
        rest >>= 2;
        power += 2;
    }
    if rest >> 1 != 0 {
        power += 1;
    }
    let upper_half = (halves as u32 >> (power - 1)) & 1;
    let bucket = (power - 1) * 2 + upper_half + 1;
    if bucket < BUCKETS as u32 { bucket as usize } else { BUCKETS - 1 }
}

/// The group of a waiting time: 0 below 2^30 ns, then one for each power of two up to 64 of them.
#[must_use]
#[inline(always)]
pub const fn age(nanoseconds: u64) -> usize {
    let mut seconds = nanoseconds >> 30;
    let mut group = 0;
    while group < AGES - 1 && seconds != 0 {
        seconds >>= 1;
        group += 1;
    }
    group
}

/// Number of groups of [`age`].
pub const AGES: usize = 8;

/// The end of a bucket in nanoseconds, which is the begin of the next; `None` for the last.
#[must_use]
pub const fn upper_bound(bucket: usize) -> Option<u64> {
    if bucket + 1 >= BUCKETS {
        return None;
    }
    let base = 1 << (FIRST + bucket as u32 / 2);
    Some(if bucket.is_multiple_of(2) { base } else { base + base / 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_powers_of_two_seconds() {
        let seconds = |n: u64| age(n << 30);
        assert_eq!([0, 1, 2, 3, 4, 8, 16, 32, 63, 64].map(seconds), [0, 1, 2, 2, 3, 4, 5, 6, 6, 7]);
        assert_eq!(age(u64::MAX), AGES - 1);
        assert_eq!(age((1 << 30) - 1), 0);
    }

    #[test]
    fn every_time_is_in_the_bucket_between_its_bounds() {
        let mut lower = 0;
        for index in 0..BUCKETS {
            let upper = upper_bound(index);
            assert_eq!(bucket(lower), index);
            if let Some(upper) = upper {
                assert!(upper > lower);
                assert_eq!(bucket(upper - 1), index, "{upper}");
                assert_eq!(bucket(upper), index + 1, "{upper}");
                lower = upper;
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(lower, 1 << 34, "17 s, in nanoseconds");
    }
}
