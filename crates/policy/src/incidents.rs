//! What agents did to pods, from their Events.
use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use k8s_openapi::{
    api::events::v1::Event, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp,
};

use crate::policy::Incident;

/// As the agents name themselves in Events.
pub(crate) const REPORTER: &str = "paramedic.dev/agent";
/// Maximum number of incidents in a status.
const MOST: usize = 5;
/// Maximum length of a note, in characters.
const NOTE: usize = 256;
/// Maximum number of pods whose incidents are kept. Events last an hour.
const MOST_PODS: usize = 2000;

/// The reasons of Events that tell of no remedy: refusals, which repeat, and settings.
const NO_REMEDY: [&str; 4] = ["HealRefused", "WouldHeal", "NotWatched", "BadSetting"];

/// The last incidents of each pod, by its namespace and uid.
#[derive(Debug, Default)]
pub(crate) struct Incidents(HashMap<(String, String), Vec<Incident>>);

impl Incidents {
    /// Takes an Event; returns its namespace if it is a new incident of a pod.
    pub(crate) fn take(&mut self, event: &Event) -> Option<String> {
        let (uid, incident) = incident(event)?;
        let namespace = event.metadata.namespace.clone()?;
        let of_pod = self.0.entry((namespace.clone(), uid)).or_default();
        if of_pod.contains(&incident) {
            return None;
        }
        of_pod.push(incident);
        of_pod.sort_by_key(|incident| Reverse(incident.time.0));
        of_pod.truncate(MOST);
        if self.0.len() > MOST_PODS {
            let age = |of: &&(String, String)| self.0[*of].first().map(|incident| incident.time.0);
            let oldest = self.0.keys().min_by_key(age).cloned();
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        Some(namespace)
    }

    /// The last ones of these pods, with those that a status already has. Of an evicted pod, which is
    /// matched no more, the outcome belongs to what the status knows of it.
    pub(crate) fn last(
        &self,
        namespace: &str,
        uids: &BTreeSet<String>,
        known: &[Incident],
    ) -> Vec<Incident> {
        let pods: BTreeSet<&str> = known.iter().map(|incident| incident.pod.as_str()).collect();
        let here = self.0.iter().filter(|((of, _), _)| of == namespace);
        let of_pods = here.flat_map(|((_, uid), all)| all.iter().map(move |one| (uid, one)));
        let of_pods = of_pods
            .filter(|(uid, one)| uids.contains(*uid) || pods.contains(one.pod.as_str()))
            .map(|(_, one)| one);
        let mut all: Vec<Incident> = of_pods.chain(known).cloned().collect();
        let key = |incident: &Incident| (incident.time.0, incident.pod.clone());
        all.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.reason.cmp(&b.reason)));
        all.dedup();
        all.truncate(MOST);
        all
    }
}

fn incident(event: &Event) -> Option<(String, Incident)> {
    let reason = event.reason.clone().filter(|reason| !NO_REMEDY.contains(&reason.as_str()))?;
    let pod = event.regarding.as_ref().filter(|of| of.kind.as_deref() == Some("Pod"))?;
    // A status has whole seconds.
    let seconds = event.event_time.as_ref()?.0.as_second();
    let time = Time(Timestamp::from_second(seconds).ok()?);
    let note = event.note.as_deref().unwrap_or_default().chars().take(NOTE).collect();
    Some((pod.uid.clone()?, Incident { time, pod: pod.name.clone()?, reason, note }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(uid: &str, second: u32, reason: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": { "name": format!("{uid}.{second}"), "namespace": "shop" },
            "eventTime": format!("2026-01-02T03:04:{second:02}.123456Z"),
            "reason": reason, "note": "x".repeat(300), "reportingController": REPORTER,
            "regarding": { "kind": "Pod", "name": format!("pod-{uid}"), "uid": uid },
        }))
        .unwrap()
    }

    fn brief(all: &[Incident]) -> Vec<String> {
        all.iter().map(|one| format!("{} {}", one.pod, one.time.0.as_second() % 60)).collect()
    }

    #[test]
    fn the_last_five_of_the_matched_pods_are_shown_newest_first() {
        let mut incidents = Incidents::default();
        for second in 0..9 {
            assert_eq!(incidents.take(&event("a", second, "Healing")).as_deref(), Some("shop"));
        }
        assert_eq!(incidents.take(&event("a", 8, "Healing")), None, "the same again");
        incidents.take(&event("b", 6, "Healed"));
        incidents.take(&event("c", 9, "Healed"));
        let of = |uids: &[&str]| uids.iter().map(|&uid| uid.to_owned()).collect::<BTreeSet<_>>();
        let last = incidents.last("shop", &of(&["a", "b"]), &[]);
        assert_eq!(brief(&last), ["pod-a 8", "pod-a 7", "pod-b 6", "pod-a 6", "pod-a 5"]);
        assert_eq!(last[0].note.len(), 256);
        assert_eq!(incidents.last("shop", &of(&["a", "b"]), &last), last, "no duplicates");
        assert_eq!(incidents.last("else", &of(&["a", "b"]), &[]), []);
        // An evicted pod is not matched any more, and its outcome comes later.
        let evicted = incidents.last("shop", &of(&["c"]), &[]);
        incidents.take(&event("c", 30, "Healed"));
        assert_eq!(brief(&incidents.last("shop", &of(&[]), &evicted)), ["pod-c 30", "pod-c 9"]);
    }

    #[test]
    fn of_too_many_pods_the_oldest_are_forgotten() {
        let mut incidents = Incidents::default();
        incidents.take(&event("first", 1, "Healing"));
        for pod in 0..MOST_PODS {
            incidents.take(&event(&pod.to_string(), 2, "Healing"));
        }
        assert_eq!(incidents.0.len(), MOST_PODS);
        assert!(!incidents.0.contains_key(&("shop".to_owned(), "first".to_owned())));
    }

    #[test]
    fn refusals_and_events_of_other_objects_are_no_incidents() {
        let mut incidents = Incidents::default();
        assert_eq!(incidents.take(&event("a", 1, "HealRefused")), None);
        let mut other = event("a", 1, "Healed");
        other.regarding = None;
        assert_eq!(incidents.take(&other), None);
    }
}
