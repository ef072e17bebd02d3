//! The status of a policy: a pure function of what its plan comes to.
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::{
    plan::Reach,
    policy::{HealingPolicyStatus, Incident},
};

/// What a status is about.
#[derive(Debug)]
pub(crate) struct About<'a> {
    /// The generation of the spec.
    pub(crate) generation: Option<i64>,
    /// Why the policy sets nothing, if it is invalid.
    pub(crate) problem: Option<&'a str>,
    /// What it comes to.
    pub(crate) reach: &'a Reach,
    /// The last refusal of a write, if the last write of its pods was refused.
    pub(crate) refused: Option<&'a str>,
    /// What agents last did.
    pub(crate) incidents: Vec<Incident>,
}

/// The status now; `before` is the one that stands. Equal statuses need no write.
pub(crate) fn status(
    about: About<'_>,
    before: Option<&HealingPolicyStatus>,
    now: Timestamp,
) -> HealingPolicyStatus {
    let conditions = [ready(&about), conflict(about.reach), invalid(about.problem)].map(
        |(kind, is, why, text)| {
            let status = if is { "True" } else { "False" };
            let known = before.into_iter().flat_map(|before| &before.conditions);
            let known = known.into_iter().find(|old| old.type_ == kind && old.status == status);
            // A status has whole seconds.
            let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: why.to_owned(),
                message: text,
                observed_generation: about.generation,
                last_transition_time: known
                    .map_or(Time(now), |old| old.last_transition_time.clone()),
            }
        },
    );
    HealingPolicyStatus {
        observed_generation: about.generation,
        matched: number(about.reach.matched.len()),
        applied: number(about.reach.applied),
        conditions: conditions.into(),
        last_incidents: about.incidents,
    }
}

type Told = (&'static str, bool, &'static str, String);

fn ready(about: &About<'_>) -> Told {
    let (matched, applied) = (about.reach.matched.len(), about.reach.applied);
    let (is, why, text) = if about.problem.is_some() {
        (false, "Invalid", "it is applied to no pod: see Invalid".to_owned())
    } else if !about.reach.rivals.is_empty() {
        let text = format!("{applied} of {matched} pods carry it: see Conflict");
        (false, "Conflict", text)
    } else if matched == 0 {
        (true, "NoPods", "no pod of this namespace matches the selector".to_owned())
    } else if applied == matched {
        (true, "Applied", format!("all of {matched} pods carry it"))
    } else if let Some(refused) = about.refused {
        (false, "Refused", format!("{applied} of {matched} pods carry it: {refused}"))
    } else {
        (false, "Pending", format!("{applied} of {matched} pods carry it"))
    };
    ("Ready", is, why, text)
}

fn conflict(reach: &Reach) -> Told {
    let rivals: Vec<_> = reach.rivals.iter().map(String::as_str).collect();
    match &reach.shared {
        Some(pod) if !rivals.is_empty() => {
            let text = format!(
                "also matched by {}, such as pod {pod}: such pods get none of them; narrow a selector",
                rivals.join(", ")
            );
            ("Conflict", true, "Overlap", text)
        }
        _ => ("Conflict", false, "Alone", "no other policy matches its pods".to_owned()),
    }
}

fn invalid(problem: Option<&str>) -> Told {
    match problem {
        Some(problem) => ("Invalid", true, "BadSetting", problem.to_owned()),
        None => ("Invalid", false, "Valid", "every setting is one that agents take".to_owned()),
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(matched: &[&str], applied: usize, rivals: &[&str]) -> Reach {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let shared = (!rivals.is_empty()).then(|| "web-1".to_owned());
        Reach { matched: set(matched), applied, rivals: set(rivals), shared }
    }

    fn told(reach: &Reach, problem: Option<&str>, refused: Option<&str>) -> Vec<String> {
        let about = About { generation: Some(2), problem, reach, refused, incidents: Vec::new() };
        let status = status(about, None, Timestamp::UNIX_EPOCH);
        let brief = |one: &Condition| format!("{} {} {}", one.type_, one.status, one.reason);
        status.conditions.iter().map(brief).collect()
    }

    #[test]
    fn conditions_say_what_holds() {
        let well = reach(&["a", "b"], 2, &[]);
        let of = |ready: &str| -> Vec<String> {
            let others = ["Conflict False Alone", "Invalid False Valid"];
            [ready].into_iter().chain(others).map(str::to_owned).collect()
        };
        assert_eq!(told(&well, None, None), of("Ready True Applied"));
        assert_eq!(told(&reach(&[], 0, &[]), None, None), of("Ready True NoPods"));
        let one = reach(&["a", "b"], 1, &[]);
        assert_eq!(told(&one, None, None), of("Ready False Pending"));
        assert_eq!(told(&one, None, Some("denied")), of("Ready False Refused"));
        assert_eq!(
            told(&reach(&["a", "b"], 1, &["other"]), None, None),
            ["Ready False Conflict", "Conflict True Overlap", "Invalid False Valid"]
        );
        assert_eq!(
            told(&well, Some("patience"), None),
            ["Ready False Invalid", "Conflict False Alone", "Invalid True BadSetting"]
        );
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let (before, after) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(90).unwrap());
        let make = |reach: &Reach, old: Option<&HealingPolicyStatus>, now| {
            let about = About {
                generation: Some(1),
                problem: None,
                reach,
                refused: None,
                incidents: Vec::new(),
            };
            status(about, old, now)
        };
        let first = make(&reach(&["a"], 1, &[]), None, before);
        assert_eq!(make(&reach(&["a"], 1, &[]), Some(&first), after), first, "no write");
        let second = make(&reach(&["a"], 0, &[]), Some(&first), after);
        let time =
            |status: &HealingPolicyStatus, at: usize| status.conditions[at].last_transition_time.0;
        assert_eq!((time(&second, 0), time(&second, 1)), (after, before));
        assert_eq!((first.matched, first.applied, second.applied), (1, 1, 0));
    }
}
