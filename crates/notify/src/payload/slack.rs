//! An incoming webhook of Slack, or of Mattermost, Rocket.Chat and others that take the same.
use bytes::Bytes;
use serde_json::json;

use super::{cut, json as bytes};
use crate::notification::Notification;

/// Maximum length of the text, in characters, before it is escaped. Slack recommends 4000 at most.
const MAX_TEXT: usize = 3000;

pub(super) fn body(notification: &Notification) -> Bytes {
    bytes(&json!({ "text": escaped(&cut(&notification.text(), MAX_TEXT)) }))
}

/// Text without the three characters that have a meaning for Slack: they make links and mentions.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::notification;

    fn text(notification: &Notification) -> String {
        let body: serde_json::Value = serde_json::from_slice(&body(notification)).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 1);
        body["text"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_name_cannot_mention_everybody() {
        let mut hostile = notification();
        hostile.summary = "<!channel> & \"co\"\\".to_owned();
        let text = text(&hostile);
        assert!(text.starts_with("&lt;!channel&gt; &amp; \"co\"\\\n"), "{text}");
        assert!(text.contains("(+0.41) &amp; &lt;more&gt;"), "{text}");
    }

    #[test]
    fn a_long_text_is_cut() {
        let mut long = notification();
        long.outcome = "<".repeat(5000);
        let text = text(&long);
        assert!(text.len() <= 4 * MAX_TEXT + 3 && text.ends_with('…'), "{}", text.len());
    }
}
