//! What the clients' requests say: is the service well, since when, and which remedy made it so.
//! Pure; the agent is not asked.
use super::{client::Request, kind::Remedy};

/// A share of bad requests up to this is a service that is well: one of ten, since an idle one is
/// asked some sixteen times while it is judged.
const TOLERATED: f64 = 0.1;
const S: u64 = 1_000_000_000;
/// A service is judged by what it gave in the last seconds of an episode.
pub(crate) const JUDGED_NS: u64 = 8 * S;
/// A fault shows when so many requests went wrong: five may, in the known decision surface.
const EVIDENT: usize = 6;
/// The same for one that lets requests hang, so that few end at all.
const EVIDENT_LATE: usize = 3;

/// Whether the service is well from `from` to `to`, as its clients see it.
pub(crate) fn is_well(requests: &[Request], from: u64, to: u64) -> bool {
    let seen = requests.iter().filter(|r| (from..to).contains(&r.at));
    let (all, bad) = seen.fold((0_u32, 0_u32), |(all, bad), r| (all + 1, bad + u32::from(!r.good)));
    all > 0 && f64::from(bad) <= TOLERATED * f64::from(all)
}

/// The mildest remedy after which it is well; where nothing helps, none is worth giving.
pub(crate) fn mildest(well: [bool; 3]) -> Remedy {
    let found = Remedy::ALL.into_iter().zip(well).find(|(_, well)| *well);
    found.map_or(Remedy::NoAction, |(remedy, _)| remedy)
}

/// When a fault that began at `fault` can be seen: enough requests have gone wrong, and a second,
/// or four where they hang, has passed.
pub(crate) fn evident_at(requests: &[Request], fault: u64) -> Option<u64> {
    let mut bad: Vec<u64> =
        requests.iter().filter(|r| !r.good && r.at > fault).map(|r| r.at).collect();
    bad.sort_unstable();
    let nth = |n: usize, wait: u64| bad.get(n - 1).map(|at| (*at).max(fault + wait * S));
    [nth(EVIDENT, 1), nth(EVIDENT_LATE, 4)].into_iter().flatten().min()
}

/// When it was well again for good: after the last stretch of requests of which more went wrong
/// than are tolerated. `None` if it was not by the end.
pub(crate) fn well_since(requests: &[Request], fault: u64, end: u64) -> Option<u64> {
    if !is_well(requests, end.saturating_sub(JUDGED_NS), end) {
        return None;
    }
    let mut after: Vec<_> = requests.iter().filter(|r| r.at > fault && r.at <= end).collect();
    after.sort_by_key(|r| r.at);
    // The last bad request that is not alone within its two seconds.
    let bad: Vec<u64> = after.iter().filter(|r| !r.good).map(|r| r.at).collect();
    let last = bad.windows(2).rev().find(|pair| pair[1] - pair[0] <= 2 * S).map(|pair| pair[1]);
    let Some(last) = last else { return Some(fault) };
    after.iter().find(|r| r.at > last && r.good).map(|r| r.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two requests a second, bad where `bad` says so.
    fn requests(seconds: u64, bad: impl Fn(u64) -> bool) -> Vec<Request> {
        (0..seconds * 2).map(|i| Request { at: i * S / 2, good: !bad(i * S / 2) }).collect()
    }

    #[test]
    fn one_bad_request_in_ten_is_tolerated() {
        assert!(is_well(&requests(10, |at| at == 3 * S), 0, 10 * S));
        assert!(!is_well(&requests(10, |at| at < 2 * S), 0, 10 * S));
        assert!(!is_well(&[], 0, 10 * S), "no request was served");
    }

    #[test]
    fn the_mildest_remedy_that_works_is_the_label() {
        use Remedy::{NoAction, ResetErrors, RestartService};
        assert_eq!(mildest([true, true, true]), NoAction);
        assert_eq!(mildest([false, true, true]), ResetErrors);
        assert_eq!(mildest([false, false, true]), RestartService);
        assert_eq!(mildest([false; 3]), NoAction);
    }

    #[test]
    fn five_bad_requests_are_not_evident_and_six_are() {
        let some = |n: u64| requests(20, move |at| at > 2 * S && at <= 2 * S + n * S / 2);
        assert_eq!(evident_at(&some(2), 2 * S), None);
        assert_eq!(evident_at(&some(5), 2 * S), Some(6 * S), "three of them, but after 4 s");
        assert_eq!(evident_at(&some(6), 2 * S), Some(5 * S));
    }

    #[test]
    fn it_is_well_again_after_its_last_bad_stretch() {
        let ill = requests(30, |at| (5 * S..15 * S).contains(&at) || at == 20 * S);
        assert_eq!(well_since(&ill, 5 * S, 30 * S), Some(15 * S));
        assert_eq!(well_since(&ill, 5 * S, 16 * S), None);
        assert_eq!(well_since(&requests(30, |_| false), 5 * S, 30 * S), Some(5 * S));
    }
}
