//! What the controller has set on a pod, recorded on the pod itself, in the same write.
//!
//! A key belongs to the controller while its value is the recorded one. Whoever changes or removes
//! it afterwards owns it from then on, and the record remembers that. The record names the uid of
//! its pod: a copy of it in a template, as `kubectl get --output yaml` makes it, says nothing.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The annotation with the record.
pub const FROM_POLICY: &str = "paramedic.dev/from-policy";

/// The record: JSON, such as `{"policy":"web","pod":"UID","set":{"paramedic.dev/heal":"restart"}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The policy that was applied last.
    pub policy: String,
    /// The uid of the pod.
    pub pod: String,
    /// What was set: values by keys.
    pub set: BTreeMap<String, String>,
}

impl Record {
    /// Reads the annotation of the pod with this uid. A missing, unreadable or foreign one is an
    /// empty record: then every key on the pod is its own.
    #[must_use]
    pub fn read(annotation: Option<&str>, uid: &str) -> Self {
        let read = annotation.and_then(|text| serde_json::from_str::<Self>(text).ok());
        read.filter(|record| record.pod == uid).unwrap_or_default()
    }

    /// The annotation; `None` if nothing is recorded.
    #[must_use]
    pub fn written(&self) -> Option<String> {
        if self.set.is_empty() { None } else { serde_json::to_string(self).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let set = [("paramedic.dev/heal".to_owned(), "restart".to_owned())].into();
        let record = Record { policy: "web".to_owned(), pod: "u1".to_owned(), set };
        let text = record.written().unwrap();
        assert_eq!(Record::read(Some(&text), "u1"), record);
        assert_eq!(Record::default().written(), None);
    }

    #[test]
    fn a_copied_or_broken_record_says_nothing() {
        let copied = r#"{"policy":"web","pod":"u1","set":{"paramedic.dev/heal":"evict"}}"#;
        assert_eq!(Record::read(Some(copied), "u2"), Record::default());
        for text in [None, Some(""), Some("web"), Some("{}"), Some(r#"{"pod":"u2","set":[]}"#)] {
            assert_eq!(Record::read(text, "u2"), Record::default(), "{text:?}");
        }
    }
}
