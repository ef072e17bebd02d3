//! The kernel's counts, as far as they are of HTTP: what `kernel-counts` prints, or what should have
//! been counted.
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) responses: [u64; 5],
    pub(super) unavailable: u64,
    pub(super) in_trailers: u64,
    pub(super) unknown: u64,
    pub(super) not_understood: u64,
    pub(super) upstream_requests: u64,
    pub(super) upstream_responses: u64,
    pub(super) upstream_5xx: u64,
    pub(super) upstream_denied: u64,
}

/// A count and its name.
type Field = (&'static str, u64);

impl Counts {
    pub(super) fn fields(&self) -> [Field; 14] {
        let [interim, success, redirection, client, server] = self.responses;
        [
            ("requests", self.requests),
            ("1xx", interim),
            ("2xx", success),
            ("3xx", redirection),
            ("4xx", client),
            ("5xx", server),
            ("unavailable", self.unavailable),
            ("late faults", self.in_trailers),
            ("unknown", self.unknown),
            ("not understood", self.not_understood),
            ("upstream requests", self.upstream_requests),
            ("upstream responses", self.upstream_responses),
            ("upstream 5xx", self.upstream_5xx),
            ("upstream denied", self.upstream_denied),
        ]
    }

    /// What was counted since an earlier reading.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let mut responses = self.responses;
        for (count, before) in responses.iter_mut().zip(earlier.responses) {
            *count = count.wrapping_sub(before);
        }
        Self {
            requests: self.requests.wrapping_sub(earlier.requests),
            responses,
            unavailable: self.unavailable.wrapping_sub(earlier.unavailable),
            in_trailers: self.in_trailers.wrapping_sub(earlier.in_trailers),
            unknown: self.unknown.wrapping_sub(earlier.unknown),
            not_understood: self.not_understood.wrapping_sub(earlier.not_understood),
            upstream_requests: self.upstream_requests.wrapping_sub(earlier.upstream_requests),
            upstream_responses: self.upstream_responses.wrapping_sub(earlier.upstream_responses),
            upstream_5xx: self.upstream_5xx.wrapping_sub(earlier.upstream_5xx),
            upstream_denied: self.upstream_denied.wrapping_sub(earlier.upstream_denied),
        }
    }
}
