//! The table for people, and the one object for machines.
use serde_json::{Value, json};

use super::play::{Judged, Verdict};

/// What fails the run.
pub(super) fn failures(judged: &[Judged]) -> Vec<String> {
    let failed = judged.iter().filter(|judged| !judged.is_right());
    failed.map(|judged| format!("{} ({})", judged.name, word(&judged.verdict))).collect()
}

pub(super) fn json(judged: &[Judged]) -> Value {
    let count = |wanted: &str| judged.iter().filter(|j| word(&j.verdict) == wanted).count();
    let totals = json!({
        "rows": judged.len(),
        "right": count("right"),
        "wrong": count("wrong"),
        "errors": count("error"),
    });
    json!({ "rows": judged, "totals": totals })
}

const fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Right { .. } => "right",
        Verdict::Wrong { .. } => "wrong",
        Verdict::Error { .. } => "error",
    }
}

pub(super) fn table(judged: &[Judged]) -> String {
    let mut lines = vec![format!(
        "{:<34} {:>8} {:>9} {:>5} {:>7}  verdict",
        "case", "requests", "responses", "5xx", "unknown"
    )];
    for judged in judged {
        let word = word(&judged.verdict);
        let numbers = match &judged.verdict {
            Verdict::Right { counted, .. } | Verdict::Wrong { counted, .. } => [
                counted.requests,
                counted.responses.iter().sum(),
                counted.responses[4],
                counted.unknown,
            ]
            .map(|count| count.to_string()),
            Verdict::Error { .. } => ["-"; 4].map(str::to_owned),
        };
        let [requests, responses, faults, unknown] = numbers;
        lines.push(format!(
            "{:<34} {requests:>8} {responses:>9} {faults:>5} {unknown:>7}  {word}",
            judged.name
        ));
        lines.extend(judged.why().lines().map(|line| format!("    {line}")));
    }
    let totals = &json(judged)["totals"];
    lines.push(format!(
        "\n{} of {} right, {} wrong, {} errors",
        totals["right"], totals["rows"], totals["wrong"], totals["errors"]
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::counts::Counts;

    #[test]
    fn machines_are_given_words_numbers_and_totals() {
        let given = Counts { requests: 3, ..Counts::default() };
        let counted = Counts { requests: 2, ..Counts::default() };
        let why = vec!["requests: 2 counted, 3 given".to_owned()];
        let wrong = Judged {
            name: "nginx/http1/mix".to_owned(),
            verdict: Verdict::Wrong { given, counted, why },
        };
        let error = Judged {
            name: "php/http1/mix".to_owned(),
            verdict: Verdict::Error { why: "no answer\nlog".to_owned() },
        };
        let json = json(&[wrong.clone(), error.clone()]);
        assert_eq!(json["rows"][0]["verdict"], "wrong");
        assert_eq!(json["rows"][0]["counted"]["requests"], 2);
        assert_eq!(json["totals"]["errors"], 1);
        assert_eq!(failures(&[wrong, error]), ["nginx/http1/mix (wrong)", "php/http1/mix (error)"]);
    }
}
