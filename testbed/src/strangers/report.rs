//! The table for people, and the one object for machines.
use serde_json::{Value, json};

use crate::lab::card::percentiles;

use super::{
    plan::split,
    play::Played,
    verdict::{Did, Verdict},
};

/// Counts of verdicts, shares of those that the test bed could judge, and how long a right restart
/// took.
pub(super) fn totals(played: &[Played]) -> Value {
    let count = |verdict| played.iter().filter(|p| p.verdict == verdict).count();
    let judged = played.len() - count(Verdict::Error);
    let percent = |verdict| {
        let share = count(verdict) as f64 / judged.max(1) as f64;
        (share * 1000.0).round() / 10.0
    };
    let is_right_restart = |p: &&Played| p.verdict == Verdict::Right && p.did == Did::Restart;
    let restarts = played.iter().filter(is_right_restart);
    let after: Vec<f64> = restarts.filter_map(|p| p.act_after_s).collect();
    json!({
        "percent": {
            "right": percent(Verdict::Right),
            "missed": percent(Verdict::Missed),
            "needless_soft": percent(Verdict::NeedlessSoft),
            "wrong_restart": percent(Verdict::WrongRestart),
        },
        "fault_to_right_restart_s": percentiles(&after),
        "episodes": played.len(),
        "right": count(Verdict::Right),
        "missed": count(Verdict::Missed),
        "needless_soft": count(Verdict::NeedlessSoft),
        "wrong_restart": count(Verdict::WrongRestart),
        "unwatched": count(Verdict::Unwatched),
        "disturbed": count(Verdict::Disturbed),
        "errors": count(Verdict::Error),
    })
}

/// What fails the run: harm, a failure of the test bed, and a required row that is not right.
pub(super) fn failures(played: &[Played]) -> Vec<String> {
    let fails = |p: &&Played| match p.verdict {
        Verdict::Right => false,
        Verdict::Missed | Verdict::NeedlessSoft | Verdict::Unwatched => p.required,
        Verdict::WrongRestart | Verdict::Disturbed | Verdict::Error => true,
    };
    played.iter().filter(fails).map(|p| format!("{} ({})", p.name, p.verdict.name())).collect()
}

/// All of it, with the failures one by one.
pub(super) fn json(seed: u64, played: &[Played]) -> Value {
    json!({
        "seed": seed,
        "seeds": split(seed),
        "episodes": played,
        "failures": failures(played),
        "totals": totals(played),
    })
}

/// The right action, in words.
pub(super) fn right(right: &[Did]) -> String {
    right.iter().map(|did| did.name()).collect::<Vec<_>>().join(" or ")
}

pub(super) fn table(played: &[Played]) -> String {
    let mut lines = vec![format!(
        "{:<40} {:<16} {:<8} {:>6}  {:<14} why",
        "episode", "right", "did", "after", "verdict"
    )];
    for p in played {
        let after = p.act_after_s.map_or_else(|| "-".to_owned(), |s| format!("{s:.1} s"));
        let mut why = p.why.lines();
        lines.push(format!(
            "{:<40} {:<16} {:<8} {after:>6}  {:<14} {}",
            p.name,
            right(&p.right),
            p.did.name(),
            p.verdict.name(),
            why.next().unwrap_or_default()
        ));
        // The end of a log, and what clients saw, only where people have to look for a cause.
        if p.verdict == Verdict::Error {
            lines.extend(why.map(|line| format!("    {line}")));
        } else if p.verdict != Verdict::Right {
            lines.push(format!("    clients were given {}", p.truth));
        }
    }
    let t = totals(played);
    lines.push(format!(
        "\n{} of {} right ({} %), {} missed ({} %), {} needless soft ({} %), {} wrong restarts, {} \
         not watched, {} disturbed, {} errors",
        t["right"],
        t["episodes"],
        t["percent"]["right"],
        t["missed"],
        t["percent"]["missed"],
        t["needless_soft"],
        t["percent"]["needless_soft"],
        t["wrong_restart"],
        t["unwatched"],
        t["disturbed"],
        t["errors"]
    ));
    let after = &t["fault_to_right_restart_s"];
    if !after["p95"].is_null() {
        lines.push(format!(
            "fault to right restart: p50 {} s, p95 {} s",
            after["p50"], after["p95"]
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strangers::plan::Draw;

    fn played(verdict: Verdict, required: bool) -> Played {
        Played {
            name: "a/b".to_owned(),
            service: "a".to_owned(),
            fault: "b".to_owned(),
            draw: Draw::ORDINARY,
            right: vec![Did::Nothing, Did::Soft],
            did: Did::Nothing,
            verdict,
            seconds: 30.0,
            act_after_s: None,
            why: "first\nsecond".to_owned(),
            truth: "8 × 200".to_owned(),
            required,
        }
    }

    #[test]
    fn harm_and_errors_fail_and_a_miss_only_where_it_is_required() {
        let fails = |verdict, required| !failures(&[played(verdict, required)]).is_empty();
        assert!(!fails(Verdict::Right, true));
        assert!(!fails(Verdict::Missed, false) && fails(Verdict::Missed, true));
        assert!(!fails(Verdict::NeedlessSoft, false) && fails(Verdict::NeedlessSoft, true));
        for verdict in [Verdict::WrongRestart, Verdict::Disturbed, Verdict::Error] {
            assert!(fails(verdict, false));
        }
    }

    #[test]
    fn machines_are_given_words_and_totals() {
        let json =
            json(1000, &[played(Verdict::NeedlessSoft, false), played(Verdict::Error, false)]);
        assert_eq!(json["seeds"], "never seen");
        assert_eq!(json["failures"], json!(["a/b (ERROR)"]));
        let episode = &json["episodes"][0];
        assert_eq!(episode["right"], json!(["nothing", "soft"]));
        assert_eq!(episode["verdict"], "needless_soft");
        assert_eq!(json["totals"]["needless_soft"], 1);
        assert_eq!(json["totals"]["right"], 0);
        assert_eq!(json["totals"]["percent"]["needless_soft"], 100.0, "an error is no judgement");
        assert!(json["totals"]["fault_to_right_restart_s"]["p95"].is_null());
    }

    #[test]
    fn the_time_to_a_restart_is_that_of_right_ones() {
        let restart = |after, verdict| Played {
            did: Did::Restart,
            act_after_s: Some(after),
            ..played(verdict, false)
        };
        let all = [
            restart(2.0, Verdict::WrongRestart),
            restart(11.0, Verdict::Right),
            restart(12.0, Verdict::Right),
            restart(13.0, Verdict::Right),
        ];
        let after = &totals(&all)["fault_to_right_restart_s"];
        assert_eq!((&after["p50"], &after["p95"]), (&json!(12.0), &json!(13.0)));
    }
}
