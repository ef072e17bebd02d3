//! The request that tells a receiver of one notification. Pure: values in, bytes out.
mod alertmanager;
mod pagerduty;
mod slack;
mod webhook;

use bytes::Bytes;
use serde::Serialize;

use crate::{
    channel::{Channel, Kind},
    notification::Notification,
    secret::Secret,
    signature,
};

/// The body of a request, and its signature if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) body: Bytes,
    /// The value of the header [`signature::HEADER`].
    pub(crate) signature: Option<String>,
}

/// The payload for this channel; `None` if its receiver has no use for the notification.
pub(crate) fn of(channel: &Channel, notification: &Notification) -> Option<Payload> {
    let key = channel.key.as_ref().map(Secret::expose);
    let body = match channel.kind {
        Kind::Webhook => webhook::body(notification),
        Kind::Slack => slack::body(notification),
        Kind::Alertmanager => alertmanager::body(notification),
        Kind::Pagerduty => pagerduty::body(notification, key.unwrap_or_default())?,
    };
    let signed = key.filter(|_| channel.kind == Kind::Webhook);
    let signature = signed.map(|key| signature::of(key, &body));
    Some(Payload { body, signature })
}

/// JSON of a value whose keys are texts: it cannot fail.
fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// Seconds since 1970 in the form of RFC 3339; the latest or earliest date beyond its range.
fn rfc3339(unix_s: i64) -> String {
    let (first, last) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    let beyond = if unix_s < 0 { first } else { last };
    jiff::Timestamp::from_second(unix_s).unwrap_or(beyond).to_string()
}

/// The text, cut to at most this many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
