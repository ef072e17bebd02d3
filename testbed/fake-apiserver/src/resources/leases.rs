//! Leases, with what a real server is particular about.
use serde_json::Value;

use crate::api::{
    json as j,
    status::{Problem, Status},
};

/// Whether the times of a Lease can be read at all.
pub(crate) fn check_readable(lease: &Value) -> Result<(), Status> {
    for field in ["/spec/acquireTime", "/spec/renewTime"] {
        if let Some(time) = j::at(lease, field).filter(|time| !time.is_null()) {
            check_micro_time("Lease", time)?;
        }
    }
    Ok(())
}

/// What is wrong with a Lease.
pub(crate) fn problems(lease: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let seconds = j::int(lease, "/spec/leaseDurationSeconds");
    if let Some(seconds) = seconds.filter(|&seconds| seconds <= 0) {
        let field = "spec.leaseDurationSeconds";
        problems.push(Problem::invalid(field, &seconds.to_string(), "must be greater than 0"));
    }
    if let Some(n) = j::int(lease, "/spec/leaseTransitions").filter(|&n| n < 0) {
        let why = "must be greater than or equal to 0";
        problems.push(Problem::invalid("spec.leaseTransitions", &n.to_string(), why));
    }
    problems
}

/// A MicroTime has exactly six decimals; anything else makes the whole object unreadable.
pub(crate) fn check_micro_time(kind: &str, time: &Value) -> Result<(), Status> {
    const LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
    let text = time.as_str().unwrap_or("");
    let fault = |rest: &str, part: &str| {
        Err(Status::bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: parsing time \"{text}\" as \
             \"{LAYOUT}\": cannot parse \"{rest}\" as \"{part}\""
        )))
    };
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    let (Some(date), Some(rest)) = (text.get(..19), text.get(19..)) else {
        return fault(text, "2006");
    };
    let separators = [(4, '-'), (7, '-'), (10, 'T'), (13, ':'), (16, ':')];
    let well_formed = date.chars().enumerate().all(|(i, c)| {
        separators.iter().find(|(at, _)| *at == i).map_or(c.is_ascii_digit(), |(_, s)| *s == c)
    });
    if !well_formed {
        return fault(text, "2006");
    }
    let fraction = rest.strip_prefix('.').and_then(|rest| rest.get(..6)).filter(|f| digits(f));
    if fraction.is_none() {
        return fault(rest, ".000000");
    }
    let zone = &rest[7..];
    let offset = zone.len() == 6 && zone.starts_with(['+', '-']) && zone.get(3..4) == Some(":");
    if zone == "Z" || offset { Ok(()) } else { fault(zone, "Z07:00") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn micro_time_has_six_decimals() {
        for good in ["2026-11-22T21:10:07.387985Z", "2026-11-22T21:10:07.387985+00:00"] {
            check_micro_time("Lease", &json!(good)).unwrap();
        }
        for (bad, why) in [
            ("2026-11-22T21:10:00Z", "cannot parse \"Z\" as \".000000\""),
            ("2026-11-22T21:10:00.123Z", "cannot parse \".123Z\" as \".000000\""),
            ("2026-11-22T21:10:00.123456789Z", "cannot parse \"789Z\" as \"Z07:00\""),
            ("yesterday", "cannot parse \"yesterday\" as \"2006\""),
            ("2026-11-22 21:10:00.123456Z", "as \"2006\""),
        ] {
            let error = check_micro_time("Lease", &json!(bad)).unwrap_err();
            assert_eq!(error.code, 400);
            assert!(error.message.ends_with(why), "{}", error.message);
        }
    }
}
