//! The node at one instant, serialised once for all listeners, and the parts that are newer than
//! what a listener has.
use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use bytes::Bytes;
use paramedic_core::guard::Gate;
use paramedic_host::clock::unix_seconds;
use paramedic_record::evidence::Told;
use serde::Serialize;

use crate::serve::TargetView;

/// A part of the snapshot: its JSON, and the version in which it changed.
#[derive(Clone, Debug, Default)]
struct Part {
    json: Arc<str>,
    version: u64,
}

impl Part {
    /// An unchanged part keeps its version.
    fn after(before: Option<&Self>, value: &impl Serialize, version: u64) -> Self {
        // These types are plain: only a map with keys that are not strings could fail.
        let json = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
        match before {
            Some(before) if *before.json == *json => before.clone(),
            _ => Self { json: json.into(), version },
        }
    }
}

/// The input of a snapshot.
pub(super) struct News {
    pub(super) targets: Vec<TargetView>,
    /// Refusals since the start, by gate.
    pub(super) refusals: Vec<(Gate, u64)>,
    /// The incidents, if they may have changed.
    pub(super) incidents: Option<Vec<Told>>,
}

/// The node at one instant.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    version: u64,
    at: u64,
    targets: Vec<(String, Part)>,
    /// The uids of all targets, in order.
    roster: Part,
    refusals: Part,
    incidents: Part,
}

impl Snapshot {
    /// The next snapshot.
    pub(super) fn after(before: &Self, news: News) -> Self {
        let version = before.version + 1;
        let known: HashMap<&str, &Part> =
            before.targets.iter().map(|(uid, part)| (uid.as_str(), part)).collect();
        let part = |view: TargetView| {
            let part = Part::after(known.get(view.id.uid.as_str()).copied(), &view, version);
            (view.id.uid, part)
        };
        let targets: Vec<(String, Part)> = news.targets.into_iter().map(part).collect();
        let uids: Vec<&str> = targets.iter().map(|(uid, _)| uid.as_str()).collect();
        let refusals: serde_json::Map<String, serde_json::Value> =
            news.refusals.iter().map(|(gate, n)| (gate.name().to_owned(), (*n).into())).collect();
        let incidents = match news.incidents {
            Some(incidents) => Part::after(Some(&before.incidents), &incidents, version),
            None => before.incidents.clone(),
        };
        Self {
            version,
            at: unix_seconds(),
            roster: Part::after(Some(&before.roster), &uids, version),
            refusals: Part::after(Some(&before.refusals), &refusals, version),
            targets,
            incidents,
        }
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// One server-sent event: everything that changed after version `told`.
    pub(super) fn event(&self, told: u64, about: Option<&str>) -> Bytes {
        let mut event = format!("data: {{\"at\":{}", self.at);
        let mut member = |name: &str, json: &str| {
            // Writing to a string does not fail.
            let _ = write!(event, ",\"{name}\":{json}");
        };
        if let Some(about) = about {
            member("about", about);
        }
        for (name, part) in
            [("roster", &self.roster), ("refusals", &self.refusals), ("incidents", &self.incidents)]
        {
            if part.version > told {
                member(name, &part.json);
            }
        }
        event.push_str(",\"targets\":[");
        let changed = self.targets.iter().filter(|(_, part)| part.version > told);
        for (i, (_, part)) in changed.enumerate() {
            if i > 0 {
                event.push(',');
            }
            event.push_str(&part.json);
        }
        event.push_str("]}\n\n");
        event.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use paramedic_core::{
        engine::Case,
        features::{Feature, FeatureVector},
        target::Target,
    };

    fn view(name: &str, errors: f32) -> TargetView {
        let mut view = TargetView::of(&Case::new(Target::for_tests(name, 1), false));
        let mut row = FeatureVector::default();
        row[Feature::ErrorCount] = errors;
        view.features.row = row;
        view
    }

    fn after(before: &Snapshot, targets: Vec<TargetView>, refused: u64) -> Snapshot {
        let refusals = vec![(Gate::Cooldown, refused)];
        Snapshot::after(before, News { targets, refusals, incidents: None })
    }

    fn read(event: &Bytes) -> Value {
        let text = std::str::from_utf8(event).unwrap();
        let data = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'), "an event ends with its first empty line");
        serde_json::from_str(data).unwrap()
    }

    fn names(event: &Value) -> Vec<&str> {
        event["targets"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn an_event_has_only_what_changed_since_the_listeners_version() {
        let first = after(&Snapshot::default(), vec![view("a", 0.0), view("b", 0.0)], 0);
        let all = read(&first.event(0, Some("{\"node\":\"n\"}")));
        assert_eq!(names(&all), ["a", "b"]);
        assert_eq!(all["about"]["node"], "n");
        assert_eq!(all["roster"].as_array().unwrap().len(), 2);
        assert_eq!(all["refusals"]["cooldown"], 0);

        let second = after(&first, vec![view("a", 0.0), view("b", 3.0)], 0);
        let changed = read(&second.event(first.version(), None));
        assert_eq!(names(&changed), ["b"]);
        assert_eq!(changed["targets"][0]["features"]["error_count"], 3.0);
        for absent in ["about", "roster", "refusals", "incidents"] {
            assert!(changed.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn a_listener_that_missed_a_snapshot_gets_both_changes() {
        let first = after(&Snapshot::default(), vec![view("a", 0.0), view("b", 0.0)], 0);
        let second = after(&first, vec![view("a", 1.0), view("b", 0.0)], 1);
        let third = after(&second, vec![view("a", 1.0), view("b", 1.0)], 1);
        let both = read(&third.event(first.version(), None));
        assert_eq!(names(&both), ["a", "b"]);
        assert_eq!(both["refusals"]["cooldown"], 1);
        assert!(both.get("roster").is_none());
    }

    #[test]
    fn a_removed_target_is_not_in_the_roster() {
        let first = after(&Snapshot::default(), vec![view("a", 0.0), view("b", 0.0)], 0);
        let second = after(&first, vec![view("b", 0.0)], 0);
        let event = read(&second.event(first.version(), None));
        assert_eq!(event["roster"].as_array().unwrap().len(), 1);
        assert!(names(&event).is_empty());
    }

    #[test]
    fn a_name_with_a_line_break_does_not_end_the_event() {
        let first = after(&Snapshot::default(), vec![view("a\n\ndata: b", 0.0)], 0);
        assert_eq!(names(&read(&first.event(0, None))), ["a\n\ndata: b"]);
    }
}
