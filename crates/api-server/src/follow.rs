//! A watch that restarts after every error and begins with a list. The list is streamed if the
//! server supports it: a list in one piece holds thousands of objects in memory at once.
use std::{fmt, pin::Pin};

use futures_util::{Stream, StreamExt, future::ready, stream};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Config, Error, Event, watcher},
    },
};
use tracing::{debug, info, warn};

type Events<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

/// Watches the objects that `config` selects. The stream reports errors, backs off and never ends.
pub fn follow<K>(
    api: Api<K>,
    config: Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    let begin = move |streaming| -> Events<K> {
        let config = config.clone();
        let config = if streaming { config.streaming_lists() } else { config };
        watcher(api.clone(), config).default_backoff().boxed()
    };
    let events = begin(true);
    stream::unfold((events, true, begin), |(mut events, mut streaming, begin)| async move {
        loop {
            match events.next().await {
                Some(Err(error)) if streaming && is_unsupported(&error) => {
                    info!("the API server does not stream lists; using plain lists");
                    streaming = false;
                    events = begin(false);
                }
                Some(event) => return Some((event, (events, streaming, begin))),
                // kube's watcher never ends by itself.
                None => events = begin(streaming),
            }
        }
    })
}

/// Like [`follow`], for callers that only log an outage: it logs `unheard` once for each outage.
pub fn follow_through<K>(
    api: Api<K>,
    config: Config,
    unheard: &'static str,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    let mut away = false;
    follow(api, config).filter_map(move |event| {
        let heard = match event {
            Ok(event) => {
                // The start of a list does not show that the server works.
                away &= matches!(event, Event::Init);
                Some(event)
            }
            Err(error) if is_renewal(&error) => {
                debug!(%error, "watch ended; restarting it");
                None
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    warn!(%error, "{unheard}");
                }
                None
            }
        };
        ready(heard)
    })
}

/// A connection that breaks, or a watch that expires, is not an outage. An outage is when the next
/// attempt fails.
#[must_use]
pub const fn is_renewal(error: &Error) -> bool {
    matches!(error, Error::WatchError(_) | Error::WatchFailed(_))
}

/// Whether the server refused to stream the list.
fn is_unsupported(error: &Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.to_string().contains("sendInitialEvents") {
            return true;
        }
        source = error.source();
    }
    false
}
