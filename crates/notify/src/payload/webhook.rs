//! A webhook: the notification as JSON, with its text.
use bytes::Bytes;
use serde::Serialize;

use super::json;
use crate::notification::Notification;

#[derive(Serialize)]
struct Webhook<'a> {
    #[serde(flatten)]
    notification: &'a Notification,
    text: String,
}

pub(super) fn body(notification: &Notification) -> Bytes {
    json(&Webhook { notification, text: notification.text() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::notification;

    #[test]
    fn names_are_stable() {
        let body: serde_json::Value = serde_json::from_slice(&body(&notification())).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "version": 1,
                "key": "paramedic-0123",
                "event": "not_healed",
                "phase": "trigger",
                "severity": "warning",
                "node": "worker-1",
                "target": "default/shop-0",
                "incident": 12,
                "summary": "default/shop-0: restart did not help",
                "seen": "errors: error_count=12 (+0.41) & <more>",
                "done": ["soft: not_healed after 15 s", "restart: not_healed after 20 s"],
                "outcome": "the symptom is still there",
                "advice": "look at it",
                "left_out": 0,
                "since": 1_767_323_045,
                "at": 1_767_323_105,
                "text": notification().text(),
            })
        );
    }
}
