//! Tests of the whole: from the loop's handle to a real receiver, and over a restart.
mod delivery;
mod receiver;
mod restart;

use crate::notification::{Notification, Occasion, Phase, Severity, VERSION};

/// A notification with every field.
pub(crate) fn notification() -> Notification {
    Notification {
        version: VERSION,
        key: "paramedic-0123".to_owned(),
        event: Occasion::NotHealed,
        phase: Phase::Trigger,
        severity: Severity::Warning,
        node: "worker-1".to_owned(),
        target: "default/shop-0".to_owned(),
        incident: Some(12),
        summary: "default/shop-0: restart did not help".to_owned(),
        seen: "errors: error_count=12 (+0.41) & <more>".to_owned(),
        done: vec![
            "soft: not_healed after 15 s".to_owned(),
            "restart: not_healed after 20 s".to_owned(),
        ],
        outcome: "the symptom is still there".to_owned(),
        advice: "look at it".to_owned(),
        left_out: 0,
        since: 1_767_323_045,
        at: 1_767_323_105,
    }
}
