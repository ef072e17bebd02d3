//! PagerDuty: Events API v2. It opens an incident at a person's phone, so it is not told of what was
//! healed before anybody had to know.
use bytes::Bytes;
use serde_json::json;

use super::{cut, json as bytes, rfc3339};
use crate::notification::{Notification, Phase};

/// Maximum length of a summary, in characters.
const MAX_SUMMARY: usize = 1024;

pub(super) fn body(notification: &Notification, routing_key: &str) -> Option<Bytes> {
    let action = match notification.phase {
        Phase::Info => return None,
        Phase::Trigger => "trigger",
        Phase::Resolve => "resolve",
    };
    let source = match notification.target.as_str() {
        "" => &notification.node,
        target => target,
    };
    Some(bytes(&json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": notification.key,
        "client": "Paramedic",
        "payload": {
            "summary": cut(&notification.summary, MAX_SUMMARY),
            "source": source,
            "severity": notification.severity.name(),
            "timestamp": rfc3339(notification.at),
            "component": notification.target,
            "group": notification.node,
            "class": notification.event,
            "custom_details": {
                "seen": notification.seen,
                "done": notification.done,
                "outcome": notification.outcome,
                "next": notification.advice,
                "incident": notification.incident,
                "left_out": notification.left_out,
            },
        },
    })))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{notification::Occasion, tests::notification};

    fn event(notification: &Notification) -> Option<Value> {
        body(notification, "KEY").map(|body| serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_resolve_has_the_key_of_its_trigger() {
        let trigger = event(&notification()).unwrap();
        assert_eq!(trigger["event_action"], "trigger");
        assert_eq!(trigger["routing_key"], "KEY");
        assert_eq!(trigger["payload"]["severity"], "warning");
        assert_eq!(trigger["payload"]["source"], "default/shop-0");
        assert_eq!(trigger["payload"]["class"], "not_healed");
        assert_eq!(trigger["payload"]["timestamp"], "2026-01-02T03:05:05Z");
        let mut end = notification();
        (end.event, end.phase) = (Occasion::Healed, Phase::Resolve);
        let resolve = event(&end).unwrap();
        assert_eq!(resolve["event_action"], "resolve");
        assert_eq!(resolve["dedup_key"], trigger["dedup_key"]);
    }

    #[test]
    fn nobody_is_called_for_what_was_healed() {
        let mut healed = notification();
        (healed.event, healed.phase) = (Occasion::Healed, Phase::Info);
        assert_eq!(event(&healed), None);
    }

    #[test]
    fn the_node_is_the_source_of_its_own_news_and_a_summary_is_cut() {
        let mut paused = notification();
        paused.target = String::new();
        paused.summary = "ä".repeat(2000);
        let event = event(&paused).unwrap();
        assert_eq!(event["payload"]["source"], "worker-1");
        assert_eq!(event["payload"]["summary"].as_str().unwrap().chars().count(), 1024);
    }
}
