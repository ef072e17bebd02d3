//! Alertmanager: alerts by API v2.
//!
//! An alert is identified by its labels, so these are the same at its beginning and at its end. A
//! problem has one alert for each kind of news, and its end ends all of them: ending one that never
//! began does no harm.
use bytes::Bytes;
use serde_json::{Value, json};

use super::{cut, json as bytes, rfc3339};
use crate::notification::{Notification, Occasion, Phase, Severity};

/// How long an alert lasts if no news of its problem comes.
const LASTS_S: i64 = 24 * 3600;
/// How long an alert for information lasts: longer than the usual time for which alerts are grouped.
const INFO_LASTS_S: i64 = 300;

pub(super) fn body(notification: &Notification) -> Bytes {
    let at = notification.at.max(notification.since);
    let alerts: Vec<Value> = match notification.phase {
        Phase::Trigger => vec![alert(notification, notification.event, at + LASTS_S)],
        Phase::Info => vec![alert(notification, notification.event, at + INFO_LASTS_S)],
        Phase::Resolve => {
            ended(notification).iter().map(|event| alert(notification, *event, at)).collect()
        }
    };
    bytes(&alerts)
}

/// One occasion for each alert that a problem may have.
const fn ended(notification: &Notification) -> &'static [Occasion] {
    match notification.event {
        Occasion::Resumed => &[Occasion::Paused],
        _ => &[Occasion::NotHealed, Occasion::Exhausted, Occasion::Refused],
    }
}

fn alert(notification: &Notification, event: Occasion, ends: i64) -> Value {
    json!({
        "labels": {
            "alertname": name(event),
            "severity": Severity::of(event).name(),
            "node": notification.node,
            "target": notification.target,
            "incident": notification.key,
        },
        "annotations": {
            "summary": notification.summary,
            "description": cut(&notification.text(), 4000),
        },
        "startsAt": rfc3339(notification.since),
        "endsAt": rfc3339(ends),
    })
}

const fn name(event: Occasion) -> &'static str {
    match event {
        Occasion::NotHealed | Occasion::Worse | Occasion::Unverified | Occasion::Failed => {
            "ParamedicNotHealed"
        }
        Occasion::Exhausted => "ParamedicExhausted",
        Occasion::Refused => "ParamedicRefused",
        Occasion::Resized => "ParamedicResized",
        Occasion::NotResized => "ParamedicNotResized",
        Occasion::Paused | Occasion::Resumed => "ParamedicPaused",
        Occasion::Healed | Occasion::WellAgain | Occasion::Gone => "ParamedicHealed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::notification;

    fn alerts(notification: &Notification) -> Vec<Value> {
        serde_json::from_slice(&body(notification)).unwrap()
    }

    #[test]
    fn a_trigger_is_one_alert_with_every_field() {
        let alerts = alerts(&notification());
        assert_eq!(
            alerts,
            [json!({
                "labels": {
                    "alertname": "ParamedicNotHealed",
                    "severity": "warning",
                    "node": "worker-1",
                    "target": "default/shop-0",
                    "incident": "paramedic-0123",
                },
                "annotations": {
                    "summary": "default/shop-0: restart did not help",
                    "description": notification().text(),
                },
                "startsAt": "2026-01-02T03:04:05Z",
                "endsAt": "2026-01-03T03:05:05Z",
            })]
        );
    }

    #[test]
    fn the_end_has_the_labels_of_each_beginning() {
        let mut end = notification();
        (end.event, end.phase) = (Occasion::Healed, Phase::Resolve);
        let ended = alerts(&end);
        for event in [Occasion::Worse, Occasion::Exhausted, Occasion::Refused] {
            let mut begun = notification();
            begun.event = event;
            let begun = alerts(&begun);
            let same = ended.iter().find(|alert| alert["labels"] == begun[0]["labels"]).unwrap();
            assert_eq!(same["endsAt"], "2026-01-02T03:05:05Z");
        }
    }

    #[test]
    fn an_end_is_never_before_its_beginning() {
        let mut set_back = notification();
        (set_back.phase, set_back.at) = (Phase::Resolve, 0);
        assert_eq!(alerts(&set_back)[0]["endsAt"], alerts(&set_back)[0]["startsAt"]);
    }
}
